"""Real training: tuned by the same number of trials, at equal gradient equivalents, seconds and steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from refopt import page
from refopt.lab.statistics import bootstrap, sign_test
from refopt.lab.study import Findings, Rows, Scale
from refopt.page import Rows as Table
from refopt.race import sources
from refopt.race.answer import uses_curvature
from refopt.race.plan import Plan, Settings
from refopt.race.results import Outcome, Raced
from refopt.schedules import Schedule

NAME = "training"
TITLE = "Real training: digits, autoencoders, factorisation"
QUESTION = (
    "On minibatches of real data, tuned by the same number of trials, who is lowest at equal cost, who at equal time, "
    "and how wide is the basin of good learning rates?"
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
PLACES = {"gradient_equivalents": "gradient equivalents", "seconds": "seconds", "k": "steps"}
GOOD = 2.0  # a setting is good where its end is at most this times the best end that anybody's trial reached


def races(scale: Scale) -> list[Settings]:
    """Return one race a problem."""
    chosen, budget, seeds, tune = (
        (("mlp_digits", "autoencoder_digits:hidden=[16,6]", "resnet_digits:depth=6"), "9ge", 3, 4)
        if scale == "reduced"
        else (
            (
                "mlp_digits",
                "mlp_mnist5k",
                "autoencoder_digits",
                "conv_digits",
                "resnet_digits",
                "char_lm:context=16",
                "matrix_factorisation",
            ),
            "40ge",
            4,
            8,
        )
    )
    return [
        Settings(problems=(p,), methods=METHODS, budget=budget, batch_size=64, seeds=seeds, tune=tune) for p in chosen
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
            "lr": _rate(outcome),
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


def _rate(outcome: Outcome) -> float:
    """Return the first learning rate of a run, nan where the default was used or there is none."""
    lr = sources.read_knobs(outcome.run.hyper).get("lr", math.nan)
    return float(lr(0)) if isinstance(lr, Schedule) else float(lr)


def findings(rows: Rows) -> Findings:
    """Return the standings on each problem, at equal cost and time, with intervals, and the widths of the basins."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    tables, said = [], []
    for problem in problems:
        here = [row for row in rows if row["problem"] == problem]
        tables.append(_table(problem, here))
        said.append(_ahead(problem, here))
    said.append(_duel(rows))
    said.append(
        f"Width is the share of a method's tuning trials that end within {GOOD:g} times the lowest end of all trials "
        "on the problem: how much of its search space is good. Tuning cost is the same number of trials for everybody, "
        "and the seconds a run took are in the table."
    )
    return Findings(said, tables, lambda: _draw(problems, rows))


def _ends(rows: Rows, method: str, setting: str, name: str = "end") -> list[float]:
    found = [row[name] for row in rows if row["method"] == method and row["setting"] == setting and name in row]
    return [value if not math.isnan(value) else math.inf for value in found]


def _methods(rows: Rows) -> list[str]:
    """Return the methods, the lowest tuned end first."""
    found = dict.fromkeys(row["method"] for row in rows)
    return sorted(found, key=lambda m: (median(_ends(rows, m, "tuned") or [math.inf]), m))


def _table(problem: str, rows: Rows) -> Table:
    lowest = min((row["end"] for row in rows if row["setting"] == "trial"), default=math.nan)
    lines = []
    for m in _methods(rows):
        found = bootstrap(_ends(rows, m, "tuned"))
        trials = _ends(rows, m, "trial")
        lines.append(
            [
                m,
                f"{found.estimate:.3g}",
                f"{found.low:.3g} .. {found.high:.3g}",
                f"{median(_ends(rows, m, 'tuned', 'at equal seconds')):.3g}",
                f"{median(_ends(rows, m, 'tuned', 'at equal k')):.3g}",
                f"{median(_ends(rows, m, 'default')):.3g}",
                f"{np.mean([end <= GOOD * lowest for end in trials]):.0%}",
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


def _duel(rows: Rows) -> str:
    """Compare the best of either kind, seed by seed and problem by problem, at equal cost and at equal time."""
    told = []
    for name, word in (("end", "gradient equivalents"), ("at equal seconds", "seconds")):
        curved, plain = [], []
        for problem in dict.fromkeys(row["problem"] for row in rows):
            here = [row for row in rows if row["problem"] == problem]
            kinds: dict[bool, list[str]] = {True: [], False: []}
            for m in _methods(here):
                kinds[uses_curvature(m)].append(m)
            best = {
                kind: min(group, key=lambda m: median(_ends(here, m, "tuned", name) or [math.inf]))
                for kind, group in kinds.items()
            }
            curved += _ends(here, best[True], "tuned", name)
            plain += _ends(here, best[False], "tuned", name)
        wins = sum(a < b for a, b in zip(curved, plain, strict=True))
        told.append(
            f"at equal {word} the best that uses curvature is below the best that does not in {wins} of {len(plain)} "
            f"pairs of runs (sign test p = {sign_test(curved, plain):.2g})"
        )
    return f"Over all problems and seeds, {'; '.join(told)}."


def _draw(problems: Sequence[str], rows: Rows) -> Any:
    figure = page.figure(13, 0.32 * len({row["method"] for row in rows}) * len(problems) + 1.5)
    for panels, problem in zip(figure.subplots(len(problems), 2, squeeze=False), problems, strict=True):
        here = [row for row in rows if row["problem"] == problem]
        order = _methods(here)[::-1]
        for panel, (name, word) in zip(
            panels, (("end", "equal gradient equivalents"), ("at equal seconds", "equal seconds")), strict=True
        ):
            for i, m in enumerate(order):
                ends = [end for end in _ends(here, m, "tuned", name) if math.isfinite(end)]
                colour = page.COLOURS[0] if uses_curvature(m) else page.COLOURS[1]
                if ends:
                    panel.plot(ends, [i] * len(ends), "o", color=colour, markersize=4, alpha=0.7)
                    panel.plot([median(ends)], [i], "D" if uses_curvature(m) else "s", color=colour, markersize=7)
            panel.set_yticks(range(len(order)), order, fontsize=8)
            panel.set_xscale("log")
            page.dress(panel, f"{problem}, {word}")
            panel.set_xlabel("loss (diamonds: uses curvature; squares: gradients alone)")
    return figure
