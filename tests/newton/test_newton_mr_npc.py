from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import problems
from refopt import Status, minimize
from refopt.newton import newton_mr_npc
from refopt.objective import Objective
from tests.quadratic import quadratic, symmetric


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 10), seed=st.integers(0, 10_000))
def test_one_exact_step_solves_a_convex_quadratic(n: int, seed: int) -> None:
    A, rng = symmetric(n, seed), np.random.default_rng(seed)
    p = rng.normal(size=n)
    result = minimize(quadratic(A, p), newton_mr_npc, x0=rng.normal(size=n), steps=1, eta_max=1e-12, maxiter=10 * n)
    np.testing.assert_allclose(result.x, p, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 8), negative=st.integers(1, 8), seed=st.integers(0, 10_000))
def test_f_falls_at_every_step_and_every_strict_saddle_is_left(n: int, negative: int, seed: int) -> None:
    problem = problems.get("saddle", n=n, index=min(negative, n), seed=seed)
    result = minimize(problem, newton_mr_npc, steps=300, stop={"grad_norm": 1e-7})
    assert result.status is Status.CONVERGED
    assert result.value == pytest.approx(problem.minimum)
    values = [record.value for record in result.history]
    assert all(later < earlier for earlier, later in itertools.pairwise(values))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_along_negative_curvature_the_step_is_the_residual(seed: int) -> None:
    A = symmetric(6, seed, negative=2)
    x0 = np.random.default_rng(seed).normal(size=6)
    x, state = newton_mr_npc.step(quadratic(A), x0, newton_mr_npc.init(x0), eta_max=1e-6)
    solved, g = state.info["minres"], A @ x0
    assert state.status is Status.NEGATIVE_CURVATURE
    r = -g - A @ solved.x
    np.testing.assert_allclose(solved.direction, r, atol=1e-9)
    assert r @ A @ r <= 0.0
    assert g @ r == pytest.approx(-(r @ r), rel=1e-6)
    np.testing.assert_allclose((x - x0) / np.linalg.norm(x - x0), r / np.linalg.norm(r), atol=1e-7)


def test_where_h_vanishes_it_goes_as_far_as_x_is_long() -> None:
    def linearize(x: np.ndarray) -> tuple[float, np.ndarray, object]:
        return -float(np.tanh(x[0])), np.array([-1.0 / np.cosh(x[0]) ** 2, 0.0]), np.zeros_like

    f = Objective(value_and_grad=lambda x: linearize(x)[:2], linearize=linearize)
    x0 = np.array([0.0, 3.0])
    x, state = newton_mr_npc.step(f, x0, newton_mr_npc.init(x0))
    np.testing.assert_allclose(x, [3.0 * state.info["alpha"], 3.0])


def test_a_product_that_is_not_finite_is_a_status() -> None:
    f = Objective(
        value_and_grad=lambda x: (0.5 * (x @ x), x), linearize=lambda x: (0.5 * (x @ x), x, lambda v: np.nan * v)
    )
    assert minimize(f, newton_mr_npc, x0=np.ones(2), steps=5).status is Status.BREAKDOWN


def test_bad_forcing_term() -> None:
    with pytest.raises(ValueError, match=r"eta_max must be in \(0, 1\), got 1.0"):
        minimize(problems.get("rosenbrock"), newton_mr_npc, steps=1, eta_max=1.0)
