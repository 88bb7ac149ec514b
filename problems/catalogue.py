"""Find a problem by name: `get("rosenbrock", n=100)`, `names()`.

A problem is a function decorated with `@problem("title")` in a module listed in `MODULES`; the function's name is
the problem's name. Its first parameter `like` is an empty array whose library, device and dtype the problem takes.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from backends.arrays import Array, floating, get_backend
from problems.problem import Problem
from refopt.status import nearest

MODULES = (
    "quadratics",
    "saddles",
    "classics",
    "more_garbow_hillstrom",
    "factorization",
    "regression",
    "noise",
    "unit_tests",
    "networks.mlp",
    "networks.autoencoder",
    "networks.convnet",
    "networks.resnet",
    "networks.deep_linear",
    "networks.char_lm",
)

_factories: dict[str, Callable[..., Problem]] = {}


def problem(factory: Callable[..., Problem]) -> Callable[..., Problem]:
    """Enter a factory ``name(like, *, option=default, ...) -> Problem`` into the catalogue, under its own name."""
    _factories[factory.__name__] = factory
    return factory


def names() -> list[str]:
    """Return the names of all problems, alphabetically."""
    return sorted(_load())


def options(name: str) -> dict[str, Any]:
    """Return the options of a problem with their defaults. Raises ValueError for an unknown name."""
    parameters = inspect.signature(_find(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def describe(name: str) -> str:
    """Return the documentation of a problem. Raises ValueError for an unknown name."""
    return inspect.getdoc(_find(name)) or ""


def get(name: str, *, backend: str = "numpy", dtype: str = "float64", like: Array = None, **chosen: Any) -> Problem:
    """Return the problem `name` on a backend and in a dtype, or on those of the array `like` where it is given.

    Raises ValueError for an unknown name, TypeError for an unknown option (each with the nearest known one), and
    RuntimeError where the backend is not there.

    >>> get("rosenbrock", n=4).n
    4
    """
    factory = _find(name)
    known = options(name)
    for option in chosen:
        if option not in known:
            raise TypeError(f"problem {name!r} has no option {option!r}{nearest(option, known)}")
    if like is None:
        xp = get_backend(backend)
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
        like = xp.empty(0, dtype=getattr(xp, dtype))
    elif not floating(like):
        raise TypeError(f"like must hold real floating-point numbers, got dtype {like.dtype}")
    return factory(like, **chosen)


def _load() -> dict[str, Callable[..., Problem]]:
    for module in MODULES:
        importlib.import_module(f"problems.{module}")
    return _factories


def _find(name: str) -> Callable[..., Problem]:
    known = _load()
    if name not in known:
        raise ValueError(f"unknown problem {name!r}{nearest(name, known)}")
    return known[name]
