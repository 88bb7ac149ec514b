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

    Rows of a cell agree in the columns `cell`. The best of a kind there has the least median of `value`; where it
    has no run of a seed, or one that is nan, it counts as inf.
    """
    cells: dict[Any, list[Row]] = {}
    for row in rows:
        cells.setdefault(tuple(row[name] for name in cell), []).append(row)
    curved: list[float] = []
    plain: list[float] = []
    for here in cells.values():
        seeds = list(dict.fromkeys(row.get("seed", 0) for row in here))
        for kind, ends in ((True, curved), (False, plain)):
            _, method = best(here, value, kind)
            of_seed = {row.get("seed", 0): number(row, value) for row in here if row["method"] == method}
            ends += [of_seed.get(seed, math.inf) for seed in seeds]
    return duel(curved, plain)


def number(row: Row, name: str) -> float:
    """Return a number of a row that compares: inf where it is missing or nan."""
    value = row.get(name, math.inf)
    return math.inf if math.isnan(value) else float(value)
