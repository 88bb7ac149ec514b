"""Questions that a method asks of an objective, and how far two of them are apart."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from backends.arrays import Array
from refopt.conformance.reference import distance, unit_roundoff
from refopt.conformance.replay import Difference


class Query(NamedTuple):
    """A question: where, and along which direction if it was about curvature."""

    step: int  # k = 0, 1, ...
    x: Array  # (n,)
    v: Array | None = None  # (n,)

    def __str__(self) -> str:
        x = f"x = {np.array2string(self.x, precision=6, threshold=6)}"
        return x if self.v is None else f"{x} along {np.array2string(self.v, precision=6, threshold=6)}"


class Unanswered(Exception):
    """A log has no answer to the question `query`; the nearest point that it has one for is `nearest`."""

    def __init__(self, query: Query, nearest: Query | None) -> None:
        super().__init__("the log has no answer")
        self.query, self.nearest = query, nearest


def match(dtype: Any) -> float:
    """Return how far two points or directions may be apart, relatively, and be the same."""
    return float(np.sqrt(unit_roundoff(dtype)))


def between(a: Query, b: Query) -> float:
    """Return how far apart the points are, or the directions if that is more; inf where only one has a direction."""
    if a.v is None or b.v is None:
        return apart(a.x, b.x) if a.v is b.v else np.inf
    return max(apart(a.x, b.x), apart(a.v, b.v))


def apart(p: Array, q: Array) -> float:
    """Return max |p - q| relative to the larger of max |p| and max |q|."""
    unit = max(float(np.max(np.abs(p))), float(np.max(np.abs(q))))
    return float(np.max(distance(p, q))) / unit if np.isfinite(unit) and unit > 0 else float(np.max(distance(p, q)))


def elsewhere(name: str, k: int, reference: Array, candidate: Array) -> Difference:
    """Return the difference of two points that were asked about at step k, at the coordinate where it is largest."""
    i = int(np.argmax(distance(reference, candidate)))
    pair = float(reference[i]), float(candidate[i])
    return Difference(name, k + 1, i, *pair, apart(reference, candidate), match(reference.dtype), what="query")
