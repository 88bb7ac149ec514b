"""Hessian-free: exact steps and limits, a second implementation with dense matrices, every heuristic and every end."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import problems
from refopt import Status, minimize
from refopt.curvature import cg
from refopt.curvature.products import dense
from refopt.newton import hessian_free
from refopt.newton.hessian_free import _truncated_cg
from refopt.objective import Objective
from tests.quadratic import symmetric


def convex(A: np.ndarray, p: np.ndarray) -> Objective:
    """f(x) = 1/2 (x - p)^T A (x - p) with its own matrix as Gauss-Newton's."""
    return Objective(value_and_grad=lambda x: (0.5 * (x - p) @ A @ (x - p), A @ (x - p)), ggn=lambda x: lambda v: A @ v)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 10), seed=st.integers(0, 9999))
def test_one_step_of_exact_cg_solves_a_quadratic(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.normal(size=n)
    result = minimize(convex(symmetric(n, seed), p), hessian_free, x0=rng.normal(size=n), steps=1, lam=0.0, eps=0.0)
    np.testing.assert_allclose(result.x, p, atol=1e-5)
    assert result.state.lam == 0.0


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 10), seed=st.integers(0, 9999))
def test_with_more_damping_the_step_shortens_and_turns_to_the_gradient(n: int, seed: int) -> None:
    f, x = convex(symmetric(n, seed), np.zeros(n)), np.random.default_rng(seed).normal(size=n)
    g = f.grad(x)
    steps = [minimize(f, hessian_free, x0=x, steps=1, lam=lam, eps=0.0).x - x for lam in (1e-3, 1e-1, 1e1, 1e8)]
    lengths = [float(np.linalg.norm(d)) for d in steps]
    angles = [-(d @ g) / np.linalg.norm(d) for d in steps]
    assert all(longer > shorter for longer, shorter in itertools.pairwise(lengths))
    assert all(wider <= nearer * (1 + 1e-6) for wider, nearer in itertools.pairwise(angles))
    np.testing.assert_allclose(steps[-1], -1e-8 * g, rtol=1e-5, atol=1e-14)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 8), lam=st.floats(1e-3, 1e2), seed=st.integers(0, 9999))
def test_the_undamped_model_of_a_quadratic_is_exact_and_the_damped_one_cautious(n: int, lam: float, seed: int) -> None:
    f, x = convex(symmetric(n, seed), np.zeros(n)), np.random.default_rng(seed).normal(size=n)
    undamped = minimize(f, hessian_free, x0=x, steps=1, lam=lam, model="undamped").state
    assert undamped.info["rho"] == pytest.approx(1.0)
    damped = minimize(f, hessian_free, x0=x, steps=1, lam=lam, model="damped").state
    assert damped.info["rho"] >= 1.0 - 1e-9
    assert damped.lam == undamped.lam == pytest.approx(2 / 3 * lam)


def by_hand(
    objective: Objective, x: np.ndarray, steps: int, lam: float, preconditioner: str, model: str
) -> tuple[np.ndarray, float, np.ndarray, list[int]]:
    """Martens' method with every matrix dense, and every CG iterate kept until the end."""
    decay, eps, last, backs = 0.95, 5e-4, np.zeros_like(x), []
    for step in range(steps):
        T = objective.sample(40, 0, step, "hessian-free curvature")
        g = objective.grad(x)
        A = dense(T.ggn(x), x) + lam * np.eye(len(x))
        M = np.ones_like(x)
        if preconditioner == "fisher":
            M = (np.mean(T.per_example_grads(x) ** 2, axis=0) + lam) ** 0.75

        def phi(p: np.ndarray, A: np.ndarray = A, g: np.ndarray = g) -> float:
            return float(g @ p + 0.5 * p @ A @ p)

        p = decay * last if phi(decay * last) <= 0 else np.zeros_like(x)
        path, r = [p], -g - A @ p
        d = r / M
        while len(path) <= 250:
            alpha = (r @ (r / M)) / (d @ A @ d)
            p, new = p + alpha * d, r - alpha * A @ d
            d, r = new / M + (new @ (new / M)) / (r @ (r / M)) * d, new
            path.append(p)
            j = len(path) - 1
            k = max(10, j // 10)
            if j > k and phi(p) < 0 and (phi(p) - phi(path[j - k])) / phi(p) < k * eps:
                break
        last = p
        marks = sorted({math.ceil(1.3**i) for i in range(22)} & set(range(1, len(path))) | {len(path) - 1})
        values = [T.value(x + path[j]) for j in marks]
        at = len(marks) - 1
        while at > 0 and values[at - 1] < values[at]:
            at -= 1
        backs.append(len(marks) - 1 - at)
        p = path[marks[at]]
        rho = (values[at] - T.value(x)) / (phi(p) - (0.5 * lam * p @ p if model == "undamped" else 0.0))
        lam *= 1.5 if rho < 0.25 else 2 / 3 if rho > 0.75 else 1.0
        a = 1.0
        while objective.value(x + a * p) > objective.value(x) + 1e-2 * a * (g @ p):
            a *= 0.8
        x = x + a * p
    return x, lam, last, backs


@pytest.mark.parametrize(("preconditioner", "model"), [("none", "damped"), ("fisher", "undamped")])
def test_it_is_martens_method_with_dense_matrices(preconditioner: str, model: Any) -> None:
    problem = problems.get("mlp_digits", hidden=(3,))
    backs: list[int] = []
    result = minimize(
        problem,
        hessian_free,
        steps=4,
        lam=0.1,
        preconditioner=preconditioner,
        model=model,
        curvature_batch=40,
        callback=lambda now: backs.append(now.state.info["back"]) if now.k else None,
    )
    x, lam, last, want = by_hand(problem.objective, problem.x0, 4, 0.1, preconditioner, model)
    np.testing.assert_allclose(result.x, x, atol=1e-4)  # CG amplifies rounding
    assert result.state.lam == pytest.approx(lam)
    np.testing.assert_allclose(result.state.p, last, atol=1e-4)
    assert backs == want
    assert backs[-1] > 0


def falls_to(value: Any) -> Objective:
    """value(x) with gradient 1 and curvature 1: with lam = 1, p = -1/2 and the model promises a decrease of 1/4."""
    return Objective(value=value, grad=np.ones_like, ggn=lambda x: lambda v: v)


@pytest.mark.parametrize(("rho", "factor"), [(-0.1, 1.5), (0.2, 1.5), (0.3, 1.0), (0.7, 1.0), (0.8, 2 / 3)])
def test_the_damping_follows_the_reduction_ratio(rho: float, factor: float) -> None:
    f = falls_to(lambda x: -0.25 * rho if x[0] < 0.75 else 0.0)
    state = minimize(f, hessian_free, x0=np.ones(1), steps=1, lam=1.0).state
    assert state.info["rho"] == pytest.approx(rho)
    assert state.lam == pytest.approx(factor)


def test_the_line_search_shortens_by_a_fifth() -> None:
    f = falls_to(lambda x: 0.0 if x[0] == 1.0 else 1.0 if x[0] < 0.7 else -1.0)
    assert minimize(f, hessian_free, x0=np.ones(1), steps=1).state.info["alpha"] == pytest.approx(0.8**3)


def test_a_solve_starts_at_a_part_of_the_last_ones_solution() -> None:
    A, x, p = symmetric(5, 0), np.ones(5), -0.5 * np.ones(5)
    new, found = hessian_free.step(
        convex(A, np.zeros(5)), x, hessian_free.State(1, 0, 0.0, p), decay=0.8, maxiter=1, c1=1e-4
    )
    r = -A @ x - A @ (0.8 * p)
    assert found.p is not None
    np.testing.assert_allclose(found.p, 0.8 * p + (r @ r) / (r @ A @ r) * r)
    np.testing.assert_allclose(new - x, found.p)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 9999), lam=st.sampled_from([1e-3, 1.0, 1e3]))
def test_a_full_batch_is_never_climbed(seed: int, lam: float) -> None:
    x0 = np.random.default_rng(seed).normal(size=2)
    valley = Objective.from_residuals(lambda x, xp: xp.stack([10.0 * (x[1] - x[0] ** 2), 1.0 - x[0]]))
    result = minimize(valley, hessian_free, x0=x0, steps=25, lam=lam)
    values = [record.value for record in result.history]
    assert all(later <= earlier * (1 + 1e-14) for earlier, later in itertools.pairwise(values))
    assert result.value < values[0]


def test_cg_stops_where_the_model_has_stopped_falling() -> None:
    A = np.diag(np.logspace(-6, 0, 60))
    f, x = convex(A, np.zeros(60)), np.ones(60)
    products = [
        minimize(f, hessian_free, x0=x, steps=1, lam=0.0, eps=eps).ledger.counts["ggn_product"] for eps in (1, 0)
    ]
    assert products[0] == 11  # the first j above k = 10
    assert products[1] > 30
    assert minimize(f, hessian_free, x0=x, steps=1, maxiter=7, eps=0.0).ledger.counts["ggn_product"] == 7


def test_the_span_of_that_test_grows_with_the_count() -> None:
    spectrum, b = np.logspace(-5, 0, 500), np.ones(500)
    phis = [0.0]
    mv = lambda v: spectrum * v  # noqa: E731

    def watch(p: np.ndarray, r: np.ndarray) -> None:
        phis.append(-0.5 * float(p @ (b + r)))

    cg(mv, b, rtol=0.0, maxiter=250, callback=watch)
    for eps in (1e-2, 5e-3, 2e-3):
        spans = {j: max(10, j // 10) for j in range(len(phis))}
        stops = (j for j, k in spans.items() if j > k and phis[j - k] - phis[j] < k * eps * -phis[j])
        assert _truncated_cg(mv, b, None, None, eps, 250)[1].products == next(stops)


def test_a_start_above_zero_is_dropped_and_a_good_one_saves_products() -> None:
    A, b = symmetric(12, 0), np.ones(12)
    mv = lambda v: A @ v  # noqa: E731
    cold, _ = _truncated_cg(mv, b, None, None, 0.0, 100)
    dropped, _ = _truncated_cg(mv, b, -10.0 * b, None, 0.0, 100)
    np.testing.assert_array_equal(cold[-1][0], dropped[-1][0])
    solution = np.linalg.solve(A, b)
    warm, _ = _truncated_cg(mv, b, 0.95 * solution, None, 0.0, 3)
    cut, _ = _truncated_cg(mv, b, None, None, 0.0, 3)
    assert warm[-1][1] < cut[-1][1]
    for p, phi in (*cold, *warm):
        assert phi == pytest.approx(0.5 * p @ A @ p - b @ p)


def test_the_curvature_batch_is_its_own_and_priced_by_its_size() -> None:
    problem = problems.get("mlp_digits", hidden=(3,))
    share = problem.objective.minibatch(np.arange(144)).fraction
    result = minimize(problem, hessian_free, steps=1, curvature_batch=144, maxiter=5)
    counts = result.ledger.counts
    assert counts["ggn_product"] == 5
    values_of_T = counts["value"] - 1  # one trial of the line search, alpha = 1
    assert result.state.info["alpha"] == 1.0
    expected = 1 + 1 / 3 + share * (1 / 3 + 5 * 4 / 3 + values_of_T / 3)
    assert result.ledger.gradient_equivalents == pytest.approx(expected)


@pytest.mark.parametrize("preconditioner", ["fisher", "gauss-newton"])
def test_preconditioners_train_on_minibatches_of_every_backend(preconditioner: Any, backend: Any) -> None:
    problem = problems.get("mlp_digits", hidden=(3,), like=backend.array([]))
    options: dict[str, Any] = {"steps": 5, "batch_size": 100, "curvature_batch": 50, "maxiter": 20}
    result = minimize(problem, hessian_free, preconditioner=preconditioner, lam=0.1, **options)
    assert problem.objective.value(result.x) < problem.objective.value(problem.x0)


def test_dead_parameters_do_not_break_the_preconditioner() -> None:
    problem = problems.get("mlp_digits", hidden=(3,), like=np.zeros(0, dtype=np.float32))  # some pixels are never lit
    result = minimize(problem, hessian_free, steps=3, preconditioner="fisher", lam=1e-50)
    assert not result.status.failed


def test_ways_to_end() -> None:
    x = np.ones(2)
    broken = Objective(value_and_grad=lambda x: (x @ x, 2 * x), ggn=lambda x: lambda v: math.nan * v)
    assert minimize(broken, hessian_free, x0=x, steps=3).status is Status.BREAKDOWN
    rising = Objective(value_and_grad=lambda x: (float(np.any(x != 1.0)), 2 * x), ggn=lambda x: lambda v: v)
    result = minimize(rising, hessian_free, x0=x, steps=3)
    assert result.status is Status.LINE_SEARCH_FAILED
    np.testing.assert_array_equal(result.x, x)
    assert result.state.lam == 1.5
    with pytest.raises(TypeError, match="per_example_grads"):
        minimize(convex(np.eye(2), np.zeros(2)), hessian_free, x0=x, steps=1, preconditioner="fisher")


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ({"lam": -1.0}, "lam must be at least 0, got -1.0"),
        ({"preconditioner": "adam"}, "preconditioner must be 'none', 'fisher' or 'gauss-newton', got 'adam'"),
        ({"exponent": 2}, r"exponent must be in \[0, 1\], got 2"),
        ({"decay": 1.1}, r"decay must be in \[0, 1\], got 1.1"),
        ({"eps": -1}, "eps must be at least 0, got -1"),
        ({"maxiter": 0}, "maxiter must be at least 1, got 0"),
        ({"c1": 1.0}, r"c1 must be in \(0, 1\), got 1.0"),
        ({"model": "cubic"}, "model must be 'damped' or 'undamped', got 'cubic'"),
    ],
)
def test_bad_input_is_named(bad: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        minimize(convex(np.eye(2), np.zeros(2)), hessian_free, x0=np.ones(2), steps=1, **bad)
