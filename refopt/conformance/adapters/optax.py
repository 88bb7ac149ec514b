"""optax transformations, compiled by jax."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from typing import Any

import numpy as np

from backends.arrays import Array
from refopt.conformance.adapters.player import Advance, Grad, Player, Rate, at, name_of
from refopt.conformance.streams import LAYOUT
from refopt.layout import Layout
from refopt.schedules import Schedule

LONGEST = 2000  # steps that lr is tabulated for


def is_transformation(candidate: Any) -> bool:
    """Say whether `candidate` is a pair of functions (init, update), as optax' transformations are."""
    return "jax" in sys.modules and {"init", "update"} <= set(getattr(candidate, "_fields", ()))


def player(candidate: Any, layout: Layout = LAYOUT) -> Player:
    """Return the player of a transformation, whose lr is fixed, or of a factory ``(learning_rate)`` of one.

    A constant lr is passed as a number, another one as optax' schedules are: a function of the count of steps.
    """
    jax: Any = importlib.import_module("jax")
    fixed = is_transformation(candidate)

    @cache
    def compiled(lr: Rate) -> tuple[Any, Any]:
        rates = np.asarray([at(lr, k) for k in range(LONGEST)])
        rate = (lambda count: jax.numpy.asarray(rates)[count]) if isinstance(lr, Schedule) else lr
        transformation = candidate if fixed else candidate(rate)

        def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
            updates, state = transformation.update(grads, state, params)
            return jax.tree.map(lambda p, u: (p + u).astype(p.dtype), params, updates), state

        return jax.jit(transformation.init), jax.jit(step)

    def start(x0: Array, lr: Rate) -> Advance:
        params: Any = layout.split(x0)
        with jax.enable_x64(True):
            init, step = compiled(lr)
            state = init(params)

        def x() -> Array:
            return layout.join({name: np.asarray(params[name]) for name in layout.names})

        def advance(k: int, grad: Grad) -> Array:
            nonlocal params, state
            with jax.enable_x64(True):
                params, state = step(params, state, layout.split(grad(x())))
            return x()

        return advance

    return Player(name_of(candidate), start, takes_lr=not fixed)
