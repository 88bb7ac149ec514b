"""What a run has cost: calls counted, and priced in gradient equivalents.

One gradient equivalent (ge) is one gradient over all examples; a minibatch of a tenth of them costs a tenth.
Monitoring (history, stop rules) is counted apart and not priced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from backends.arrays import Array
from refopt.objective import Layer, MatVec, Objective


@dataclass
class Ledger:
    """The running account of one run.

    `counts` has the calls that methods made, `monitoring` those that watching made, by part (linearised products
    as "product" and "ggn_product"). `flops` is dense linear algebra beside the objective, as methods report it in
    `state.info["flops"]`. `seconds` is the time spent inside steps. `state_vectors` is the largest state met, in
    vectors of length n.
    """

    counts: Counter[str] = field(default_factory=Counter)
    gradient_equivalents: float = 0.0
    monitoring: Counter[str] = field(default_factory=Counter)
    flops: float = 0.0
    seconds: float = 0.0
    state_vectors: float = 0.0
    _watching: bool = field(default=False, repr=False)

    def charge(self, part: str, price: float, times: int = 1) -> None:
        """Count `times` calls of `part` at `price` gradient equivalents each; while watching, count them apart."""
        if self._watching:
            self.monitoring[part] += times
        else:
            self.counts[part] += times
            self.gradient_equivalents += price * times

    @property
    def watching(self) -> bool:
        """Whether evaluations are at present on the monitor's account."""
        return self._watching

    def watch(self) -> _Watch:
        """Put the evaluations made inside ``with ledger.watch():`` on the monitor's account."""
        return _Watch(self)


class _Watch:
    """The context of `Ledger.watch`: a class, which costs a third of a generator, twice a step."""

    __slots__ = ("before", "ledger")

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def __enter__(self) -> None:
        self.ledger._watching, self.before = True, self.ledger._watching

    def __exit__(self, *error: object) -> None:
        self.ledger._watching = self.before


class _Memo:
    """The results at the last x met, by identity, and which of them the method has paid for."""

    def __init__(self) -> None:
        self.x: Array = None
        self.results: dict[str, Any] = {}
        self.paid: set[str] = set()

    def at(self, x: Array) -> _Memo:
        if self.x is not x:
            self.x, self.results, self.paid = x, {}, set()
        return self


def counted(objective: Objective, ledger: Ledger) -> Objective:
    """Return `objective` with every call charged to `ledger`, and never evaluated twice at the same x.

    A one-entry memo, by identity of x and per batch, serves the loop, the stop rules and the next step. What only
    monitoring has evaluated is charged when the method first asks for it, so a run costs the same whether it is
    watched or not. Shapes and dtypes of what the objective returns are checked here.
    """
    memo = _Memo()
    price = objective.prices
    share = objective.fraction

    def once(x: Array, part: str, cost: float, evaluate: Callable[[Array], dict[str, Any]]) -> Any:
        """Return the result of `part` at x, evaluating and charging it if that has not been done."""
        entry = memo.at(x)
        fresh = part not in entry.results
        if fresh:
            entry.results |= evaluate(x)
        if ledger.watching:
            if fresh:
                ledger.charge(part, 0.0)
        elif part not in entry.paid:
            ledger.charge(part, cost * share)
            entry.paid.add(part)
            if (part == "grad" and objective.joint) or part == "linearize":
                entry.paid.update(("value", "grad"))
        return entry.results[part]

    def evaluate_pair(x: Array) -> dict[str, Any]:
        value, g = objective.value_and_grad(x)
        return {"value": _checked_value(value), "grad": _checked_grad(g, x)}

    def evaluate_value(x: Array) -> dict[str, Any]:
        return {"value": _checked_value(objective.value(x))}

    def evaluate_grad(x: Array) -> dict[str, Any]:
        return {"grad": _checked_grad(objective.grad(x), x)}

    # Where one call gives both, the value comes free and is kept for whoever asks next.
    evaluate_for_grad = evaluate_pair if objective.joint else evaluate_grad

    def value(x: Array) -> Any:
        return once(x, "value", price.value, evaluate_value)

    def grad(x: Array) -> Array:
        return once(x, "grad", price.grad, evaluate_for_grad)

    def value_and_grad(x: Array) -> tuple[Any, Array]:
        g = grad(x)
        return value(x), g

    def hvp(x: Array, v: Array) -> Array:
        ledger.charge("hvp", price.hvp * share, _columns(v))
        return objective.hvp(x, v)

    def products(mv: MatVec, part: str, cost: float) -> MatVec:
        def product(v: Array) -> Array:
            ledger.charge(part, cost * share, _columns(v))
            return mv(v)

        return product

    def linearize(x: Array) -> tuple[Any, Array, MatVec]:
        def evaluate(x: Array) -> dict[str, Any]:
            f, g, mv = objective.linearize(x)
            return {"value": _checked_value(f), "grad": _checked_grad(g, x), "linearize": mv}

        mv = once(x, "linearize", price.linearize, evaluate)
        return memo.results["value"], memo.results["grad"], products(mv, "product", price.product)

    def ggn(x: Array) -> MatVec:
        mv = once(x, "ggn", price.fisher, lambda x: {"ggn": objective.ggn(x)})
        return products(mv, "ggn_product", price.ggn_product)

    def ggn_diagonal(x: Array) -> Array:
        return once(x, "ggn_diagonal", price.ggn_diagonal, lambda x: {"ggn_diagonal": objective.ggn_diagonal(x)})

    def fisher(x: Array, *, seed: int | None = None, k: int = 0) -> MatVec:
        ledger.charge("fisher", price.fisher * share)
        return products(objective.fisher(x, seed=seed, k=k), "fisher_product", price.ggn_product)

    def residuals(x: Array) -> Array:
        return once(x, "residuals", price.residuals, lambda x: {"residuals": objective.residuals(x)})

    def per_example_grads(x: Array) -> Array:
        ledger.charge("per_example_grads", price.per_example_grads * share)
        return objective.per_example_grads(x)

    def layers(x: Array, *, seed: int | None = None, k: int = 0) -> dict[str, Layer]:
        ledger.charge("layers", price.layers * share)
        statistics: dict[str, Layer] = objective.layers(x, seed=seed, k=k)
        return statistics

    here: dict[str, Any] = {
        "value": value,
        "grad": grad,
        "value_and_grad": value_and_grad,
        "hvp": hvp,
        "linearize": linearize,
        "ggn": ggn,
        "ggn_diagonal": ggn_diagonal,
        "fisher": fisher,
        "residuals": residuals,
        "per_example_grads": per_example_grads,
        "layers": layers,
    }
    sums: dict[str, Any] = {}
    if objective.n_examples is not None and objective.indices is None:
        sums["n_examples"] = objective.n_examples
        sums["restrict"] = lambda indices: counted(objective.minibatch(indices), ledger)
    result = Objective(**{name: here[name] for name in objective.parts}, **sums, prices=price)
    result.joint = objective.joint
    return result


def _columns(v: Array) -> int:
    return 1 if v.ndim == 1 else int(v.shape[1])


def _checked_value(value: Any) -> Any:
    if getattr(value, "shape", ()) != ():
        raise ValueError(f"the objective must return a scalar, got an array of shape {value.shape}")
    return value


def _checked_grad(g: Array, x: Array) -> Array:
    if type(g) is not type(x):
        raise TypeError(f"the gradient must be a {type(x).__name__} like x, got {type(g).__name__}")
    if g.shape != x.shape:
        raise ValueError(f"the gradient must have the shape {x.shape} of x, got {g.shape}")
    if g.dtype != x.dtype:
        raise TypeError(f"the gradient must have the dtype {x.dtype} of x, got {g.dtype}")
    return g
