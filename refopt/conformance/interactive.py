"""Methods that ask for more than gradients: the objective is served, and every question is noted.

Candidate and reference run on the same small problems (quadratic, Rosenbrock, saddle, a least-squares sum, a network)
and are held together iterate by iterate, with the tolerance of `reference`. They are compared as far as the comparison
means something: to where the gradient is GRADIENT of what it was at the start, or where rounding alone moves the
reference by SPREAD of |x|. The questions are compared too, in order: where f, its gradient or a curvature product was
asked for, and along which direction. Who asks otherwise and arrives at the same iterates agrees; it is noted.

A log answers the reference in the candidate's stead: each question by the row of that step whose point, and direction,
is the same to the square root of the unit roundoff.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple, TypeAlias
from unittest import mock

import numpy as np

import problems
from backends import random
from backends.arrays import Array
from refopt.conformance.adapters import torch
from refopt.conformance.adapters.player import name_of as named
from refopt.conformance.adapters.player import positional
from refopt.conformance.logs import Log, Queries
from refopt.conformance.recording import Path, located
from refopt.conformance.reference import Reference, distance, unit_roundoff
from refopt.conformance.replay import Difference, Trace, preset, trace
from refopt.conformance.streams import Stream
from refopt.layout import Layout
from refopt.method import Bound, Method, bind, keywords, name_of
from refopt.objective import Objective
from refopt.status import require

STEPS = 50
GRADIENT = 1e-6
SPREAD = 1e-3

KINDS = """\
a refopt method: a module, or what bind returned
a function update(x, objective, state) -> (x, state), with a keyword lr if it takes one; its first state is None
a torch.optim.Optimizer class whose step takes a closure"""

Advance: TypeAlias = Callable[[Objective], Array]
"""Take one step on the objective and return x (n,)."""
Touch: TypeAlias = Callable[[Any], Any]


class Actor(NamedTuple):
    """A candidate that can be started at x0 (n,) with a learning rate."""

    name: str
    start: Callable[[Array, float], Advance]


@dataclass(frozen=True, eq=False)
class Arena(Stream):
    """A stream whose gradients come with everything else that is known of the problem."""

    objective: Callable[[int], Objective] = lambda k: Objective(grad=lambda x: x)  # of step k: a batch, or all
    layout: Layout | None = None


class Query(NamedTuple):
    """A question: where, and along which direction if it was about curvature."""

    step: int  # k = 0, 1, ...
    x: Array
    v: Array | None = None


class Unanswered(Exception):
    """A log has no answer to the question `query`; the nearest point that it has one for is `nearest`."""

    def __init__(self, query: Query, nearest: Query | None) -> None:
        super().__init__("the log has no answer")
        self.query, self.nearest = query, nearest


# --------------------------------------------------------------------------------------------------------- the arenas


def _whole(name: str, **options: Any) -> Callable[[], Arena]:
    def make() -> Arena:
        problem = problems.get(name, **options)
        f = problem.objective
        return Arena(name, problem.x0, lambda k, x: f.grad(x), None, lambda k: f, problem.layout)

    return make


def _sum(name: str, batch: int, **options: Any) -> Callable[[], Arena]:
    def make() -> Arena:
        problem = problems.get(name, **options)
        f = problem.objective
        draw = cache(lambda k: f.sample(batch, seed=0, k=k))
        return Arena(name, problem.x0, lambda k, x: f.grad(x), None, draw, problem.layout)

    return make


ARENAS: dict[str, Callable[[], Arena]] = {
    "quadratic": _whole("quadratic", n=6, condition=30.0),
    "rosenbrock": _whole("rosenbrock"),
    "saddle": _whole("saddle", n=4),
    "least_squares": _sum("least_squares", 5, examples=20, n=4, condition=10.0),
    "deep_linear": _sum("deep_linear", 10, depth=2, width=3, hidden=2, singular_values=(2.0, 1.0), examples=20),
}


def arenas(method: Method) -> list[Arena]:
    """Return those whose problems have what `method` needs, sums only if no other has. Raises TypeError where none."""
    needs = set(method.SPEC.needs)
    found = [arena for arena in (make() for make in ARENAS.values()) if needs <= _parts(arena.objective(0))]
    if not found:
        raise TypeError(f"no problem is served here that has what {name_of(method)} needs: {', '.join(sorted(needs))}")
    return [arena for arena in found if arena.objective(0).n_examples is None] or found


def _parts(f: Objective) -> set[str]:
    return {*f.parts, *(() if f.n_examples is None else ("minibatch", "full"))}


# ---------------------------------------------------------------------------------------------- candidates and playing


def adapt(candidate: Any) -> Actor:
    """Return the actor of `candidate`. Raises TypeError, listing what is accepted, for anything else."""
    if isinstance(candidate, Bound):
        return Actor("bound method", lambda x0, lr: _started(candidate, x0))
    if isinstance(candidate, Method):
        known = {**keywords(candidate.init), **keywords(candidate.step)}
        return Actor(
            name_of(candidate), lambda x0, lr: _started(bind(candidate, **({"lr": lr} if "lr" in known else {})), x0)
        )
    if torch.is_class(candidate) or (callable(candidate) and positional(candidate)[:1] == ["params"]):
        return Actor(named(candidate), lambda x0, lr: torch.with_closure(candidate, x0, lr))
    if callable(candidate) and len(positional(candidate)) >= 3:
        return Actor(named(candidate), lambda x0, lr: _updated(candidate, x0, lr))
    raise TypeError(f"candidate must be one of the following, got {candidate!r}:\n{KINDS}")


def _started(method: Bound, x0: Array, touch: Touch = lambda node: node, seed: int = 0) -> Advance:
    x, state = x0, touch(method.init(x0, seed=seed))

    def advance(objective: Objective) -> Array:
        nonlocal x, state
        x, state = touch(method.step(objective, x, state))
        return x

    return advance


def _updated(update: Callable[..., tuple[Array, Any]], x0: Array, lr: float) -> Advance:
    x, state = x0, None
    options = {"lr": lr} if "lr" in positional(update, keyword=True) else {}

    def advance(objective: Objective) -> Array:
        nonlocal x, state
        answer = update(x.copy(), objective, state, **options)
        if not (isinstance(answer, tuple) and len(answer) == 2):
            raise TypeError(f"{named(update)} must return (x, state), got {type(answer).__name__}")
        x, state = np.asarray(answer[0], dtype=x0.dtype), answer[1]
        return x

    return advance


def served(objective: Objective, ask: Callable[[Array, Array | None], None], touch: Touch) -> Objective:
    """Return the objective with every question told to `ask(x, v)` and every answer passed through `touch`."""
    whole = _served(objective.full, ask, touch)
    return whole if objective.indices is None else whole.minibatch(objective.indices)


def _served(objective: Objective, ask: Callable[[Array, Array | None], None], touch: Touch) -> Objective:
    def asked(part: str) -> Callable[..., Any]:
        def answer(x: Array, *more: Any, **options: Any) -> Any:
            v = more[0] if part == "hvp" else None
            ask(x, v)
            found = getattr(objective, part)(x.copy(), *more, **options)
            if part == "linearize":
                value, g, mv = found
                return touch(value), touch(g), product(x, mv)
            return product(x, found) if callable(found) else touch(found)

        return answer

    def product(x: Array, mv: Callable[[Array], Array]) -> Callable[[Array], Array]:
        def answer(v: Array) -> Array:
            ask(x, v)
            return touch(mv(v))

        return answer

    parts: dict[str, Any] = {part: asked(part) for part in objective.parts}
    if objective.n_examples is not None and objective.indices is None:
        parts["n_examples"] = objective.n_examples
        parts["restrict"] = lambda indices: _served(objective.minibatch(indices), ask, touch)
    new = Objective(**parts, prices=objective.prices)
    new.joint = objective.joint
    return new


def play(
    actor: Actor, arena: Arena, steps: int, lr: float, touch: Touch = lambda node: node
) -> tuple[Path, list[Query]]:
    """Play `steps` steps in an arena; return the iterates and the questions."""
    queries: list[Query] = []
    iterates = []
    with np.errstate(all="ignore"):
        with located(f"{actor.name} at the start of {arena.name!r}"):
            advance = actor.start(arena.x0.copy(), lr)
        for k in range(steps):

            def ask(x: Array, v: Array | None, k: int = k) -> None:
                queries.append(Query(k, np.array(x), None if v is None else np.array(v)))

            with located(f"{actor.name} at step {k + 1} of {arena.name!r}"):
                x = advance(served(arena.objective(k), ask, touch))
                if x.shape != arena.x0.shape or x.dtype != arena.x0.dtype:
                    rule = f"{actor.name} must return x of shape {arena.x0.shape} and dtype {arena.x0.dtype}"
                    raise ValueError(f"{rule}, got {x.shape} and {x.dtype}")
            iterates.append(np.array(x))
    return Path(np.arange(1, steps + 1), np.stack(iterates)), queries


# ------------------------------------------------------------------------------------------------------- the reference


@dataclass(frozen=True, eq=False)
class Served(Reference):
    """A method that asks, in an arena; `probes` stand in for its own draws, if they are given."""

    seed: int = 0
    probes: Array | None = None

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
        """The number of steps, at least 1, until the gradient is GRADIENT of what it was."""
        with np.errstate(all="ignore"):
            g = [np.max(np.abs(self.stream.grad(k, x))) for k, x in enumerate([self.stream.x0, *self.x])]
        return _until(~(np.asarray(g[1:]) > GRADIENT * g[0]))

    @cached_property
    def horizon(self) -> int:
        """The number of steps that can be compared, at least 1; see the module."""
        size = np.fmax.accumulate(np.max(np.abs(self.x), axis=1))
        moved = np.max(self.rounding + self.spread, axis=1) > SPREAD * np.where(size > 0, size, 1.0)
        return min(self.length, _until(moved))

    def played(self, touch: Touch = lambda node: node) -> Array:
        """Return the iterates where `touch` is applied to every number that rounding can touch, to `length` steps."""
        moved = self._played(touch, self.length)[0]
        return np.concatenate([moved, self.x[self.length :]])

    @cached_property
    def _base(self) -> tuple[Array, list[Query], Unanswered | None]:
        return self._played(lambda node: node, self.steps)

    def _played(self, touch: Touch, steps: int) -> tuple[Array, list[Query], Unanswered | None]:
        assert isinstance(self.stream, Arena)
        known = {**keywords(self.method.init), **keywords(self.method.step)}
        hyper = {**touch(self.hyper), **({"lr": touch(self.lr)} if "lr" in known else {})}
        if "layout" in known:
            hyper = {"layout": self.stream.layout, **hyper}
        method = bind(self.method, **hyper)
        done: list[Array] = []

        def start(x0: Array, lr: float) -> Advance:
            advance = _started(method, x0, touch, self.seed)

            def step(objective: Objective) -> Array:
                done.append(advance(objective))
                return done[-1]

            return step

        with _drawing(self.probes) if self.probes is not None else nullcontext():
            try:
                path, queries = play(Actor(name_of(self.method), start), self.stream, steps, self.lr, touch)
                return path.x, queries, None
            except Unanswered as missing:
                rest = np.full((steps - len(done), len(self.stream.x0)), np.nan, dtype=self.stream.x0.dtype)
                return np.concatenate([np.reshape(done, (len(done), rest.shape[1])), rest]), [], missing


def _until(ended: Array) -> int:
    """Return the number of steps before the first that ended, at least 1."""
    return max(1, int(np.argmax(ended)) if ended.any() else len(ended))


@contextmanager
def _drawing(probes: Array) -> Iterator[None]:
    """Let `backends.random` draw `probes`, in their order."""
    rows = itertools.cycle(probes)

    def draw(shape: Any, **keys: Any) -> Array:
        return np.reshape(next(rows), shape)

    with mock.patch.multiple(random, rademacher=draw, normal=draw):
        yield


def traces(
    candidate: Any, method: Method, *, dialect: str | None = None, steps: int = 200, **hyper: Any
) -> tuple[list[Trace], list[str]]:
    """Hold `candidate` against `method` where what it needs is served; return the traces, and a note on the questions.

    At most STEPS steps are taken: a method that asks for more than gradients gets there sooner. Raises TypeError for a
    candidate of no known kind, and where no arena serves.
    """
    actor = adapt(candidate)
    hyper = {**preset(method, dialect), **hyper}
    lr = hyper.pop("lr", _default_lr(method))
    found, notes = [], []
    for arena in arenas(method):
        reference = Served(method, hyper, lr, arena, min(steps, STEPS))
        path, queries = play(actor, arena, reference.horizon, lr)
        found.append(trace(path, reference))
        notes.append(first_question(queries, reference))
    return found, [note for note in notes if note][:1]


def _default_lr(method: Method) -> Any:
    """Return the lr of `method` unless told otherwise: None where it chooses its own, 1 where it has none."""
    return {**keywords(method.init), **keywords(method.step)}.get("lr", 1.0)


def first_question(queries: list[Query], reference: Served) -> str:
    """Return in words the first question of the candidate's that is not the reference's; "" where there is none."""
    size = np.fmax.accumulate(np.max(np.abs(reference.x), axis=1))
    allowed = np.max(reference.rounding + reference.spread, axis=1) / np.where(size > 0, size, 1.0)
    allowed = np.maximum(allowed, match(reference.x.dtype))
    for k in range(reference.horizon):
        place = f"it asks elsewhere: {reference.stream.name!r}, step {k + 1}"
        for about in (False, True):  # curvature
            mine, theirs = (
                _distinct(q for q in asked if q.step == k and (q.v is not None) == about)
                for asked in (queries, reference.queries)
            )
            for a, b in zip(mine, theirs, strict=False):
                if question_distance(a, b) > allowed[k]:
                    return f"{place}: at {_words(a)}, the reference at {_words(b)}"
            if len(mine) != len(theirs):
                what = "curvature products" if about else "points"
                return f"{place}: {len(mine)} {what} asked about, {len(theirs)} by the reference"
    return ""


def _distinct(queries: Iterator[Query]) -> list[Query]:
    """Return the questions without those that repeat the one before: value and gradient may be asked one by one."""
    found: list[Query] = []
    for query in queries:
        if not found or question_distance(query, found[-1]) > match(query.x.dtype):
            found.append(query)
    return found


def match(dtype: Any) -> float:
    """Return how far two points or directions may be apart, relatively, and be the same."""
    return float(np.sqrt(unit_roundoff(dtype)))


def question_distance(a: Query, b: Query) -> float:
    """Return how far apart the points are, or the directions if that is more; inf where only one has a direction."""
    if a.v is None or b.v is None:
        return apart(a.x, b.x) if a.v is b.v else np.inf
    return max(apart(a.x, b.x), apart(a.v, b.v))


def apart(p: Array, q: Array) -> float:
    """Return max |p - q| relative to the larger of max |p| and max |q|."""
    unit = max(float(np.max(np.abs(p))), float(np.max(np.abs(q))))
    return float(np.max(distance(p, q))) / unit if np.isfinite(unit) and unit > 0 else float(np.max(distance(p, q)))


def _words(query: Query) -> str:
    x = f"x = {np.array2string(query.x, precision=6, threshold=6)}"
    return x if query.v is None else f"{x} along {np.array2string(query.v, precision=6, threshold=6)}"


# ---------------------------------------------------------------------------------------------------------------- logs


def log_traces(log: Log, method: Method, *, dialect: str | None = None, steps: int = 200, **hyper: Any) -> list[Trace]:
    """Hold a log with queries against `method`, which is answered from it. Raises ValueError for one without."""
    require(log.queries is not None, f"{log.name} must hold queries: {name_of(method)} asks for more than g", "g alone")
    assert log.queries is not None
    hyper = {**preset(method, dialect), **hyper}
    lr = hyper.pop("lr", _default_lr(method))
    lr = lr if log.lr is None else float(log.lr[0])
    answers = log.queries
    arena = Arena(log.name, log.x[0], lambda k, x: np.ones_like(x), None, lambda k: _answering(answers, k), log.layout)
    steps = min(steps, log.steps)
    reference = Served(method, hyper, lr, arena, steps, log.seed, log.probes)
    found = trace(Path(np.arange(1, steps + 1), log.x[1 : steps + 1]), reference)
    missing = reference.unanswered
    if missing is not None and found.first is not None and found.first.step == missing.query.step + 1:
        found = found._replace(first=_unanswered(log.name, missing))
    return [found]


def _unanswered(name: str, missing: Unanswered) -> Difference:
    """Say where the reference asked, and where the log's nearest question was."""
    query, nearest = missing.query, missing.nearest
    if nearest is None:
        nearest = Query(query.step, np.full_like(query.x, np.nan))
    along = query.v is not None and nearest.v is not None and apart(query.x, nearest.x) <= match(query.x.dtype)
    a, b = (query.v, nearest.v) if along else (query.x, nearest.x)
    return elsewhere(name, query.step, a, b)


def elsewhere(name: str, k: int, reference: Array, candidate: Array) -> Difference:
    """Return the difference of two points that were asked about at step k, at the coordinate where it is largest."""
    i = int(np.argmax(distance(reference, candidate)))
    pair = float(reference[i]), float(candidate[i])
    return Difference(name, k + 1, i, *pair, apart(reference, candidate), match(reference.dtype), what="query")


def _answering(queries: Queries, k: int) -> Objective:
    """Return the objective of step k that the log's rows answer for."""

    def made(full: bool) -> Objective:
        mine = (queries.step == k) & (queries.full == full)

        def answer(column: Array, x: Array, v: Array | None = None) -> Any:
            """Return what the column of answers has at the question; nan stands for none."""
            query = Query(k, x, v)
            has = np.isfinite(column) if column.ndim == 1 else np.isfinite(column).any(axis=1)
            rows = np.flatnonzero(mine & has)
            asked = [Query(k, queries.x[i], queries.v[i] if v is not None else None) for i in rows]
            far = [question_distance(q, query) for q in asked]
            if not far or min(far) > match(x.dtype):
                raise Unanswered(query, asked[int(np.argmin(far))] if far else None)
            return column[rows[int(np.argmin(far))]]

        def value(x: Array) -> Any:
            return answer(queries.value, x)

        def grad(x: Array) -> Array:
            return np.array(answer(queries.g, x))

        def products(x: Array) -> Callable[[Array], Array]:
            return lambda v: np.array(answer(queries.product, x, v))

        def linearize(x: Array) -> tuple[Any, Array, Callable[[Array], Array]]:
            try:
                f = value(x)
            except Unanswered:  # not every method reads it
                f = np.nan
            return f, grad(x), products(x)

        sums: dict[str, Any] = {"n_examples": 1, "restrict": lambda indices: made(False)} if full else {}
        return Objective(
            value=value,
            grad=grad,
            hvp=lambda x, v: products(x)(v),
            linearize=linearize,
            ggn=products,
            fisher=lambda x, **keys: products(x),
            **sums,
        )

    return made(True).minibatch([0]) if queries.full.any() else made(False)
