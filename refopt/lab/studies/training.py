"""Real training: tuned by the same number of trials, at equal gradient equivalents, seconds and steps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, TypeAlias

import numpy as np

from refopt import page
from refopt.lab.kinds import duel_of_kinds, number
from refopt.lab.statistics import bootstrap
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
    "mlp_digits": (64, "9ge", 3, 4),
    "autoencoder_digits:hidden=[16,6]": (64, "9ge", 3, 4),
    "resnet_digits:depth=6": (64, "9ge", 3, 4),
}
FULL = {
    "mlp_digits": (64, "20ge", 3, 5),
    "autoencoder_digits": (64, "20ge", 3, 5),
    "resnet_digits": (64, "20ge", 3, 5),
    "matrix_factorisation": (64, "20ge", 3, 5),
    "conv_digits": (64, "9ge", 2, 4),
    "mlp_mnist5k": (64, "9ge", 2, 4),
    "char_lm:context=16,width=16,examples=256": (16, "9ge", 2, 4),
}
"""The problems, with batch size, budget, seeds and trials; matrix factorisation has no examples, and so no noise."""
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
    return [
        Settings(
            problems=(problem,), methods=METHODS, budget=budget, batch_size=batch, seeds=seeds, tune=tune, fixed=FIXED
        )
        for problem, (batch, budget, seeds, tune) in (REDUCED if scale == "reduced" else FULL).items()
    ]


def keep(race: Sequence[Raced], plan: Plan) -> Rows:
    """Return where each run stood at the end of its budget and at the places that all methods reached."""
    (problem,) = plan.problems
    reported = [outcome for raced in race for outcomes in raced.reported.values() for outcome in outcomes]
    spent = {axis: [run.spent(axis) for run in reported if run.status != "ERROR"] for axis in PLACES}
    place = {axis: min(found) for axis, found in spent.items() if found}
    rows = []
    for raced in race:
        for label, outcome in raced.labelled():
            rows.append(
                {
                    "problem": problem,
                    "batch": raced.entry.batch_size,
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
            )
        tuned = sorted(raced.reported["tuned"], key=lambda outcome: outcome.end)
        middle = tuned[len(tuned) // 2]
        curve = {name: _short(middle.rows.get(name, ())) for name in ("value", *PLACES)}
        rows.append({"problem": problem, "method": raced.entry.method, "setting": "curve", "rows": json.dumps(curve)})
    return rows


def _short(column: Sequence[float]) -> list[float | None]:
    """Return a column in four digits, what is not finite as None."""
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in column]


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
        "the same number of trials for everybody; the seconds of a run and of all trials are in the tables."
    )
    noisy = on_minibatches(rows)
    duels = {
        f"networks on minibatches, {word}": duel_of_kinds(
            [row for row in noisy if row["setting"] == setting], ("problem",), name
        )
        for word, (name, setting) in ASKED.items()
    }
    figures = {
        "": lambda: _draw(problems, rows, order),
        "curves": lambda: _draw_curves(problems, rows, order),
        "sensitivity": lambda: _draw_sensitivity(thirds),
    }
    return Findings(duels, _answer(rows, thirds), said, tables, figures)


def _answer(rows: Rows, thirds: Thirds) -> list[str]:
    best = [
        f"{word} {', '.join(f'{m} ({rank:g})' for m, rank in ranks(on_minibatches(rows), *asked)[:3])}"
        for word, asked in ASKED.items()
    ]
    swing = {knob: max(found) - min(found) for knob, found in _shares(thirds).items() if len(found) > 1}
    most = sorted(swing, key=lambda knob: -swing[knob])[:3]
    kinds = [uses_curvature(m) for m in _methods(rows)]
    return [
        f"{sum(kinds)} methods that use curvature and {len(kinds) - sum(kinds)} that use gradients alone. The best "
        f"median ranks over problems and seeds have {'; '.join(best)}.",
        *([f"What must be set with most care: {'; '.join(f'{knob} of {m}' for m, knob in most)}."] if most else []),
    ]


def on_minibatches(rows: Rows) -> Rows:
    """Return the rows of the problems that have examples."""
    return [row for row in rows if "batch" in row]


def ranks(rows: Rows, name: str, setting: str) -> list[tuple[str, float]]:
    """Return the methods with the median of their ranks over the problems and seeds, the best first; 1 is the lowest.

    `name` is the column compared, among the runs of one setting, problem and seed; where a method took no part, it has
    no rank.
    """
    matches: dict[Any, dict[str, float]] = {}
    for row in rows:
        if row["setting"] == setting:
            matches.setdefault((row["problem"], row["seed"]), {})[row["method"]] = number(row, name)
    found: dict[str, list[float]] = {}
    for values in matches.values():
        for m, value in values.items():
            found.setdefault(m, []).append(1.0 + sum(other < value for other in values.values()))
    return sorted(((m, median(places)) for m, places in found.items()), key=lambda item: (item[1], sum(found[item[0]])))


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
        lowest[row["problem"]] = min(lowest.get(row["problem"], math.inf), number(row, "end"))
        highest[row["problem"]] = max(highest.get(row["problem"], -math.inf), row.get("start", -math.inf))
    good = {}
    for i in trials:
        low, high = lowest[rows[i]["problem"]], highest[rows[i]["problem"]]
        good[i] = number(rows[i], "end") <= low + GOOD * (high - low)
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
    return [number(row, name) for row in rows if row["method"] == method and row["setting"] == setting and name in row]


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
                f"{sum(_ends(rows, m, 'trial', 'seconds')):.2g}",
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
        "seconds of tuning",
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


def _draw(problems: Sequence[str], rows: Rows, order: Sequence[str]) -> Any:
    """Draw the medians at equal cost and at equal time, coloured by rank."""
    figure = page.figure(3 + 2.2 * len(problems), 0.3 * len(order) + 2.2)
    marks = [f"{m} {'◆' if uses_curvature(m) else '□'}" for m in order]
    for panel, (name, word) in zip(
        figure.subplots(1, 2), (("end", "gradient equivalents"), ("at equal seconds", "seconds")), strict=True
    ):
        values = np.array([[_median(rows, p, m, name) for p in problems] for m in order])
        ranks = np.array([[1.0 + np.sum(column < value) for value in column] for column in values.T]).T
        shades = np.where(np.isfinite(values), ranks, np.nan)
        words = [[f"{value:.3g}" if math.isfinite(value) else "-" for value in line] for line in values]
        page.heat(panel, shades, words, marks, [problem.partition(":")[0] for problem in problems])
        panel.set_title(f"Loss at equal {word}; shade: rank", loc="left", color=page.INK, fontsize=11)
    figure.supxlabel("◆ uses curvature   □ gradients alone", fontsize=9, color=page.SOFT)
    return figure


def _median(rows: Rows, problem: str, method: str, name: str) -> float:
    return median(_ends([row for row in rows if row["problem"] == problem], method, "tuned", name) or [math.inf])


def _draw_curves(problems: Sequence[str], rows: Rows, order: Sequence[str]) -> Any:
    """Draw the loss of tuned runs against each axis: the best three of either kind in colour, all others faint."""
    figure = page.figure(13, 2.6 * len(problems) + 0.8)
    shown = [m for kind in (True, False) for m in [m for m in order if uses_curvature(m) is kind][:3]]
    style = dict(zip(shown, page.COLOURS, strict=False))
    for panels, problem in zip(figure.subplots(len(problems), len(PLACES), squeeze=False), problems, strict=True):
        for panel, (axis, word) in zip(panels, PLACES.items(), strict=True):
            for row in rows:
                if row["setting"] == "curve" and row["problem"] == problem:
                    m = row["method"]
                    line = (
                        {"color": style[m], "lw": 1.6, "zorder": 3} if m in style else {"color": page.FAINT, "lw": 0.7}
                    )
                    dashes = "-" if uses_curvature(m) else "--"
                    columns = json.loads(row["rows"])
                    panel.plot(columns[axis], columns["value"], dashes, label=m if m in style else None, **line)
            panel.set_xscale("log" if axis == "seconds" else "linear")
            panel.set_yscale("log")
            panel.set_ylim(top=2.0 * max(row["start"] for row in rows if row["problem"] == problem and "start" in row))
            page.dress(panel, problem if axis == "gradient_equivalents" else "")
            panel.set_xlabel(word)
    lines = figure.axes[0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=max(1, len(lines[0])), frameon=False)
    return figure


def _draw_sensitivity(thirds: Thirds) -> Any:
    figure = page.figure(6, 0.24 * len(thirds) + 1.8)
    axes = figure.subplots()
    if thirds:
        shares = np.array([[np.mean(part) if part else math.nan for part in parts] for parts in thirds.values()])
        words = [["" if math.isnan(share) else f"{share:.0%}" for share in line] for line in shares]
        page.heat(axes, shares, words, [f"{m}: {knob}" for m, knob in thirds], THIRDS)
    axes.set_title("Share of good trials", loc="left", color=page.INK, fontsize=11)
    return figure
