"""Krylov subspace descent: CG's iterates on quadratics, the space and its scaling, saddles, batches, every end."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import problems
from refopt import Status, bind, minimize
from refopt.curvature import cg
from refopt.newton import krylov_subspace_descent
from refopt.newton.krylov_subspace_descent import _basis, _bfgs
from refopt.objective import Objective
from tests.quadratic import quadratic, symmetric


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 12), seed=st.integers(0, 9999))
def test_one_step_in_the_whole_space_solves_a_quadratic(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.normal(size=n)
    result = minimize(quadratic(symmetric(n, seed), p), krylov_subspace_descent, x0=rng.normal(size=n), steps=1)
    np.testing.assert_allclose(result.x, p, atol=1e-8)
    assert result.state.info["trials"] == 1


@settings(max_examples=20, deadline=None)
@given(vectors=st.integers(1, 6), fisher=st.booleans(), seed=st.integers(0, 9999))
def test_the_first_step_on_a_quadratic_is_an_iterate_of_cg(vectors: int, fisher: bool, seed: int) -> None:
    A, rng = symmetric(10, seed), np.random.default_rng(seed)
    x, F = rng.normal(size=10), rng.uniform(0.5, 2.0, size=10)
    f = Objective(
        value_and_grad=lambda x: (0.5 * x @ A @ x, A @ x),
        hvp=lambda x, v: A @ v,
        per_example_grads=lambda x: np.sqrt(F)[None, :],
    )
    init, step = bind(krylov_subspace_descent, vectors=vectors, preconditioner="fisher" if fisher else "none")
    new, _ = step(f, x, init(x))
    M_inverse = (lambda r: r / F) if fisher else None
    solved = cg(lambda v: A @ v, -A @ x, maxiter=vectors, preconditioner=M_inverse, rtol=0.0)
    np.testing.assert_allclose(new - x, solved.x, rtol=1e-7, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(vectors=st.integers(1, 5), seed=st.integers(0, 9999))
def test_a_later_step_is_the_minimum_over_the_krylov_space_and_the_last_step(vectors: int, seed: int) -> None:
    A = symmetric(12, seed)
    x = np.random.default_rng(seed).normal(size=12)
    init, step = bind(krylov_subspace_descent, vectors=vectors)
    x, state = step(quadratic(A), x, init(x))
    new, _ = step(quadratic(A), x, state)
    g = A @ x
    space = [np.linalg.matrix_power(A, j) @ g for j in range(vectors)]
    K = np.linalg.qr(np.stack([*space, state.d], axis=1))[0]
    np.testing.assert_allclose(new - x, -K @ np.linalg.solve(K.T @ A @ K, K.T @ g), rtol=1e-6, atol=1e-8)


@settings(max_examples=20, deadline=None)
@given(negative=st.integers(0, 4), last=st.booleans(), seed=st.integers(0, 9999))
def test_in_the_basis_the_hessian_is_a_matrix_of_signs(negative: int, last: bool, seed: int) -> None:
    A, rng = symmetric(12, seed, negative=negative), np.random.default_rng(seed)
    V, theta = _basis(lambda v: A @ v, rng.normal(size=12), rng.normal(size=12) if last else None, 5, 1e-8)
    assert V is not None
    assert V.shape == (12, 6 if last else 5)
    np.testing.assert_allclose(V.T @ A @ V, np.diag(np.sign(theta)), atol=1e-6)


def test_the_inner_bfgs_converges_superlinearly() -> None:
    problem = problems.get("rosenbrock", n=4)
    x, trials = _bfgs(problem.objective, problem.x0, np.eye(4), 60, 1e-10)
    np.testing.assert_allclose(x, 1.0, atol=1e-9)
    assert trials < 80


def test_a_last_step_inside_of_the_space_adds_nothing() -> None:
    A, g = symmetric(8, 0), np.ones(8)
    V, _ = _basis(lambda v: A @ v, g, A @ g, 3, 1e-8)
    assert V is not None
    assert V.shape == (8, 3)


@settings(max_examples=15, deadline=None)
@given(n=st.integers(2, 8), negative=st.integers(1, 8), seed=st.integers(0, 9999))
def test_it_never_climbs_and_leaves_every_strict_saddle(n: int, negative: int, seed: int) -> None:
    problem = problems.get("saddle", n=n, index=min(negative, n), seed=seed)
    result = minimize(problem, krylov_subspace_descent, steps=100, stop={"grad_norm": 1e-9})
    assert result.status is Status.CONVERGED
    values = [record.value for record in result.history]
    assert all(later <= earlier for earlier, later in itertools.pairwise(values))
    assert result.value == pytest.approx(problem.minimum)


def test_negative_curvature_is_reported() -> None:
    A = symmetric(6, 1, negative=2)
    f = Objective.from_function(lambda x, xp: 0.5 * xp.sum(x * (xp.asarray(A) @ x)) + 0.25 * xp.sum(x**4))
    init, step = bind(krylov_subspace_descent)
    x = 0.01 * np.ones(6)
    assert step(f, x, init(x))[1].status is Status.NEGATIVE_CURVATURE


def test_a_full_batch_of_a_network_is_never_climbed_in_the_papers_dialect() -> None:
    problem = problems.get("mlp_digits", hidden=(3,))
    options = krylov_subspace_descent.DIALECTS["paper"]
    result = minimize(problem, krylov_subspace_descent, steps=8, **options)
    values = [record.value for record in result.history]
    assert all(later < earlier for earlier, later in itertools.pairwise(values))
    assert values[-1] < 0.2 * values[0]


def recorded(calls: list[tuple[str, int, set[int]]], n: int = 40) -> Objective:
    """A finite sum of 1/2 |x - c_i|^2 that writes down which examples each part was asked of."""
    c = np.random.default_rng(0).normal(size=(n, 3))

    def build(rows: np.ndarray) -> Objective:
        def value_and_grad(x: np.ndarray) -> tuple[float, np.ndarray]:
            calls.append(("grad", len(rows), set(rows.tolist())))
            return 0.5 * float(np.mean(np.sum((x - c[rows]) ** 2, axis=1))), x - c[rows].mean(axis=0)

        def linearize(x: np.ndarray) -> Any:
            calls.append(("linearize", len(rows), set(rows.tolist())))
            return 0.0, x, lambda v: v

        return Objective(value_and_grad=value_and_grad, linearize=linearize, n_examples=n, restrict=build)

    return build(np.arange(n))


def test_a_minibatch_has_two_more_beside_it_and_the_last_one_decides() -> None:
    calls: list[tuple[str, int, set[int]]] = []
    f = recorded(calls)
    S = f.sample(10, 0, 0)
    init, step = bind(krylov_subspace_descent, curvature_batch=5)
    x = np.ones(3)
    calls.clear()
    new, state = step(S, x, init(x))
    (part_S, size_S, of_S), (part_B, size_B, of_B), (part_C, size_C, C), *others = calls
    assert (part_S, part_B, part_C) == ("grad", "linearize", "grad")
    assert (size_S, size_B, size_C) == (10, 5, 10)
    assert len({frozenset(of_S), frozenset(of_B), frozenset(C)}) == 3
    assert all(rows == C for _, _, rows in others)
    on_C = f.minibatch(np.array(sorted(C)))
    assert on_C.value(new) < on_C.value(x)
    np.testing.assert_array_equal(state.d, new - x)


def test_all_examples_need_no_other_batch() -> None:
    calls: list[tuple[str, int, set[int]]] = []
    minimize(recorded(calls), krylov_subspace_descent, x0=np.ones(3), steps=2)
    assert {size for _, size, _ in calls} == {40}


def test_ways_to_end() -> None:
    x = np.ones(2)
    broken = Objective(value_and_grad=lambda x: (x @ x, 2 * x), hvp=lambda x, v: math.nan * v)
    assert minimize(broken, krylov_subspace_descent, x0=x, steps=3).status is Status.BREAKDOWN
    rising = Objective(value_and_grad=lambda x: (float(np.any(x != 1.0)), 2 * x), hvp=lambda x, v: v)
    result = minimize(rising, krylov_subspace_descent, x0=x, steps=3)
    assert result.status is Status.LINE_SEARCH_FAILED
    np.testing.assert_array_equal(result.x, x)
    with pytest.raises(TypeError, match="ggn"):
        minimize(quadratic(np.eye(2)), krylov_subspace_descent, x0=x, steps=1, matrix="gauss-newton")


def test_a_linear_function_is_followed_along_the_gradient() -> None:
    f = Objective(value_and_grad=lambda x: (x @ np.ones(3), np.ones(3)), hvp=lambda x, v: 0.0 * v)
    x = minimize(f, krylov_subspace_descent, x0=np.zeros(3), steps=1).x
    np.testing.assert_allclose(x, x[0] * np.ones(3))
    assert x[0] < 0


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ({"vectors": 0}, "vectors must be at least 1, got 0"),
        ({"inner": 0}, "inner must be at least 1, got 0"),
        ({"matrix": "fisher"}, "matrix must be 'hessian' or 'gauss-newton', got 'fisher'"),
        ({"preconditioner": "adam"}, "preconditioner must be 'none' or 'fisher', got 'adam'"),
        ({"floor": 0.0}, r"floor must be in \(0, 1\], got 0.0"),
        ({"rtol": -1}, "rtol must be at least 0, got -1"),
    ],
)
def test_bad_input_is_named(bad: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        minimize(quadratic(np.eye(2)), krylov_subspace_descent, x0=np.ones(2), steps=1, **bad)
