"""A log of queries answers the reference in the candidate's stead.

Each question is answered by the row of that step whose point, and direction, is the same to the square root of the unit
roundoff; where there is none, candidate and reference have parted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from backends.arrays import Array
from refopt.conformance.arenas import Arena
from refopt.conformance.interactive import Served, default_lr
from refopt.conformance.logs import Log, Queries
from refopt.conformance.queries import Query, Unanswered, apart, between, elsewhere, match
from refopt.conformance.recording import Path
from refopt.conformance.replay import Difference, Trace, preset, trace
from refopt.method import Method, keywords, name_of
from refopt.objective import Objective
from refopt.status import require


def traces(log: Log, method: Method, *, dialect: str | None = None, steps: int = 200, **hyper: Any) -> list[Trace]:
    """Hold a log with queries against `method`, which is answered from it. Raises ValueError for one without."""
    reference = answered(log, method, {**preset(method, dialect), **hyper}, steps)
    found = trace(path(log), reference)
    missing = reference.unanswered
    if missing is not None and found.first is not None and found.first.step == missing.query.step + 1:
        found = found._replace(first=_unanswered(log.name, missing))
    return [found]


class Answered(Served):
    """A method that asks a log, compared as far as that goes."""

    @property
    def horizon(self) -> int:
        """The number of steps."""
        return self.steps

    def reach(self, sizes: Array) -> Array:
        """Return `sizes`: a log may be of coordinates that do not mix."""
        return sizes


def answered(log: Log, method: Method, hyper: Mapping[str, Any], steps: int) -> Answered:
    """Return the reference that asks `log`, whose lr goes before that of `hyper`."""
    require(log.queries is not None, f"{log.name} must hold queries: {name_of(method)} asks for more than g", "g alone")
    assert log.queries is not None
    options, answers = dict(hyper), log.queries
    lr = options.pop("lr", default_lr(method))
    factor = None
    if log.lr is not None:
        lr, factor = rates(log.lr, method)
    arena = Arena(
        log.name, log.x[0], lambda k, x: np.ones_like(x), factor, lambda k: _answering(answers, k), log.layout
    )
    return Answered(method, options, lr, arena, min(steps, log.steps), log.seed, log.probes)


def rates(lr: Array, method: Method) -> tuple[float, Callable[[int], float] | None]:
    """Return the constant lr of a log's rows, or 1 and that of each step; the first one where lr cannot change."""
    if (lr == lr[0]).all() or "lr" not in keywords(method.step):
        return float(lr[0]), None
    return 1.0, lr.__getitem__


def doubts(log: Log) -> list[str]:
    """Say that a log's probes cannot be draws of mean 0 and variance 1, by four standard deviations; [] if they can."""
    if log.probes is None:
        return []
    mean, square = float(np.mean(log.probes)), float(np.mean(log.probes**2))
    allowed = 4 / np.sqrt(log.probes.size)
    if abs(mean) <= allowed and abs(square - 1) <= np.sqrt(2) * allowed:
        return []
    return [f"the probes of the log have mean {mean:.2g} and mean square {square:.2g}, where 0 and 1 are meant"]


def path(log: Log) -> Path:
    """Return the iterates of a log."""
    return Path(np.arange(1, log.steps + 1), log.x[1:])


def _unanswered(name: str, missing: Unanswered) -> Difference:
    """Say where the reference asked, and where the log's nearest question was."""
    query, nearest = missing.query, missing.nearest
    if nearest is None:
        nearest = Query(query.step, np.full_like(query.x, np.nan))
    along = query.v is not None and nearest.v is not None and apart(query.x, nearest.x) <= match(query.x.dtype)
    a, b = (query.v, nearest.v) if along else (query.x, nearest.x)
    return elsewhere(name, query.step, a, b)


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
            far = [between(q, query) for q in asked]
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
            ggn_diagonal=lambda x: np.array(answer(queries.diagonal, x)),
            fisher=lambda x, **keys: products(x),
            **sums,
        )

    return made(True).minibatch([0]) if queries.full.any() else made(False)
