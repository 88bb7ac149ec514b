"""Saddles: shallow to steep, of low and high index; degenerate, many, exact, with noise; who is caught, who leaves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from refopt import page
from refopt.lab.kinds import best, duel_of_kinds
from refopt.lab.study import Findings, Rows, Scale
from refopt.page import Rows as Table
from refopt.race import sources
from refopt.race.answer import uses_curvature
from refopt.race.plan import Plan, Settings
from refopt.race.results import Raced

NAME = "saddles"
TITLE = "The third obstacle: saddles"
QUESTION = (
    "Beside a saddle the gradient is small and the Hessian indefinite: Newton's step leads into it. Who is caught, who "
    "leaves, and after what cost; and does noise help?"
)

METHODS = (
    "sgd",
    "nesterov",
    "adam",
    "perturbed_gd",
    "barzilai_borwein",
    "parabola",
    "ogr_full",
    "ogr_subspace",
    "lbfgs",
    "sr1",
    "adahessian",
    "newton",
    "gauss_newton",
    "newton_cg",
    "trust_region",
    "trust_region_exact",
    "cubic",
    "newton_mr",
    "saddle_free",
    "saddle_free_krylov",
    "negative_curvature_descent",
)

RIDGE = "strict, exactly on the ridge"
CASES = {
    "strict": "saddle:steepness=0.1,distance=0.001",
    "strict, very near": "saddle:steepness=0.1,distance=1e-8",
    RIDGE: "saddle:steepness=0.1,distance=0.0",
    "degenerate": "degenerate_saddle",
    "monkey": "monkey_saddle",
    "staircase of factorisation": "matrix_factorisation",
    "octopus": "octopus",
}
NOISY = {
    "strict, noise 0.01": "noisy:of=saddle,scale=0.01",
    "strict, noise 0.1": "noisy:of=saddle,scale=0.1",
    "octopus, noise 0.01": "noisy:of=octopus,scale=0.01",
}
PAIRS = (("strict", "strict, noise 0.01"), ("strict", "strict, noise 0.1"), ("octopus", "octopus, noise 0.01"))
"""Which case is which other one under noise."""

STEEPNESSES, INDICES = (1.0, 0.1, 0.01, 0.001), (1, 2, 5, 9)

SCALES = {
    "reduced": (("300ge", 2, 4), ("300ge", 2, 4), ("100ge", 2, 2)),
    "full": (("3000ge", 20, 12), ("1000ge", 12, 8), ("1000ge", 6, 6)),
}
"""The budget, the seeds and the trials of the cases, of those in noise, and of the axes."""


def on_axes(steepnesses: Sequence[float], indices: Sequence[int]) -> tuple[str, ...]:
    """Return strict saddles with so steep a fall, in so many of 10 directions; what rises has curvature 1."""
    return tuple(f"saddle:index={k},steepness={s:g},distance=0.001" for s in steepnesses for k in indices)


def races(scale: Scale) -> list[Settings]:
    """Return a race without noise, one with, and one along the axes of steepness and index.

    A start 1e-3 away says little if the learning rate is not tuned.
    """
    step = 2 if scale == "reduced" else 1
    problems = (tuple(CASES.values()), tuple(NOISY.values()), on_axes(STEEPNESSES[::step], INDICES[::step]))
    return [
        Settings(those, METHODS, budget, batch_size=1, seeds=seeds, tune=tune)
        for those, (budget, seeds, tune) in zip(problems, SCALES[scale], strict=True)
    ]


def keep(race: Sequence[Raced], plan: Plan) -> Rows:
    """Return, of every run, when it came half-way from the lowest saddle down to the minimum."""
    label = {text: name for name, text in {**CASES, **NOISY}.items()}
    rows = []
    for raced in race:
        text = raced.entry.problem
        where = {"case": label[text]} if text in label else sources.read_options(text.partition(":")[2])
        problem = plan.problems[text]
        least = problem.minimum or 0.0
        lowest = min(point.value for point in problem.stationary_points if point.value > least)
        below = 0.5 * (lowest + least)
        rows += [
            {
                **where,
                "method": raced.entry.method,
                "setting": setting,
                "seed": outcome.run.seed,
                "status": outcome.status,
                "gradient_equivalents": outcome.place_of("gradient_equivalents", below),
                "steps": outcome.place_of("k", below),
                "seconds": outcome.place_of("seconds", below),
                "end": (outcome.end - least) / (lowest - least),
                "grad_norm": outcome.rows["grad_norm"][-1] if outcome.rows else math.nan,
            }
            for setting, outcomes in raced.reported.items()
            for outcome in outcomes
        ]
    return rows


def findings(rows: Rows) -> Findings:
    """Return who left every saddle, after how many gradient equivalents, and how often: tuned, then by default."""
    of_cases = [row for row in rows if "case" in row]
    tuned, default = ([row for row in of_cases if row["setting"] == setting] for setting in ("tuned", "default"))
    along = [row for row in rows if "case" not in row and row["setting"] == "tuned"]
    cases = list(dict.fromkeys(row["case"] for row in tuned))
    table, order = _table("tuned", tuned, cases)
    said = [_said(tuned, case, order) for case in cases]
    duels = {
        f"leaving saddles, {word}": duel_of_kinds(here, ("case",), "gradient_equivalents")
        for word, noisy in (("exact gradients", False), ("with noise", True))
        if (here := [row for row in tuned if (row["case"] in NOISY) is noisy])
    }
    return Findings(
        duels,
        [*_answer(tuned, default, cases, order), *_said_of_axes(along)],
        said,
        [table, _table("by default", default, cases)[0]],
        {"": lambda: _draw(tuned, cases, order)} | ({"axes": lambda: _draw_axes(along, order)} if along else {}),
    )


def _answer(tuned: Rows, default: Rows, cases: Sequence[str], order: Sequence[str]) -> list[str]:
    """Return whom saddles catch, how soon either kind leaves them, and what noise does to that."""
    quiet = [case for case in cases if case in CASES]
    everywhere = {
        word: [m for m in order if all(_chance(rows, m, case) == 1.0 for case in quiet)]
        for word, rows in (("tuned", tuned), ("untuned", default))
    }
    caught = [m for m in order if _took(tuned, m, "strict") and _chance(tuned, m, "strict") <= 0.5]
    said = [
        f"From a start beside a strict saddle {', '.join(caught) or 'nobody'} did not get away; from one exactly on "
        f"the ridge {', '.join(m for m in order if _chance(tuned, m, RIDGE) > 0.5) or 'nobody'} did.",
        "In every run of every case without noise, within the budget, "
        + "; ".join(f"{', '.join(found) or 'nobody'} left {word}" for word, found in everywhere.items())
        + ".",
    ]
    for still, noisy in PAIRS:
        if still in cases and noisy in cases:
            helped = [m for m in order if _chance(tuned, m, noisy) > _chance(tuned, m, still)]
            hindered = [m for m in order if _chance(tuned, m, noisy) < _chance(tuned, m, still)]
            said.append(
                f"{noisy[0].upper()}{noisy[1:]} beside {still}: noise lets {len(helped)} methods leave more often and "
                f"{len(hindered)} less often."
            )
    return said


def _table(setting: str, rows: Rows, cases: Sequence[str]) -> tuple[Table, list[str]]:
    """Return the table of one setting, and its methods, those that left most first."""
    methods = [m for m in METHODS if any(row["method"] == m for row in rows)]
    order = sorted(methods, key=lambda m: (-sum(_chance(rows, m, c) for c in cases), _time(rows, m, cases[0])))
    return Table((setting, *cases), [[m, *(_cell(rows, m, case) for case in cases)] for m in order]), order


def _here(rows: Rows, method: str, case: str) -> list[Any]:
    return [row for row in rows if row["method"] == method and row["case"] == case]


def _took(rows: Rows, method: str, case: str) -> bool:
    return bool(_here(rows, method, case))


def _chance(rows: Rows, method: str, case: str) -> float:
    """Return the share of runs that left; 0 where the method could not take part."""
    here = _here(rows, method, case)
    return float(np.mean([row["gradient_equivalents"] < math.inf for row in here])) if here else 0.0


def _time(rows: Rows, method: str, case: str) -> float:
    """Return the median cost of leaving; inf where most runs did not."""
    here = _here(rows, method, case)
    return median(row["gradient_equivalents"] for row in here) if here else math.inf


def _cell(rows: Rows, method: str, case: str) -> str:
    here = _here(rows, method, case)
    if not here:
        return "cannot take part"
    chance = _chance(rows, method, case)
    if chance == 0.0:
        lost = all(not math.isfinite(row["end"]) for row in here)
        return "lost" if lost else "not left"
    times = [row["gradient_equivalents"] for row in here if row["gradient_equivalents"] < math.inf]
    return f"{median(times):.3g}" + (f" ({chance:.0%})" if chance < 1.0 else "")


def _said(rows: Rows, case: str, methods: Sequence[str]) -> str:
    told = []
    for curved, kind in ((True, "use curvature"), (False, "use gradients alone")):
        group = [m for m in methods if uses_curvature(m) is curved and _took(rows, m, case)]
        left = [m for m in group if _chance(rows, m, case) > 0.5]
        time, first = best([row for row in rows if row["case"] == case], "gradient_equivalents", curved)
        sooner = f", {first} first after {time:.3g} gradient equivalents" if left else ""
        told.append(f"of {len(group)} that {kind}, {len(left)} left{sooner}")
    return f"{case[0].upper()}{case[1:]}, tuned: {'; '.join(told)}."


def _draw(rows: Rows, cases: Sequence[str], order: Sequence[str]) -> Any:
    times = [[_time(rows, m, case) for case in cases] for m in order]
    words = [[_cell(rows, m, case).replace("cannot take part", "-") for case in cases] for m in order]
    return _map("Gradient equivalents to leave the saddle behind (median)", times, words, order, cases)


def _map(
    title: str,
    times: Sequence[Sequence[float]],
    words: Sequence[Sequence[str]],
    methods: Sequence[str],
    columns: Sequence[str],
) -> Any:
    """Return a figure of what leaving costs each method (rows) in each place (columns), inf where it does not."""
    figure = page.figure(1.15 * len(columns) + 3, 0.34 * len(methods) + 2.2)
    axes = figure.subplots()
    shades = np.where(np.isfinite(times), np.log10(np.maximum(times, 1.0)), np.nan)
    picture = page.heat(axes, shades, words, methods, columns)
    axes.set_title(title, loc="left", color=page.INK, fontsize=11)
    figure.colorbar(picture, ax=axes, label="log10 of gradient equivalents", shrink=0.6)
    return figure


# --------------------------------------------------------------------------------------------- along the two axes


def _said_of_axes(rows: Rows) -> list[str]:
    """Return how the cost of leaving grows from the steepest fall to the flattest, and from one direction to many."""
    told = []
    for axis, word in (
        ("steepness", "the fall flattens from {first:g} to {last:g}"),
        ("index", "{last} directions fall, not {first}"),
    ):
        values = _values(rows, axis)
        if len(values) > 1:
            first, last = values[0], values[-1]
            growth = {
                kind: [
                    _along(rows, m, axis, last) / _along(rows, m, axis, first)
                    for m in METHODS
                    if uses_curvature(m) is curved and math.isfinite(_along(rows, m, axis, first))
                ]
                for curved, kind in ((True, "who uses curvature"), (False, "who uses gradients alone"))
            }
            told.append(
                f"Where {word.format(first=first, last=last)}, leaving costs "
                + ", ".join(f"{kind} {_times(ratios)}" for kind, ratios in growth.items() if ratios)
                + " (medians over the methods)."
            )
    return told


def _times(ratios: Sequence[float]) -> str:
    ratio = median(ratios)
    return f"{ratio:.2g} times as much" if math.isfinite(ratio) else "more than the budget"


def _values(rows: Rows, axis: str) -> list[float]:
    """Return the values on an axis, from where leaving is easiest: the steepest fall, a single direction."""
    return sorted({row[axis] for row in rows}, reverse=axis == "steepness")


def _along(rows: Rows, method: str, axis: str, value: float) -> float:
    """Return the median cost of leaving at a value on an axis, over the other axis and the seeds; inf for nobody."""
    here = [row["gradient_equivalents"] for row in rows if row["method"] == method and row[axis] == value]
    return median(here) if here else math.inf


def _draw_axes(rows: Rows, order: Sequence[str]) -> Any:
    title = "Gradient equivalents to leave a strict saddle, by how steep the fall is and in how many of 10 directions"
    methods = [m for m in order if any(row["method"] == m for row in rows)]
    points = [(axis, value) for axis in ("steepness", "index") for value in _values(rows, axis)]
    times = [[_along(rows, m, *point) for point in points] for m in methods]
    words = [[f"{time:.3g}" if math.isfinite(time) else "not left" for time in line] for line in times]
    return _map(title, times, words, methods, [f"{axis} {value:g}" for axis, value in points])
