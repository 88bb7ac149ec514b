"""MINRES: least residuals over the Krylov space, monotone, indefinite and singular matrices, every way to end."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refopt.curvature import cg, minres
from refopt.status import Status


def symmetric(eigenvalues, seed=0):
    lam = np.asarray(eigenvalues, dtype=float)
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(lam), len(lam))))[0]
    A = (Q * lam) @ Q.T
    return (A + A.T) / 2


def vector(n, seed=1):
    return np.random.default_rng(seed).standard_normal(n)


def residuals(A, b, steps):
    """Return |b - A x_k| for k = 0, 1, ..., seen from outside."""
    xs = [minres(lambda v: A @ v, b, rtol=0.0, maxiter=k).x for k in range(steps)]
    return np.array([np.linalg.norm(b - A @ x) for x in xs])


def test_solves_on_every_backend(backend):
    A, b = symmetric([-3.0, -1, 1, 2, 4, 5]), vector(6)
    device_A = backend.array(A)
    found = minres(lambda v: device_A @ v, backend.array(b), rtol=1e-12)
    assert found.status is Status.CONVERGED
    np.testing.assert_allclose(backend.numpy(found.x), np.linalg.solve(A, b), rtol=1e-10)


@given(seed=st.integers(0, 10_000))
def test_every_residual_is_the_least_of_the_krylov_space_and_is_reported(seed):
    A, b = symmetric([-4.0, -1.5, 0.5, 1, 2, 3, 5, 8], seed), vector(8, seed + 1)
    for k in range(1, 6):
        found = minres(lambda v: A @ v, b, rtol=0.0, maxiter=k)
        K = np.linalg.qr(np.stack([np.linalg.matrix_power(A, j) @ b for j in range(k)], axis=1))[0]
        best = np.linalg.norm(b - A @ K @ np.linalg.lstsq(A @ K, b)[0])
        assert np.linalg.norm(b - A @ found.x) == pytest.approx(best, rel=1e-6)
        assert found.residual_norm == pytest.approx(best, rel=1e-6)


@given(seed=st.integers(0, 10_000))
def test_residuals_never_grow_and_are_no_more_than_those_of_cg(seed):
    A, b = symmetric(np.logspace(-2, 1, 20), seed), vector(20, seed + 1)
    least = residuals(A, b, 15)
    of_cg = [np.linalg.norm(b - A @ cg(lambda v: A @ v, b, maxiter=k).x) for k in range(15)]
    assert np.all(np.diff(least) <= 1e-12)
    assert np.all(least <= np.array(of_cg) + 1e-12)


def test_on_positive_definite_matrices_the_energy_error_falls_and_the_iterates_grow():
    A, b = symmetric(np.logspace(-2, 1, 20)), vector(20)
    solution = np.linalg.solve(A, b)
    xs = [minres(lambda v: A @ v, b, maxiter=k).x for k in range(15)]
    assert np.all(np.diff([(x - solution) @ A @ (x - solution) for x in xs]) < 0)
    assert np.all(np.diff([np.linalg.norm(x) for x in xs]) > 0)


@pytest.mark.parametrize("distinct", [1, 2, 4])
def test_ends_after_as_many_steps_as_distinct_eigenvalues(distinct):
    A = symmetric(np.resize([-2.0, 1.0, 3.0, 5.0][:distinct], 12))
    found = minres(lambda v: A @ v, vector(12), rtol=1e-9)
    assert (found.status, found.products) == (Status.CONVERGED, distinct)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [5, 30, 100])
def test_singular_inconsistent_systems_give_a_least_squares_solution(dtype, n):
    for seed in range(3):
        Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
        A = ((Q[:, 2:] * np.linspace(-3, 4, n - 2)) @ Q[:, 2:].T).astype(dtype)
        b = vector(n, seed + 1).astype(dtype)
        found = minres(lambda v, A=A: A @ v, b)
        best = np.linalg.norm(Q[:, :2].T @ b)
        assert found.status is Status.CONVERGED
        assert found.residual_norm == pytest.approx(best, rel=1e-4)
        assert np.linalg.norm(b - A @ found.x) == pytest.approx(best, rel=1e-4)


def test_singular_consistent_systems_are_solved():
    A = symmetric([0.0, 0, -1, 2, 3])
    b = A @ vector(5)
    found = minres(lambda v: A @ v, b)
    assert found.status is Status.CONVERGED
    np.testing.assert_allclose(found.x, np.linalg.pinv(A, rcond=1e-10) @ b, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("digits", [0, 4, 8, 16])
def test_any_condition_ends_in_words_and_tells_the_truth(dtype, digits):
    signs = np.where(np.arange(30) % 3, 1.0, -1.0)
    A, b = symmetric(signs * np.logspace(-digits, 0, 30)).astype(dtype), vector(30).astype(dtype)
    found = minres(lambda v: A @ v, b)
    true = np.linalg.norm(b.astype(float) - A.astype(float) @ found.x.astype(float))
    assert found.x.dtype == np.dtype(dtype)
    drift = 100 * float(np.finfo(dtype).eps) * float(max(np.linalg.norm(found.x), np.linalg.norm(b)))
    if found.status is not Status.MAX_STEPS:  # which reports phi, and phi drifts
        assert found.residual_norm == pytest.approx(true, rel=0.2, abs=drift)


def test_a_tolerance_beyond_the_precision_stagnates_honestly():
    A, b = symmetric(np.linspace(1, 5, 20)), vector(20)
    found = minres(lambda v: A @ v, b, rtol=0.0)
    assert found.status is Status.STAGNATED
    assert found.residual_norm == pytest.approx(np.linalg.norm(b - A @ found.x), rel=1e-6)
    assert 0 < found.residual_norm < 1e-13 * np.linalg.norm(b)


def test_convergence_is_not_believed_where_the_condition_squared_spoils_it():
    A = symmetric(np.where(np.arange(12) % 2, 1, -1) * np.logspace(-6, 0, 12), seed=1)
    b = vector(12, seed=1)
    found = minres(lambda v: A @ v, b, rtol=1e-8)
    assert found.status is Status.STAGNATED
    assert found.residual_norm == pytest.approx(np.linalg.norm(b - A @ found.x), rel=1e-3)
    assert found.residual_norm > 1e-8 * np.linalg.norm(b)


def test_zero_matrix_leaves_everything_in_the_residual():
    found = minres(lambda v: 0.0 * v, vector(4))
    assert found.status is Status.CONVERGED
    assert found.residual_norm == pytest.approx(np.linalg.norm(vector(4)))
    np.testing.assert_array_equal(found.x, 0.0)


@pytest.mark.parametrize("a", [-4.0, 4.0])
def test_one_dimension(a):
    found = minres(lambda v: a * v, np.array([2.0]))
    assert (found.status, found.products) == (Status.CONVERGED, 1)
    assert float(found.x[0]) == pytest.approx(2.0 / a)


def test_zero_right_hand_side_costs_nothing(backend):
    found = minres(lambda v: v, backend.array(np.zeros(3)))
    assert (found.status, found.products, found.residual_norm) == (Status.CONVERGED, 0, 0.0)


def test_nan_is_a_breakdown_at_the_last_good_iterate():
    A, calls = symmetric(np.arange(1.0, 7)), []

    def mv(v):
        calls.append(v)
        return A @ v if len(calls) < 3 else math.nan * v

    found = minres(mv, vector(6))
    assert (found.status, found.products) == (Status.BREAKDOWN, 3)
    np.testing.assert_array_equal(found.x, minres(lambda v: A @ v, vector(6), maxiter=2).x)
    assert minres(mv, np.array([math.nan])).status is Status.BREAKDOWN


def test_maxiter_and_absolute_tolerance():
    A, b = symmetric(np.linspace(-1, 5, 7) + 0.1), vector(7)
    assert minres(lambda v: A @ v, b, maxiter=2).status is Status.MAX_STEPS
    found = minres(lambda v: A @ v, b, rtol=0.0, atol=0.1)
    assert found.status is Status.CONVERGED
    assert np.linalg.norm(b - A @ found.x) <= 0.1


@pytest.mark.parametrize("name", ["rtol", "atol"])
def test_negative_tolerance_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 0, got -1"):
        minres(lambda v: v, np.ones(2), **{name: -1})


@given(seed=st.integers(0, 10_000))
def test_from_x0_the_residual_is_the_least_over_its_own_krylov_space(seed):
    A, b, x0 = symmetric([-4.0, -1.5, 0.5, 1, 2, 3, 5, 8], seed), vector(8, seed + 1), vector(8, seed + 2)
    found = minres(lambda v: A @ v, b, x0=x0, rtol=0.0, maxiter=3)
    shifted = minres(lambda v: A @ v, b - A @ x0, rtol=0.0, maxiter=3)
    np.testing.assert_allclose(found.x, x0 + shifted.x, atol=1e-10)
    assert found.residual_norm == pytest.approx(np.linalg.norm(b - A @ found.x), rel=1e-8)
    assert found.products == shifted.products + 1
    solution = np.linalg.solve(A, b)
    at_once = minres(lambda v: A @ v, b, x0=solution, rtol=1e-8)
    assert (at_once.status, at_once.products) == (Status.CONVERGED, 1)


@given(seed=st.integers(0, 10_000))
def test_preconditioned_it_is_minres_on_the_symmetrically_scaled_system(seed):
    A, b = symmetric([-4.0, -1.5, 0.5, 1, 2, 3, 5, 8], seed), vector(8, seed + 1)
    L = np.linalg.cholesky(symmetric(np.logspace(-1, 1, 8), seed + 2))
    M_inverse = np.linalg.inv(L @ L.T)
    scaled = np.linalg.solve(L, np.linalg.solve(L, A).T)
    for k in (1, 3, 5):
        found = minres(lambda v: A @ v, b, rtol=0.0, maxiter=k, preconditioner=lambda r: M_inverse @ r)
        plain = minres(lambda v: scaled @ v, np.linalg.solve(L, b), rtol=0.0, maxiter=k)
        np.testing.assert_allclose(L.T @ found.x, plain.x, atol=1e-7 * np.linalg.norm(plain.x))
        r = b - A @ found.x
        assert found.residual_norm == pytest.approx(math.sqrt(r @ M_inverse @ r), rel=1e-6)


def test_the_exact_preconditioner_solves_definite_systems_at_once():
    A, b = symmetric(np.logspace(-3, 3, 20)), vector(20)
    found = minres(lambda v: A @ v, b, preconditioner=lambda r: np.linalg.solve(A, r))
    assert (found.status, found.products) == (Status.CONVERGED, 1)
    indefinite = minres(lambda v: A @ v, b, preconditioner=lambda r: -r)
    assert indefinite.status is Status.BREAKDOWN


@given(seed=st.integers(0, 10_000), negative=st.integers(1, 7), preconditioned=st.booleans())
def test_negative_curvature_is_found_by_the_first_residual_that_has_it(seed, negative, preconditioned):
    """All residuals before have positive curvature, and so has the whole Krylov space."""
    lam = np.array([0.3, 0.7, 1.1, 1.9, 3.1, 4.7, 8.2]) * np.where(np.arange(7) < negative, -1.0, 1.0)
    A, b = symmetric(lam, seed), vector(7, seed + 1)
    M_inverse = symmetric(np.logspace(-0.5, 0.5, 7), seed + 2) if preconditioned else np.eye(7)
    options = {"rtol": 0.0, "preconditioner": (lambda r: M_inverse @ r) if preconditioned else None}
    found = minres(lambda v: A @ v, b, until_negative=True, **options)
    assert found.status is Status.NEGATIVE_CURVATURE
    z = found.direction
    np.testing.assert_allclose(z, M_inverse @ (b - A @ found.x), atol=1e-8 * np.linalg.norm(b))
    assert found.curvature == pytest.approx(z @ A @ z / (z @ z), abs=1e-8)
    assert found.curvature <= 1e-12
    for k in range(found.products - 1):
        x = minres(lambda v: A @ v, b, maxiter=k, **options).x
        z = M_inverse @ (b - A @ x)
        assert z @ A @ z > 0
    if found.products > 1:
        powers = [np.linalg.matrix_power(M_inverse @ A, j) @ M_inverse @ b for j in range(found.products - 1)]
        Q = np.linalg.qr(np.stack(powers, axis=1))[0]
        assert np.linalg.eigvalsh(Q.T @ A @ Q)[0] > 0


def test_definite_systems_are_solved_as_if_nobody_had_looked():
    A, b = symmetric(np.logspace(-2, 1, 20)), vector(20)
    looked, plain = (minres(lambda v: A @ v, b, until_negative=look) for look in (True, False))
    assert looked.status is plain.status is Status.CONVERGED
    np.testing.assert_array_equal(looked.x, plain.x)
