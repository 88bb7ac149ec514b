"""One step of a method, taken wrongly, and a method made of such steps."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple, TypeAlias

from backends.arrays import Array
from refopt.method import Dialects, Method, Spec, keywords, name_of
from refopt.objective import Objective

NEVER = 10**9  # a t at which beta^t is 0


@dataclass(frozen=True)
class Call:
    """One step of a method, about to be taken within the rules that are left."""

    method: Any
    objective: Objective
    x: Array
    state: Any
    hyper: Mapping[str, Any]  # all of them, defaults too
    rules: tuple[Rule, ...]
    last: Mapping[str, Any]  # what the rules kept at the step before
    kept: dict[str, Any]

    def __call__(
        self,
        *,
        objective: Objective | None = None,
        state: Any = None,
        gradient: Callable[[Array], Array] | None = None,
        **hyper: Any,
    ) -> tuple[Array, Any]:
        """Take the step, with the objective, the state, the gradient or hyperparameters changed."""
        objective = objective or self.objective
        objective = objective.map_grad(gradient) if gradient else objective
        state = self.state if state is None else state
        if not self.rules:
            return self.method.step(objective, self.x, state, **{**self.hyper, **hyper})  # type: ignore[no-any-return]
        inner = replace(self, objective=objective, state=state, hyper={**self.hyper, **hyper}, rules=self.rules[1:])
        return self.rules[0](inner)

    def recall(self, otherwise: Any) -> Any:
        """Return what the rule kept at the step before, and `otherwise` at the first."""
        return self.last.get(str(len(self.rules)), otherwise)

    def keep(self, value: Any) -> None:
        """Keep a value until the next step."""
        self.kept[str(len(self.rules))] = value

    @property
    def decay(self) -> Array:
        """The decay of x that is due, before lr."""
        return self.hyper["weight_decay"] * self.x


Rule: TypeAlias = Callable[[Call], tuple[Array, Any]]


class State(NamedTuple):
    """The state of a method made wrong."""

    k: int
    inner: Any
    kept: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Wrong:
    """A method made wrong: it has a method module's attributes."""

    name: str
    SPEC: Spec
    DIALECTS: Dialects
    init: Callable[..., Any]
    step: Callable[..., tuple[Array, Any]]


def make(method: Method, rules: Sequence[Rule]) -> Method:
    """Return `method` with each of `rules` around its step, the first outermost."""
    defaults = _defaults(method.step)

    @functools.wraps(method.init)
    def init(x: Array, **options: Any) -> State:
        return State(0, method.init(x, **options), {})

    @functools.wraps(method.step)
    def step(objective: Objective, x: Array, state: State, **hyper: Any) -> tuple[Array, State]:
        kept: dict[str, Any] = {}
        outside = Call(method, objective, x, state.inner, {**defaults, **hyper}, tuple(rules), state.kept, kept)
        x, inner = outside()
        return x, State(state.k + 1, inner, kept)

    made: tuple[tuple[Any, Any], ...] = (init, method.init), (step, method.step)
    for function, original in made:
        function.__signature__ = _signature(original)  # read once: thousands are made
    return Wrong(name_of(method), method.SPEC, method.DIALECTS, init, step)


_signature = cache(inspect.signature)
_defaults = cache(keywords)
