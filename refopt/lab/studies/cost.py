"""The cost of curvature: quadratics of growing size and condition, by gradient equivalents, seconds and memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from refopt import page
from refopt.lab.study import Findings, Rows, Scale
from refopt.page import Rows as Table
from refopt.race import sources
from refopt.race.answer import uses_curvature
from refopt.race.plan import Plan, Settings
from refopt.race.results import Raced

NAME = "cost"
TITLE = "The first obstacle: what curvature costs"
QUESTION = (
    "A quadratic has nothing but curvature. To how many parameters, and up to which condition number, does forming "
    "and factorising the Hessian, iterating with its products, or learning it from past gradients pay, against "
    "gradients alone?"
)

WAYS = {
    "gradients alone": ("sgd", "nesterov", "adam", "heavy_ball"),
    "steps from the last two gradients": ("barzilai_borwein",),
    "regressing on past gradients": ("parabola", "ogr_diagonal", "ogr_subspace", "ogr_full"),
    "secant pairs": ("nonlinear_cg", "lbfgs", "bfgs"),
    "sampling the diagonal": ("adahessian", "esgd"),
    "iterating with products": ("newton_cg", "trust_region", "newton_mr", "cubic_lanczos", "saddle_free_krylov"),
    "forming and factorising": ("newton", "saddle_free", "trust_region_exact"),
}
"""The ways to know the curvature, and who takes them."""

MATRIX = ("ogr_full", "bfgs", "newton", "saddle_free", "trust_region_exact")
"""Those that hold an n x n matrix."""

LARGEST_MATRIX = 300  # an eigendecomposition a step, as some take, is beyond patience above it
TOLERANCE = 1e-6  # of the first height above the minimum


def races(scale: Scale) -> list[Settings]:
    """Return one race a size; the condition numbers are its problems."""
    sizes, conditions, budget, seeds, tune = (
        ((10, 100, 100_000), (10, 10_000), "300ge", 1, 4)
        if scale == "reduced"
        else (
            (10, 30, 100, 300, 1000, 10_000, 100_000, 1_000_000),
            (1, 100, 10_000, 1_000_000, 100_000_000),
            "1000ge",
            2,
            8,
        )
    )
    everyone = [method for way in WAYS.values() for method in way]
    largest = sizes[-1]  # which takes as long as all the others, and is halved therefore
    return [
        Settings(
            problems=tuple(f"quadratic:n={n},condition={condition}" for condition in conditions),
            methods=tuple(m for m in everyone if n <= LARGEST_MATRIX or m not in MATRIX),
            budget=budget,
            seeds=1 if n == largest else seeds,
            tune=4 if n == largest else tune,
        )
        for n in sizes
    ]


def keep(race: Sequence[Raced], plan: Plan) -> Rows:
    """Return, of every run to report, what it cost to come down to the tolerance."""
    rows = []
    for raced in race:
        problem = plan.problems[raced.entry.problem]
        minimum = problem.minimum or 0.0
        for setting, outcomes in raced.reported.items():
            for outcome in outcomes:
                start = outcome.rows["value"][0] - minimum if outcome.rows else math.nan
                goal = minimum + TOLERANCE * start
                rows.append(
                    {
                        "n": problem.n,
                        "condition": sources.read_options(raced.entry.problem.partition(":")[2])["condition"],
                        "method": raced.entry.method,
                        "setting": setting,
                        "seed": outcome.run.seed,
                        "status": outcome.status,
                        "gradient_equivalents": outcome.place_of("gradient_equivalents", goal),
                        "seconds": outcome.place_of("seconds", goal),
                        "steps": outcome.place_of("k", goal),
                        "tuning": sum(trial.spent("gradient_equivalents") for trial in raced.trials),
                        "flops": outcome.flops,
                        "state_vectors": outcome.state_vectors,
                    }
                )
    return rows


def findings(rows: Rows) -> Findings:
    """Return who was first in every cell, on both axes, and where each way stops paying."""
    tuned = [row for row in rows if row["setting"] == "tuned"]
    cells = sorted({(row["n"], row["condition"]) for row in tuned})
    best = {axis: {cell: _best(tuned, cell, axis) for cell in cells} for axis in ("gradient_equivalents", "seconds")}
    table = Table(
        ("parameters", "condition", *(f"{way}" for way in WAYS), "first by seconds"),
        [
            [
                f"{n:,}",
                f"{condition:g}",
                *(_cell(best["gradient_equivalents"][n, condition].get(way)) for way in WAYS),
                _first(best["seconds"][n, condition]),
            ]
            for n, condition in cells
        ],
    )
    return Findings([*_said(cells, best), *_memory(tuned)], [table], lambda: _draw(cells, best))


def _best(rows: Rows, cell: tuple[int, float], axis: str) -> dict[str, tuple[float, str]]:
    """Return for each way its best method's cost on `axis`, by the median over the seeds, where it came down."""
    found = {}
    for way, methods in WAYS.items():
        costs = []
        for method in methods:
            here = [row[axis] for row in rows if row["method"] == method and (row["n"], row["condition"]) == cell]
            if here:
                costs.append((median(here), method))
        if costs and min(costs)[0] < math.inf:
            found[way] = min(costs)
    return found


def _cell(found: tuple[float, str] | None) -> str:
    return "not within the budget" if found is None else f"{found[0]:.3g} ({found[1]})"


def _first(ways: dict[str, tuple[float, str]]) -> str:
    if not ways:
        return "nobody"
    seconds, method = min(ways.values())
    return f"{method}, {seconds:.2g} s"


def _said(cells: Sequence[tuple[int, float]], best: dict[str, dict[Any, dict[str, tuple[float, str]]]]) -> list[str]:
    said = []
    for axis, word in (("gradient_equivalents", "gradient equivalents"), ("seconds", "seconds")):
        reached = {cell: best[axis][cell] for cell in cells if best[axis][cell]}
        winners = {cell: min(ways.values())[1] for cell, ways in reached.items()}
        curved = [cell for cell, winner in winners.items() if uses_curvature(winner)]
        said.append(
            f"By {word}, a method that uses curvature was first in {len(curved)} of the {len(reached)} cells that "
            f"anybody solved ({len(cells)} in all)."
        )
    for way in WAYS:
        solved = [cell for cell in cells if way in best["seconds"][cell]]
        wins = [
            cell for cell in solved if best["seconds"][cell][way][0] <= 1.2 * min(best["seconds"][cell].values())[0]
        ]
        where = (
            f"within 20% of the fastest for n = {_listed({n for n, _ in wins})}, "
            f"condition {_listed({c for _, c in wins})}"
            if wins
            else "never within 20% of the fastest"
        )
        said.append(f"{way[0].upper()}{way[1:]}: came down in {len(solved)} of {len(cells)} cells; {where}.")
    return said


def _memory(rows: Rows) -> list[str]:
    largest = max(row["n"] for row in rows)
    held = {
        row["method"]: row["state_vectors"]
        for row in rows
        if row["n"] == largest and row.get("state_vectors", math.inf) < math.inf
    }
    told = ", ".join(f"{method} {vectors:.3g}" for method, vectors in sorted(held.items(), key=lambda item: item[1]))
    return [
        f"Between steps, at n = {largest:,}, the state holds (vectors of length n): {told}; methods that hold an "
        f"n x n matrix were not run above n = {LARGEST_MATRIX:,}."
    ]


def _listed(numbers: set[Any]) -> str:
    return ", ".join(f"{number:,g}" for number in sorted(numbers))


def _draw(cells: Sequence[tuple[int, float]], best: dict[str, dict[Any, dict[str, tuple[float, str]]]]) -> Any:
    conditions = sorted({condition for _, condition in cells})
    figure = page.figure(4.2 * len(conditions) + 1, 8)
    panels = figure.subplots(2, len(conditions), sharex=True, sharey="row", squeeze=False)
    for i, (axis, word) in enumerate((("gradient_equivalents", "gradient equivalents"), ("seconds", "seconds"))):
        for panel, condition in zip(panels[i], conditions, strict=True):
            for way, colour, marker in zip(WAYS, page.COLOURS, "osv^DXP", strict=False):
                points = [(n, best[axis][n, c][way][0]) for n, c in cells if c == condition and way in best[axis][n, c]]
                if points:
                    n, cost = np.asarray(points).T
                    panel.loglog(n, cost, color=colour, marker=marker, label=way)
            page.dress(panel, f"condition {condition:g}")
            panel.set_xlabel("parameters")
        panels[i][0].set_ylabel(f"{word} to 1e-6 of the start")
    lines = {line.get_label(): line for panel in panels.flat for line in panel.get_lines()}
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=4, frameon=False)
    return figure
