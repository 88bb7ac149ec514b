"""A finite sum whose shards live elsewhere: on the workers of a cluster, or with a thread each.

    f(x) = sum_s w_s f_s(x),    w_s = m_s / m,    s = 0 .. S-1

f_s is the mean over the m_s examples of shard s, the s-th of S stretches of the m; the examples stay where they are.
x goes out and w_s f_s(x), w_s grad f_s(x), w_s H_s v come back, and are added here in the order of s, whoever is first:
((0 + 1) + 2) + ... From the same w_s f_s the result has the same bits, whatever the number of workers and threads; one
shard has those of the sum in one piece. (A shard's own last bit is its BLAS's: for a matrix of one row it may hang on
where an array lies.) In a minibatch m_s counts the indices that fall to shard s, and a shard without any is not asked.

What belongs to examples, `per_example_grads` and the rows of `layers`, comes back by example, in the order that it has
in one piece: this alone travels in more than vectors of length n. What draws targets, `fisher` and `layers` given a
seed, draws other ones than in one piece, keyed by seed and s. `residuals` are absent.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backends.arrays import Array, array_like, asnumpy, device, namespace
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
ROWS = ("per_example_grads", "layers")


def sharded(
    objective: Objective | str,
    executor: Client | Executor,
    *,
    shards: int,
    backend: str = "numpy",
    dtype: str = "float64",
) -> Objective:
    """Return the finite sum `objective` with its examples split into `shards`: every method runs on it unchanged.

    The `executor` is a ThreadPoolExecutor of this process, or a client of Dask distributed, on whose workers the shards
    are actors, dealt in turns. An Objective's shards are sent there once. A problem in words, a name with options or
    ``path/to/file.py:name``, is built by each worker on its own `backend`, in `dtype`, and keeps the worker's shards
    alone; x then stays a NumPy array here. A client made with ``direct_to_workers=True`` spares vectors the way through
    the scheduler.

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
            objective = sources.find_problem(objective, seed=0, backend=backend, dtype=dtype).objective
        held = [Shard(_cut(objective, s, shards)) for s in range(shards)]
        return _Shards([partial(_submit, executor, shard) for shard in held]).objective()
    workers = sorted(executor.nthreads())
    require(bool(workers), "the client's cluster must have a worker", workers)
    futures = []
    for s in range(shards):
        there: dict[str, Any] = {"workers": [workers[s % len(workers)]]}
        if isinstance(objective, str):
            made = executor.submit(_build, objective, s, shards, backend, dtype, actor=True, **there)
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
    """The mean over some of the examples, where it lives, and the products asked for at points of it.

    With an array `like`, vectors come and go on the host and are moved to its library, device and dtype here.
    """

    def __init__(self, objective: Objective, like: Array = None) -> None:
        self.mean, self.like = objective, like
        self.products: dict[int, tuple[MatVec, float]] = {}

    def facts(self) -> Facts:
        """Return what the parts of the whole are made up from."""
        mean = self.mean
        assert mean.n_examples is not None
        return Facts(mean.parts, mean.prices, mean.joint, mean.n_examples)

    def total(self, indices: Indices | None, weight: float, name: str, *vectors: Array) -> Any:
        """Return `weight` times a part at x, or at x and v."""
        return self._out(_scale(weight, getattr(self._at(indices), name)(*map(self._in, vectors))))

    def hold(
        self, indices: Indices | None, weight: float, name: str, key: int, live: set[int], x: Array, **drawn: int
    ) -> Any:
        """Keep the product of a part at x under a `key`; forget those that no one asks for any more.

        Returns `weight` times the value and the gradient where the part is `linearize`, else ().
        """
        self.products = {old: product for old, product in self.products.items() if old in live}
        made = getattr(self._at(indices), name)(self._in(x), **drawn)
        *results, mv = made if name == "linearize" else (made,)
        self.products[key] = mv, weight
        return self._out(_scale(weight, tuple(results)))

    def product(self, key: int, v: Array) -> Array:
        """Return the weight times the product kept under a key."""
        mv, weight = self.products[key]
        return self._out(weight * mv(self._in(v)))

    def rows(self, indices: Indices | None, name: str, x: Array, **drawn: int) -> Any:
        """Return a part that has a row, or several, for each example."""
        found = getattr(self._at(indices), name)(self._in(x), **drawn)
        if name == "layers":
            return {
                layer: one._replace(inputs=self._out(one.inputs), output_grads=self._out(one.output_grads))
                for layer, one in found.items()
            }
        return self._out(found)

    def _at(self, indices: Indices | None) -> Objective:
        return self.mean if indices is None else self.mean.minibatch(indices)

    def _in(self, v: Array) -> Array:
        return v if self.like is None else array_like(v, self.like)

    def _out(self, result: Any) -> Any:
        if isinstance(result, tuple):
            return tuple(map(self._out, result))
        return result if self.like is None else asnumpy(result)


class _Share(NamedTuple):
    """What an evaluation asks one shard for."""

    call: Call
    s: int
    indices: Indices | None  # within the shard; None: all of it
    weight: float


class _Product:
    """v -> sum_s w_s H_s v; as long as it lives, the shards keep what it needs."""

    def __init__(self, shares: list[_Share], key: int) -> None:
        self.shares, self.key = shares, key

    def __call__(self, v: Array) -> Array:
        return _sum([share.call("product", self.key, v) for share in self.shares])


class _Shards:
    """All shards, from where the sum is."""

    def __init__(self, calls: list[Call]) -> None:
        self.calls = calls
        self.facts: list[Facts] = [started.result() for started in [call("facts") for call in calls]]
        self.starts = np.cumsum([0, *(facts.n_examples for facts in self.facts)])
        self.keys = itertools.count()
        self.live: weakref.WeakSet[_Product] = weakref.WeakSet()

    def objective(self, indices: Indices | None = None) -> Objective:
        """Return the mean over the examples `indices`, or over all."""
        parts, prices, joint, _ = self.facts[0]
        shares, order = self._deal(indices)
        sums: dict[str, Any] = {name: partial(self._total, shares, name) for name in TOTALS if name in parts}
        sums |= {name: partial(self._hold, shares, name) for name in PRODUCTS if name in parts}
        sums |= {name: partial(self._rows, shares, order, name) for name in ROWS if name in parts}
        if "linearize" in parts:
            sums["linearize"] = partial(self._linearize, shares)
        whole = Objective(**sums, n_examples=int(self.starts[-1]), restrict=self.objective, prices=prices)
        whole.joint = joint
        return whole

    def _deal(self, indices: Indices | None) -> tuple[list[_Share], Indices | None]:
        """Return what each shard is asked for and, for a batch, the order that brings rows by shard back to it."""
        if indices is None:
            sizes = np.diff(self.starts) / self.starts[-1]
            return [_Share(call, s, None, float(sizes[s])) for s, call in enumerate(self.calls)], None
        owner = np.searchsorted(self.starts, indices, side="right") - 1
        mine = [(s, indices[owner == s] - self.starts[s]) for s in range(len(self.calls))]
        shares = [_Share(self.calls[s], s, own, len(own) / len(indices)) for s, own in mine if len(own)]
        return shares, np.argsort(np.argsort(owner, kind="stable"))

    def _total(self, shares: list[_Share], name: str, *vectors: Array) -> Any:
        return _sum([share.call("total", share.indices, share.weight, name, *vectors) for share in shares])

    def _held(self, shares: list[_Share], name: str, x: Array, drawn: Mapping[str, Any]) -> tuple[Any, MatVec]:
        product = _Product(shares, next(self.keys))
        self.live.add(product)
        live = {one.key for one in self.live}
        started = [
            share.call("hold", share.indices, share.weight, name, product.key, live, x, **self._own(share, drawn))
            for share in shares
        ]
        return _sum(started), product

    def _linearize(self, shares: list[_Share], x: Array) -> tuple[Any, Array, MatVec]:
        (value, g), mv = self._held(shares, "linearize", x, {})
        return value, g, mv

    def _hold(self, shares: list[_Share], name: str, x: Array, **drawn: Any) -> MatVec:
        return self._held(shares, name, x, drawn)[1]

    def _rows(self, shares: list[_Share], order: Indices | None, name: str, x: Array, **drawn: Any) -> Any:
        started = [share.call("rows", share.indices, name, x, **self._own(share, drawn)) for share in shares]
        found = [one.result() for one in started]
        if name != "layers":
            return _join(found, order)
        return {
            layer: Layer(
                one.where,
                _join([shard[layer].inputs for shard in found], order),
                _join([shard[layer].output_grads for shard in found], order),
            )
            for layer, one in found[0].items()
        }

    def _own(self, share: _Share, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a draw for one shard: its seed is seed S + s, which no other shard or seed has."""
        if drawn.get("seed") is None:
            return dict(drawn)
        return {**drawn, "seed": drawn["seed"] * len(self.calls) + share.s}


def _cut(objective: Objective, s: int, shards: int) -> Objective:
    """Return shard s of a finite sum, as a finite sum of its own that holds no other example."""
    whole = objective.full
    if whole._restrict is None or whole.n_examples is None:
        raise MissingPart("this objective is no finite sum, so it has no shards; see Objective.from_model")
    m = whole.n_examples
    require(shards <= m, f"shards must be at most the {m} examples", shards)
    part = whole._restrict(np.arange(m * s // shards, m * (s + 1) // shards))
    if part.n_examples is None:
        raise MissingPart("what restrict(indices) returns must be a finite sum too, for the minibatches of a shard")
    return part


def _build(text: str, s: int, shards: int, backend: str, dtype: str) -> Shard:
    problem = sources.find_problem(text, seed=0, backend=backend, dtype=dtype)
    return Shard(_cut(problem.objective, s, shards), like=problem.x0[:0])


def _submit(executor: Executor, shard: Shard, method: str, *arguments: Any, **options: Any) -> Any:
    return executor.submit(getattr(shard, method), *arguments, **options)


def _act(actor: Any, method: str, *arguments: Any, **options: Any) -> Any:
    return getattr(actor, method)(*arguments, **options)


def _scale(weight: float, result: Any) -> Any:
    return tuple(weight * one for one in result) if isinstance(result, tuple) else weight * result


def _sum(started: Iterable[Any]) -> Any:
    """Return the sum of the results in the order of the shards, in the memory of the first: no shard keeps one."""

    def add(total: Any, one: Any) -> Any:
        if isinstance(total, tuple):
            return tuple(map(add, total, one))
        total += one
        return total

    return reduce(add, (one.result() for one in started))


def _join(rows: list[Array], order: Indices | None) -> Array:
    """Return the rows of all shards, in the order of the batch."""
    xp = namespace(*rows)
    joined = xp.concat(rows, axis=0)
    return joined if order is None else xp.take(joined, xp.asarray(order, device=device(joined)), axis=0)
