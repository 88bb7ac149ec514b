"""More and Thuente's search: the inequalities re-checked from outside, its own test table, every way to end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize._dcsrch import DCSRCH

from refopt.line_search import more_thuente
from refopt.line_search.more_thuente import _next
from refopt.line_search.trial import Trial
from tests.line_search.on_a_line import MORE_THUENTE, assert_wolfe, search_line


@pytest.mark.parametrize("lr", [1e-3, 1e-1, 1e1, 1e3])
@pytest.mark.parametrize("name", MORE_THUENTE)
def test_it_asks_for_hardly_more_than_minpack(name, lr):
    """MINPACK-2's code, as translated by scipy, uses psi less often and bounds the first step otherwise."""
    phi, c1, c2 = MORE_THUENTE[name]
    found, _ = search_line(more_thuente.search, phi, lr=lr, c1=c1, c2=c2)
    asked = []

    def value(a):
        asked.append(a)
        return phi(a)[0]

    peer = DCSRCH(value, lambda a: phi(a)[1], c1, c2, 1e-14, 0.0, 1e10)
    alpha = peer(lr, phi0=phi(0.0)[0], derphi0=phi(0.0)[1], maxiter=100)[0]
    assert alpha is not None
    assert found.evaluations <= len(asked) + 2


@given(minimum=st.floats(0.01, 100), lr=st.floats(0.01, 100))
def test_a_cubic_is_solved_by_its_interpolation(minimum, lr):
    """Three trials at most fix a cubic: the first two, and its minimiser."""
    phi = lambda a: (a**3 / 3 - minimum**2 * a, a * a - minimum**2)  # noqa: E731
    found, _ = search_line(more_thuente.search, phi, lr=min(max(lr, 0.3 * minimum), 3 * minimum), c2=1e-3)
    assert_wolfe(phi, found, c2=1e-3)
    assert found.evaluations <= 4


def test_a_flat_function_decreases_enough_only_within_rounding():
    found, _ = search_line(more_thuente.search, lambda a: (1.0, -1.0 if a == 0.0 else 0.0), maxiter=60)
    assert found.value == 1.0
    assert found.alpha < 1e-11


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"c1": 0.5, "c2": 0.1}, "c1 and c2 must satisfy"),
        ({"lr": 0.0}, "lr must be positive, got 0.0"),
        ({"maxiter": 0}, "maxiter must be at least 1, got 0"),
    ],
)
def test_bad_constants_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        search_line(more_thuente.search, lambda a: (-a, -1.0), **options)


def interpolations(lo, t):
    """Return the minimisers of the Hermite cubic, by its coefficients, and of the secant of the slopes."""
    (a, fa, ga), (b, fb, gb) = lo, t
    rows = [[s**3, s**2, s, 1] for s in (a, b)] + [[3 * s**2, 2 * s, 1, 0] for s in (a, b)]
    coefficients = np.linalg.solve(rows, [fa, fb, ga, gb])
    minimisers = [r.real for r in np.roots(np.polyder(coefficients)) if np.polyval(np.polyder(coefficients, 2), r) > 0]
    return minimisers[0], (a * gb - b * ga) / (gb - ga)


@pytest.mark.parametrize(
    ("t", "hi", "choice"),
    [
        ((1.0, -0.2, 0.4), None, "further"),  # the slope has changed its sign
        ((1.0, -0.2, 2.5), None, "further"),
        ((1.0, -0.9, -0.5), (1.5, -0.2, 1.0), "nearer"),  # the slope has shrunk
        ((1.0, -0.74, -0.5), None, "further"),
        ((1.0, -0.74, -0.5), (1.1, -0.7, 1.0), "limit"),
    ],
)
def test_the_choice_between_cubic_and_secant(t, hi, choice):
    as_trial = lambda a, phi, slope: Trial(a, None, phi, slope, None)  # noqa: E731
    lo = (0.0, 0.0, -1.0)
    candidates = sorted(interpolations(lo, t), key=lambda a: abs(a - t[0]))
    found = _next(as_trial(*lo), as_trial(*t), None if hi is None else as_trial(*hi))
    expected = {"nearer": candidates[0], "further": candidates[1], "limit": 1.066}[choice]
    assert found == pytest.approx(expected)
