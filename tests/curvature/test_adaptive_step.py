"""The loop of trust regions and ARC: the rules of the sizes, what is accepted, and every way to end."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refopt.curvature.adaptive_step import MAX_TRIALS, adaptive_step, cubic_penalty, trust_radius
from refopt.status import Status


class Model(NamedTuple):
    x: np.ndarray
    model_decrease: float
    status: Status = Status.CONVERGED


def along_the_slope(radius: float) -> Model:
    """The minimum of -s in |s| <= radius."""
    return Model(np.array([radius]), radius)


def run(f: Any, size: float = 8.0, solve: Any = along_the_slope, **options: Any) -> Any:
    x = np.zeros(1)
    resize = partial(trust_radius, radius_max=10.0)
    return adaptive_step(f, x, f(x), size, solve, resize, **{"accept": 0.1, **options})


def test_the_first_size_that_keeps_its_word_is_taken() -> None:
    found = run(lambda x: float(x[0] ** 2 / 2 - x[0]))
    assert found.status is Status.RUNNING  # 8 climbs, 2 gains nothing, 1/2 gains 3/8 of 1/2
    assert (found.info["trials"], found.info["rho"], float(found.x[0]), found.size) == (3, 0.75, 0.5, 0.5)


@given(rho=st.floats(-2, 2), radius=st.floats(1e-3, 8), part=st.floats(0.01, 1))
def test_the_radius(rho: float, radius: float, part: float) -> None:
    new = trust_radius(radius, rho, part * radius, radius_max=10.0)
    if rho < 0.25:
        assert new == 0.25 * part * radius
    else:
        assert new == (min(2 * radius, 10.0) if rho > 0.75 and part >= 0.99 else radius)
    assert trust_radius(radius, math.nan, radius, radius_max=10.0) < radius


@pytest.mark.parametrize(
    ("rho", "ceiling", "sigma"),
    [
        (0.05, None, 8.0),
        (math.nan, None, 8.0),
        (0.5, None, 4.0),
        (0.95, None, 2.0),
        (0.95, 0.3, 0.3),
        (0.95, 0.0, 1e-9),
    ],
)
def test_the_penalty(rho: float, ceiling: float | None, sigma: float) -> None:
    assert cubic_penalty(4.0, rho, 1.0, eta1=0.1, eta2=0.9, ceiling=ceiling, least=1e-9) == sigma


def test_the_penalty_is_part_of_what_was_promised() -> None:
    found = run(lambda x: -float(x[0]), size=2.0, penalty=lambda size, length: 0.25 * size * length)
    assert found.info["rho"] == pytest.approx(2.0)


def test_no_size_helps_where_f_climbs() -> None:
    found = run(lambda x: float(abs(x[0])))
    assert (found.status, float(found.x[0])) == (Status.STAGNATED, 0.0)
    assert found.info["trials"] == MAX_TRIALS
    x = np.ones(1)
    found = adaptive_step(
        lambda x: float(abs(x[0] - 1)), x, 0.0, 8.0, along_the_slope, partial(trust_radius, radius_max=10.0), accept=0.1
    )
    assert found.status is Status.STAGNATED
    assert found.info["trials"] < 30  # x no longer sees the step
    assert found.x is x


def test_what_the_model_says_is_passed_on() -> None:
    stays = run(lambda x: 0.0, solve=lambda radius: Model(np.zeros(1), 0.0))
    assert (stays.status, stays.size) == (Status.CONVERGED, 8.0)
    broken = run(lambda x: 0.0, solve=lambda radius: Model(np.zeros(1), 1.0, Status.BREAKDOWN))
    assert broken.status is Status.BREAKDOWN
