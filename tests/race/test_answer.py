"""The sentences follow the numbers: none is written beforehand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

import problems
from refopt.race.answer import sentences
from refopt.race.plan import Budget, Entry
from refopt.race.results import Outcome, Raced
from refopt.race.standing import Standings, standings
from tests.race.outcomes import outcome

SADDLE, VALLEY = problems.get("saddle"), problems.get("rosenbrock")
MINIMUM = SADDLE.minimum or 0.0


def raced(runs: Mapping[str, Sequence[Outcome]], problem: str, batch_size: int | None = None) -> list[Raced]:
    """Return a race of the default settings of the methods named."""
    return [
        Raced(Entry(problem, method, (), Budget(100, "ge"), batch_size, "numpy", None), [], {"default": outcomes})
        for method, outcomes in runs.items()
    ]


def told(race: Sequence[Raced], problem: problems.Problem) -> tuple[Standings, str]:
    found = standings(race, {race[0].entry.problem: problem})
    (sentence,) = sentences(race, found, {race[0].entry.problem: problem})
    return found[0], sentence


@pytest.mark.parametrize(("leaves", "stays"), [("adam", "sgd"), ("sgd", "adam")])
def test_who_left_the_saddle_and_when(leaves: str, stays: str) -> None:
    flat = {"grad_norms": [5.0, 1e-3, 1e-3, 1.0, 1e-9]}
    away = [outcome([5, 1e-4, 1e-5, 0.9 * MINIMUM, MINIMUM], **flat)]
    on_it = [outcome([5, 1e-4, 1e-5, 1e-6, 1e-7], **flat)]
    _, sentence = told(raced({leaves: away, stays: on_it}, "saddle"), SADDLE)
    assert f"the saddle was left behind by {leaves} after 3" in sentence
    assert f"{stays} had not left it behind after 100" in sentence


def test_a_saddle_that_no_run_came_to_is_not_talked_of() -> None:
    passed = [outcome([5, 0.5 * MINIMUM, MINIMUM], grad_norms=[5.0, 4.0, 1e-9])]
    _, sentence = told(raced({"adam": passed}, "saddle"), SADDLE)
    assert "left" not in sentence
    assert "adam was ahead: at the minimum after 2" in sentence


@pytest.mark.parametrize(("first", "second"), [("adam", "kfac"), ("kfac", "adam")])
def test_who_was_ahead_under_noise(first: str, second: str) -> None:
    good = [outcome([2.0, 0.5, 0.1]), outcome([2.0, 0.5, 0.2], seed=1), outcome([2.0, 0.5, 0.3], seed=2)]
    bad = [outcome([2.0, 0.9, 0.8], seed=seed) for seed in range(3)]
    _, sentence = told(raced({second: bad, first: good}, "rosenbrock", batch_size=8), VALLEY)
    assert "with minibatches of 8, after 100 gradient equivalents" in sentence
    assert f"{first} was ahead: f - min f = 0.2 (0.1 to 0.3 over 3 seeds), then {second} (f - min f = 0.8)" in sentence
    assert "at equal seconds (0.2 each) it was too" in sentence


def test_a_lead_within_the_spread_is_called_that() -> None:
    near = {
        "adam": [outcome([2, 0.1]), outcome([2, 0.4], seed=1)],
        "sgd": [outcome([2, 0.2]), outcome([2, 0.5], seed=1)],
    }
    _, sentence = told(raced(near, "rosenbrock"), VALLEY)
    assert "within the spread of sgd" in sentence


def test_who_is_ahead_in_time_may_be_another() -> None:
    dear = outcome([2.0, 1.9, 0.1])
    slow = Outcome(dear.run, dear.status, dear.message, {**dear.rows, "seconds": [0.0, 5.0, 10.0]})
    _, sentence = told(raced({"kfac": [slow], "sgd": [outcome([2.0, 1.0, 0.5])]}, "rosenbrock"), VALLEY)
    assert "kfac was ahead" in sentence
    assert "at equal seconds (0.2 each) it was sgd" in sentence


def test_at_the_minimum_the_sooner_leads_whatever_rounding_left() -> None:
    sooner, later = outcome([1.0, 1e-13, 1e-13]), outcome([1.0, 0.5, 0.0])
    found, _ = told(raced({"sgd": [later], "adam": [sooner]}, "rosenbrock"), VALLEY)
    assert [row.method for row in found.leaders] == ["adam", "sgd"]
    assert found.floored(0.0) == found.floor > 1e-13


def test_where_all_are_lost_nobody_is_ahead() -> None:
    _, sentence = told(raced({"sgd": [outcome([2, 1e20], status="DIVERGED")]}, "rosenbrock"), VALLEY)
    assert sentence == "On Rosenbrock, n = 2, every method was lost: none kept a finite value."


def test_lost_runs_count_and_come_last() -> None:
    lost = [
        outcome([2, 1.0]),
        outcome([2, 1e20], status="DIVERGED", seed=1),
        outcome([2, 9], status="NOT_FINITE", seed=2),
    ]
    found, _ = told(raced({"sgd": lost, "adam": [outcome([2, 1.9], seed=s) for s in range(3)]}, "rosenbrock"), VALLEY)
    last = found.leaders[-1]
    assert last.method == "sgd"
    assert last.failures == {"DIVERGED": 1, "NOT_FINITE": 1}
    assert last.end == (math.inf, 1.0, math.inf)


def test_values_between_steps_are_those_of_the_step_before() -> None:
    run = outcome([4.0, 3.0, 2.0])
    assert [run.value_at("gradient_equivalents", cost) for cost in (0, 0.99, 1, 1.5, 2, 50)] == [4, 4, 3, 3, 2, 2]
    assert run.place_of("seconds", 3.5) == pytest.approx(0.1)
    assert run.place_of("seconds", 1.0) == math.inf
    short = outcome([4.0, 3.0, 2.0], budget=1.0)
    assert short.place_of("seconds", 3.0) == pytest.approx(0.1)
    assert short.place_of("seconds", 2.0) == math.inf, "the step ended after the budget"
    assert np.isinf(outcome([]).value_at("k", 3))
