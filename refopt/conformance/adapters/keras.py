"""keras optimizers on any keras backend; lr is assigned before each step, as keras' callbacks do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from backends.arrays import Array
from refopt.conformance.adapters.player import Advance, Grad, Player, Rate, at, name_of
from refopt.conformance.streams import LAYOUT
from refopt.layout import Layout


def is_optimizer(candidate: Any) -> bool:
    """Say whether `candidate` is a keras optimizer or a class of them."""
    keras = sys.modules.get("keras")
    if keras is None:
        return False
    return issubclass(candidate if isinstance(candidate, type) else type(candidate), keras.optimizers.Optimizer)


def player(candidate: Any, layout: Layout = LAYOUT) -> Player:
    """Return the player of an optimizer, of its class, or of a factory ``(learning_rate)`` of one."""
    keras: Any = sys.modules["keras"]
    instance = is_optimizer(candidate) and not isinstance(candidate, type)

    @contextmanager
    def precision(dtype: Any) -> Iterator[None]:
        """Let keras compute in `dtype`: its learning rate has the dtype floatx, whatever the variables have."""
        before = keras.config.floatx()
        keras.config.set_floatx(str(dtype))
        try:
            jax: Any = sys.modules["jax"] if keras.backend.backend() == "jax" else None
            with jax.enable_x64(True) if jax else nullcontext():
                yield
        finally:
            keras.config.set_floatx(before)

    def start(x0: Array, lr: Rate) -> Advance:
        with precision(x0.dtype):
            if instance:  # an optimizer belongs to its variables: play a copy
                optimizer = type(candidate).from_config(candidate.get_config())
            else:
                optimizer = candidate(at(lr, 0))
            parts = [keras.Variable(part, dtype=str(x0.dtype), name=n) for n, part in layout.split(x0).items()]

        def x() -> Array:
            return np.concatenate([keras.ops.convert_to_numpy(p).ravel() for p in parts])

        def advance(k: int, grad: Grad) -> Array:
            with precision(x0.dtype):
                optimizer.learning_rate = at(lr, k)
                grads = [keras.ops.convert_to_tensor(g) for g in layout.split(grad(x())).values()]
                optimizer.apply(grads, parts)
                return x()

        return advance

    return Player(name_of(candidate), start)
