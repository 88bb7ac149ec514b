"""optax transformations, compiled by jax."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from backends.arrays import Array
from refopt.conformance.adapters.player import Advance, Grad, Player, Rate, at, name_of
from refopt.conformance.streams import LAYOUT
from refopt.layout import Layout
from refopt.objective import Objective
from refopt.schedules import Schedule

LONGEST = 2000  # steps that lr is tabulated for


def is_transformation(candidate: Any) -> bool:
    """Say whether `candidate` is a pair of functions (init, update), as optax' transformations are."""
    return "jax" in sys.modules and {"init", "update"} <= set(getattr(candidate, "_fields", ()))


def _rate(lr: Rate) -> Any:
    """Return a constant lr as it is, another one as optax' schedules are: a function of the count of steps."""
    rates = np.asarray([at(lr, k) for k in range(LONGEST)])
    jax: Any = importlib.import_module("jax")
    return (lambda count: jax.numpy.asarray(rates)[count]) if isinstance(lr, Schedule) else lr


def player(candidate: Any, layout: Layout = LAYOUT) -> Player:
    """Return the player of a transformation, whose lr is fixed, or of a factory ``(learning_rate)`` of one."""
    jax: Any = importlib.import_module("jax")
    fixed = is_transformation(candidate)

    @cache
    def compiled(lr: Rate) -> tuple[Any, Any]:
        transformation = candidate if fixed else candidate(_rate(lr))

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


def asking(candidate: Any) -> Callable[[Array, Rate], Callable[[int, Objective], Array]]:
    """Return what starts a transformation that is told f and may ask for it elsewhere, as line searches do.

    It is handed `value`, `grad` and `value_fn`, which optax passes on to those that take them.
    """
    jax, optax = (importlib.import_module(name) for name in ("jax", "optax"))
    now: Objective

    def ask(x: Any) -> tuple[Array, Array]:
        value, g = now.value_and_grad(np.array(x))
        return np.asarray(value, dtype=x.dtype), g

    def asked(x: Any) -> Any:
        shapes = jax.ShapeDtypeStruct((), x.dtype), jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(ask, shapes, x)

    def slope(primals: Any, tangents: Any) -> Any:
        value, g = asked(*primals)
        return value, g @ tangents[0]

    value_fn = jax.custom_jvp(lambda x: asked(x)[0])
    value_fn.defjvp(slope)

    @cache
    def compiled(lr: Rate) -> tuple[Any, Any]:
        made = candidate if is_transformation(candidate) else candidate(_rate(lr))
        transformation = optax.with_extra_args_support(made)

        def step(x: Any, state: Any) -> Any:
            value, g = jax.value_and_grad(value_fn)(x)
            updates, state = transformation.update(g, state, x, value=value, grad=g, value_fn=value_fn)
            return (x + updates).astype(x.dtype), state

        return transformation.init, jax.jit(step)

    def start(x0: Array, lr: Rate) -> Callable[[int, Objective], Array]:
        @contextmanager
        def precision() -> Iterator[None]:
            """Set it for all threads, as `jax.enable_x64` does not: the callbacks have one of their own."""
            before = jax.config.jax_enable_x64
            jax.config.update("jax_enable_x64", x0.dtype == "float64")
            try:
                yield
            finally:
                jax.config.update("jax_enable_x64", before)

        with precision():
            init, step = compiled(lr)
            x = jax.numpy.asarray(x0)
            state = init(x)

        def advance(k: int, objective: Objective) -> Array:
            nonlocal x, state, now
            now = objective
            with precision():
                x, state = step(x, state)
                return np.array(x)

        return advance

    return start
