"""The strong Wolfe search: the two inequalities re-checked from outside, on hard functions and in low precision."""

from __future__ import annotations

import math

import pytest

from refopt.line_search import strong_wolfe
from refopt.status import Status
from tests.line_search.on_a_line import MORE_THUENTE, assert_wolfe, search_line


def test_newton_steps_on_a_quadratic_are_taken_at_once():
    found, objective = search_line(strong_wolfe.search, lambda a: (0.5 * (a - 1) ** 2, a - 1), c1=0.49)
    assert (found.alpha, found.evaluations) == (1.0, 1)
    assert found.x is objective.points[-1]


@pytest.mark.parametrize("phi", [lambda a: (a, -1.0), lambda a: (abs(a - 1 / 3), math.copysign(1, a - 1 / 3))])
def test_a_bracket_without_a_number_inside_ends_the_search(phi):
    found, objective = search_line(strong_wolfe.search, phi, maxiter=5000)
    assert found.status is Status.LINE_SEARCH_FAILED
    assert len(objective.points) < 3000


def test_a_step_into_a_shallower_valley_is_taken_back():
    """The first trial lies on the way down to 0.1; the second, at 0.25, satisfies both conditions but is worse."""

    def phi(a):
        valleys = [(1.0, 0.1, 0.05), (0.2, 0.25, 0.1)]  # depth, place, width
        value = sum(-d * math.exp(-(((a - m) / w) ** 2)) for d, m, w in valleys)
        slope = sum(2 * d * (a - m) / w**2 * math.exp(-(((a - m) / w) ** 2)) for d, m, w in valleys)
        return value, slope

    found, objective = search_line(strong_wolfe.search, phi, lr=0.05, c2=0.1)
    assert float(objective.points[1][0]) == pytest.approx(0.25)
    assert_wolfe(phi, found, c2=0.1)
    assert found.alpha == pytest.approx(0.1, abs=0.01)


def test_failure_keeps_the_best_sufficient_decrease():
    phi, c1, _ = MORE_THUENTE["third"]
    found, objective = search_line(strong_wolfe.search, phi, lr=1e-3, c1=c1, c2=c1 + 1e-9, maxiter=4)
    assert found.status is Status.LINE_SEARCH_FAILED
    trials = [phi(float(x[0]))[0] for x in objective.points]
    assert found.value == min(trials) <= phi(0.0)[0] + c1 * found.alpha * phi(0.0)[1]


@pytest.mark.parametrize("curvature", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("lr", [1e-2, 1.0, 1e2])
def test_slopes_decide_where_values_are_lost_in_rounding(curvature, lr):
    """A search on values alone cannot move."""
    start, ulp = 1e-4, 2.0**-23

    def phi(a):
        t = start * (a * curvature - 1)
        jitter = ulp * (int(7919 * a) % 3 - 1)  # the start happens to be lowest
        return 1.0 + jitter + 0.5 * t * t, start * curvature * t

    found, _ = search_line(strong_wolfe.search, phi, dtype="float32", lr=lr, c2=0.1)
    assert found.status is Status.CONVERGED
    assert abs(phi(found.alpha)[1]) <= 0.1 * abs(phi(0.0)[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"c1": 0.5, "c2": 0.1}, "c1 and c2 must satisfy"),
        ({"c1": 0.0}, "c1 and c2 must satisfy"),
        ({"c2": 1.0}, "c1 and c2 must satisfy"),
        ({"lr": 0.0}, "lr must be positive, got 0.0"),
    ],
)
def test_bad_constants_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        search_line(strong_wolfe.search, lambda a: (-a, -1.0), **options)
