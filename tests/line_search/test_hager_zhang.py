"""Hager and Zhang's search: Wolfe or approximate Wolfe re-checked from outside, rounding, every way to end."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refopt.line_search import hager_zhang, more_thuente
from refopt.status import Status
from tests.line_search.on_a_line import assert_one_of_both, search_line


@given(minimum=st.floats(1e-6, 1e6), lr=st.floats(1e-6, 1e6), c2=st.floats(0.2, 0.95))
def test_quadratics_take_one_secant_within_a_bracket(minimum, lr, c2):
    phi = lambda a: ((a / minimum - 1) ** 2, 2 * (a / minimum - 1) / minimum)  # noqa: E731
    found, _ = search_line(hager_zhang.search, phi, lr=lr, c2=c2)
    assert_one_of_both(phi, found, 0.1 - 1e-9, c2)
    extensions = max(0, math.ceil(math.log(minimum / lr) / math.log(5)))
    if lr <= 2 * minimum:  # beyond, the first trial is too high and is halved
        assert found.evaluations <= extensions + 2


@pytest.mark.parametrize("lr", [1e-2, 1.0, 1e2])
@pytest.mark.parametrize("curvature", [1e-3, 1.0, 1e3])
def test_float32_slopes_decide_where_values_are_lost_in_rounding(curvature, lr):
    """Values jitter by an ulp, and the start happens to be the lowest: More and Thuente's search cannot move."""
    start, ulp = 1e-4, 2.0**-23

    def phi(a):
        t = start * (a * curvature - 1)
        return 1.0 + ulp * (int(7919 * a) % 3 + (a > 0)) + 0.5 * t * t, start * curvature * t

    found, _ = search_line(hager_zhang.search, phi, dtype="float32", lr=lr, c2=0.2)
    assert_one_of_both(phi, found, c2=0.2)
    exact, _ = search_line(more_thuente.search, phi, dtype="float32", lr=lr, c2=0.2)
    assert (exact.status, exact.alpha) == (Status.LINE_SEARCH_FAILED, 0.0)


def test_without_slack_it_asks_for_wolfe():
    """The value of the approximation may exceed the start's by eps |f|, and by no more."""
    phi = lambda a: (1.0 + (0.0 if a == 0.0 else 1e-7) + (a - 1) ** 2 * 1e-9, 2e-9 * (a - 1))  # noqa: E731
    loose, _ = search_line(hager_zhang.search, phi, lr=1.0)
    strict, _ = search_line(hager_zhang.search, phi, lr=1.0, eps=1e-8)
    assert loose.status is Status.CONVERGED
    assert (strict.status, strict.alpha) == (Status.LINE_SEARCH_FAILED, 0.0)


def test_unbounded_functions_fail_with_the_lowest_point():
    found, objective = search_line(hager_zhang.search, lambda a: (-a, -1.0), c1=0.1, c2=0.5, maxiter=8)
    assert found.status is Status.LINE_SEARCH_FAILED
    assert [float(x[0]) for x in objective.points] == [5.0**i for i in range(8)]
    assert found.value == -(5.0**7)


def test_flat_functions_are_left_where_the_slope_vanishes():
    found, _ = search_line(hager_zhang.search, lambda a: (1.0, -1.0 if a == 0.0 else 0.0))
    assert found.status is Status.CONVERGED


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"c1": 0.5}, r"c1 must be in \(0, 1/2\), got 0.5"),
        ({"c1": 0.2, "c2": 0.1}, r"c2 must be in \(c1, 1\), got 0.1"),
        ({"eps": -1.0}, "eps must be at least 0, got -1.0"),
        ({"lr": 0.0}, "lr must be positive, got 0.0"),
    ],
)
def test_bad_constants_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        search_line(hager_zhang.search, lambda a: (-a, -1.0), **options)


def test_the_bracket_starts_at_the_last_step_that_was_short():
    phi = lambda a: (a**3 / 3 - 1e6 * a, a * a - 1e6)  # noqa: E731
    _, objective = search_line(hager_zhang.search, phi, c1=1e-4, c2=2e-4)
    tried = [float(x[0]) for x in objective.points]
    assert tried[:6] == [1, 5, 25, 125, 625, 3125]
    assert min(tried[6:]) > 625


@pytest.mark.parametrize("concave", [True, False])
def test_the_second_secant_is_through_the_old_and_the_new_value_of_the_end_that_moved(concave):
    """A concave slope moves the upper end, a convex one the lower."""
    if concave:
        phi = lambda a: ((a + 0.1) * (math.log(a + 0.1) - 1), math.log(a + 0.1))  # noqa: E731
    else:
        phi = lambda a: (math.exp(a) - 3 * a, math.exp(a) - 3)  # noqa: E731
    _, objective = search_line(hager_zhang.search, phi, lr=3.0, c1=0.49, c2=0.5)

    def secant(a, b):
        return (a * phi(b)[1] - b * phi(a)[1]) / (phi(b)[1] - phi(a)[1])

    first, c, second = (float(x[0]) for x in objective.points[:3])
    assert (first, c) == (3.0, pytest.approx(secant(0.0, 3.0)))
    assert second == pytest.approx(secant(3.0 if concave else 0.0, c))
