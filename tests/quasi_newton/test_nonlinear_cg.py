from __future__ import annotations

import itertools
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import problems
from refopt import Status, iterate, minimize
from refopt.curvature import cg
from refopt.objective import Objective
from refopt.quasi_newton import nonlinear_cg
from tests.quadratic import quadratic, symmetric

FORMULAS = get_args(nonlinear_cg.Formula)
EXACT = {"c1": 1e-10, "c2": 1e-9}  # a search that ends at the minimum along p, to rounding

seeds = st.integers(0, 10_000)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 6), seed=seeds, formula=st.sampled_from(FORMULAS))
def test_with_exact_search_every_formula_is_the_linear_method(n: int, seed: int, formula: str) -> None:
    A = symmetric(n, seed, condition=20.0)
    x0 = np.random.default_rng(seed).normal(size=n)
    for k, x, _, _ in iterate(quadratic(A), nonlinear_cg, x0=x0, formula=formula, **EXACT):
        solved = cg(lambda v: A @ v, -A @ x0, rtol=0.0, maxiter=k).x if k else np.zeros(n)
        np.testing.assert_allclose(x, x0 + solved, atol=1e-6)
        if k == n:
            break


@given(seed=seeds)
def test_the_formulas_agree_where_gradients_are_orthogonal_and_differ_elsewhere(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, g, g_new = np.array([-1.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.0]), np.array([0.0, *rng.normal(size=2)])
    betas = [nonlinear_cg.conjugacy(formula, p, g, g_new) for formula in FORMULAS]
    np.testing.assert_allclose(betas, g_new @ g_new)
    g_new = g_new + np.array([0.5, 0.0, 0.0])
    assert len({round(nonlinear_cg.conjugacy(formula, p, g, g_new), 12) for formula in FORMULAS}) == len(FORMULAS)


@given(n=st.integers(2, 6), seed=seeds)
def test_hager_zhang_descends_by_seven_eighths_whatever_the_search(n: int, seed: int) -> None:
    """g+^T p+ <= -7/8 |g+|^2 for their beta without its bound from below, for every p and y with p^T y > 0."""
    rng = np.random.default_rng(seed)
    p, g, g_new = rng.normal(size=(3, n))
    if p @ (g_new - g) <= 0:
        p = -p
    g, g_new = 1e3 * g, 1e3 * g_new  # so long that the bound from below is out of sight
    beta = nonlinear_cg.conjugacy("HZ", p, g, g_new)
    y = g_new - g
    if beta == pytest.approx((y - 2 * p * (y @ y) / (p @ y)) @ g_new / (p @ y)):
        assert g_new @ (-g_new + beta * p) <= -0.875 * (g_new @ g_new) * (1 - 1e-9)


def test_hager_zhang_is_bounded_from_below() -> None:
    p, g, g_new = np.array([1.0, 0.0]), np.array([-1.0, 0.0]), np.array([1.0, 1e-3])
    assert nonlinear_cg.conjugacy("HZ", p, g, g_new) == pytest.approx(max(-1 / 0.01, (2 - 2 * 4 / 2 * 1) / 2))
    assert nonlinear_cg.conjugacy("HZ", p, g, 1e3 * g_new) == pytest.approx(-1 / 0.01)
    assert nonlinear_cg.conjugacy("HZ", p, 1e-3 * g, 1e3 * g_new) == pytest.approx(-1 / 1e-3)


def test_polak_ribiere_is_never_negative() -> None:
    p, g = np.array([-1.0, 0.0]), np.array([1.0, 0.0])
    assert nonlinear_cg.conjugacy("PR+", p, g, 0.5 * g) == 0.0
    assert nonlinear_cg.conjugacy("HS", p, g, 0.5 * g) == pytest.approx(-0.5)


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("name", ["rosenbrock", "logistic_breast_cancer"])
def test_wolfe_conditions_and_descent_hold_at_every_step(formula: str, name: str) -> None:
    problem = problems.get(name)
    f = problem.objective
    points = itertools.islice(iterate(problem, nonlinear_cg, formula=formula), 25)
    for a, b in itertools.pairwise(points):
        s = b.x - a.x
        if np.linalg.norm(f.grad(a.x)) < 1e-6:
            break
        assert f.grad(a.x) @ s < 0
        assert f.value(b.x) <= f.value(a.x) + 1e-4 * (f.grad(a.x) @ s) + 1e-12
        assert abs(f.grad(b.x) @ s) <= 0.1 * abs(f.grad(a.x) @ s) + 1e-12


@pytest.mark.parametrize(
    ("name", "options"),
    [("rosenbrock", {"n": 2}), ("rosenbrock", {"n": 100}), ("logistic_breast_cancer", {}), ("softmax_digits", {})],
)
def test_no_more_evaluations_than_scipy(name: str, options: dict[str, int]) -> None:
    from scipy.optimize import minimize as scipy_minimize

    problem = problems.get(name, **options)
    ours = minimize(problem, nonlinear_cg, steps=3000, stop={"grad_norm": 1e-6})
    theirs = scipy_minimize(
        problem.objective.value_and_grad, problem.x0, jac=True, method="CG", options={"gtol": 1e-6, "norm": 2}
    )
    assert ours.status is Status.CONVERGED
    assert ours.ledger.counts["grad"] <= theirs.nfev


def test_restarts_follow_powell() -> None:
    problem = problems.get("rosenbrock", n=6)
    f = problem.objective
    restarted = 0
    for a, b in itertools.pairwise(itertools.islice(iterate(problem, nonlinear_cg, formula="FR"), 40)):
        g, g_new = f.grad(a.x), f.grad(b.x)
        far = abs(g_new @ g) >= 0.1 * (g_new @ g_new)
        assert b.state.beta == (0.0 if far else pytest.approx((g_new @ g_new) / (g @ g)))
        restarted += far
    assert 0 < restarted < 39


def test_fletcher_reeves_stalls_without_restarts() -> None:
    problem = problems.get("rosenbrock", n=10)
    counts = [
        minimize(problem, nonlinear_cg, steps=1000, stop={"grad_norm": 1e-6}, formula="FR", restart=restart).steps
        for restart in (0.1, np.inf)
    ]
    assert counts[0] < 300
    assert counts[1] == 1000


def test_float32_reaches_its_precision() -> None:
    problem = problems.get("rosenbrock", n=10, dtype="float32")
    result = minimize(problem, nonlinear_cg, steps=2000, stop={"grad_norm": 1e-3})
    assert result.status is Status.CONVERGED


def test_a_saddle_is_left() -> None:
    result = minimize(problems.get("saddle", n=6, index=2), nonlinear_cg, steps=200, stop={"grad_norm": 1e-8})
    assert result.value == pytest.approx(-0.05)


def test_where_nothing_leads_down_the_method_says_so() -> None:
    f = Objective(value_and_grad=lambda x: (0.5 * (x @ x), -x))  # the gradient is a lie
    result = minimize(f, nonlinear_cg, x0=np.ones(2), steps=50)
    assert result.status is Status.LINE_SEARCH_FAILED
    np.testing.assert_array_equal(result.x, np.ones(2))


def test_bad_input() -> None:
    problem = problems.get("rosenbrock")
    for options, message in (
        ({"formula": "PR"}, "formula must be one of FR, PR\\+, HS, DY, HZ, got 'PR'"),
        ({"restart": 0.0}, "restart must be positive, got 0.0"),
        ({"c1": 0.5, "c2": 0.1}, "c2"),
    ):
        with pytest.raises(ValueError, match=message):
            minimize(problem, nonlinear_cg, steps=1, **options)


@pytest.mark.parametrize("search", nonlinear_cg.SEARCHES)
def test_any_search_that_asks_for_gradients_will_do(search: str) -> None:
    problem = problems.get("rosenbrock")
    result = minimize(
        problem, nonlinear_cg, steps=300, formula="HZ", c1=0.05, line_search=search, stop={"grad_norm": 1e-6}
    )
    assert result.status is Status.CONVERGED
