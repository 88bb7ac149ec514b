"""Gradient streams built to reveal differences between update rules.

With gradients near 1 most deviations are invisible: an eps of 1e-8, inside or outside the root, changes nothing there.
So coordinate i of most streams has the scale 10^(i - 9), from 1e-9 to 1e2:

    scales      normal numbers
    signs       each coordinate turns its sign at its own pace
    zeros       exact zeros: one coordinate always, the others two times in three
    constant    runs of 40 equal gradients: what is a difference of averages cancels
    spike       one step is 1e4 times larger: who forgets it, and how
    quiet       a stretch a million times smaller: denominators that only fall, or only rise
    schedule    lr warms up, jumps and falls: is lr inside a buffer; does decay follow it
    decay       x starts away from 0, so that weight decay shows
    quadratic   g = H x with eigenvalues from 1e-4 to 1: errors feed back
    saddle      g = H x with eigenvalues of both signs, from a start near the saddle

where x starts at 0 unless said otherwise, so that rounding in x hides nothing. The same in float32 where the name ends
so. The draws are keyed by the stream and the step, so a shorter replay is the beginning of a longer one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import TypeAlias

import numpy as np

from backends import random
from backends.arrays import Array
from refopt.layout import Layout
from refopt.schedules import Schedule
from refopt.status import nearest

Host: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

LAYOUT = Layout({"w": (4, 2), "b": (4,)})
"""The tensors that x is made of, for candidates and methods that look at them one by one."""

MATRICES = Layout({"w": (2, 3), "v": (3, 2)})
"""What x is for those that take matrices alone: a wide one and a tall one."""

SCALES = 10.0 ** (np.arange(LAYOUT.n) - 9)
"""Of the gradient, coordinate by coordinate."""

STILL = 5
"""The coordinate whose gradient is always 0 on the stream of zeros: of w, beside others that move."""


@dataclass(frozen=True, eq=False)
class Stream:
    """A start, the gradient that is answered at step k = 0, 1, ... at x, and the factor on lr there."""

    name: str
    x0: Array  # (n,)
    grad: Callable[[int, Array], Array]
    lr: Callable[[int], float] | None = None  # None: constant

    def rate(self, lr: float) -> float | Schedule:
        """Return the learning rate of this stream, where `lr` is that of the others."""
        factor = self.lr
        return lr if factor is None else Schedule(lambda k: lr * factor(k), f"{lr!r} * {factor.__name__}")


@cache
def get(name: str) -> Stream:
    """Return the stream called `name`: one of `NAMES`. Raises ValueError for an unknown one."""
    if name not in _STREAMS:
        raise ValueError(f"unknown stream {name!r}{nearest(name, NAMES)}")
    return _STREAMS[name]()


def _normal(k: int, purpose: str) -> Host:
    drawn: Host = random.normal(LAYOUT.n, seed=0, k=k, purpose=purpose, like=SCALES)
    return drawn


def _scales(k: int) -> Host:
    return SCALES * _normal(k, "scales")


def _signs(k: int) -> Host:
    turns = k // (1 + np.arange(LAYOUT.n) % 5)
    return SCALES * np.abs(_normal(k, "signs")) * (-1.0) ** turns


def _zeros(k: int) -> Host:
    g = SCALES * _normal(k, "zeros")
    g[random.uniform(LAYOUT.n, seed=0, k=k, purpose="zeros", like=SCALES) > 1 / 3] = 0.0
    g[STILL] = 0.0
    return g


def _constant(k: int) -> Host:
    return SCALES * _normal(k // 40, "constant")


def _spike(k: int) -> Host:
    return SCALES * _normal(k, "spike") * (1e4 if k == 30 else 1.0)


def _quiet(k: int) -> Host:
    return SCALES * _normal(k, "quiet") * (1e-6 if 20 <= k < 150 else 1.0)


def _decay(k: int) -> Host:
    return 10.0 ** (np.arange(LAYOUT.n) % 4 - 2) * _normal(k, "decay")


def _warm_jump_fall(k: int) -> float:
    return (k + 1) / 10 if k < 10 else 1.0 if k < 40 else 4.0 if k < 90 else 0.1


def _replayed(name: str, draw: Callable[[int], Host], dtype: str = "float64", away: bool = False) -> Stream:
    """Make a stream that answers the same whatever x is."""
    x0 = _normal(0, "start") if away else np.zeros(LAYOUT.n)
    draws = cache(draw)
    lr = _warm_jump_fall if name.startswith("schedule") else None
    return Stream(name, x0.astype(dtype), lambda k, x: draws(k).astype(dtype), lr)


def _quadratic(name: str, eigenvalues: Host, start: float, dtype: str = "float64") -> Stream:
    """Make a stream that answers H x, H = Q diag(eigenvalues) Q with the reflection Q = I - 2 u u^T."""
    direction = _normal(0, "reflection")
    u = (direction / np.sqrt(direction @ direction)).astype(dtype)
    d = eigenvalues.astype(dtype)

    def reflected(x: Array) -> Array:
        return x - 2 * (u @ x) * u

    x0 = (start * _normal(0, "start")).astype(dtype)
    return Stream(name, x0, lambda k, x: reflected(d * reflected(x)))


_DECADES = np.logspace(-4, 0, LAYOUT.n)
_BOTH_SIGNS = _DECADES * (-1.0) ** np.arange(LAYOUT.n)

_STREAMS: dict[str, Callable[[], Stream]] = {
    "scales": partial(_replayed, "scales", _scales),
    "signs": partial(_replayed, "signs", _signs),
    "zeros": partial(_replayed, "zeros", _zeros),
    "constant": partial(_replayed, "constant", _constant),
    "spike": partial(_replayed, "spike", _spike),
    "quiet": partial(_replayed, "quiet", _quiet),
    "schedule": partial(_replayed, "schedule", _scales, away=True),
    "decay": partial(_replayed, "decay", _decay, away=True),
    "quadratic": partial(_quadratic, "quadratic", _DECADES, 1.0),
    "saddle": partial(_quadratic, "saddle", _BOTH_SIGNS, 1e-3),
    "scales_float32": partial(_replayed, "scales_float32", _scales, "float32"),
    "decay_float32": partial(_replayed, "decay_float32", _decay, "float32", away=True),
    "quadratic_float32": partial(_quadratic, "quadratic_float32", _DECADES, 1.0, "float32"),
}

NAMES = tuple(_STREAMS)
"""The streams, in the order in which they are replayed."""

FLOAT32 = (*(name for name in NAMES if name.endswith("float32")), "least_squares_float32", "deep_linear_float32")
"""Those of them in float32, and of the arenas (see `arenas`), whose quadratic has the name of the stream."""
