"""Inertia: exact counts for small n, bounds that hold beyond, and Sylvester's law."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refopt.curvature import inertia
from refopt.status import Status
from tests.quadratic import symmetric


@given(n=st.integers(1, 12), seed=st.integers(0, 10_000), data=st.data())
def test_counts_are_exact_and_kept_by_congruence(n, seed, data):
    negative = data.draw(st.integers(0, n))
    A = symmetric(n, seed, negative=negative)
    C = np.eye(n) + 0.3 * symmetric(n, seed + 1)  # far from singular
    for M in (A, C @ A @ C):
        found = inertia(lambda v, M=M: M @ v, np.zeros(n))
        assert (found.negative, found.zero, found.positive) == (negative, 0, n - negative)
        assert found.exact
        assert found.status is Status.CONVERGED
        assert found.products == n


@given(seed=st.integers(0, 10_000), negative=st.integers(0, 40), steps=st.integers(1, 40))
def test_bounds_hold_whatever_the_steps(seed, negative, steps):
    A = symmetric(40, seed, negative=negative)
    found = inertia(lambda v: A @ v, np.zeros(40), exact_up_to=10, steps=steps, seed=seed)
    assert found.negative <= negative
    assert found.positive <= 40 - negative
    assert found.negative + found.positive + found.zero + found.undecided == 40
    assert found.products <= steps
    least, largest = np.linalg.eigvalsh(A)[[0, -1]]
    assert found.smallest.value >= least - 1e-12
    assert found.largest.value <= largest + 1e-12
    v = found.smallest.vector
    assert np.linalg.norm(A @ v - found.smallest.value * v) == pytest.approx(found.smallest.residual, abs=1e-12)


def test_negative_directions_are_found_where_they_stand_out():
    lam = np.r_[np.linspace(0.1, 1.0, 997), -1.0, -2.0, -3.0]
    found = inertia(lambda v: lam * v, np.zeros(1000), steps=40)
    assert (found.negative, found.exact, found.status) == (3, False, Status.MAX_STEPS)


def test_zero_singular_tiny_and_one_dimension():
    zero = inertia(lambda v: 0.0 * v, np.zeros(5))
    assert (zero.negative, zero.zero, zero.positive, zero.exact) == (0, 5, 0, True)
    u = np.arange(1.0, 7.0)
    one = inertia(lambda v: u * (u @ v), np.zeros(6))
    assert (one.negative, one.zero, one.positive) == (0, 5, 1)
    lam = np.array([1.0, -1e-3])
    assert inertia(lambda v: lam * v, np.zeros(2), rtol=1e-2).zero == 1
    assert inertia(lambda v: -2.0 * v, np.zeros(1)).negative == 1


@pytest.mark.parametrize("exact_up_to", [0, 10])
def test_nan_is_a_breakdown(exact_up_to):
    found = inertia(lambda v: math.nan * v, np.zeros(4), exact_up_to=exact_up_to)
    assert (found.status, found.undecided, found.smallest) == (Status.BREAKDOWN, 4, None)


@pytest.mark.parametrize("exact_up_to", [0, 10])
def test_runs_on_every_backend(exact_up_to, backend):
    A = symmetric(8, 0, negative=3)
    device_A = backend.array(A)
    found = inertia(lambda v: device_A @ v, backend.array(np.zeros(8)), exact_up_to=exact_up_to)
    assert (found.negative, found.positive) == (3, 5)


def test_misuse():
    with pytest.raises(ValueError, match="rtol must be at least 0, got -1"):
        inertia(lambda v: v, np.zeros(2), rtol=-1)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        inertia(lambda v: v, np.zeros(2), steps=0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), negative=st.integers(0, 5), steps=st.integers(20, 60))
def test_with_confidence_all_others_lie_above_the_floor(seed, negative, steps):
    rng = np.random.default_rng(seed)
    lam = np.concatenate([-rng.uniform(0.1, 2.0, negative), rng.exponential(size=400 - negative)])
    found = inertia(lambda v: lam * v, np.zeros(400), steps=steps, seed=seed, confidence=0.999)
    assert np.sum(lam < found.floor) <= found.negative <= negative
    assert found.products == 2 * steps
    assert found.floor > -lam.max()


def test_the_index_is_certified_where_a_gap_shows_it():
    """Three eigenvalues stand out below; 500 steps see the rest above zero but for luck of 1e-6."""
    lam = np.concatenate([[-3.0, -2.0, -1.0], np.linspace(0.1, 1.0, 1997)])
    found = inertia(lambda v: lam * v, np.zeros(2000), steps=60, confidence=1 - 1e-6)
    assert found.negative == 3
    assert 0.0 < found.floor <= 0.1
    assert not found.exact
    assert inertia(lambda v: lam * v, np.zeros(2000), steps=60).floor == -np.inf
    assert inertia(lambda v: lam * v, np.zeros(2000), steps=3, confidence=0.999).floor == -np.inf


def test_the_floor_does_not_trust_vectors_that_are_no_eigenvectors_yet():
    """V need not have converged: what lies orthogonal to it decides, by interlacing."""
    lam = np.concatenate([-np.linspace(1.0, 1.1, 30), np.linspace(0.5, 1.0, 470)])
    found = inertia(lambda v: lam * v, np.zeros(500), steps=25, confidence=0.999)
    assert found.negative < 30
    assert np.sum(lam < found.floor) <= found.negative


def test_exact_counts_have_their_floor():
    lam = np.array([-1.0, 2.0, 3.0])
    assert inertia(lambda v: lam * v, np.zeros(3)).floor > 0.0
    assert inertia(lambda v: 0.0 * v, np.zeros(3)).floor == 0.0
    with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\), got 1.0"):
        inertia(lambda v: v, np.zeros(3), confidence=1.0)


def test_single_precision_still_sees_signs_where_n_is_large():
    """10 n eps, which suits a small matrix, passes 1 at n = 1e6."""
    lam = np.concatenate([[-0.5], np.linspace(0.0, 1.0, 999_999)]).astype("float32")
    found = inertia(lambda v: lam * v, np.zeros(1_000_000, dtype="float32"), steps=12)
    assert found.negative == 1
    assert found.positive > 5
