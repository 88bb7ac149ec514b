"""Candidates that ask for more than gradients: an `Actor` is started at x0, and handed an objective at each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from backends.arrays import Array
from refopt.conformance.adapters import torch
from refopt.conformance.adapters.player import name_of as named
from refopt.conformance.adapters.player import positional
from refopt.method import Bound, Method, bind, keywords, name_of
from refopt.objective import Objective

KINDS = """\
a refopt method: a module, or what bind returned
a function update(x, objective, state) -> (x, state), with a keyword lr if it takes one; its first state is None
a torch.optim.Optimizer class whose step takes a closure"""

Advance: TypeAlias = Callable[[Objective], Array]
"""Take one step on the objective and return x (n,)."""


class Actor(NamedTuple):
    """A candidate that can be started at x0 (n,) with a learning rate."""

    name: str
    start: Callable[[Array, float], Advance]


def adapt(candidate: Any) -> Actor:
    """Return the actor of `candidate`. Raises TypeError, listing what is accepted, for anything else."""
    if isinstance(candidate, Bound):
        return Actor("bound method", lambda x0, lr: started(candidate, x0))
    if isinstance(candidate, Method):
        known = {**keywords(candidate.init), **keywords(candidate.step)}
        return Actor(
            name_of(candidate), lambda x0, lr: started(bind(candidate, **({"lr": lr} if "lr" in known else {})), x0)
        )
    if torch.is_class(candidate) or (callable(candidate) and positional(candidate)[:1] == ["params"]):
        return Actor(named(candidate), lambda x0, lr: torch.with_closure(candidate, x0, lr))
    if callable(candidate) and len(positional(candidate)) >= 3:
        return Actor(named(candidate), lambda x0, lr: _updated(candidate, x0, lr))
    raise TypeError(f"candidate must be one of the following, got {candidate!r}:\n{KINDS}")


def started(method: Bound, x0: Array, touch: Callable[[Any], Any] = lambda node: node, seed: int = 0) -> Advance:
    """Return the step of a bound method from x0; `touch` is applied to x and the state after init and every step."""
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
