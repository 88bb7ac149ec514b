"""Replay a candidate beside the reference on the same gradients, and find where they part.

Relative differences and tolerances (see `reference`) are in units of the largest |x| of the coordinate so far, which is
the distance moved on the streams that start at 0.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from backends.arrays import Array
from refopt.conformance import streams as catalogue
from refopt.conformance.adapters import Player, adapt
from refopt.conformance.adapters.methods import layout_for
from refopt.conformance.recording import Path, Recording, play
from refopt.conformance.reference import Reference, distance
from refopt.conformance.streams import FLOAT32, Stream
from refopt.method import Method, get, keywords, name_of
from refopt.status import nearest, require


class Difference(NamedTuple):
    """Two values of one coordinate after step t = 1, 2, ... of a stream; `relative` and `tolerance` in the same unit.

    `what` is "x"; "gradient" where the candidate wrote into the gradient that it was given; "query" where it took the
    gradient, the value or the product at another point, or along another direction.
    """

    stream: str
    step: int
    coordinate: int
    reference: float
    candidate: float
    relative: float
    tolerance: float
    what: str = "x"

    def __str__(self) -> str:
        place = f"stream {self.stream!r}, step {self.step}, coordinate {self.coordinate}"
        if self.what == "gradient":
            return f"{place}: the gradient was changed in place, from {self.reference!r} to {self.candidate!r}"
        if self.what == "query":
            place = f"{place} of the point or direction asked about"
        return (
            f"{place}: reference {self.reference!r}, candidate {self.candidate!r}, "
            f"relative difference {self.relative:.2g}, tolerance {self.tolerance:.1g}"
        )


class Trace(NamedTuple):
    """The differences on one stream, step by step; see `Difference` for their unit."""

    stream: str
    steps: Array  # (r,) integers t = 1, 2, ...
    relative: Array  # (r,) the largest relative difference of a coordinate
    tolerance: Array  # (r,) what is allowed there
    largest: Difference
    first: Difference | None  # the first beyond the tolerance


class Comparison(NamedTuple):
    """What a replay found."""

    agrees: bool
    first: Difference | None  # of the differences beyond the tolerance the earliest, and at that step the largest
    streams: tuple[Difference, ...]  # the largest difference of each stream replayed, be it within the tolerance or not

    @property
    def largest(self) -> Difference:
        """The largest relative difference, on the float64 streams if there are any."""
        return max(self.streams, key=lambda d: (d.stream not in FLOAT32, d.relative))

    def __str__(self) -> str:
        if self.first is None:
            return f"agrees on {len(self.streams)} streams; largest difference: {self.largest}"
        return f"first divergence: {self.first}\nlargest difference: {self.largest}"


def compare(
    candidate: Any,
    method: str | Method,
    *,
    dialect: str | None = None,
    streams: Sequence[str | Stream] = catalogue.NAMES,
    steps: int = 200,
    rtol: float = 0.0,
    **hyper: Any,
) -> Comparison:
    """Replay `candidate` beside `method`, a name or a module, for `steps` steps of each stream.

    `candidate` is anything that `adapters.adapt` accepts, or a `Recording`. `dialect` names a preset of the method,
    `hyper` its hyperparameters beyond that; of them the candidate is given lr alone, so one that was made with other
    options is compared with the same ones here. `rtol` is allowed on top of the tolerance, for a candidate that is
    known to compute some numbers in a shorter format. A stream with a schedule is left out where lr cannot follow it.

    Raises ValueError for an unknown method, dialect or stream, TypeError for an unknown hyperparameter, for a method
    that reads more than gradients and for a candidate of no known kind. Costs one replay of the reference, and
    four more of a stream where rounding alone does not explain a difference.

    >>> compare(lambda x, g, state, lr: (x - lr * g, state), "sgd").agrees
    True
    >>> compare(lambda x, g, state, lr: (x - lr * g, state), "heavy_ball").first.step
    2
    """
    return summary(traces(candidate, method, dialect=dialect, streams=streams, steps=steps, rtol=rtol, **hyper))


def traces(
    candidate: Any,
    method: str | Method,
    *,
    dialect: str | None = None,
    streams: Sequence[str | Stream] = catalogue.NAMES,
    steps: int = 200,
    rtol: float = 0.0,
    **hyper: Any,
) -> list[Trace]:
    """Return what `compare` sums up, stream by stream; its arguments, errors and cost are the same."""
    require(steps >= 1, "steps must be at least 1", steps)
    require(rtol >= 0, "rtol must be at least 0", rtol)
    module: Any = get(method) if isinstance(method, str) else method
    if set(module.SPEC.needs) != {"grad"}:
        needs = ", ".join(module.SPEC.needs)
        raise TypeError(f"method must read gradients alone to be replayed; {name_of(module)} needs {needs}")
    hyper = {**preset(module, dialect), **hyper}
    lr = hyper.pop("lr", default_lr(module))
    if not isinstance(candidate, Recording):
        candidate = adapt(candidate, layout_for(module))
    found = []
    for stream in (catalogue.get(s) if isinstance(s, str) else s for s in streams):
        if stream.lr is None or "lr" in keywords(module.step):
            path = _path(candidate, stream, steps, lr)
            if path is not None:
                found.append(trace(path, reference(module, hyper, lr, stream, steps), rtol))
    require(bool(found), "streams must name one that the candidate can be replayed on", streams)
    return found


def summary(found: Sequence[Trace]) -> Comparison:
    """Return what the traces of a comparison amount to."""
    first = min((t.first for t in found if t.first), key=lambda d: d.step, default=None)
    return Comparison(first is None, first, tuple(t.largest for t in found))


def preset(method: Method, dialect: str | None) -> Mapping[str, Any]:
    """Return the keywords of a dialect of `method`; none where `dialect` is None."""
    if dialect is None:
        return {}
    if dialect not in method.DIALECTS:
        raise ValueError(f"{name_of(method)} has no dialect {dialect!r}{nearest(dialect, method.DIALECTS)}")
    return method.DIALECTS[dialect]


def default_lr(method: Method) -> float:
    """Return the learning rate of `method` unless told otherwise; 1 for one that has none."""
    return float({**keywords(method.init), **keywords(method.step)}.get("lr", 1.0))


def _path(candidate: Recording | Player, stream: Stream, steps: int, lr: float) -> Path | None:
    """Read or play the candidate's path; None where it has none."""
    if isinstance(candidate, Recording):
        return candidate.paths.get(stream.name)
    return play(candidate, stream, steps, lr) if stream.lr is None or candidate.takes_lr else None


def reference(method: Any, hyper: Mapping[str, Any], lr: float, stream: Stream, steps: int) -> Reference:
    """Return the reference, the same again for the same arguments: many candidates are compared with one."""
    if all(isinstance(value, Hashable) for value in hyper.values()):
        return remembered(method, tuple(hyper.items()), lr, stream, steps)
    return Reference(method, hyper, lr, stream, steps)


@lru_cache(maxsize=256)
def remembered(method: Any, hyper: tuple[tuple[str, Any], ...], lr: float, stream: Stream, steps: int) -> Reference:
    """Return the reference, kept for the next candidate."""
    return Reference(method, dict(hyper), lr, stream, steps)


def trace(path: Path, reference: Reference, rtol: float = 0.0) -> Trace:
    """Hold a path against the reference."""
    name, x = reference.stream.name, reference.x
    steps = path.steps[path.steps <= reference.horizon]
    rows = steps - 1
    moved = path.x[: len(steps)]
    apart = distance(moved, x[rows])
    size = np.fmax(np.fmax.accumulate(np.abs(x))[rows], np.abs(moved))  # of both: one of them may stay at 0
    unit = np.where(np.isfinite(size) & (size > 0), size, 1.0)
    allowed = reference.rounding[rows] + rtol * unit
    if (apart > allowed).any():
        allowed = allowed + reference.spread[rows]
    nowhere = np.isnan(allowed) | ~np.isfinite(x[rows])
    allowed = np.where(nowhere, 0.0, allowed)  # of a reference that is not finite nothing is allowed
    beyond, relative, tolerance = apart > allowed, apart / unit, allowed / unit

    def at(row: int, i: int) -> Difference:
        pair = float(x[rows[row], i]), float(moved[row, i])
        return Difference(name, int(steps[row]), i, *pair, float(relative[row, i]), float(tolerance[row, i]))

    first = None
    if path.write is not None:
        step, i, before, after = path.write
        first = Difference(name, step, i, before, after, np.inf, 0.0, what="gradient")
    elif beyond.any():
        row = int(np.argmax(beyond.any(axis=1)))
        first = at(row, int(np.argmax(np.where(beyond[row], relative[row], -1.0))))
    largest = at(*divmod(int(np.argmax(relative)), relative.shape[1]))
    worst = np.arange(len(steps)), np.argmax(relative, axis=1)
    return Trace(name, steps, relative[worst], tolerance[worst], largest, first)
