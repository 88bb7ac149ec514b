"""The field's instruments for comparing methods: profiles, intervals, sign tests.

Costs are positive; inf where a method never got there. Nothing here draws random numbers but `bootstrap`, which is
keyed by its seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from backends import random
from refopt.status import require

Float = np.ndarray[Any, Any]


def performance_profile(costs: Mapping[str, Sequence[float]], ratios: Sequence[float]) -> dict[str, list[float]]:
    r"""Return for each method rho(tau), the share of the problems that it solves within tau times the best's cost.

        rho_m(tau) = 1/P  #{ p : c_mp <= tau min_m' c_m'p }

    `costs` has one cost a problem for each method, in the same order of problems. A problem that nobody solves counts
    in P. rho(1) is the share of wins, rho(inf) that of problems solved at all.
    Source: E. D. Dolan, J. J. More, Math. Program. 91, 2002, doi:10.1007/s101070100263.

    >>> performance_profile({"a": [1, 4], "b": [2, 2]}, [1, 2])
    {'a': [0.5, 1.0], 'b': [0.5, 1.0]}
    """
    c = _matrix(costs)
    best = c.min(axis=0)
    solved = np.isfinite(c)
    return {
        m: [float(np.mean(there & (row <= tau * best))) for tau in ratios]
        for m, row, there in zip(costs, c, solved, strict=True)
    }


def data_profile(
    costs: Mapping[str, Sequence[float]], n: Sequence[int], budgets: Sequence[float]
) -> dict[str, list[float]]:
    r"""Return for each method d(kappa), the share of the problems that it solves within kappa (n_p + 1) of cost.

    With costs in gradient equivalents and an operator that is dense, n_p + 1 is the price of a simplex gradient;
    `n` has each problem's number of parameters. Zeros in its place compare costs as they are.
    Source: J. J. More, S. M. Wild, SIAM J. Optim. 20(1), 2009, doi:10.1137/080724083.

    >>> data_profile({"a": [10, 40]}, [4, 9], [1, 2, 4])
    {'a': [0.0, 0.5, 1.0]}
    """
    c = _matrix(costs) / (np.asarray(n) + 1.0)
    return {
        m: [float(np.mean(np.isfinite(row) & (row <= kappa))) for kappa in budgets]
        for m, row in zip(costs, c, strict=True)
    }


class Interval(NamedTuple):
    """An estimate with its interval."""

    estimate: float
    low: float
    high: float


def bootstrap(
    sample: Sequence[float],
    statistic: Callable[[Float], Float] = lambda draws: np.median(draws, axis=-1),
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return a statistic of `sample` with its percentile bootstrap interval.

    `statistic` maps (..., size) to (...). A sample of one has no spread to draw from: its interval is everything.
    Source: B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    Raises ValueError for an empty sample or a level outside (0, 1).
    """
    require(len(sample) > 0, "sample must not be empty", len(sample))
    require(0 < level < 1, "level must be in (0, 1)", level)
    x = np.asarray(sample, dtype=np.float64)
    estimate = float(statistic(x))
    if x.size == 1:
        return Interval(estimate, -math.inf, math.inf)
    chosen = random.generator(seed, 0, "bootstrap").integers(x.size, size=(draws, x.size))
    drawn = np.sort(statistic(x[chosen]))
    tail = (1 - level) / 2
    return Interval(
        estimate, float(drawn[math.floor(tail * (draws - 1))]), float(drawn[math.ceil((1 - tail) * (draws - 1))])
    )


class Duel(NamedTuple):
    """How many times the first of two was smaller, and how many times the second was."""

    wins: int
    losses: int

    @property
    def p(self) -> float:
        """The two-sided p-value of the sign test: of the claim that neither is smaller more often."""
        n, least = self.wins + self.losses, min(self.wins, self.losses)
        return float(min(1.0, 2.0 * sum(math.comb(n, i) for i in range(least + 1)) / 2**n))


def duel(first: Sequence[float], second: Sequence[float]) -> Duel:
    """Return how two paired samples compare, pair by pair; ties count for neither.

    >>> duel([1, 1, 1, 1, 1, 1], [2, 2, 2, 2, 2, 2]).p
    0.03125
    """
    require(len(first) == len(second), "first and second must be of equal length", (len(first), len(second)))
    pairs = list(zip(first, second, strict=True))
    return Duel(sum(a < b for a, b in pairs), sum(a > b for a, b in pairs))


def _matrix(costs: Mapping[str, Sequence[float]]) -> Float:
    """Return the costs (methods, problems). Raises ValueError where they do not make a table of positive numbers."""
    lengths = {len(row) for row in costs.values()}
    require(len(lengths) == 1 and 0 not in lengths, "every method must have one cost a problem", sorted(lengths))
    c = np.asarray(list(costs.values()), dtype=np.float64)
    require(bool(np.all(c > 0)), "costs must be positive, inf where a problem was not solved", float(np.min(c)))
    return c
