"""A step that a search has tried, and where the next one might go."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from backends.arrays import Array


class Trial(NamedTuple):
    """phi(a) = f(x + a p) with its slope at one a."""

    a: float
    x: Array  # (n,) = start + a p
    phi: float
    slope: float  # phi'(a) = grad^T p
    grad: Array  # (n,)

    @property
    def finite(self) -> bool:
        """Whether value and slope are numbers."""
        return math.isfinite(self.phi) and math.isfinite(self.slope)


def along(objective: Any, x: Array, p: Array) -> Callable[[float], Trial]:
    """Return what tries a step along `p` from `x`: 1 value and gradient a call."""

    def attempt(a: float) -> Trial:
        x_a = x + a * p
        phi, g = objective.value_and_grad(x_a)
        return Trial(a, x_a, float(phi), float(g @ p), g)

    return attempt


def cubic(s: Trial, t: Trial) -> float:
    """Return the minimiser of the cubic with the values and slopes of both trials, nan where it has none."""
    d1 = s.slope + t.slope - 3.0 * (s.phi - t.phi) / (s.a - t.a)
    discriminant = d1 * d1 - s.slope * t.slope
    if not 0.0 <= discriminant < math.inf:
        return math.nan
    d2 = math.copysign(math.sqrt(discriminant), t.a - s.a)
    denominator = t.slope - s.slope + 2.0 * d2
    if denominator == 0.0:
        return math.nan
    return t.a - (t.a - s.a) * (t.slope + d2 - d1) / denominator


def secant(s: Trial, t: Trial) -> float:
    """Return where the slope would vanish if it were linear, nan where the slopes are equal."""
    if t.slope == s.slope:
        return math.nan
    return (s.a * t.slope - t.a * s.slope) / (t.slope - s.slope)
