"""Methods that use curvature beside those that use gradients alone: the comparison that the whole laboratory is for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from refopt.lab.statistics import Duel, duel
from refopt.race.answer import uses_curvature

Row = Mapping[str, Any]


def best(rows: Sequence[Row], value: str, curved: bool) -> tuple[float, str]:
    """Return the least median of the column `value` among the methods of one kind, and whose it is."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if uses_curvature(row["method"]) is curved:
            found.setdefault(row["method"], []).append(number(row, value))
    return min(((median(values), m) for m, values in found.items()), default=(math.inf, "nobody"))


def duel_of_kinds(rows: Sequence[Row], cell: Sequence[str], value: str) -> Duel:
    """Compare the best method that uses curvature with the best that does not, cell by cell and seed by seed.

    Rows of a cell agree in the columns `cell`. Who stands for a kind has the least median of `value` there over the
    other seeds, for the best on a seed are in part its luckiest; where there is one seed alone, over that. Where it has
    no run of the seed, or one that is nan, it counts as inf.
    """
    cells: dict[Any, list[Row]] = {}
    for row in rows:
        cells.setdefault(tuple(row[name] for name in cell), []).append(row)
    curved: list[float] = []
    plain: list[float] = []
    for here in cells.values():
        by_seed: dict[Any, list[Row]] = {}
        for row in here:
            by_seed.setdefault(row.get("seed", 0), []).append(row)
        for seed, on_it in by_seed.items():
            others = [row for other, those in by_seed.items() if other != seed for row in those] or on_it
            for kind, ends in ((True, curved), (False, plain)):
                _, method = best(others, value, kind)
                ends.append(min((number(row, value) for row in on_it if row["method"] == method), default=math.inf))
    return duel(curved, plain)


def number(row: Row, name: str) -> float:
    """Return a number of a row that compares: inf where it is missing or nan."""
    value = row.get(name, math.inf)
    return math.inf if math.isnan(value) else float(value)
