r"""The reference's path on a stream, and its own spread over the order of operations: the tolerance of a comparison.

With u the unit roundoff of the dtype and |x|_t the largest size of a coordinate so far, a candidate must be within

    (ULPS + 1 / (1 - h)) u |x|_t

of the reference, where h is the largest hyperparameter below 1: a library may compute 1 - h^t in the dtype of x. That
is better than 1e-12 in float64. Where it is not, the spread is measured. The reference is replayed with every number
that rounding can touch (hyperparameters, gradient, x, state) lowered by up to half an ulp, at random, at every step.
With s_t the largest change of x so far in any of these replays, the candidate may differ by SAFETY s_{t+1} more: where
the rule amplifies rounding, as sqrt(v - m^2) does on a constant run, right candidates part too, and where it does so a
thousandfold a step, one that rounds twice as much is there a step sooner.

All of this is coordinate by coordinate, unless the rule mixes the coordinates of a tensor, as Shampoo's roots do: then
the rounding of the largest reaches all of them, and |x|_t and s_t are those of the tensor, their largest entries.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from backends import random
from backends.arrays import Array
from refopt.conformance import streams
from refopt.conformance.adapters import methods
from refopt.conformance.recording import play
from refopt.conformance.streams import Stream
from refopt.method import keywords

SAFETY = 32.0
ULPS = 16.0
SPREAD_RUNS = 4
MIXING = 20  # steps that show whether coordinates mix


@dataclass(frozen=True, eq=False)
class Reference:
    """A method with its hyperparameters on one stream; each part is computed when it is asked for, once."""

    method: Any
    hyper: Mapping[str, Any]
    lr: float
    stream: Stream
    steps: int

    @cached_property
    def x(self) -> Array:
        """The iterates after steps 1, 2, ...: (steps, n)."""
        return self.played()

    @property
    def horizon(self) -> int:
        """The number of steps that can be compared."""
        return self.steps

    def played(self, touch: Callable[[Any], Any] = lambda node: node) -> Array:
        """Return the iterates where `touch` is applied to every number that rounding can touch."""
        player = methods.player(self.method, touch=touch, **touch(self.hyper))
        return play(player, self.stream, self.steps, touch(self.lr)).x

    def _lowered(self, run: int) -> Array:
        try:
            return self.played(_lowering(run, self.x.dtype, self.mixes))
        except ValueError:  # a hyperparameter stands at the lower end of its range
            return replace(self, hyper=_Exact(self.hyper)).played(_lowering(run, self.x.dtype, self.mixes))

    @cached_property
    def rounding(self) -> Array:
        """What rounding may do where nothing amplifies it: (steps, n), in units of x."""
        known = {**keywords(self.method.init), **keywords(self.method.step), **self.hyper, "lr": None}
        h = max((h for h in _floats(known) if h < 1), default=0.0)
        ulps = ULPS + 1 / (1 - h)
        return np.fmax.accumulate(ulps * unit_roundoff(self.x.dtype) * self.reach(np.abs(self.x)))

    @cached_property
    def spread(self) -> Array:
        """SAFETY times what rounding was seen to do up to the next step: (steps, n), in units of x."""
        changes = [distance(self._lowered(run), self.x) for run in range(SPREAD_RUNS)]
        seen = np.maximum.accumulate(self.reach(np.max(changes, axis=0)))
        return SAFETY * np.concatenate([seen[1:], seen[-1:]])

    @cached_property
    def mixes(self) -> bool:
        """Whether a coordinate whose gradient is always 0 moves when others of its tensor do."""
        if "layout" not in {**keywords(self.method.init), **keywords(self.method.step)}:
            return False
        hyper = {knob: value for knob, value in self.hyper.items() if knob != "layout"}
        seen = replace(self, stream=streams.get("zeros"), hyper=hyper, steps=max(self.steps, MIXING))
        return bool(np.any(seen.x[:, streams.STILL] != 0))

    def reach(self, sizes: Array) -> Array:
        """Return how large `sizes` (steps, n) are for each coordinate: the largest of its tensor where they mix."""
        if not self.mixes:
            return sizes
        layout = self.hyper.get("layout", streams.LAYOUT)
        tensors = [sizes[:, where] for where in layout.slices.values()]
        largest = [np.fmax.reduce(tensor, axis=1, keepdims=True) for tensor in tensors]
        return np.concatenate([np.repeat(a, t.shape[1], axis=1) for a, t in zip(largest, tensors, strict=True)], axis=1)


class _Exact(dict[str, Any]):
    """Hyperparameters that rounding leaves alone."""


def unit_roundoff(dtype: Any) -> float:
    """Return the largest relative error of rounding to `dtype`."""
    return float(np.finfo(dtype).eps) / 2


def distance(a: Array, b: Array) -> Array:
    """Return |a - b|: 0 where both are nan or the same infinity, infinite where one alone is."""
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(a - b)
        apart = np.where(np.isnan(apart), np.inf, apart)
        return np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, apart)


def _floats(node: Any) -> Iterator[float]:
    """Yield the floats of a tree."""
    if isinstance(node, float):
        yield node
    elif isinstance(node, Mapping | tuple):
        for item in node.values() if isinstance(node, Mapping) else node:
            yield from _floats(item)


def _lowering(run: int, dtype: Any, by_matrix: bool) -> Callable[[Any], Any]:
    """Return a function that lowers each float of a tree by up to half an ulp, in turn by 997 drawn factors.

    It lowers, because a hyperparameter may stand at the upper end of its range. Zeros and integers stay. With
    `by_matrix`, the entries of a matrix are lowered by as much as its largest: a decomposition rounds them so.
    """
    draws = random.generator(seed=run, k=0, purpose="conformance spread")

    @cache
    def factors(shape: tuple[int, ...]) -> Iterator[Array]:
        return itertools.cycle(np.asarray(1 - unit_roundoff(dtype) * draws.random((997, *shape)), dtype=dtype))

    def lowered(node: Any) -> Any:
        if isinstance(node, _Exact):
            return node
        if isinstance(node, float):
            return node * float(next(factors(())))
        if isinstance(node, np.ndarray) and node.dtype == dtype:
            if by_matrix and node.ndim > 1:
                return node + np.max(np.abs(node)) * (next(factors(node.shape)) - 1)
            return node * next(factors(node.shape))
        if isinstance(node, Mapping):
            return {key: lowered(item) for key, item in node.items()}
        if isinstance(node, tuple):
            items = [lowered(item) for item in node]
            return type(node)(*items) if hasattr(node, "_fields") else tuple(items)
        return node

    return lowered
