"""Methods that ask for more than gradients: the objective is served, and every question is noted.

Candidate and reference run on the same small problems (quadratic, Rosenbrock, saddle, a least-squares sum, a network)
and are held together iterate by iterate, with the tolerance of `reference`; on some of them once more with an lr that
changes, and in float32. They are compared as far as the comparison means something: to where the gradient is u^(3/8) of
what it was at the start (1e-6 in float64, 2e-3 in float32), because f, which searches compare, falls by the square of
that and has to stay above rounding; or to where rounding alone moves the reference by SPREAD of |x|. The questions are
compared too, in order: where f, its gradient or a curvature product was asked for, and along which direction. Who asks
otherwise and arrives at the same iterates agrees; it is noted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from backends.arrays import Array
from refopt.conformance.adapters.actor import Actor, Advance, adapt, started
from refopt.conformance.adapters.player import Rate
from refopt.conformance.arenas import Arena, Touch, arenas, served
from refopt.conformance.mistakes.curvature import PERIODS, drawing
from refopt.conformance.queries import Query, Unanswered, between, match
from refopt.conformance.recording import Path, Write, first_write, located
from refopt.conformance.reference import Reference, unit_roundoff
from refopt.conformance.replay import Trace, preset, trace
from refopt.method import Method, bind, keywords, name_of
from refopt.objective import MissingPart, Objective

STEPS = 50
BEYOND = 20  # steps after something is made anew
SPREAD = 1e-3


def play(actor: Actor, arena: Arena, steps: int, lr: Any, touch: Touch = lambda node: node) -> tuple[Path, list[Query]]:
    """Play `steps` steps in an arena; return the iterates, the first write into a gradient, and the questions."""
    queries: list[Query] = []
    iterates = []
    write: Write | None = None
    with np.errstate(all="ignore"):
        with located(f"{actor.name} at the start of {arena.name!r}"):
            advance = actor.start(arena.x0.copy(), arena.rate(lr))
        for k in range(steps):
            handed: list[tuple[Array, Array]] = []

            def ask(x: Array, v: Array | None, k: int = k) -> None:
                queries.append(Query(k, np.array(x), None if v is None else np.array(v)))

            def hand(g: Array, handed: list[tuple[Array, Array]] = handed) -> Array:
                handed.append((np.array(g), np.array(g)))
                return handed[-1][0]

            with located(f"{actor.name} at step {k + 1} of {arena.name!r}"):
                x = advance(k, served(arena.objective(k), ask, touch).map_grad(hand))
                if x.shape != arena.x0.shape or x.dtype != arena.x0.dtype:
                    rule = f"{actor.name} must return x of shape {arena.x0.shape} and dtype {arena.x0.dtype}"
                    raise ValueError(f"{rule}, got {x.shape} and {x.dtype}")
            iterates.append(np.array(x))
            write = write or first_write(k, handed)
    return Path(np.arange(1, steps + 1), np.stack(iterates), write), queries


@dataclass(frozen=True, eq=False)
class Served(Reference):
    """A method that asks, in an arena; `probes` stand in for its own draws, if they are given."""

    seed: int = 0
    probes: Array | None = None

    @property
    def arena(self) -> Arena:
        """The stream, with its objective."""
        assert isinstance(self.stream, Arena)
        return self.stream

    @cached_property
    def x(self) -> Array:
        """The iterates after steps 1, 2, ...: (steps, n); nan from where a log had no answer."""
        return self._base[0]

    @property
    def queries(self) -> list[Query]:
        """The questions asked on the way."""
        return self._base[1]

    @property
    def unanswered(self) -> Unanswered | None:
        """The question that a log did not answer."""
        return self._base[2]

    @cached_property
    def length(self) -> int:
        """The number of steps, at least 1, until the gradient is u^(3/8) of what it was."""
        with np.errstate(all="ignore"):
            g = [np.max(np.abs(self.stream.grad(k, x))) for k, x in enumerate([self.stream.x0, *self.x])]
        return _until(~(np.asarray(g[1:]) > unit_roundoff(self.x.dtype) ** 0.375 * g[0]))

    @cached_property
    def horizon(self) -> int:
        """The number of steps that can be compared, at least 1; see the module."""
        return min(self.length, _until(~(self.moved <= SPREAD)))

    def reach(self, sizes: Array) -> Array:
        """Return how far `sizes` (steps, n) reach: the objective mixes all coordinates."""
        return np.broadcast_to(np.fmax.reduce(sizes, axis=1, keepdims=True), sizes.shape)

    @cached_property
    def moved(self) -> Array:
        """What rounding may do, relative to the largest |x| so far: (steps,)."""
        size = np.fmax.accumulate(np.max(np.abs(self.x), axis=1))
        with np.errstate(all="ignore"):
            return np.asarray(np.max(self.rounding + self.spread, axis=1) / np.where(size > 0, size, 1.0))

    def played(self, touch: Touch = lambda node: node) -> Array:
        """Return the iterates where `touch` is applied to every number that rounding can touch, to `length` steps."""
        moved = self._played(touch, self.length)[0]
        return np.concatenate([moved, self.x[self.length :]])

    @cached_property
    def _base(self) -> tuple[Array, list[Query], Unanswered | None]:
        return self._played(lambda node: node, self.steps)

    def _played(self, touch: Touch, steps: int) -> tuple[Array, list[Query], Unanswered | None]:
        known = {**keywords(self.method.init), **keywords(self.method.step)}
        hyper = {**touch(self.hyper), **({"lr": self.arena.rate(touch(self.lr))} if "lr" in known else {})}
        if "layout" in known:
            hyper = {"layout": self.arena.layout, **hyper}
        method = bind(self.method, **hyper)
        done: list[Array] = []

        def start(x0: Array, lr: Rate) -> Advance:
            advance = started(method, x0, touch, self.seed)

            def step(k: int, objective: Objective) -> Array:
                done.append(advance(k, objective))
                return done[-1]

            return step

        with _drawing(self.probes) if self.probes is not None else nullcontext():
            try:
                path, queries = play(Actor(name_of(self.method), start), self.arena, steps, self.lr, touch)
                return path.x, queries, None
            except Unanswered as missing:
                rest = np.full((steps - len(done), len(self.stream.x0)), np.nan, dtype=self.stream.x0.dtype)
                return np.concatenate([np.reshape(done, (len(done), rest.shape[1])), rest]), [], missing


def _until(ended: Array) -> int:
    """Return the number of steps before the first that ended, at least 1."""
    return max(1, int(np.argmax(ended)) if ended.any() else len(ended))


def _drawing(probes: Array) -> AbstractContextManager[None]:
    """Let `backends.random` draw `probes`, in their order."""
    rows = itertools.cycle(probes)
    return drawing(lambda draw, shape, **keys: np.reshape(next(rows), shape))


def traces(
    candidate: Any, method: Method, *, dialect: str | None = None, steps: int = 200, **hyper: Any
) -> tuple[list[Trace], list[str]]:
    """Hold `candidate` against `method` where what it needs is served; return the traces, and a note on the questions.

    At most STEPS steps are taken, or BEYOND after the first renewal of a snapshot, if that is more: a method that asks
    for more than gradients gets there sooner. Raises TypeError for a candidate of no known kind, and where no arena
    serves.
    """
    actor = adapt(candidate)
    hyper = {**preset(method, dialect), **hyper}
    lr = hyper.pop("lr", default_lr(method))
    found, notes = [], []
    for reference in references(method, hyper, lr, steps, actor.takes_lr):
        path, queries = play(actor, reference.arena, reference.horizon, lr)
        found.append(trace(path, reference))
        notes.append(first_question(queries, reference))
    return found, [note for note in notes if note][:1]


def references(method: Method, hyper: Mapping[str, Any], lr: Any, steps: int, takes_lr: bool = True) -> list[Served]:
    """Return the reference in each arena that serves it, for at most `steps` steps; in sums if no other does.

    Those where lr changes are left out where it cannot, or the candidate does not take it. Raises TypeError where no
    arena serves.
    """
    scheduled = takes_lr and isinstance(lr, int | float) and "lr" in keywords(method.step)
    periods = [value for key, value in {**keywords(method.step), **hyper}.items() if key in PERIODS]
    steps = min(steps, max([STEPS, *(period + BEYOND for period in periods)]))
    lacking: MissingPart | None = None
    for group in arenas(method):
        found = []
        for arena in group:
            if arena.lr is not None and not scheduled:
                continue
            reference = Served(method, hyper, lr, arena, steps)
            try:
                assert len(reference.x) == steps
                found.append(reference)
            except MissingPart as missing:  # a dialect may ask for more than the method's SPEC
                lacking = missing
        if found:
            return found
    raise TypeError(str(lacking))


def default_lr(method: Method) -> Any:
    """Return the lr of `method` unless told otherwise: None where it chooses its own, 1 where it has none."""
    return {**keywords(method.init), **keywords(method.step)}.get("lr", 1.0)


def first_question(queries: list[Query], reference: Served) -> str:
    """Return in words the first question of the candidate's that is not the reference's; "" where there is none."""
    allowed = np.maximum(reference.moved, match(reference.x.dtype))
    for k in range(reference.horizon):
        place = f"it asks elsewhere: {reference.stream.name!r}, step {k + 1}"
        for about in (False, True):  # curvature
            mine, theirs = (
                _distinct(q for q in asked if q.step == k and (q.v is not None) == about)
                for asked in (queries, reference.queries)
            )
            for a, b in zip(mine, theirs, strict=False):
                if between(a, b) > allowed[k]:
                    return f"{place}: at {a}, the reference at {b}"
            if len(mine) != len(theirs):
                what = "curvature products" if about else "points"
                return f"{place}: {len(mine)} {what} asked about, {len(theirs)} by the reference"
    return ""


def _distinct(queries: Iterator[Query]) -> list[Query]:
    """Return the questions without those that repeat the one before: value and gradient may be asked one by one."""
    found: list[Query] = []
    for query in queries:
        if not found or between(query, found[-1]) > match(query.x.dtype):
            found.append(query)
    return found
