"""Robustness to defaults: one setting per method, across the catalogue."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refopt import method as methods
from refopt import page
from refopt.lab.kinds import duel_of_kinds
from refopt.lab.statistics import data_profile, performance_profile
from refopt.lab.study import Findings, Rows, Scale
from refopt.page import Rows as Table
from refopt.race.answer import uses_curvature
from refopt.race.plan import Plan, Settings
from refopt.race.results import Raced

NAME = "robustness"
TITLE = "One setting for everything: who needs no tuning"
QUESTION = "With its default settings, on how many problems does a method come down, and how far from the best?"

PROBLEMS = (
    "beale",
    "rosenbrock:n=10",
    "powell_singular",
    "wood",
    "helical_valley",
    "trigonometric",
    "penalty_1",
    "brown_dennis",
    "quadratic:condition=10000",
    "saddle",
    "styblinski_tang:n=10",
    "logistic_breast_cancer",
    "matrix_factorisation",
    "deep_linear",
)
"""Sums of squares, valleys, bad scales, saddles, real data; on the full batch."""

MORE = (
    "biggs_exp6",
    "box_3d",
    "chebyquad",
    "extended_rosenbrock:n=100",
    "gaussian_fit",
    "goldstein_price",
    "gulf",
    "himmelblau",
    "monkey_saddle",
    "octopus",
    "penalty_2",
    "powell_badly_scaled",
    "six_hump_camel",
    "softmax_digits",
    "variably_dimensioned",
    "watson",
    "rosenbrock:n=100",
    "mlp_digits:hidden=[8]",
    "autoencoder_digits:hidden=[6,3]",
)
"""Networks small enough for those methods that decompose an n x n matrix a step."""

ACCURACY = 1e-3  # solved: f - f_best <= ACCURACY (f_0 - f_best), f_best the lowest that anybody reached
RATIOS = (1, 1.5, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300)
SIMPLICES = (0.01, 0.03, 0.1, 0.3, 1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300)


def races(scale: Scale) -> list[Settings]:
    """Return one race a problem: every method that has what it needs, as it comes."""
    chosen, budget = (PROBLEMS, "200ge") if scale == "reduced" else ((*PROBLEMS, *MORE), "1000ge")
    everyone = tuple(methods.names())
    return [
        Settings(problems=(problem,), methods=everyone, budget=budget, batch_size=10**9, seeds=1, tune=0)
        for problem in chosen
    ]


def keep(race: Sequence[Raced], plan: Plan) -> Rows:
    """Return, of every run, what it cost to come down to within the accuracy of the best."""
    runs = {raced.entry.method: raced.reported["default"][0] for raced in race}
    (problem,) = plan.problems
    best = min(run.end for run in runs.values())
    start = max(run.rows["value"][0] for run in runs.values() if run.rows)
    goal = best + ACCURACY * (start - best)
    return [
        {
            "problem": problem,
            "n": plan.problems[problem].n,
            "method": method,
            "status": run.status,
            "height": (run.end - best) / (start - best) if start > best else 0.0,
            "gradient_equivalents": run.place_of("gradient_equivalents", goal),
            "seconds": run.place_of("seconds", goal),
        }
        for method, run in runs.items()
    ]


def findings(rows: Rows) -> Findings:
    """Return the performance profiles, and who solves what share of the problems."""
    profiles = {axis: performance_profile(_costs(rows, axis), RATIOS) for axis in ("gradient_equivalents", "seconds")}
    lost = _lost(rows)
    order = sorted(profiles["seconds"], key=lambda m: (-profiles["seconds"][m][-1], -sum(profiles["seconds"][m])))
    problems = len({row["problem"] for row in rows})
    table = Table(
        ("method", "took part", "solved", "within 5 x the best, by cost", "by seconds", "fastest", "lost"),
        [
            [
                m,
                f"{sum(row['method'] == m for row in rows)}",
                f"{profiles['seconds'][m][-1]:.0%}",
                f"{profiles['gradient_equivalents'][m][RATIOS.index(5)]:.0%}",
                f"{profiles['seconds'][m][RATIOS.index(5)]:.0%}",
                f"{profiles['seconds'][m][0]:.0%}",
                str(lost[m]),
            ]
            for m in order
        ],
    )
    solved = {m: profiles["seconds"][m][-1] for m in order}
    said = [
        f"{problems} problems, {len(order)} methods, each with its defaults, full batch. Solved means within "
        f"{ACCURACY:g} of the descent to the lowest value that anybody reached; a problem that lacks what a method "
        "needs counts as not solved. A learning rate of 1e-3 does not come far in so few steps, whatever it reaches "
        "when tuned: what is asked here is who needs no tuning.",
    ]
    duels = {
        f"untuned, full batch, by {word}": duel_of_kinds(rows, ("problem",), axis)
        for axis, word in (("gradient_equivalents", "gradient equivalents"), ("seconds", "seconds"))
    }
    return Findings(duels, _answer(solved), said, [table], {"": lambda: _draw(rows, profiles, order)})


def _answer(solved: Mapping[str, float]) -> list[str]:
    most = ", ".join(f"{m} ({share:.0%})" for m, share in list(solved.items())[:5])
    kinds = {
        word: [share for m, share in solved.items() if uses_curvature(m) is kind]
        for kind, word in ((True, "use curvature"), (False, "use gradients alone"))
    }
    halves = [
        f"of those that {word} the median method {np.median(found):.0%}" for word, found in kinds.items() if found
    ]
    return [f"Most problems are solved untuned by {most}; {', '.join(halves)}."]


def _costs(rows: Rows, axis: str) -> dict[str, list[float]]:
    """Return each method's cost on every problem, in one order; inf where it could not take part."""
    problems = sorted({row["problem"] for row in rows})
    cost = {(row["method"], row["problem"]): max(row[axis], 1e-9) for row in rows}
    return {m: [cost.get((m, p), math.inf) for p in problems] for m in dict.fromkeys(row["method"] for row in rows)}


def _lost(rows: Rows) -> dict[str, int]:
    """Return on how many problems each method ended without a finite value."""
    lost = dict.fromkeys((row["method"] for row in rows), 0)
    for row in rows:
        lost[row["method"]] += not math.isfinite(row["height"])
    return lost


def _draw(rows: Rows, profiles: dict[str, dict[str, list[float]]], order: Sequence[str]) -> Any:
    """Draw the performance profiles by either cost (Dolan, More) and the data profile (More, Wild)."""
    figure = page.figure(17, 6)
    panels = figure.subplots(1, 3, sharey=True)
    sizes = {row["problem"]: row["n"] for row in rows}
    data = data_profile(_costs(rows, "gradient_equivalents"), [sizes[p] for p in sorted(sizes)], SIMPLICES)
    drawn = (
        (RATIOS, profiles["gradient_equivalents"], "within a multiple of the best's gradient equivalents", "multiple"),
        (RATIOS, profiles["seconds"], "within a multiple of the best's seconds", "multiple"),
        (SIMPLICES, data, "within a number of simplex gradients", "gradient equivalents / (n + 1)"),
    )
    for panel, (places, profile, title, label) in zip(panels, drawn, strict=True):
        for m in order:
            panel.step(places, profile[m], where="post", color=page.FAINT, linewidth=0.7)
        for m, colour, marker in zip(order, page.COLOURS, "osv^DXP*<", strict=False):
            panel.step(places, profile[m], where="post", color=colour, marker=marker, markersize=4, label=m, lw=1.6)
        panel.set_xscale("log")
        page.dress(panel, f"Solved {title}")
        panel.set_xlabel(label)
    panels[0].set_ylabel("share of the problems")
    lines = panels[0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=len(lines[0]), frameon=False)
    return figure
