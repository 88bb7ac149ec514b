"""What every search for Wolfe points promises: the inequalities re-checked from outside, and every way to end."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refopt.line_search import hager_zhang, more_thuente, strong_wolfe
from refopt.objective import Objective
from refopt.status import Status
from tests.line_search.on_a_line import MORE_THUENTE, assert_one_of_both, assert_wolfe, search_line


class Kind(NamedTuple):
    """A search, the check of what it accepts, and its constants here."""

    search: Callable[..., Any]
    check: Callable[..., None]
    c1: float
    c2: float


KINDS = {
    "strong_wolfe": Kind(strong_wolfe.search, assert_wolfe, 1e-4, 0.1),
    "more_thuente": Kind(more_thuente.search, assert_wolfe, 1e-4, 0.1),
    "hager_zhang": Kind(hager_zhang.search, assert_one_of_both, 0.1, 0.2),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.mark.parametrize("lr", [1e-3, 1e-1, 1.0, 1e1, 1e3])
@pytest.mark.parametrize("name", MORE_THUENTE)
def test_more_and_thuentes_functions(kind, name, lr):
    phi, c1, c2 = MORE_THUENTE[name]
    found, objective = search_line(kind.search, phi, lr=lr, c1=c1, c2=c2, maxiter=60)
    kind.check(phi, found, c1, c2)
    assert found.x is objective.points[-1]
    assert (found.value, float(found.grad[0])) == phi(found.alpha)


@pytest.mark.parametrize("name", KINDS)
@given(minimum=st.floats(1e-6, 1e6), lr=st.floats(1e-6, 1e6), c2=st.floats(0.2, 0.95))
def test_quadratics_of_any_scale(name, minimum, lr, c2):
    search, check, c1, _ = KINDS[name]
    phi = lambda a: ((a / minimum - 1) ** 2, 2 * (a / minimum - 1) / minimum)  # noqa: E731
    found, _ = search_line(search, phi, lr=lr, c2=c2, maxiter=40)
    check(phi, found, c1 * (1 - 1e-8), c2)


@pytest.mark.parametrize("name", KINDS)
@given(a=st.floats(0.1, 10), b=st.floats(0.1, 10), lr=st.floats(0.01, 100))
def test_oscillating_functions(name, a, b, lr):
    search, check, c1, c2 = KINDS[name]
    phi = lambda t: (math.cosh(0.1 * t) - a * math.sin(b * t), 0.1 * math.sinh(0.1 * t) - a * b * math.cos(b * t))  # noqa: E731
    found, _ = search_line(search, phi, lr=lr, c2=c2, maxiter=60)
    check(phi, found, c1, c2)


@pytest.mark.parametrize("slope", [0.0, 1.0, math.nan, -math.inf])
def test_directions_that_do_not_descend_are_refused_unseen(kind, slope):
    x = np.zeros(1)
    found = kind.search(None, x, np.ones(1), 1.0, np.array([slope]))
    assert found.status is Status.NOT_A_DESCENT_DIRECTION
    assert found.x is x
    assert (found.alpha, found.evaluations) == (0.0, 0)


@pytest.mark.parametrize("beyond", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("edge", [1e-6, 1e-2, 0.9])
def test_steps_into_the_undefined_are_shortened(kind, beyond, edge):
    """A logarithmic barrier at `edge`, the first step far behind it."""

    def phi(a):
        if a >= edge:
            return beyond, math.nan
        return -20 * a / edge - math.log(1 - a / edge), -20 / edge + 1 / (edge - a)

    found, _ = search_line(kind.search, phi, lr=1.0, c2=kind.c2, maxiter=40)
    kind.check(phi, found, kind.c1, kind.c2)


def test_unbounded_functions_fail_with_the_lowest_point(kind):
    found, objective = search_line(kind.search, lambda a: (-a, -1.0), c1=0.1, c2=0.5, maxiter=8)
    assert found.status is Status.LINE_SEARCH_FAILED
    assert found.evaluations == 8
    assert found.value == -found.alpha == -max(float(x[0]) for x in objective.points) < -1e3


@pytest.mark.parametrize("phi", [lambda a: (a, -1.0), lambda a: (1.0 + (a > 0), -1.0)])
def test_slopes_that_lie_end_at_the_start(kind, phi):
    found, _ = search_line(kind.search, phi, maxiter=3000)
    assert (found.status, found.alpha) == (Status.LINE_SEARCH_FAILED, 0.0)
    assert found.evaluations < 3000


def test_float32(kind):
    phi = lambda a: ((a - 3) ** 2, 2 * (a - 3))  # noqa: E731
    found, _ = search_line(kind.search, phi, dtype="float32", c2=kind.c2)
    kind.check(phi, found, kind.c1, kind.c2)


def test_runs_on_every_backend(kind, backend):
    scale = backend.array([1.0, 10.0, 100.0])
    objective = Objective(value_and_grad=lambda x: (0.5 * (x @ (scale * x)), scale * x))
    x = backend.array([1.0, 1.0, 1.0])
    value, g = objective.value_and_grad(x)
    found = kind.search(objective, x, -g, value, g, c2=kind.c2)
    assert found.status is Status.CONVERGED
    after, g_after = objective.value_and_grad(found.x)
    assert float(after) <= float(value) - kind.c1 * found.alpha * float(g @ g)
    assert float(g_after @ g) <= kind.c2 * float(g @ g)
    np.testing.assert_array_equal(backend.numpy(x), 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"c1": 0.2, "c2": 0.1}, "c2 must"), ({"lr": 0.0}, "lr must be positive, got 0.0"), ({"maxiter": 0}, "maxiter")],
)
def test_bad_constants_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        search_line(kind.search, lambda a: (-a, -1.0), **options)
