from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import problems
from refopt import Status, minimize
from refopt.first_order import sgd
from refopt.loop import Step
from refopt.newton import newton_cg
from refopt.objective import Objective
from tests.quadratic import quadratic, symmetric


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 12), seed=st.integers(0, 10_000))
def test_one_exact_step_solves_a_quadratic(n: int, seed: int) -> None:
    A = symmetric(n, seed)
    rng = np.random.default_rng(seed)
    p = rng.normal(size=n)
    result = minimize(quadratic(A, p), newton_cg, x0=rng.normal(size=n), steps=1, eta_max=1e-12, maxiter=10 * n)
    np.testing.assert_allclose(result.x, p, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 8), negative=st.integers(1, 8), seed=st.integers(0, 10_000))
def test_it_never_climbs_and_leaves_every_strict_saddle(n: int, negative: int, seed: int) -> None:
    problem = problems.get("saddle", n=n, index=min(negative, n), seed=seed)
    result = minimize(problem, newton_cg, steps=300, stop={"grad_norm": 1e-9})
    assert result.status is Status.CONVERGED
    values = [record.value for record in result.history]
    assert all(later <= earlier for earlier, later in itertools.pairwise(values))
    assert result.value == pytest.approx(problem.minimum)


def test_the_saddle_holds_gradient_descent_longer() -> None:
    problem = problems.get("saddle", n=10, index=1, distance=1e-6)
    stop = {"value": 0.5 * problem.minimum}
    newton = minimize(problem, newton_cg, steps=1000, stop=stop)
    gradient = minimize(problem, sgd, steps=1000, stop=stop, lr=1.0)
    assert newton.status is gradient.status is Status.CONVERGED
    assert newton.steps * 5 < gradient.steps


def test_convergence_is_superlinear() -> None:
    result = minimize(problems.get("rosenbrock", n=10), newton_cg, steps=200, stop={"grad_norm": 1e-10})
    assert result.status is Status.CONVERGED
    norms = [record.grad_norm for record in result.history]
    assert norms[-1] / norms[-2] < 1e-2


def test_the_forcing_term_is_kept() -> None:
    problem = problems.get("rosenbrock", n=20)
    f = problem.objective

    def callback(step: object) -> None:
        info = step.state.info  # type: ignore[attr-defined]
        if info and info["cg"].status is Status.CONVERGED:
            assert info["cg"].residual_norm <= info["eta"] * np.linalg.norm(f.grad(previous[-1])) * (1 + 1e-6)
        previous.append(step.x)  # type: ignore[attr-defined]

    previous: list[np.ndarray] = []
    minimize(problem, newton_cg, steps=30, callback=callback)


def test_products_are_priced_as_linearised() -> None:
    result = minimize(problems.get("rosenbrock", n=10), newton_cg, steps=5)
    counts = result.ledger.counts
    assert counts["linearize"] == 5
    assert counts["hvp"] == 0
    assert counts["product"] > 5


def test_a_product_that_is_not_finite_is_a_status() -> None:
    f = Objective(
        value_and_grad=lambda x: (0.5 * (x @ x), x), linearize=lambda x: (0.5 * (x @ x), x, lambda v: np.nan * v)
    )
    assert minimize(f, newton_cg, x0=np.ones(2), steps=5).status is Status.BREAKDOWN


def test_bad_forcing_term() -> None:
    with pytest.raises(ValueError, match=r"eta_max must be in \(0, 1\), got 1.0"):
        minimize(problems.get("rosenbrock"), newton_cg, steps=1, eta_max=1.0)


def test_at_negative_curvature_it_goes_on_as_if_the_curvature_were_positive() -> None:
    """On diag(1, -1): CG's first direction is -g, and |g^T H g| gives its length."""
    A, x0 = np.diag([1.0, -1.0]), np.array([0.05, 0.1])
    x, state = newton_cg.step(quadratic(A), x0, newton_cg.init(x0))
    g = A @ x0
    assert state.status is Status.NEGATIVE_CURVATURE
    length = (g @ g) / abs(g @ A @ g)
    np.testing.assert_allclose(x - x0, -state.info["alpha"] * length * g)


def test_a_flat_direction_is_followed_no_further_than_x_is_long() -> None:
    f = Objective(
        value_and_grad=lambda x: (-float(np.tanh(x[0])), np.array([-1.0 / np.cosh(x[0]) ** 2, 0.0])),
        linearize=lambda x: (-float(np.tanh(x[0])), np.array([-1.0 / np.cosh(x[0]) ** 2, 0.0]), np.zeros_like),
    )
    x0 = np.array([0.0, 3.0])
    x, state = newton_cg.step(f, x0, newton_cg.init(x0))
    np.testing.assert_allclose(x, [3.0 * state.info["alpha"], 3.0])


def test_along_a_curved_valley_the_first_trial_is_as_long_as_the_last_step_suggests() -> None:
    problem = problems.get("rosenbrock", n=2)
    result = minimize(problem, newton_cg, steps=100, stop={"grad_norm": 1e-8})
    assert result.status is Status.CONVERGED
    assert result.ledger.counts["value"] + result.ledger.counts["grad"] <= 1.5 * result.steps
    assert result.state.decrease is None  # at the end 1 is long enough


def test_on_minibatches_the_model_is_solved_less_closely_and_the_last_step_not_trusted() -> None:
    problem = problems.get("mlp_digits")

    def callback(step: Step) -> None:
        assert step.state.decrease is None
        shortened.append(step.k > 0 and step.state.info["alpha"] < 1.0)

    shortened: list[bool] = []
    minimize(problem, newton_cg, steps=20, batch_size=64, callback=callback)
    assert any(shortened)
    x, f = problem.x0, problem.objective.minibatch(np.arange(64))
    assert newton_cg.step(f, x, newton_cg.init(x))[1].info["eta"] == 0.5
    assert newton_cg.step(problem.objective, x, newton_cg.init(x))[1].info["eta"] == 0.22
