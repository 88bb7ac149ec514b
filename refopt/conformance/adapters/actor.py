"""Candidates that ask for more than gradients: an `Actor` is started at x0, and handed an objective at each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from backends.arrays import Array
from refopt.conformance.adapters import keras, optax, torch
from refopt.conformance.adapters.methods import is_module
from refopt.conformance.adapters.player import Rate, answered, at, is_factory, is_update, positional
from refopt.conformance.adapters.player import name_of as named
from refopt.method import Bound, bind, keywords, name_of
from refopt.objective import Objective

KINDS = (
    "a module with init and step, or what bind returned; "
    "a function update(x, objective, state) -> (x, state), with a keyword lr if it takes one, whose first state is "
    "None; a torch.optim.Optimizer class whose step takes a closure; "
    "an optax GradientTransformation, or a factory (learning_rate) of one"
)

Advance: TypeAlias = Callable[[int, Objective], Array]
"""Take step k = 0, 1, ... on the objective and return x (n,)."""


class Actor(NamedTuple):
    """A candidate that can be started at x0 (n,) with a learning rate."""

    name: str
    start: Callable[[Array, Rate], Advance]
    takes_lr: bool = True


def adapt(candidate: Any) -> Actor:
    """Return the actor of `candidate`. Raises TypeError, listing what is accepted, for anything else."""
    if isinstance(candidate, Bound):
        return Actor("bound method", lambda x0, lr: started(candidate, x0), takes_lr=False)
    if is_module(candidate):
        takes_lr = "lr" in {**keywords(candidate.init), **keywords(candidate.step)}
        return Actor(
            name_of(candidate),
            lambda x0, lr: started(bind(candidate, **({"lr": lr} if takes_lr else {})), x0),
            takes_lr and "lr" in keywords(candidate.step),
        )
    if torch.is_class(candidate) or (callable(candidate) and is_factory(candidate, "params")):
        return Actor(named(candidate), lambda x0, lr: torch.with_closure(candidate, x0, lr))
    if optax.is_transformation(candidate):
        return Actor(named(candidate), optax.asking(candidate), takes_lr=False)
    made = candidate(1e-3) if callable(candidate) and is_factory(candidate, "lr", "learning_rate") else None
    if optax.is_transformation(made):
        return Actor(named(candidate), optax.asking(candidate))
    if keras.is_optimizer(candidate) or keras.is_optimizer(made):
        raise TypeError(f"{named(candidate)} cannot be checked: keras hands its optimizers nothing but gradients")
    if callable(candidate) and is_update(candidate):
        takes_lr = "lr" in positional(candidate, keyword=True)
        return Actor(named(candidate), lambda x0, lr: _updated(candidate, x0, lr, takes_lr), takes_lr)
    raise TypeError(f"candidate must be one of the following, got {candidate!r}: {KINDS}")


def started(method: Bound, x0: Array, touch: Callable[[Any], Any] = lambda node: node, seed: int = 0) -> Advance:
    """Return the step of a bound method from x0; `touch` is applied to x and the state after init and every step."""
    x, state = x0, touch(method.init(x0, seed=seed))

    def advance(k: int, objective: Objective) -> Array:
        nonlocal x, state
        x, state = touch(method.step(objective, x, state))
        return x

    return advance


def _updated(update: Callable[..., tuple[Array, Any]], x0: Array, lr: Rate, takes_lr: bool) -> Advance:
    x, state = x0, None

    def advance(k: int, objective: Objective) -> Array:
        nonlocal x, state
        options = {"lr": at(lr, k)} if takes_lr else {}
        x, state = answered(update, update(x.copy(), objective, state, **options), x0.dtype)
        return x

    return advance
