"""More and Thuente's search: the inequalities re-checked from outside, its own test table, every way to end."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize._dcsrch import DCSRCH

from refopt.line_search import more_thuente
from refopt.line_search.more_thuente import _next
from refopt.line_search.trial import Trial
from refopt.objective import Objective
from refopt.status import Status
from tests.line_search.on_a_line import MORE_THUENTE, assert_wolfe, search_line


@pytest.mark.parametrize("lr", [1e-3, 1e-1, 1e1, 1e3])
@pytest.mark.parametrize("name", MORE_THUENTE)
def test_its_own_functions(name, lr):
    phi, c1, c2 = MORE_THUENTE[name]
    found, objective = search_line(more_thuente.search, phi, lr=lr, c1=c1, c2=c2)
    assert_wolfe(phi, found, c1, c2)
    assert found.x is objective.points[-1]


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


@given(minimum=st.floats(1e-6, 1e6), lr=st.floats(1e-6, 1e6), c2=st.floats(0.01, 0.95))
def test_quadratics_of_any_scale(minimum, lr, c2):
    phi = lambda a: ((a / minimum - 1) ** 2, 2 * (a / minimum - 1) / minimum)  # noqa: E731
    found, _ = search_line(more_thuente.search, phi, lr=lr, c2=c2, maxiter=40)
    assert_wolfe(phi, found, 1e-4 - 1e-12, c2)


@given(a=st.floats(0.1, 10), b=st.floats(0.1, 10), lr=st.floats(0.01, 100))
def test_oscillating_functions(a, b, lr):
    phi = lambda t: (math.cosh(0.1 * t) - a * math.sin(b * t), 0.1 * math.sinh(0.1 * t) - a * b * math.cos(b * t))  # noqa: E731
    found, _ = search_line(more_thuente.search, phi, lr=lr, c2=0.1, maxiter=60)
    assert_wolfe(phi, found, c2=0.1)


@given(minimum=st.floats(0.01, 100), lr=st.floats(0.01, 100))
def test_a_cubic_is_solved_by_its_interpolation(minimum, lr):
    """Three trials at most fix a cubic: the first two, and its minimiser."""
    phi = lambda a: (a**3 / 3 - minimum**2 * a, a * a - minimum**2)  # noqa: E731
    found, _ = search_line(more_thuente.search, phi, lr=min(max(lr, 0.3 * minimum), 3 * minimum), c2=1e-3)
    assert_wolfe(phi, found, c2=1e-3)
    assert found.evaluations <= 4


@pytest.mark.parametrize("slope", [0.0, 1.0, math.nan, -math.inf])
def test_directions_that_do_not_descend_are_refused_unseen(slope):
    x = np.zeros(1)
    found = more_thuente.search(None, x, np.ones(1), 1.0, np.array([slope]))
    assert found.status is Status.NOT_A_DESCENT_DIRECTION
    assert found.x is x


@pytest.mark.parametrize("beyond", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("edge", [1e-6, 1e-2, 0.9])
def test_steps_into_the_undefined_are_shortened(beyond, edge):
    def phi(a):
        if a >= edge:
            return beyond, math.nan
        return -20 * a / edge - math.log(1 - a / edge), -20 / edge + 1 / (edge - a)

    found, _ = search_line(more_thuente.search, phi, lr=1.0, c2=0.1, maxiter=40)
    assert_wolfe(phi, found, c2=0.1)


def test_unbounded_functions_fail_with_the_lowest_point():
    found, _ = search_line(more_thuente.search, lambda a: (-a, -1.0), maxiter=8)
    assert found.status is Status.LINE_SEARCH_FAILED
    assert found.evaluations == 8
    assert found.value == -found.alpha < -1e3


def test_slopes_that_lie_end_at_the_start():
    found, _ = search_line(more_thuente.search, lambda a: (a, -1.0), maxiter=3000)
    assert (found.status, found.alpha) == (Status.LINE_SEARCH_FAILED, 0.0)
    assert found.evaluations < 3000


def test_a_flat_function_decreases_enough_only_within_rounding():
    found, _ = search_line(more_thuente.search, lambda a: (1.0, -1.0 if a == 0.0 else 0.0), maxiter=60)
    assert found.value == 1.0
    assert found.alpha < 1e-11


def test_float32():
    phi = lambda a: ((a - 3) ** 2, 2 * (a - 3))  # noqa: E731
    found, _ = search_line(more_thuente.search, phi, dtype="float32", c2=0.01)
    assert_wolfe(phi, found, c2=0.01)


def test_runs_on_every_backend(backend):
    scale = backend.array([1.0, 10.0, 100.0])
    objective = Objective(value_and_grad=lambda x: (0.5 * (x @ (scale * x)), scale * x))
    x = backend.array([1.0, 1.0, 1.0])
    value, g = objective.value_and_grad(x)
    found = more_thuente.search(objective, x, -g, value, g, c2=0.1)
    assert found.status is Status.CONVERGED
    after, g_after = objective.value_and_grad(found.x)
    assert float(after) <= float(value) - 1e-4 * found.alpha * float(g @ g)
    assert abs(float(g_after @ g)) <= 0.1 * float(g @ g)


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
