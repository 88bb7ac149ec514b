"""Real training: tuned by the same number of trials, at equal gradient equivalents, seconds and steps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, TypeAlias

import numpy as np

from refopt import page
from refopt.lab.statistics import Duel, bootstrap, duel
from refopt.lab.study import Findings, Rows, Scale
from refopt.page import Rows as Table
from refopt.race import sources
from refopt.race.answer import uses_curvature
from refopt.race.plan import Plan, Settings
from refopt.race.results import Raced
from refopt.schedules import Schedule

NAME = "training"
TITLE = "Real training: digits, autoencoders, factorisation"
QUESTION = (
    "On minibatches of real data, tuned by the same number of trials, who is lowest at equal cost, who at equal time, "
    "and how much of what each knob may be is good?"
)

METHODS = (
    "sgd",
    "nesterov",
    "adam",
    "adamw",
    "schedule_free",
    "svrg",
    "parabola",
    "ogr_subspace",
    "online_lbfgs",
    "adahessian",
    "sophia",
    "subsampled_newton",
    "newton_cg",
    "hessian_free",
    "kfac",
    "ekfac",
    "shampoo",
    "soap",
    "muon+adamw",
)
REDUCED = {
    "mlp_digits": (64, "9ge"),
    "autoencoder_digits:hidden=[16,6]": (64, "9ge"),
    "resnet_digits:depth=6": (64, "9ge"),
}
FULL = {
    "mlp_digits": (64, "20ge"),
    "autoencoder_digits": (64, "20ge"),
    "resnet_digits": (64, "20ge"),
    "matrix_factorisation": (64, "20ge"),
    "conv_digits": (64, "12ge"),
    "mlp_mnist5k": (64, "12ge"),
    "char_lm:context=16,width=16,examples=256": (16, "12ge"),
}
"""The problems with their batch sizes and budgets; matrix factorisation has no examples, and so no noise."""
FIXED = ("shampoo.interval=20",)  # a root a step, its default, is what nobody who trains a network pays for
PLACES = {"gradient_equivalents": "gradient equivalents", "seconds": "seconds", "k": "steps"}
GOOD = 0.1  # a trial is good where it comes within this share of the descent to the lowest end of anybody's trial
ASKED = {
    "tuned, at equal gradient equivalents": ("end", "tuned"),
    "tuned, at equal seconds": ("at equal seconds", "tuned"),
    "tuned, at equal steps": ("at equal k", "tuned"),
    "untuned, at equal gradient equivalents": ("end", "default"),
}
"""What is compared: the column, and the setting."""
THIRDS = ("low third", "middle third", "high third")


def races(scale: Scale) -> list[Settings]:
    """Return one race a problem."""
    chosen, tune = (REDUCED, 4) if scale == "reduced" else (FULL, 5)
    return [
        Settings(problems=(problem,), methods=METHODS, budget=budget, batch_size=batch, seeds=3, tune=tune, fixed=FIXED)
        for problem, (batch, budget) in chosen.items()
    ]


def keep(race: Sequence[Raced], plan: Plan) -> Rows:
    """Return where each run stood at the end of its budget and at the places that all methods reached."""
    (problem,) = plan.problems
    reported = [outcome for raced in race for outcomes in raced.reported.values() for outcome in outcomes]
    spent = {axis: [run.spent(axis) for run in reported if run.status != "ERROR"] for axis in PLACES}
    place = {axis: min(found) for axis, found in spent.items() if found}
    return [
        {
            "problem": problem,
            "method": label["method"],
            "setting": label["setting"],
            "seed": label["seed"],
            "knobs": json.dumps(outcome.run.hyper, sort_keys=True),
            "status": outcome.status,
            **{f"at equal {axis}": outcome.value_at(axis, place[axis]) for axis in place},
            **{f"place of {axis}": place[axis] for axis in place},
            "end": outcome.end,
            "start": outcome.rows["value"][0] if outcome.rows else math.nan,
            "seconds": outcome.spent("seconds"),
            "steps": outcome.spent("k"),
            "test": next(iter(outcome.test.values()), math.nan),
        }
        for raced in race
        for label, outcome in raced.labelled()
    ]


def findings(rows: Rows) -> Findings:
    """Return the standings on each problem, at equal cost and time, with intervals, and what each knob may be."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    order = [m for m, _ in ranks(rows, "end", "tuned")]
    thirds = _thirds(rows)
    tables, said = [_sensitivity(thirds)], []
    for problem in problems:
        here = [row for row in rows if row["problem"] == problem]
        tables.append(_table(problem, here))
        said.append(_ahead(problem, here))
    said.append(
        f"Width is the share of a method's trials that come within {GOOD:.0%} of the descent from the start to the "
        "lowest end of anybody's trial on the problem: how much of its search space is good. The first table has that "
        "share by thirds of each knob's axis, over all problems, the other knobs wherever they were. Tuning cost is "
        "the same number of trials for everybody, and the seconds a run took are in the tables."
    )
    duels = {f"networks on minibatches, {word}": _duel(rows, *asked) for word, asked in ASKED.items()}
    return Findings(duels, _answer(rows, thirds), said, tables, lambda: _draw(problems, rows, order, thirds))


def _answer(rows: Rows, thirds: Thirds) -> list[str]:
    best = [
        f"{word} {', '.join(f'{m} ({rank:g})' for m, rank in ranks(rows, *asked)[:3])}" for word, asked in ASKED.items()
    ]
    swing = {knob: max(found) - min(found) for knob, found in _shares(thirds).items() if len(found) > 1}
    most = sorted(swing, key=lambda knob: -swing[knob])[:3]
    kinds = [uses_curvature(m) for m in _methods(rows)]
    return [
        f"{sum(kinds)} methods that use curvature and {len(kinds) - sum(kinds)} that use gradients alone. The best "
        f"median ranks over problems and seeds have {'; '.join(best)}.",
        *([f"What must be set with most care: {'; '.join(f'{knob} of {m}' for m, knob in most)}."] if most else []),
    ]


def ranks(rows: Rows, name: str, setting: str) -> list[tuple[str, float]]:
    """Return the methods with the median of their ranks over the problems and seeds, the best first; 1 is the lowest.

    `name` is the column compared, among the runs of one setting, problem and seed; where a method took no part, it has
    no rank.
    """
    matches: dict[Any, dict[str, float]] = {}
    for row in rows:
        if row["setting"] == setting:
            matches.setdefault((row["problem"], row["seed"]), {})[row["method"]] = _finite(row.get(name, math.inf))
    found: dict[str, list[float]] = {}
    for values in matches.values():
        for m, value in values.items():
            found.setdefault(m, []).append(1.0 + sum(other < value for other in values.values()))
    return sorted(((m, median(places)) for m, places in found.items()), key=lambda item: (item[1], sum(found[item[0]])))


def _finite(value: float) -> float:
    """Return a value that compares: nan counts as inf."""
    return math.inf if math.isnan(value) else value


# ------------------------------------------------------------------------------------------- how wide what is good is

Thirds: TypeAlias = Mapping[tuple[str, str], Sequence[Sequence[bool]]]
"""For each method and knob, for each third of its axis, which trials there were good."""


def _good(rows: Rows) -> dict[int, bool]:
    """Say of each trial, by its place in the rows, whether it was good."""
    trials = [i for i, row in enumerate(rows) if row["setting"] == "trial"]
    lowest: dict[str, float] = {}
    highest: dict[str, float] = {}
    for i in trials:
        row = rows[i]
        lowest[row["problem"]] = min(lowest.get(row["problem"], math.inf), _finite(row["end"]))
        highest[row["problem"]] = max(highest.get(row["problem"], -math.inf), row.get("start", -math.inf))
    good = {}
    for i in trials:
        low, high = lowest[rows[i]["problem"]], highest[rows[i]["problem"]]
        good[i] = _finite(rows[i]["end"]) <= low + GOOD * (high - low)
    return good


def _thirds(rows: Rows) -> Thirds:
    found: dict[tuple[str, str], list[list[bool]]] = {}
    for i, good in _good(rows).items():
        row = rows[i]
        for knob, value in json.loads(row["knobs"]).items():
            axis = sources.find_method(row["method"]).SPEC.search.get(knob)
            if axis is not None:  # else it is fixed
                [read] = sources.read_knobs({knob: value}).values()
                third = min(int(3 * axis.fraction(read(0) if isinstance(read, Schedule) else read)), 2)
                found.setdefault((row["method"], knob), [[], [], []])[third].append(good)
    return found


def _shares(thirds: Thirds) -> dict[tuple[str, str], list[float]]:
    """Return the shares of good trials in the thirds in which there were any."""
    return {knob: [float(np.mean(part)) for part in parts if part] for knob, parts in thirds.items()}


def _sensitivity(thirds: Thirds) -> Table:
    def cell(part: Sequence[bool]) -> str:
        return f"{np.mean(part):.0%} of {len(part)}" if part else "-"

    return Table(
        ("share of good trials: method", "knob", "axis", *THIRDS),
        [
            [m, knob, str(sources.find_method(m).SPEC.search[knob]), *map(cell, parts)]
            for (m, knob), parts in thirds.items()
        ],
    )


# -------------------------------------------------------------------------------------------------- problem by problem


def _ends(rows: Rows, method: str, setting: str, name: str = "end") -> list[float]:
    return [_finite(row[name]) for row in rows if row["method"] == method and row["setting"] == setting and name in row]


def _methods(rows: Rows) -> list[str]:
    """Return the methods, the lowest tuned end first."""
    found = dict.fromkeys(row["method"] for row in rows)
    return sorted(found, key=lambda m: (median(_ends(rows, m, "tuned") or [math.inf]), m))


def _table(problem: str, rows: Rows) -> Table:
    good = _good(rows)
    lines = []
    for m in _methods(rows):
        found = bootstrap(_ends(rows, m, "tuned"))
        trials = [well for i, well in good.items() if rows[i]["method"] == m]
        lines.append(
            [
                m,
                f"{found.estimate:.3g}",
                f"{found.low:.3g} .. {found.high:.3g}",
                f"{median(_ends(rows, m, 'tuned', 'at equal seconds')):.3g}",
                f"{median(_ends(rows, m, 'tuned', 'at equal k')):.3g}",
                f"{median(_ends(rows, m, 'default')):.3g}",
                f"{np.mean(trials):.0%}" if trials else "-",
                f"{median(_ends(rows, m, 'tuned', 'seconds')):.2g}",
                f"{median(_ends(rows, m, 'tuned', 'test') or [math.nan]):.3g}",
            ]
        )
    columns = (
        problem,
        "end, tuned",
        "95% interval",
        "at equal seconds",
        "at equal steps",
        "by default",
        "width",
        "seconds",
        "test",
    )
    return Table(columns, lines)


def _ahead(problem: str, rows: Rows) -> str:
    order = _methods(rows)
    by_time = sorted(order, key=lambda m: median(_ends(rows, m, "tuned", "at equal seconds") or [math.inf]))
    return (
        f"{problem}: lowest at equal gradient equivalents are {_listed(order[:3], rows, 'end')}; at equal seconds "
        f"{_listed(by_time[:3], rows, 'at equal seconds')}; at equal steps "
        f"{min(order, key=lambda m: median(_ends(rows, m, 'tuned', 'at equal k') or [math.inf]))}."
    )


def _listed(order: Sequence[str], rows: Rows, name: str) -> str:
    return ", ".join(f"{m} ({median(_ends(rows, m, 'tuned', name)):.3g})" for m in order)


def _duel(rows: Rows, name: str, setting: str) -> Duel:
    """Compare the best of either kind on each problem, seed by seed."""
    ends: dict[bool, list[float]] = {True: [], False: []}
    for problem in dict.fromkeys(row["problem"] for row in rows):
        here = [row for row in rows if row["problem"] == problem]
        for kind, found in ends.items():
            group = [m for m in _methods(here) if uses_curvature(m) is kind]
            best = min(group, key=lambda m: median(_ends(here, m, setting, name) or [math.inf]), default="")
            found += _ends(here, best, setting, name)
    return duel(ends[True], ends[False])


def _draw(problems: Sequence[str], rows: Rows, order: Sequence[str], thirds: Thirds) -> Any:
    """Draw the medians at equal cost and at equal time, coloured by rank, and the map of what each knob may be."""
    figure = page.figure(3 + 2.6 * len(problems) + 4, max(0.32 * len(order), 0.2 * len(thirds)) + 2.2)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.3 * len(problems), 1.3 * len(problems), 3))
    for panel, (name, word) in zip(
        (left, middle), (("end", "gradient equivalents"), ("at equal seconds", "seconds")), strict=True
    ):
        values = np.array(
            [
                [
                    median(_ends([row for row in rows if row["problem"] == p], m, "tuned", name) or [math.inf])
                    for p in problems
                ]
                for m in order
            ]
        )
        ranks = np.array([[1 + np.sum(column < value) for value in column] for column in values.T]).T
        panel.imshow(ranks, aspect="auto", cmap="cividis_r")
        for (i, j), value in np.ndenumerate(values):
            dark = ranks[i, j] > 0.6 * len(order)
            panel.text(j, i, f"{value:.3g}", ha="center", va="center", fontsize=7, color="white" if dark else page.INK)
        marks = [f"{m} {'◆' if uses_curvature(m) else '□'}" for m in order]
        panel.set_yticks(range(len(order)), marks, fontsize=8)
        panel.set_xticks(range(len(problems)), problems, fontsize=8, rotation=30, ha="right")
        page.dress(panel, f"Loss at equal {word} (colour: rank; ◆ uses curvature)")
        panel.grid(visible=False)
    shares = np.array([[np.mean(part) if part else math.nan for part in parts] for parts in thirds.values()])
    if thirds:
        picture = right.imshow(shares, aspect="auto", cmap="cividis_r", vmin=0, vmax=1)
        figure.colorbar(picture, ax=right, label="share of good trials", shrink=0.6)
    right.set_yticks(range(len(thirds)), [f"{m}: {knob}" for m, knob in thirds], fontsize=7)
    right.set_xticks(range(3), THIRDS, fontsize=8, rotation=30, ha="right")
    page.dress(right, "What each knob may be")
    right.grid(visible=False)
    return figure
