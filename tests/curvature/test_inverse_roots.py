"""Inverse roots: the defining equation for every p, both ways, and the matrices that have none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from refopt.curvature.inverse_roots import coupled_newton, inverse_pth_root
from refopt.status import Status


def positive(d=8, digits=2.0, seed=0):
    """Return a positive definite matrix with eigenvalues from 10^-digits to 1."""
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
    A = (Q * np.logspace(-digits, 0, d)) @ Q.T
    return (A + A.T) / 2


@pytest.mark.parametrize("p", range(1, 9))
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_both_ways_give_the_root_for_every_p(p, scale):
    A = scale * positive()
    for X in (inverse_pth_root(A, p), coupled_newton(A, p).x):
        np.testing.assert_allclose(np.linalg.matrix_power(X, p) @ A, np.eye(8), atol=1e-10)
        np.testing.assert_allclose(X, X.T, rtol=1e-10)


@pytest.mark.parametrize("p", range(1, 9))
@pytest.mark.parametrize("digits", [0, 2, 6, 10])
def test_the_iteration_converges_to_the_precision_that_the_condition_allows(p, digits):
    A = positive(digits=digits)
    found = coupled_newton(A, p)
    assert found.status is Status.CONVERGED
    assert found.iterations <= 45
    expected = inverse_pth_root(A, p)
    np.testing.assert_allclose(found.x, expected, atol=1e-14 * 10**digits * np.abs(expected).max())


def test_an_error_that_grows_in_the_first_step_is_no_failure():
    assert coupled_newton(positive(20, digits=3), 8).status is Status.CONVERGED


@pytest.mark.parametrize("p", [1, 2, 4])
def test_runs_on_every_backend(backend, p):
    A = positive(5)
    expected = inverse_pth_root(A, p)
    device_A = backend.array(A)
    np.testing.assert_allclose(backend.numpy(inverse_pth_root(device_A, p)), expected, rtol=1e-9)
    np.testing.assert_allclose(backend.numpy(coupled_newton(device_A, p).x), expected, rtol=1e-9)


@pytest.mark.parametrize("p", [1, 3])
def test_single_precision_is_kept(p):
    A = positive().astype("float32")
    for X in (inverse_pth_root(A, p), coupled_newton(A, p).x):
        assert X.dtype == np.float32
    np.testing.assert_allclose(coupled_newton(A, p).x, inverse_pth_root(A, p), rtol=1e-2, atol=1e-3)


def test_one_dimension():
    A = np.array([[16.0]])
    np.testing.assert_allclose(inverse_pth_root(A, 4), 0.5)
    np.testing.assert_allclose(coupled_newton(A, 4).x, 0.5)


def test_the_ridge_is_relative():
    A = np.diag([4.0, 0.0])
    np.testing.assert_allclose(inverse_pth_root(A, 2, ridge=0.01), np.diag([4.04**-0.5, 0.04**-0.5]))
    np.testing.assert_allclose(coupled_newton(A, 2, ridge=0.01).x, np.diag([4.04**-0.5, 0.04**-0.5]))


def test_the_damping_is_absolute():
    A = np.diag([4.0, 0.0])
    for X in (inverse_pth_root(A, 2, damping=0.01), coupled_newton(A, 2, damping=0.01).x):
        np.testing.assert_allclose(X, np.diag([4.01**-0.5, 0.01**-0.5]))


@pytest.mark.parametrize("p", range(1, 9))
@pytest.mark.parametrize("digits", [0, 2, 4])
def test_the_root_is_known_to_1e_10_for_every_p(p, digits):
    Q, lam = np.linalg.qr(np.random.default_rng(1).normal(size=(40, 40)))[0], np.logspace(-digits, 0, 40)
    A, root = (Q * lam) @ Q.T, (Q * lam ** (-1 / p)) @ Q.T
    for X in (inverse_pth_root((A + A.T) / 2, p), coupled_newton((A + A.T) / 2, p).x):
        assert np.linalg.norm(X - root, 2) < 1e-10 * np.linalg.norm(root, 2)


@pytest.mark.parametrize("p", range(1, 9))
def test_a_ridge_gives_a_matrix_of_low_rank_a_root_known_to_1e_10(p):
    V = np.linalg.qr(np.random.default_rng(2).normal(size=(30, 4)))[0]  # A = 100 V V^T has rank 4, exact root below
    small, large = (1e-5 * 100.0) ** (-1 / p), (100.0 + 1e-5 * 100.0) ** (-1 / p)
    root = small * (np.eye(30) - V @ V.T) + large * V @ V.T
    for X in (inverse_pth_root(100.0 * V @ V.T, p, ridge=1e-5), coupled_newton(100.0 * V @ V.T, p, ridge=1e-5).x):
        assert np.linalg.norm(X - root, 2) < 1e-10 * np.linalg.norm(root, 2)


@pytest.mark.parametrize("p", [1, 2, 4])
@pytest.mark.parametrize("spectrum", [np.linspace(0.0, 1.0, 64), np.logspace(-8, 0, 64)])
def test_both_ways_take_the_ridge_for_a_part_of_the_largest_eigenvalue(backend, p, spectrum):
    """The smallest entries of the spectrum show the ridge alone: of |A|_F it would be up to 8 times as much."""
    Q = np.linalg.qr(np.random.default_rng(5).normal(size=(64, 64)))[0]
    A = backend.array((Q * spectrum) @ Q.T)
    by_eigh, by_products = inverse_pth_root(A, p, ridge=1e-4), coupled_newton(A, p, ridge=1e-4).x
    np.testing.assert_allclose(backend.numpy(by_products), backend.numpy(by_eigh), rtol=0.0, atol=0.03 * 1e4 ** (1 / p))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("p", range(1, 9))
@pytest.mark.parametrize("digits", [0, 3, 5])
def test_errors_are_those_of_rounding_a(dtype, p, digits):
    d, eps = 64, float(np.finfo(dtype).eps)
    Q, lam = np.linalg.qr(np.random.default_rng(3).normal(size=(d, d)))[0], np.logspace(-digits, 0, d)
    A, root = ((Q * lam) @ Q.T).astype(dtype), (Q * lam ** (-1 / p)) @ Q.T
    for X, floor in ((inverse_pth_root(A, p), 30), (coupled_newton(A, p).x, 10 * d)):
        assert np.linalg.norm(X - root, 2) < eps * (floor + 10**digits / p) * np.linalg.norm(root, 2)


@pytest.mark.parametrize("p", [2, 4, 8])
def test_rounding_of_a_large_matrix_does_not_hide_the_damping(p):
    g = 1e3 * np.random.default_rng(4).normal(size=(20, 1)).astype("float32")
    assert np.linalg.norm(inverse_pth_root(g @ g.T, p, damping=1e-4), 2) <= 1e-4 ** (-1 / p) * 1.001


@pytest.mark.peers
@pytest.mark.parametrize("p", range(1, 9))
def test_optax_takes_another_power_where_p_is_none_of_two(p):
    linear_algebra = pytest.importorskip("optax").matrix_inverse_pth_root
    A = positive(6, digits=1)
    theirs = np.asarray(linear_algebra(A.astype("float32"), p, ridge_epsilon=0.0)[0])
    ours = coupled_newton(A, p).x
    assert (np.abs(theirs - ours).max() < 1e-4) == (p in (1, 2, 4, 8))


def test_singular_and_zero_matrices_have_large_but_finite_roots():
    for A in (np.zeros((3, 3)), np.diag([1.0, 0.0, 2.0]), np.diag([1.0, -1e-17, 2.0])):
        for p in (1, 2, 4):
            assert np.all(np.isfinite(inverse_pth_root(A, p)))
    assert np.all(np.isfinite(inverse_pth_root(np.zeros((2, 2), dtype="float32"), 1)))


def test_what_has_no_root_ends_in_words():
    assert coupled_newton(np.zeros((2, 2)), 2).status is Status.BREAKDOWN
    assert coupled_newton(np.diag([1.0, math.nan]), 2).status is Status.BREAKDOWN
    assert coupled_newton(np.diag([1.0, -1.0]), 2).status.failed
    assert coupled_newton(np.diag([1.0, 0.0]), 2).status is not Status.CONVERGED
    assert coupled_newton(positive(), 2, maxiter=3).status is Status.MAX_STEPS
    assert np.all(np.isnan(inverse_pth_root(np.full((2, 2), math.nan), 2)))


@pytest.mark.parametrize("solve", [inverse_pth_root, coupled_newton])
@pytest.mark.parametrize("shape", [(2, 3), (4,)])
def test_the_matrix_must_be_square(solve, shape):
    with pytest.raises(ValueError, match="A must be a square matrix, got"):
        solve(np.ones(shape), 1)


@pytest.mark.parametrize("call", [lambda: inverse_pth_root(np.eye(2), 0), lambda: coupled_newton(np.eye(2), 0)])
def test_root_must_be_positive(call):
    with pytest.raises(ValueError, match="p must be at least 1, got 0"):
        call()


@pytest.mark.parametrize("solve", [inverse_pth_root, coupled_newton])
@pytest.mark.parametrize("name", ["damping", "ridge"])
def test_damping_must_not_be_negative(solve, name):
    with pytest.raises(ValueError, match=f"{name} must be at least 0, got -1"):
        solve(np.eye(2), 2, **{name: -1.0})
