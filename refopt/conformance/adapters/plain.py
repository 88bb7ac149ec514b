"""Plain functions ``update(x, g, state) -> (x, state)`` on NumPy arrays."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from backends.arrays import Array
from refopt.conformance.adapters.player import Advance, Grad, Player, Rate, answered, at, name_of


def player(update: Callable[..., tuple[Array, Any]]) -> Player:
    """Return the player of `update`, whose first state is None; lr is passed by name where it has such a parameter."""
    takes_lr = "lr" in inspect.signature(update).parameters

    def start(x0: Array, lr: Rate) -> Advance:
        x, state = x0.copy(), None

        def advance(k: int, grad: Grad) -> Array:
            nonlocal x, state
            options = {"lr": at(lr, k)} if takes_lr else {}
            x, state = answered(update, update(x, grad(x), state, **options), x0.dtype)
            return x

        return advance

    return Player(name_of(update), start, takes_lr)
