"""The cost of curvature: quadratics of growing size and condition, by gradient equivalents, seconds and memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, TypeAlias

import numpy as np

from refopt import method as methods
from refopt import page
from refopt.lab.kinds import duel_of_kinds
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

LARGEST = {"ogr_full": 100, "newton": 300, "saddle_free": 300, "trust_region_exact": 300, "bfgs": 1000}
"""The most parameters at which a method that holds an n x n matrix is run: beyond, a step takes too long."""
TOLERANCE = 1e-6  # of the first height above the minimum
WITHIN = 2.0  # a way pays where it takes at most this times the seconds of the fastest

EVERYONE = tuple(method for way in WAYS.values() for method in way)
FEW = ("nesterov", "barzilai_borwein", "parabola", "nonlinear_cg", "lbfgs", "esgd", "newton_cg")
"""Somebody of each way, at the size where a step takes a tenth of a second."""
CONDITIONS = (1, 100, 10_000, 1_000_000, 100_000_000)
REDUCED = tuple((n, (10, 10_000), EVERYONE, "300ge", 1, 4) for n in (10, 100, 100_000))
FULL = (
    *((n, CONDITIONS, EVERYONE, "1000ge", 2, 4) for n in (10, 100, 300, 1000)),
    (10_000, CONDITIONS, EVERYONE, "1000ge", 1, 3),
    (100_000, CONDITIONS, EVERYONE, "1000ge", 1, 2),
    (1_000_000, CONDITIONS[:3], FEW, "250ge", 1, 2),
)
"""Sizes, with the condition numbers, the methods, the budget, the seeds and the trials at each."""

Cell: TypeAlias = tuple[int, float]
"""A size and a condition number."""
Best: TypeAlias = Mapping[Cell, Mapping[str, tuple[float, str]]]
"""For each cell and way that came down, the least cost and whose it was."""


def races(scale: Scale) -> list[Settings]:
    """Return one race a size; the condition numbers are its problems."""
    return [
        Settings(
            problems=tuple(f"quadratic:n={n},condition={condition}" for condition in conditions),
            methods=tuple(m for m in methods if n <= LARGEST.get(m, n)),
            budget=budget,
            seeds=seeds,
            tune=tune,
        )
        for n, conditions, methods, budget, seeds, tune in (REDUCED if scale == "reduced" else FULL)
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
    """Return who was first in every cell, on both axes, and up to which size each way pays."""
    tuned = [row for row in rows if row["setting"] == "tuned"]
    cells = sorted({(row["n"], row["condition"]) for row in tuned})
    best = {axis: {cell: _best(tuned, cell, axis) for cell in cells} for axis in ("gradient_equivalents", "seconds")}
    table = Table(
        ("parameters", "condition", *WAYS, "first by seconds"),
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
    duels = {
        f"exact gradients, by {word}": duel_of_kinds(tuned, ("n", "condition"), axis)
        for axis, word in (("gradient_equivalents", "gradient equivalents"), ("seconds", "seconds"))
    }
    tables = [_paying(cells, best["seconds"]), table]
    return Findings(duels, _answer(cells, best), _memory(tuned), tables, {"": lambda: _draw(cells, best)})


def _cost(rows: Rows, method: str, cell: Cell, axis: str) -> float:
    """Return the median over the seeds; inf where the method took no part."""
    here = [row[axis] for row in rows if row["method"] == method and (row["n"], row["condition"]) == cell]
    return median(here) if here else math.inf


def _best(rows: Rows, cell: Cell, axis: str) -> dict[str, tuple[float, str]]:
    """Return for each way its best method's cost on `axis`, by the median over the seeds, where it came down."""
    found = {}
    for way, those in WAYS.items():
        least = min((_cost(rows, method, cell, axis), method) for method in those)
        if least[0] < math.inf:
            found[way] = least
    return found


def _cell(found: tuple[float, str] | None) -> str:
    return "not within the budget" if found is None else f"{found[0]:.3g} ({found[1]})"


def _first(ways: Mapping[str, tuple[float, str]]) -> str:
    if not ways:
        return "nobody"
    seconds, method = min(ways.values())
    return f"{method}, {seconds:.2g} s"


def _answer(cells: Sequence[Cell], best: Mapping[str, Best]) -> list[str]:
    pays = {way: sum(_pays(best["seconds"][cell], way) for cell in cells) for way in WAYS}
    came = {way: sum(way in best["seconds"][cell] for cell in cells) for way in WAYS}
    order = sorted(WAYS, key=lambda way: (-pays[way], -came[way]))
    first = {axis: [min(ways.values())[1] for ways in found.values() if ways] for axis, found in best.items()}
    curved = {axis: sum(map(uses_curvature, methods)) for axis, methods in first.items()}
    return [
        f"Of {len(cells)} pairs of a size and a condition number somebody came down on {len(first['seconds'])}; first "
        f"was a method that uses curvature on {curved['gradient_equivalents']} by gradient equivalents, on "
        f"{curved['seconds']} by seconds.",
        f"By seconds, {'; '.join(f'{way} came down on {came[way]} and paid on {pays[way]}' for way in order)}. To pay "
        f"is to be within {WITHIN:g} times the fastest; the first table says up to which size each way does.",
    ]


def _pays(ways: Mapping[str, tuple[float, str]], way: str) -> bool:
    """Say whether a way is within `WITHIN` times the fastest in a cell."""
    return way in ways and ways[way][0] <= WITHIN * min(ways.values())[0]


def _paying(cells: Sequence[Cell], best: Best) -> Table:
    """Return at which sizes each way pays by seconds, by condition number."""
    sizes, conditions = (sorted(set(values)) for values in zip(*cells, strict=True))

    def cell(way: str, condition: float) -> str:
        pays = [n for n in sizes if _pays(best.get((n, condition), {}), way)]
        unbroken = len(pays) > 2 and pays == sizes[sizes.index(pays[0]) : sizes.index(pays[-1]) + 1]
        return f"{pays[0]:,} to {pays[-1]:,}" if unbroken else ", ".join(f"{n:,}" for n in pays) or "-"

    columns = (f"n at which it pays (within {WITHIN:g} times the fastest)", *(f"condition {c:g}" for c in conditions))
    return Table(columns, [[way, *(cell(way, c) for c in conditions)] for way in WAYS])


def _memory(rows: Rows) -> list[str]:
    largest = max(row["n"] for row in rows)
    held = {
        row["method"]: row["state_vectors"]
        for row in rows
        if row["n"] == largest and row.get("state_vectors", math.inf) < math.inf
    }
    told = ", ".join(f"{method} {vectors:.3g}" for method, vectors in sorted(held.items(), key=lambda item: item[1]))
    within = "; ".join(
        f"{method}, up to n = {n:,}: {methods.get(method).SPEC.memory_note}" for method, n in LARGEST.items()
    )
    return [
        f"Between steps, at n = {largest:,}, the state holds (vectors of length n): {told}.",
        f"Those that hold an n x n matrix: {within}.",
    ]


def _draw(cells: Sequence[Cell], best: Mapping[str, Best]) -> Any:
    conditions = sorted({condition for _, condition in cells})
    width = 2.9 * len(conditions) + 1.5
    figure = page.figure(width, 8)
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
    figure.legend(
        lines.values(), lines.keys(), loc="outside lower center", ncols=max(1, int(width / 3.2)), frameon=False
    )
    return figure
