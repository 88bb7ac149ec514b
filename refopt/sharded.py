"""A finite sum whose shards live elsewhere: on the workers of a cluster, or with a thread each.

    f(x) = sum_s w_s f_s(x),    w_s = m_s / m,    s = 0 .. S-1

f_s is the mean over the m_s examples of shard s, which are s, s + S, s + 2 S, ... of the m, so that neighbours, a chunk
say, are everybody's; they stay where they are.
x goes out and f_s(x), grad f_s(x), H_s v come back, and are added here in the order of s, whoever is first:
(w_0 f_0 + w_1 f_1) + w_2 f_2 + ... From the same f_s the result has the same bits, whatever the number of workers and
threads; one shard has those of the sum in one piece. (A shard's own last bit is its BLAS's: for a matrix of one row it
may hang on where an array lies.) In a minibatch m_s counts the indices that fall to shard s, and a shard without any is
not asked.

The rows of `layers` stay with their shard, and what K-FAC and EKFAC ask of them, sums over examples, comes back as the
factors do: (d_in, d_in), (d_out, d_out) and (d_in, d_out) a layer. A layer asked for by its name, and
`per_example_grads`, come back by example, in the order that they have in one piece: these alone travel in the number of
examples. Where targets are drawn, by `fisher` and `layers` given a seed, each shard draws for the whole batch, a number
or a row of outputs an example, and takes its own: the same as in one piece, where they come from `backends.random`.
`residuals` are absent.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backends import random
from backends.arrays import Array, array_like, asnumpy, device, namespace
from backends.elementwise import donating, elementwise
from refopt.objective import Layer, MatVec, MissingPart, Objective, Prices
from refopt.race import sources
from refopt.status import require

if TYPE_CHECKING:
    from distributed import Client

Indices = np.ndarray[Any, Any]
Call = Callable[..., Any]
"""``call(method, *arguments)`` starts a method of one Shard, and returns what has its ``result()``."""

TOTALS = ("value", "grad", "value_and_grad", "hvp", "ggn_diagonal")
PRODUCTS = ("ggn", "fisher")


def sharded(
    objective: Objective | str,
    executor: Client | Executor,
    *,
    shards: int,
    seed: int = 0,
    backend: str = "numpy",
    dtype: str | None = None,
) -> Objective:
    """Return the finite sum `objective` with its examples split into `shards`: every method runs on it unchanged.

    The `executor` is a ThreadPoolExecutor of this process, or a client of Dask distributed, on whose workers the shards
    are actors, dealt in turns. An Objective's shards are sent there once. A problem in words, a name with options or
    ``path/to/file.py:name``, is built by each worker on its own `backend`, in `dtype`, with `seed` for the option of
    that name, and keeps the worker's shards alone; x then stays a NumPy array here. A client made with
    ``direct_to_workers=True`` spares vectors the way through the scheduler.

    Raises MissingPart where it is no finite sum, ValueError for fewer shards than 1 or more than examples. An
    evaluation raises RuntimeError or OSError where the worker that holds a shard is lost.

    >>> import problems
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> fit = problems.get("least_squares")
    >>> on_threads = sharded(fit.objective, ThreadPoolExecutor(2), shards=2)
    >>> bool(np.allclose(on_threads.grad(fit.x0), fit.objective.grad(fit.x0), rtol=1e-12))
    True
    """
    require(shards >= 1, "shards must be at least 1", shards)
    if isinstance(executor, Executor):
        if isinstance(objective, str):
            objective = sources.find_problem(objective, seed=seed, backend=backend, dtype=dtype).objective
        held = [Shard(_cut(objective, s, shards)) for s in range(shards)]
        return _Shards([partial(_submit, executor, shard) for shard in held]).objective()
    workers = sorted(executor.nthreads())
    require(bool(workers), "the client's cluster must have a worker", workers)
    futures = []
    for s in range(shards):
        there: dict[str, Any] = {"workers": [workers[s % len(workers)]]}
        if isinstance(objective, str):
            made = executor.submit(_build, objective, s, shards, seed, backend, dtype, actor=True, **there)
        else:
            part = executor.scatter(_cut(objective, s, shards), hash=False, **there)
            made = executor.submit(Shard, part, actor=True, **there)
        futures.append(made)
    return _Shards([partial(_act, future.result()) for future in futures]).objective()


class Facts(NamedTuple):
    """What there is to know of a shard besides its numbers."""

    parts: tuple[str, ...]
    prices: Prices
    joint: bool
    n_examples: int


class Shard:
    """The mean over some of the examples, where it lives, and the products and layers asked for at points of it.

    With an array `like`, arrays come and go on the host and are moved to its library, device and dtype here.
    """

    def __init__(self, objective: Objective, like: Array = None) -> None:
        self.mean, self.like = objective, like
        self.held: dict[int, Any] = {}

    def facts(self) -> Facts:
        """Return what the parts of the whole are made up from."""
        mean = self.mean
        assert mean.n_examples is not None
        return Facts(mean.parts, mean.prices, mean.joint, mean.n_examples)

    def part(self, indices: Indices | None, name: str, *vectors: Array) -> Any:
        """Return a part at x, or at x and v."""
        return self._out(getattr(self._at(indices), name)(*self._in(vectors)))

    def hold(
        self,
        indices: Indices | None,
        name: str,
        key: int,
        live: set[int],
        x: Array,
        among: tuple[int, random.Rows] | None = None,
        **drawn: int,
    ) -> Any:
        """Keep the product or the layers of a part at x under a `key`; forget those that no one asks for any more.

        What is drawn, is drawn `among` the examples of all shards. Returns value and gradient where the part is
        `linearize`, the names of `layers`, else ().
        """
        self.held = {old: kept for old, kept in self.held.items() if old in live}
        with nullcontext() if among is None else random.among(*among):
            made = getattr(self._at(indices), name)(self._in(x), **drawn)
        *results, self.held[key] = made if name == "linearize" else (made,)
        return list(made) if name == "layers" else self._out(tuple(results))

    def product(self, key: int, v: Array) -> Array:
        """Return the product kept under a key."""
        return self._out(self.held[key](self._in(v)))

    def layer(self, key: int, name: str) -> Layer:
        """Return one of the layers kept under a key."""
        where, inputs, output_grads = self.held[key][name]
        return Layer(where, self._out(inputs), self._out(output_grads))

    def total(self, key: int, f: Call, *arguments: Any) -> Any:
        """Return f, a sum over examples, of the layers kept under a key."""
        return self._out(f(self.held[key], *self._in(arguments)))

    def _at(self, indices: Indices | None) -> Objective:
        return self.mean if indices is None else self.mean.minibatch(indices)

    def _in(self, tree: Any) -> Any:
        return tree if self.like is None else _each(lambda v: array_like(v, self.like), tree)

    def _out(self, tree: Any) -> Any:
        return tree if self.like is None else _each(lambda v: v if isinstance(v, int) else asnumpy(v), tree)


class _Share(NamedTuple):
    """What an evaluation asks one shard for."""

    call: Call
    indices: Indices | None  # within the shard; None: all of it
    among: tuple[int, random.Rows]  # the size of the batch, and the rows of it that fall to the shard
    weight: float


class _Held:
    """What the shards keep under a key as long as this lives."""

    def __init__(self, shares: list[_Share], key: int) -> None:
        self.shares, self.key = shares, key

    def ask(self, method: str, *arguments: Any) -> list[Any]:
        return [share.call(method, self.key, *arguments) for share in self.shares]


class _Layers(Mapping[str, Layer]):
    """The layers at a point. Their rows stay on the shards, but for those of a layer asked for by its name."""

    def __init__(self, held: _Held, names: list[str], order: Indices) -> None:
        self.held, self.names, self.order = held, names, order

    def total(self, f: Call, *arguments: Any) -> Any:
        """Return f(layers, *arguments), a sum over examples; see `refopt.curvature.kronecker.total`."""
        return _sum(self.held.ask("total", f, *arguments), [1] * len(self.held.shares))

    def __getitem__(self, name: str) -> Layer:
        if name not in self.names:
            raise KeyError(name)
        wheres, inputs, output_grads = zip(*_wait(self.held.ask("layer", name)), strict=True)
        return Layer(wheres[0], _join(inputs, self.order), _join(output_grads, self.order))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class _Shards:
    """All shards, from where the sum is."""

    def __init__(self, calls: list[Call]) -> None:
        self.calls = calls
        self.facts: list[Facts] = _wait([call("facts") for call in calls])
        self.n_examples = sum(facts.n_examples for facts in self.facts)
        self.keys = itertools.count()
        self.live: weakref.WeakSet[_Held] = weakref.WeakSet()

    def objective(self, indices: Indices | None = None) -> Objective:
        """Return the mean over the examples `indices`, or over all."""
        parts, prices, joint, _ = self.facts[0]
        shares, order = self._deal(indices)
        here: dict[str, Any] = {name: partial(self._total, shares, name) for name in TOTALS}
        here |= {name: partial(self._product, shares, name) for name in PRODUCTS}
        here |= {
            "linearize": partial(self._linearize, shares),
            "per_example_grads": partial(self._per_example_grads, shares, order),
            "layers": partial(self._layers, shares, order),
        }
        sums = {name: part for name, part in here.items() if name in parts}
        whole = Objective(**sums, n_examples=self.n_examples, restrict=self.objective, prices=prices)
        whole.joint = joint
        return whole

    def _deal(self, indices: Indices | None) -> tuple[list[_Share], Indices]:
        """Return what each shard is asked for, and the order that brings rows by shard back to that of the indices."""
        S = len(self.calls)
        owner = (np.arange(self.n_examples) if indices is None else indices) % S
        counts = np.bincount(owner, minlength=S)
        shares = []
        for s, call in enumerate(self.calls):
            if counts[s]:
                rows = slice(s, None, S) if indices is None else np.flatnonzero(owner == s)
                within = None if indices is None else indices[rows] // S
                shares.append(_Share(call, within, (len(owner), rows), float(counts[s] / len(owner))))
        return shares, np.argsort(np.argsort(owner, kind="stable"))

    def _total(self, shares: list[_Share], name: str, *vectors: Array) -> Any:
        return _sum(self._ask(shares, name, *vectors), _weights(shares))

    def _linearize(self, shares: list[_Share], x: Array) -> tuple[Any, Array, MatVec]:
        held, started = self._hold(shares, "linearize", x, {})
        value, g = _sum(started, _weights(shares))
        return value, g, _product(held)

    def _product(self, shares: list[_Share], name: str, x: Array, **drawn: Any) -> MatVec:
        held, started = self._hold(shares, name, x, drawn)
        _wait(started)
        return _product(held)

    def _layers(self, shares: list[_Share], order: Indices, x: Array, **drawn: Any) -> _Layers:
        held, started = self._hold(shares, "layers", x, drawn)
        names, *_ = _wait(started)
        return _Layers(held, names, order)

    def _per_example_grads(self, shares: list[_Share], order: Indices, x: Array) -> Array:
        return _join(_wait(self._ask(shares, "per_example_grads", x)), order)

    def _ask(self, shares: list[_Share], name: str, *vectors: Array) -> list[Any]:
        return [share.call("part", share.indices, name, *vectors) for share in shares]

    def _hold(self, shares: list[_Share], name: str, x: Array, drawn: Mapping[str, Any]) -> tuple[_Held, list[Any]]:
        held = _Held(shares, next(self.keys))
        self.live.add(held)
        live = {one.key for one in self.live}
        drawing = drawn.get("seed") is not None
        return held, [
            share.call("hold", share.indices, name, held.key, live, x, share.among if drawing else None, **drawn)
            for share in shares
        ]


def _cut(objective: Objective, s: int, shards: int) -> Objective:
    """Return shard s of a finite sum, as a finite sum of its own that holds no other example."""
    whole = objective.full
    if whole._restrict is None or whole.n_examples is None:
        raise MissingPart("this objective is no finite sum, so it has no shards; see Objective.from_model")
    m = whole.n_examples
    require(shards <= m, f"shards must be at most the {m} examples", shards)
    part = whole._restrict(np.arange(s, m, shards))
    if part.n_examples is None:
        raise MissingPart("what restrict(indices) returns must be a finite sum too, for the minibatches of a shard")
    return part


def _build(text: str, s: int, shards: int, seed: int, backend: str, dtype: str | None) -> Shard:
    problem = sources.find_problem(text, seed=seed, backend=backend, dtype=dtype)
    return Shard(_cut(problem.objective, s, shards), like=problem.x0[:0])


def _submit(executor: Executor, shard: Shard, method: str, *arguments: Any, **options: Any) -> Any:
    return executor.submit(getattr(shard, method), *arguments, **options)


def _act(actor: Any, method: str, *arguments: Any, **options: Any) -> Any:
    return getattr(actor, method)(*arguments, **options)


def _product(held: _Held) -> MatVec:
    """Return v -> sum_s w_s H_s v."""
    return lambda v: _sum(held.ask("product", v), _weights(held.shares))


def _wait(started: Sequence[Any]) -> list[Any]:
    return [one.result() for one in started]


def _weights(shares: list[_Share]) -> list[float]:
    return [share.weight for share in shares]


def _sum(started: Sequence[Any], weights: Sequence[float]) -> Any:
    """Return the sum of the results times their weights, in the order of the shards, in memory that is its own."""
    (first, a), *others = zip(started, weights, strict=True)
    if not others:
        return _each(partial(_scaled, a=a), first.result())
    (second, b), *others = others
    # One pass for two: w_0 f_0 alone would be written, and read again.
    total = _each(partial(_added, a=a, b=b), first.result(), second.result())
    for one, weight in others:
        with donating():
            total = _each(partial(_plus, weight=weight), total, one.result())
    return total


@elementwise
def _scaled(first: Array, a: float) -> Array:
    return a * first


@elementwise
def _added(first: Array, second: Array, a: float, b: float) -> Array:
    return a * first + b * second


@elementwise(updates=("total",))
def _plus(total: Array, one: Array, weight: float) -> Array:
    return total + weight * one


def _each(f: Call, tree: Any, *others: Any) -> Any:
    """Return the tuples and dictionaries of `tree` with f(leaf, its leaf in each of the `others`) for each leaf."""
    if isinstance(tree, dict):
        return {name: _each(f, leaf, *(other[name] for other in others)) for name, leaf in tree.items()}
    if isinstance(tree, tuple):
        leaves = (_each(f, *them) for them in zip(tree, *others, strict=True))
        return type(tree)(*leaves) if hasattr(tree, "_fields") else tuple(leaves)
    return f(tree, *others)


def _join(rows: Sequence[Array], order: Indices) -> Array:
    """Return the rows of all shards, in the order of the batch."""
    xp = namespace(*rows)
    joined = xp.concat(rows, axis=0)
    return xp.take(joined, xp.asarray(order, device=device(joined)), axis=0)
