"""One face for candidates of every library: a `Player`, which is started at x0 and then asked for step after step.

A library is looked for only where a candidate of it can be: nothing here imports one.
"""

from __future__ import annotations

from typing import Any

from refopt.conformance.adapters import keras, methods, optax, plain, torch
from refopt.conformance.adapters.player import Advance, Grad, Player, is_factory, is_update, name_of
from refopt.conformance.streams import LAYOUT
from refopt.layout import Layout
from refopt.method import Bound

__all__ = ["Advance", "Grad", "Player", "adapt"]

KINDS = (
    "a torch.optim.Optimizer class, or a factory (params, lr) of one; "
    "an optax GradientTransformation, or a factory (learning_rate) of one; "
    "a keras optimizer, its class, or a factory (learning_rate) of one; "
    "a module with init and step, or what bind returned; "
    "a function update(x, g, state) -> (x, state), with a keyword lr if it takes one, whose first state is None"
)


def adapt(candidate: Any, layout: Layout = LAYOUT) -> Player:
    """Return the player of `candidate`, to which x is the tensors of `layout`.

    Raises TypeError, listing what is accepted, for anything else.

    A class or factory is called with the learning rate and nothing else: all other options are its own. Where lr is
    fixed in the candidate already, `takes_lr` of the player is False.
    """
    if isinstance(candidate, Player):
        return candidate
    if isinstance(candidate, Bound):
        return methods.bound(candidate)
    if methods.is_module(candidate):
        return methods.player(candidate)
    if torch.is_class(candidate):
        return torch.player(candidate, layout)
    if optax.is_transformation(candidate):
        return optax.player(candidate, layout)
    if keras.is_optimizer(candidate):
        return keras.player(candidate, layout)
    if callable(candidate):
        if is_factory(candidate, "params"):
            return torch.player(candidate, layout)
        if is_factory(candidate, "lr", "learning_rate"):
            made = candidate(1e-3)
            if optax.is_transformation(made):
                return optax.player(candidate, layout)
            if keras.is_optimizer(made):
                return keras.player(candidate, layout)
            raise TypeError(f"candidate {name_of(candidate)} makes a {type(made).__name__}; expected one of: {KINDS}")
        if is_update(candidate):
            return plain.player(candidate)
    raise TypeError(f"candidate must be one of the following, got {candidate!r}: {KINDS}")
