"""What every adapter makes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

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


def is_factory(candidate: Any, *first: str) -> bool:
    """Say whether `candidate` needs its first parameter, one of `first`, and at most lr besides."""
    names = positional(candidate)
    return names[:1] != [] and names[0] in first and set(positional(candidate, required=True)) <= {names[0], "lr"}


def is_update(candidate: Any) -> bool:
    """Say whether `candidate` takes what an update rule is given: two arrays or more, a state, and lr after them."""
    names = positional(candidate)
    return len(names) >= 3 and not {"lr", "learning_rate"} & set(names[:3])


def answered(update: Any, answer: Any, dtype: Any) -> tuple[Array, Any]:
    """Return x, in `dtype`, and the state that an update rule answered. Raises TypeError for anything else."""
    if not (isinstance(answer, tuple) and len(answer) == 2):
        raise TypeError(f"{name_of(update)} must return (x, state), got {type(answer).__name__}")
    x = np.asarray(answer[0])
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{name_of(update)} must return x as real numbers, got {x.dtype}")
    return x.astype(dtype), answer[1]


def positional(function: Callable[..., Any], *, keyword: bool = False, required: bool = False) -> list[str]:
    """Return the names of the positional parameters of `function`; [] if unknown.

    With `keyword` those by keyword too, with `required` those alone that have no default.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return []
    kinds = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    taken = [p for p in parameters if p.kind in kinds or (keyword and p.kind is p.KEYWORD_ONLY)]
    return [p.name for p in taken if not required or p.default is p.empty]
