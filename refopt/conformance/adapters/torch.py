"""`torch.optim` optimizers; lr is written into the parameter groups, as torch's schedulers do.

Those that take matrices alone are given each as torch holds a weight, (d_out, d_in): transposed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from backends.arrays import Array
from refopt.conformance.adapters.player import Advance, Grad, Player, Rate, at, name_of
from refopt.conformance.streams import LAYOUT, MATRICES
from refopt.layout import Layout
from refopt.objective import Objective


def is_class(candidate: Any) -> bool:
    """Say whether `candidate` is a class of torch optimizers."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(candidate, type) and issubclass(candidate, torch.optim.Optimizer)


def player(factory: Callable[..., Any], layout: Layout = LAYOUT) -> Player:
    """Return the player of a class or factory ``(params, lr) -> Optimizer``, with one Parameter for each tensor."""
    torch: Any = importlib.import_module("torch")  # a factory may leave that to its first call

    def split(x: Array) -> list[Array]:
        return [part.T if layout is MATRICES else part for part in layout.split(x).values()]

    def start(x0: Array, lr: Rate) -> Advance:
        parts = [torch.nn.Parameter(torch.tensor(part)) for part in split(x0)]
        optimizer = factory(parts, lr=at(lr, 0))

        def x() -> Array:
            arrays = [p.detach().numpy() for p in parts]
            return np.concatenate([(array.T if layout is MATRICES else array).ravel() for array in arrays])

        def advance(k: int, grad: Grad) -> Array:
            for p, g in zip(parts, split(grad(x())), strict=True):
                p.grad = torch.from_numpy(g)  # shares its memory with g
            for group in optimizer.param_groups:
                group["lr"] = at(lr, k)
            optimizer.step()
            return x()

        return advance

    return Player(name_of(factory), start)


def with_closure(factory: Callable[..., Any], x0: Array, lr: Rate) -> Callable[[int, Objective], Array]:
    """Return the step of an optimizer that evaluates the objective itself, through a closure."""
    torch: Any = importlib.import_module("torch")
    parameter = torch.nn.Parameter(torch.tensor(x0))
    optimizer = factory([parameter], lr=at(lr, 0))

    def advance(k: int, objective: Objective) -> Array:
        def closure() -> Any:
            value, g = objective.value_and_grad(parameter.detach().numpy().copy())
            parameter.grad = torch.from_numpy(g)  # shares its memory with g
            return torch.tensor(float(value), dtype=parameter.dtype)

        for group in optimizer.param_groups:
            group["lr"] = at(lr, k)
        optimizer.step(closure)
        return np.array(parameter.detach().numpy())

    return advance
