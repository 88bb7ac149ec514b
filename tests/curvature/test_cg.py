"""Conjugate gradients: finite termination, orthogonality, conjugacy, optimality, and every way to end."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refopt.curvature import cg
from refopt.status import Status


def symmetric(eigenvalues, seed=0):
    """Return a matrix with these eigenvalues and random eigenvectors."""
    lam = np.asarray(eigenvalues, dtype=float)
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(lam), len(lam))))[0]
    A = (Q * lam) @ Q.T
    return (A + A.T) / 2


def vector(n, seed=1):
    return np.random.default_rng(seed).standard_normal(n)


def test_solves_on_every_backend(backend):
    A, b = symmetric(np.linspace(1, 5, 6)), vector(6)
    device_A = backend.array(A)
    found = cg(lambda v: device_A @ v, backend.array(b), rtol=1e-12)
    assert found.status is Status.CONVERGED
    np.testing.assert_allclose(backend.numpy(found.x), np.linalg.solve(A, b), rtol=1e-10)


def test_preconditioned_from_a_start_on_every_backend(backend):
    A, b = symmetric(np.linspace(1, 5, 6)) * np.outer(*[np.arange(1.0, 7)] * 2), vector(6)
    device_A, diagonal = backend.array(A), backend.array(np.diag(A))
    found = cg(
        lambda v: device_A @ v,
        backend.array(b),
        x0=backend.array(vector(6, seed=2)),
        preconditioner=lambda r: r / diagonal,
        rtol=1e-12,
    )
    assert found.status is Status.CONVERGED
    np.testing.assert_allclose(backend.numpy(found.x), np.linalg.solve(A, b), rtol=1e-9)


@given(distinct=st.integers(1, 5), seed=st.integers(0, 10_000))
def test_ends_after_as_many_steps_as_distinct_eigenvalues(distinct, seed):
    A = symmetric(np.resize(np.arange(1.0, distinct + 1), 12), seed)
    found = cg(lambda v: A @ v, vector(12, seed), rtol=1e-9)
    assert found.status is Status.CONVERGED
    assert found.products == distinct


def test_counts_only_eigenvalues_excited_by_the_right_hand_side():
    lam = np.arange(1.0, 9)
    b = np.zeros(8)
    b[[2, 5]] = 1.0
    assert cg(lambda v: lam * v, b, rtol=1e-10).products == 2


def trace_of(A, b, **options):
    """Run CG and return its iterates, residuals and the directions it multiplied by A."""
    xs, residuals, directions = [], [b], []

    def mv(v):
        directions.append(v)
        return A @ v

    def watch(x, r):
        xs.append(x)
        residuals.append(r)

    cg(mv, b, callback=watch, **options)
    return np.array(xs), np.array(residuals), np.array(directions)


def test_residuals_are_orthogonal_and_directions_conjugate():
    A, b = symmetric(np.linspace(1, 20, 10)), vector(10)
    _, R, P = trace_of(A, b, maxiter=9, rtol=0)
    R, P = R / np.linalg.norm(R, axis=1)[:, None], P / np.sqrt(np.sum(P * (P @ A), axis=1))[:, None]
    np.testing.assert_allclose(R @ R.T, np.eye(len(R)), atol=1e-10)
    np.testing.assert_allclose(P @ A @ P.T, np.eye(len(P)), atol=1e-10)


def test_callback_sees_the_true_residual():
    A, b = symmetric(np.linspace(1, 20, 10)), vector(10)
    xs, residuals, _ = trace_of(A, b, maxiter=8)
    np.testing.assert_allclose(residuals[1:], b - xs @ A, atol=1e-12)


def test_iterates_minimise_the_energy_error_over_the_krylov_space():
    A, b = symmetric(np.linspace(1, 20, 8)), vector(8)
    xs, _, _ = trace_of(A, b, maxiter=6)
    for k, x in enumerate(xs, start=1):
        K = np.linalg.qr(np.stack([np.linalg.matrix_power(A, j) @ b for j in range(k)], axis=1))[0]
        np.testing.assert_allclose(x, K @ np.linalg.solve(K.T @ A @ K, K.T @ b), rtol=1e-7, atol=1e-9)


def test_the_quadratic_model_falls_and_the_iterates_grow():
    A, b = symmetric(np.logspace(-2, 1, 20)), vector(20)
    xs, _, _ = trace_of(A, b, maxiter=15)
    model = [0.5 * x @ A @ x - b @ x for x in xs]
    assert np.all(np.diff(model) < 0)
    assert np.all(np.diff(np.linalg.norm(xs, axis=1)) > 0)


@given(maxiter=st.integers(1, 12), preconditioned=st.booleans(), seed=st.integers(0, 10_000))
def test_the_models_decrease_is_told(maxiter, preconditioned, seed):
    A, b, x0 = symmetric(np.logspace(-1, 1, 9), seed), vector(9, seed), vector(9, seed + 1)
    M_inverse = (lambda r: r / np.diag(A)) if preconditioned else None
    found = cg(lambda v: A @ v, b, x0=x0, maxiter=maxiter, preconditioner=M_inverse)
    model = [0.5 * x @ A @ x - b @ x for x in (x0, found.x)]
    assert found.model_decrease == pytest.approx(model[0] - model[1])


def test_energy_error_obeys_the_chebyshev_bound():
    A, b = symmetric(np.linspace(1, 50, 40)), vector(40)
    solution = np.linalg.solve(A, b)
    xs, _, _ = trace_of(A, b, maxiter=25)
    errors = [math.sqrt((x - solution) @ A @ (x - solution)) for x in xs]
    q = (math.sqrt(50) - 1) / (math.sqrt(50) + 1)
    start = math.sqrt(solution @ A @ solution)
    assert all(e <= 2 * q**k * start for k, e in enumerate(errors, start=1))


def test_exact_preconditioner_needs_one_step():
    A, b = symmetric(np.logspace(-2, 2, 15)), vector(15)
    inverse = np.linalg.inv(A)
    assert cg(lambda v: A @ v, b, preconditioner=lambda r: inverse @ r).products == 1


def test_preconditioning_equals_cg_in_the_transformed_variables():
    A, b, d = symmetric(np.linspace(1, 9, 10)), vector(10), np.linspace(1, 3, 10)
    plain = cg(lambda v: (A @ (v / d)) / d, b / d, maxiter=4)
    preconditioned = cg(lambda v: A @ v, b, maxiter=4, preconditioner=lambda r: r / d**2)
    np.testing.assert_allclose(preconditioned.x, plain.x / d, rtol=1e-10)


def test_warm_start_at_the_solution_costs_one_product():
    A = symmetric([1.0, 2, 3])
    found = cg(lambda v: A @ v, A @ np.ones(3), x0=np.ones(3))
    assert (found.status, found.products) == (Status.CONVERGED, 1)


@given(scale=st.sampled_from([1e-150, 1e-30, 1.0, 1e30, 1e150]))
def test_is_covariant_under_scaling_of_the_right_hand_side(scale):
    A, b = symmetric(np.linspace(1, 5, 6)), vector(6)
    unit, scaled = cg(lambda v: A @ v, b), cg(lambda v: A @ v, scale * b)
    assert (scaled.status, scaled.products) == (unit.status, unit.products)
    np.testing.assert_allclose(scaled.x, scale * unit.x, rtol=1e-9)


@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1e-8, 1.0, 1e8]))
def test_negative_curvature_is_returned(seed, scale):
    A = scale * symmetric([-1.0, 0.5, 1, 2, 3, 4], seed)
    found = cg(lambda v: A @ v, vector(6, seed))
    p = found.direction
    assert found.status is Status.NEGATIVE_CURVATURE
    assert p @ A @ p <= 0
    assert found.curvature == pytest.approx(p @ A @ p / (p @ p), rel=1e-6)
    assert vector(6, seed) @ p > 0  # along p both the slope and the curvature are downhill
    assert np.linalg.norm(vector(6, seed) - A @ found.x) == pytest.approx(found.residual_norm)


def test_zero_matrix_has_no_positive_curvature():
    found = cg(lambda v: 0.0 * v, vector(4))
    assert (found.status, found.curvature, found.products) == (Status.NEGATIVE_CURVATURE, 0.0, 1)
    np.testing.assert_array_equal(found.x, 0.0)


def test_singular_but_consistent_system_gives_the_least_norm_solution():
    A = symmetric([0.0, 0, 1, 2, 3])
    b = A @ vector(5)
    found = cg(lambda v: A @ v, b)
    assert found.status is Status.CONVERGED
    np.testing.assert_allclose(found.x, np.linalg.pinv(A, rcond=1e-10) @ b, rtol=1e-7)


def test_singular_inconsistent_system_returns_a_null_direction():
    A = symmetric([0.0, 1, 2, 3])
    found = cg(lambda v: A @ v, vector(4))
    assert found.status is Status.NEGATIVE_CURVATURE
    assert np.linalg.norm(A @ found.direction) <= 1e-6 * np.linalg.norm(found.direction)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("digits", [0, 4, 8, 16])
def test_any_condition_ends_in_words_and_tells_the_truth(dtype, digits):
    A = symmetric(np.logspace(-digits, 0, 30)).astype(dtype)
    b = vector(30).astype(dtype)
    found = cg(lambda v: A @ v, b)
    true = np.linalg.norm(b.astype(float) - A.astype(float) @ found.x.astype(float))
    assert found.x.dtype == np.dtype(dtype)
    eps = float(np.finfo(dtype).eps)
    drift = float(100 * eps * max(np.linalg.norm(found.x), np.linalg.norm(b)))
    assert found.residual_norm == pytest.approx(true, rel=0.05, abs=drift)
    if found.status is Status.CONVERGED:
        assert true <= 1e-8 * np.linalg.norm(b) * (1 + 1e-6) + drift


def test_a_tolerance_beyond_the_precision_stagnates_honestly():
    A, b = symmetric(np.linspace(1, 5, 20)), vector(20)
    found = cg(lambda v: A @ v, b, rtol=0.0)
    assert found.status is Status.STAGNATED
    true = np.linalg.norm(b - A @ found.x)
    assert 0 < found.residual_norm < 1e-14 * np.linalg.norm(b)
    assert found.residual_norm == pytest.approx(true, rel=1e-6)


def test_single_precision_refines_to_what_it_can_hold():
    A = symmetric(np.logspace(-2, 0, 20)).astype("float32")
    b = vector(20).astype("float32")
    found = cg(lambda v: A @ v, b, rtol=2e-6)
    assert found.status is Status.CONVERGED
    assert np.linalg.norm(b - A @ found.x) <= 3e-6 * np.linalg.norm(b)


def test_one_dimension():
    found = cg(lambda v: 4.0 * v, np.array([2.0]))
    assert (found.status, found.products, float(found.x[0])) == (Status.CONVERGED, 1, 0.5)
    assert cg(lambda v: -4.0 * v, np.array([2.0])).status is Status.NEGATIVE_CURVATURE


def test_zero_right_hand_side_is_solved_by_zero_at_no_cost(backend):
    zero = backend.array(np.zeros(3))
    for x0 in (None, backend.array(np.ones(3))):
        found = cg(lambda v: v, zero, x0=x0)
        assert (found.status, found.products, found.residual_norm) == (Status.CONVERGED, 0, 0.0)
        np.testing.assert_array_equal(backend.numpy(found.x), 0.0)


def test_nan_is_a_breakdown_that_keeps_the_last_good_iterate():
    A, calls = symmetric(np.linspace(1, 5, 6)), []

    def mv(v):
        calls.append(v)
        return A @ v if len(calls) < 3 else math.nan * v

    found = cg(mv, vector(6))
    assert (found.status, found.products) == (Status.BREAKDOWN, 3)
    np.testing.assert_array_equal(found.x, cg(lambda v: A @ v, vector(6), maxiter=2).x)
    assert cg(lambda v: v, np.array([math.nan, 1.0])).status is Status.BREAKDOWN
    assert cg(lambda v: v, vector(3), preconditioner=lambda r: -r).status is Status.BREAKDOWN


def test_callback_and_maxiter_end_the_solve():
    A, b = symmetric(np.linspace(1, 5, 6)), vector(6)
    assert cg(lambda v: A @ v, b, callback=lambda x, r: True).status is Status.CALLBACK
    stopped = cg(lambda v: A @ v, b, maxiter=2)
    assert (stopped.status, stopped.products) == (Status.MAX_STEPS, 2)
    assert stopped.residual_norm == pytest.approx(np.linalg.norm(b - A @ stopped.x))
    assert cg(lambda v: A @ v, b, maxiter=0).products == 0


def test_absolute_tolerance_holds_where_it_is_larger():
    A, b = symmetric(np.linspace(1, 5, 6)), vector(6)
    found = cg(lambda v: A @ v, b, rtol=0.0, atol=0.1)
    assert found.status is Status.CONVERGED
    assert 1e-3 < found.residual_norm <= 0.1


@pytest.mark.parametrize("name", ["rtol", "atol"])
def test_negative_tolerance_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 0, got -1"):
        cg(lambda v: v, np.ones(2), **{name: -1})


@pytest.mark.peers
def test_agrees_with_scipy():
    from scipy.sparse.linalg import cg as peer

    A, b = symmetric(np.logspace(-1, 1, 30)), vector(30)
    np.testing.assert_allclose(cg(lambda v: A @ v, b, rtol=1e-10).x, peer(A, b, rtol=1e-10)[0], rtol=1e-8)
