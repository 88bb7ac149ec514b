"""Lanczos: A Q = Q T + r e^T, orthogonality to rounding, Ritz values and their error bars."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refopt.curvature import lanczos
from refopt.status import Status


def symmetric(eigenvalues, seed=0):
    lam = np.asarray(eigenvalues, dtype=float)
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(lam), len(lam))))[0]
    A = (Q * lam) @ Q.T
    return (A + A.T) / 2


def vector(n, seed=1):
    return np.random.default_rng(seed).standard_normal(n)


def tridiagonal(found):
    off = found.beta[:-1]
    return np.diag(found.alpha) + np.diag(off, 1) + np.diag(off, -1)


def assert_decomposes(A, found, tol=1e-12):
    k = found.Q.shape[1]
    last = np.zeros(k)
    last[-1:] = 1.0
    scale = np.linalg.norm(A, 2)
    error = A @ found.Q - found.Q @ tridiagonal(found) - np.outer(found.residual, last)
    np.testing.assert_allclose(error, 0.0, atol=tol * scale)
    np.testing.assert_allclose(found.Q.T @ found.Q, np.eye(k), atol=tol)
    np.testing.assert_allclose(found.Q.T @ found.residual, 0.0, atol=tol * scale)


@given(
    lam=st.lists(st.floats(-10, 10), min_size=1, max_size=10),
    steps=st.integers(1, 12),
    seed=st.integers(0, 10_000),
)
def test_decomposition_and_orthogonality(lam, steps, seed):
    A = symmetric(lam, seed)
    found = lanczos(lambda v: A @ v, vector(len(lam), seed), steps)
    assert not found.status.failed
    assert found.products == found.Q.shape[1] <= min(steps, len(lam))
    assert_decomposes(A, found, tol=1e-11)


def test_orthogonality_survives_converged_ritz_values():
    A = symmetric(np.concatenate([np.linspace(0, 1, 199), [1e6]]))
    found = lanczos(lambda v: A @ v, vector(200), 80)
    assert found.ritz_errors[-1] < 1e-6
    assert_decomposes(A, found, tol=1e-12)


@given(seed=st.integers(0, 10_000))
def test_all_steps_give_the_spectrum(seed):
    lam = np.array([-3.0, -1, 0, 0.5, 2, 7])
    A = symmetric(lam, seed)
    found = lanczos(lambda v: A @ v, vector(6, seed), 100)
    assert found.status is Status.CONVERGED
    np.testing.assert_allclose(found.ritz_values, lam, atol=1e-10)


def test_ritz_pairs_have_the_errors_they_claim():
    A = symmetric(np.linspace(-5, 5, 40) ** 3)
    found = lanczos(lambda v: A @ v, vector(40), 15)
    Y = found.Q @ found.U
    errors = np.linalg.norm(A @ Y - Y * found.ritz_values, axis=0)
    np.testing.assert_allclose(found.ritz_errors, errors, atol=1e-11)
    distance = np.abs(np.linalg.eigvalsh(A)[:, None] - found.ritz_values).min(axis=0)
    assert np.all(distance <= errors + 1e-11)


def test_ritz_values_interlace_from_step_to_step():
    A = symmetric(np.linspace(-2, 5, 20))
    for steps in range(2, 8):
        fewer, more = (lanczos(lambda v: A @ v, vector(20), k).ritz_values for k in (steps, steps + 1))
        assert np.all(more[:-1] < fewer)
        assert np.all(fewer < more[1:])


def test_invariant_subspace_ends_early():
    lam = np.resize([1.0, 4.0, 9.0], 12)
    A = symmetric(lam)
    found = lanczos(lambda v: A @ v, vector(12), 10)
    assert (found.status, found.products) == (Status.CONVERGED, 3)
    np.testing.assert_allclose(found.ritz_values, [1, 4, 9], rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_eigenvector_zero_matrix_and_one_dimension(dtype):
    e = np.array([0.0, 1.0, 0.0], dtype=dtype)
    found = lanczos(lambda v: np.array([1, 2, 3], dtype=dtype) * v, e, 3)
    assert (found.status, found.products, float(found.ritz_values[0])) == (Status.CONVERGED, 1, 2.0)
    assert found.Q.dtype == found.ritz_values.dtype == np.dtype(dtype)
    zero = lanczos(lambda v: 0.0 * v, e, 3)
    assert (zero.status, float(zero.ritz_values[0])) == (Status.CONVERGED, 0.0)
    assert lanczos(lambda v: -2.0 * v, np.ones(1, dtype=dtype), 5).ritz_values == -2.0


def test_single_precision_condition_1e16():
    A = symmetric(np.logspace(-16, 0, 50)).astype("float32")
    found = lanczos(lambda v: A @ v, vector(50).astype("float32"), 30)
    assert not found.status.failed
    assert_decomposes(A, found, tol=1e-5)


def test_runs_on_every_backend(backend):
    A = symmetric(np.linspace(-2, 5, 8))
    device_A = backend.array(A)
    found = lanczos(lambda v: device_A @ v, backend.array(vector(8)), 4)
    host = found._replace(**{f: backend.numpy(getattr(found, f)) for f in ("Q", "alpha", "beta", "residual")})
    assert_decomposes(A, host)
    expected = lanczos(lambda v: A @ v, vector(8), 4)
    np.testing.assert_allclose(backend.numpy(found.ritz_values), expected.ritz_values, rtol=1e-10)


@pytest.mark.parametrize("v0", [np.zeros(3), np.array([1.0, math.nan, 0.0])])
def test_a_start_without_direction_breaks_down(v0):
    found = lanczos(lambda v: v, v0, 2)
    assert (found.status, found.products, found.Q.shape) == (Status.BREAKDOWN, 0, (3, 0))
    assert found.ritz_values.shape == found.ritz_errors.shape == (0,)


def test_nan_keeps_the_steps_before():
    A, calls = symmetric(np.linspace(1, 5, 6)), []

    def mv(v):
        calls.append(v)
        return A @ v if len(calls) < 4 else math.nan * v

    found = lanczos(mv, vector(6), 6)
    assert (found.status, found.products) == (Status.BREAKDOWN, 4)
    assert_decomposes(A, found)
    assert found.alpha.shape == (3,)


def test_steps_must_be_positive():
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        lanczos(lambda v: v, np.ones(2), 0)


SPECTRA = {
    "uniform": np.linspace(-1, 1, 300),
    "wide": np.logspace(-8, 0, 300),
    "outliers": np.concatenate([np.linspace(0, 1, 297), [10.0, 100.0, 1000.0]]),
    "few": np.repeat([-1.0, 2.0, 3.0], 100),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", SPECTRA)
def test_selective_reorthogonalisation_gives_the_same_T_from_a_semi_orthogonal_basis(name, dtype):
    lam, eps = SPECTRA[name].astype(dtype), float(np.finfo(dtype).eps)
    v0, scale = vector(300).astype(dtype), np.max(np.abs(lam))
    full = lanczos(lambda v: lam * v, v0, 100)
    found = lanczos(lambda v: lam * v, v0, 100, reorthogonalise="selective")
    assert found.status is full.status
    k = found.products
    assert k == full.products
    overlap = np.max(np.abs(found.Q.T @ found.Q - np.eye(k)))
    assert overlap <= np.sqrt(eps)
    np.testing.assert_allclose(found.ritz_values, full.ritz_values, atol=20 * eps * scale)
    error = lam[:, None] * found.Q - found.Q @ tridiagonal(found)
    error[:, -1] -= found.residual
    np.testing.assert_allclose(error, 0.0, atol=np.sqrt(eps) * scale)


def test_selective_reorthogonalisation_is_rare_and_without_it_ghosts_come(monkeypatch):
    module = sys.modules["refopt.curvature.lanczos"]
    lam, v0 = SPECTRA["wide"], vector(300)
    lengths, orthogonal = [], module._orthogonal
    monkeypatch.setattr(module, "_orthogonal", lambda w, Q: lengths.append(Q.shape[0]) or orthogonal(w, Q))
    exact = lanczos(lambda v: lam * v, v0, 100).ritz_values
    lengths.clear()
    lanczos(lambda v: lam * v, v0, 100, reorthogonalise="selective")
    assert 0 < sum(length > 2 for length in lengths) <= 30
    monkeypatch.setattr(module, "_overlaps", lambda before, now, alpha, *_: np.zeros(len(alpha) + 1))
    ghosts = lanczos(lambda v: lam * v, v0, 100, reorthogonalise="selective").ritz_values
    assert np.sum(np.abs(ghosts - 1.0) < 1e-9) > np.sum(np.abs(exact - 1.0) < 1e-9)


def test_selective_runs_on_every_backend(backend):
    A = backend.array(symmetric(np.concatenate([np.linspace(0, 1, 39), [100.0]])))
    found = lanczos(lambda v: A @ v, backend.array(vector(40)), 30, reorthogonalise="selective")
    assert float(found.ritz_values[-1]) == pytest.approx(100.0)


def test_unknown_reorthogonalisation_is_refused():
    with pytest.raises(ValueError, match="reorthogonalise must be 'full' or 'selective', got 'none'"):
        lanczos(lambda v: v, np.ones(2), 1, reorthogonalise="none")


@pytest.mark.parametrize("name", ["wide", "outliers"])
def test_the_recurrence_foresees_the_loss_of_orthogonality(name):
    """Without any reorthogonalisation but the local one: never far below the truth, nor far above."""
    module = sys.modules["refopt.curvature.lanczos"]
    lam, eps = SPECTRA[name], np.finfo(float).eps
    q, before, alphas, betas, Q = vector(300), (np.zeros(0), np.ones(1)), [], [], []
    q, seen = q / np.linalg.norm(q), 0
    for _ in range(60):
        Q.append(q)
        w = lam * q
        alphas.append(q @ w)
        w = module._orthogonal(w, np.array(Q[-2:]))
        betas.append(np.linalg.norm(w))
        q = w / betas[-1]
        new = module._overlaps(*before, np.array(alphas), np.array(betas), eps * lam.max(), eps * np.sqrt(300))
        before = before[1], new
        foreseen, true = np.max(np.abs(new[:-1])), np.max(np.abs(np.array(Q) @ q))
        if 1e-13 < true < 1e-6:
            assert true / 10 < foreseen < 1e6 * true
            seen += 1
    assert seen > 1
