"""What every adapter makes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from backends.arrays import Array
from refopt.schedules import Schedule

Rate: TypeAlias = float | Schedule
"""A learning rate, constant or not."""

Grad: TypeAlias = Callable[[Array], Array]
"""The gradient at x (n,), as a writable array (n,) on the host: what is written into it is found out."""

Advance: TypeAlias = Callable[[int, Grad], Array]
"""Take step k = 0, 1, ... and return x (n,)."""


class Player(NamedTuple):
    """A candidate that can be started at x0 (n,) with a learning rate, any number of times."""

    name: str
    start: Callable[[Array, Rate], Advance]
    takes_lr: bool = True


def at(lr: Rate, k: int) -> float:
    """Return the learning rate of step k."""
    return lr(k) if isinstance(lr, Schedule) else lr


def name_of(candidate: Any) -> str:
    """Return the candidate's name as its users write it: 'torch.optim.Adam'."""
    candidate = getattr(candidate, "func", candidate)  # functools.partial
    name = getattr(candidate, "__qualname__", type(candidate).__qualname__)
    library = str(getattr(candidate, "__module__", type(candidate).__module__)).split(".")[0]
    return f"{library}.{name}" if library in ("torch", "optax", "keras") else str(name)


def positional(function: Callable[..., Any], *, keyword: bool = False) -> list[str]:
    """Return the names of the positional parameters of `function`, those by keyword too if so asked; [] if unknown."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return []
    kinds = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return [p.name for p in parameters if p.kind in kinds or (keyword and p.kind is p.KEYWORD_ONLY)]
