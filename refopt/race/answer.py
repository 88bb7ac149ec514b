"""The closing sentences, computed from the standings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from problems.problem import Problem
from refopt import method as methods
from refopt.race.results import Raced
from refopt.race.standing import AXES, Standing, Standings

CURVATURE = ("gradient_regression", "quasi_newton", "diagonal", "newton", "structured")
"""The folders of methods that use more than gradients one by one."""


def sentences(race: Sequence[Raced], standings: Sequence[Standings], problems: Mapping[str, Problem]) -> list[str]:
    """Return one sentence a problem: who left the saddle and when, or who was ahead at equal cost."""
    answer = []
    for found in standings:
        here = [raced for raced in race if raced.entry.problem == found.problem]
        below = _below_the_saddle(here, problems[found.problem])
        answer.append(_ahead(here, found) if below is None else _left(here, found, below))
    return answer


def _below_the_saddle(race: Sequence[Raced], problem: Problem) -> float | None:
    """Return the value half-way from the saddle that runs came to down to the minimum; None where they came to none."""
    runs = [outcome for raced in race for outcomes in raced.reported.values() for outcome in outcomes]
    lowest = min(run.end for run in runs) if problem.minimum is None else problem.minimum
    met = [
        saddle.value
        for saddle in problem.saddles
        if any(_came_to(saddle.value, 0.1 * (saddle.value - lowest), run.rows) for run in runs)
    ]
    return 0.5 * (min(met) + lowest) if met else None


def _came_to(level: float, width: float, rows: Mapping[str, Sequence[float]]) -> bool:
    """Say whether a run was at the value of a saddle with a gradient a hundredth of the start's."""
    flat = 0.01 * rows["grad_norm"][0] if rows else 0.0
    seen = zip(rows.get("value", ()), rows.get("grad_norm", ()), strict=True)
    return any(abs(value - level) <= width and grad_norm <= flat for value, grad_norm in seen)


def _left(race: Sequence[Raced], found: Standings, below: float) -> str:
    when = {
        raced.entry.method: median(run.place_of(found.axis, below) for run in raced.reported[found.settings[0]])
        for raced in race
    }
    left = sorted((place, method) for method, place in when.items() if place < math.inf)
    stayed = [method for method, place in when.items() if place == math.inf]
    told = []
    if left:
        told.append(
            "the saddle was left behind by " + _listed([f"{method} after {place:.3g}" for place, method in left])
        )
    if stayed:
        told.append(f"{_listed(stayed)} had not left {'it' if left else 'the saddle'} behind after {found.budget:.3g}")
    return f"On {found.title}, {'; '.join(told)} ({AXES[found.axis]})."


def _ahead(race: Sequence[Raced], found: Standings) -> str:
    first, *others = found.leaders
    if first.end.median == math.inf:
        return f"On {found.title}, every method was lost: none kept a finite value."
    batch = race[0].entry.batch_size
    told = [f"{first.method} was ahead: {_reached(found, first, spread=True)}"]
    if others:
        told[0] += f", {_beside(found, first, others[0])}"
    sooner = min(found.leaders, key=found.rank_elsewhere)
    at = f"at equal {AXES[found.other]} ({found.place:.2g} each)"
    told.append(f"{at} it was {'too' if sooner is first else sooner.method}")
    rival = next((row for row in others if uses_curvature(row.method) != uses_curvature(first.method)), None)
    if rival is not None and rival is not others[0]:
        kind = "that use curvature" if uses_curvature(rival.method) else "that use gradients alone"
        told.append(f"the best of those {kind} was {rival.method}: {_reached(found, rival)}")
    where = f"On {found.title}" + (f", with minibatches of {batch}" if batch else "")
    return f"{where}, after {found.budget:.3g} {AXES[found.axis]} {'; '.join(told)}."


def _reached(found: Standings, row: Standing, spread: bool = False) -> str:
    """Say how far a method came."""
    if row.solved[found.axis] < math.inf:
        return f"at the minimum after {row.solved[found.axis]:.3g}"
    if row.end.median == math.inf:
        return "lost"
    median, low, high = (f"{found.height(value):.3g}" for value in row.end)
    what = "f" if found.minimum is None else "f - min f"
    return f"{what} = {median}" + (f" ({low} to {high} over {row.seeds} seeds)" if spread and low != high else "")


def _beside(found: Standings, first: Standing, second: Standing) -> str:
    """Say how the second compares, and whether the spread over the seeds allows to say who is ahead."""
    both_there = second.solved[found.axis] < math.inf
    if not both_there and first.solved[found.axis] == math.inf and second.end.low <= first.end.high:
        return f"within the spread of {second.method} ({found.height(second.end.median):.3g})"
    return f"then {second.method} ({_reached(found, second)})"


def uses_curvature(method: str) -> bool:
    """Say whether a method, or the first of a pair, uses more than gradients one by one; of a user's own, no."""
    method = method.partition("+")[0]
    return method in methods.names() and methods.folder_of(method) in CURVATURE


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
