"""The strong Wolfe search: the two inequalities re-checked from outside, on hard functions and in low precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refopt.line_search import strong_wolfe
from refopt.objective import Objective
from refopt.status import Status
from tests.line_search.on_a_line import MORE_THUENTE, assert_wolfe, search_line


@pytest.mark.parametrize("lr", [1e-3, 1e-1, 1.0, 1e1, 1e3])
@pytest.mark.parametrize("name", MORE_THUENTE)
def test_more_and_thuentes_functions(name, lr):
    phi, c1, c2 = MORE_THUENTE[name]
    found, _ = search_line(strong_wolfe.search, phi, lr=lr, c1=c1, c2=c2)
    assert_wolfe(phi, found, c1, c2)


@given(
    minimum=st.floats(1e-6, 1e6),
    lr=st.floats(1e-6, 1e6),
    c2=st.floats(0.01, 0.95),
)
def test_quadratics_of_any_scale(minimum, lr, c2):
    phi = lambda a: ((a / minimum - 1) ** 2, 2 * (a / minimum - 1) / minimum)  # noqa: E731
    found, _ = search_line(strong_wolfe.search, phi, lr=lr, c2=c2, maxiter=30)
    assert_wolfe(phi, found, 1e-4 - 1e-12, c2)


@given(a=st.floats(0.1, 10), b=st.floats(0.1, 10), lr=st.floats(0.01, 100))
def test_oscillating_functions(a, b, lr):
    phi = lambda t: (math.cosh(0.1 * t) - a * math.sin(b * t), 0.1 * math.sinh(0.1 * t) - a * b * math.cos(b * t))  # noqa: E731
    found, _ = search_line(strong_wolfe.search, phi, lr=lr, c2=0.1, maxiter=40)
    assert_wolfe(phi, found, c2=0.1)


def test_newton_steps_on_a_quadratic_are_taken_at_once():
    found, objective = search_line(strong_wolfe.search, lambda a: (0.5 * (a - 1) ** 2, a - 1), c1=0.49)
    assert (found.alpha, found.evaluations) == (1.0, 1)
    assert found.x is objective.points[-1]


def test_the_accepted_point_is_the_last_one_evaluated():
    for phi, c1, c2 in MORE_THUENTE.values():
        found, objective = search_line(strong_wolfe.search, phi, lr=10.0, c1=c1, c2=c2)
        assert found.x is objective.points[-1]
        value, slope = phi(found.alpha)
        assert (found.value, float(found.grad[0])) == (value, slope)


@pytest.mark.parametrize("slope", [0.0, 1.0, math.nan, -math.inf])
def test_directions_that_do_not_descend_are_refused_unseen(slope):
    x = np.zeros(1)
    found = strong_wolfe.search(None, x, np.ones(1), 1.0, np.array([slope]))
    assert found.status is Status.NOT_A_DESCENT_DIRECTION
    assert found.x is x
    assert (found.alpha, found.evaluations) == (0.0, 0)


@pytest.mark.parametrize("beyond", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("edge", [1e-8, 1e-2, 0.9])
def test_steps_into_the_undefined_are_shortened(beyond, edge):
    """A logarithmic barrier at `edge`, the first step far behind it; without bisection it took twice as long."""

    def phi(a):
        if a >= edge:
            return beyond, math.nan
        return -20 * a / edge - math.log(1 - a / edge), -20 / edge + 1 / (edge - a)

    found, _ = search_line(strong_wolfe.search, phi, lr=1.0, c2=0.1)
    assert_wolfe(phi, found, c2=0.1)


def test_unbounded_functions_fail_with_the_lowest_point():
    found, _ = search_line(strong_wolfe.search, lambda a: (-a, -1.0), maxiter=8)
    assert found.status is Status.LINE_SEARCH_FAILED
    assert found.evaluations == 8
    assert found.value == -found.alpha < -1e3


def test_a_slope_that_lies_fails_at_the_start():
    found, _ = search_line(strong_wolfe.search, lambda a: (a, -1.0))
    assert found.status is Status.LINE_SEARCH_FAILED
    assert (found.alpha, found.value) == (0.0, 0.0)


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


def test_runs_on_every_backend(backend):
    scale = backend.array([1.0, 10.0, 100.0])
    objective = Objective(value_and_grad=lambda x: (0.5 * (x @ (scale * x)), scale * x))
    x = backend.array([1.0, 1.0, 1.0])
    value, g = objective.value_and_grad(x)
    found = strong_wolfe.search(objective, x, -g, value, g, lr=1.0, c2=0.1)
    assert found.status is Status.CONVERGED
    after, g_after = objective.value_and_grad(found.x)
    slope = float(g @ -g)
    assert float(after) <= float(value) + 1e-4 * found.alpha * slope
    assert abs(float(g_after @ -g)) <= 0.1 * abs(slope)
    np.testing.assert_array_equal(backend.numpy(x), 1.0)


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
