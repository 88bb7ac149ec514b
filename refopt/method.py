"""What a method is: a module with `State`, `init`, `step`, `SPEC` and `DIALECTS`; and how its knobs are bound.

    init(x, *, [objective], [seed], <options that set shapes>) -> State
    step(objective, x, state, *, lr=..., ...) -> (x, state)

Both are pure: the same input gives the same output, and inputs are left unchanged. A `State` is a NamedTuple whose
first field is `k`, the number of steps done: schedules are evaluated at it and random draws are keyed by it.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from backends.arrays import Array
from refopt.schedules import Schedule
from refopt.status import nearest, require

FOLDERS = (
    "first_order",
    "gradient_regression",
    "quasi_newton",
    "diagonal",
    "newton",
    "structured",
    "variance_reduction",
)
"""The packages under `refopt` in which methods live, one a file."""


class LogUniform(NamedTuple):
    """A search axis whose logarithm is uniform on [log low, log high]."""

    low: float
    high: float

    def at(self, u: float) -> float:
        """Return the point of the axis at the fraction `u` in [0, 1]."""
        return float(self.low * (self.high / self.low) ** u)

    def fraction(self, value: float) -> float:
        """Return the fraction at which `value` lies, the inverse of `at`."""
        return math.log(value / self.low) / math.log(self.high / self.low)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}, logarithmic"


class Uniform(NamedTuple):
    """A search axis uniform on [low, high]."""

    low: float
    high: float

    def at(self, u: float) -> float:
        """Return the point of the axis at the fraction `u` in [0, 1]."""
        return float(self.low + (self.high - self.low) * u)

    def fraction(self, value: float) -> float:
        """Return the fraction at which `value` lies, the inverse of `at`."""
        return (value - self.low) / (self.high - self.low)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


class Choice(NamedTuple):
    """A search axis of equally likely options."""

    options: tuple[Any, ...]

    def at(self, u: float) -> Any:
        """Return the option at the fraction `u` in [0, 1]."""
        return self.options[min(int(u * len(self.options)), len(self.options) - 1)]

    def fraction(self, value: Any) -> float:
        """Return the middle of the fractions at which `at` gives `value`."""
        return (self.options.index(value) + 0.5) / len(self.options)

    def __str__(self) -> str:
        return ", ".join(map(str, self.options))


Axis: TypeAlias = LogUniform | Uniform | Choice


class Spec(NamedTuple):
    """What is known about a method before it runs; tables, races, docs and tests read it."""

    title: str  # the name that the field uses
    source: str  # author, year, equation or algorithm number
    needs: tuple[str, ...]  # the parts of an Objective that a step may ask for
    cost: str  # per step, in words
    gradient_equivalents: tuple[float, float]  # least and most per step at default settings, as priced
    memory: float | None  # state in vectors of length n at default settings; None: see memory_note
    search: Mapping[str, Axis]  # the space that tuning draws from
    memory_note: str = ""


Dialects: TypeAlias = Mapping[str, Mapping[str, Any]]
"""For each dialect ("paper", "torch", ...) the keywords of `init` and `step` that make it."""


@runtime_checkable
class Method(Protocol):
    """The shape of a method: a module, or a wrapper around one."""

    @property
    def SPEC(self) -> Spec: ...  # noqa: D102

    @property
    def DIALECTS(self) -> Dialects: ...  # noqa: D102

    @property
    def init(self) -> Callable[..., Any]: ...  # noqa: D102

    @property
    def step(self) -> Callable[..., tuple[Array, Any]]: ...  # noqa: D102


@dataclass(frozen=True)
class Wrapped:
    """A method made from another one; see `refopt.wrappers`. It has a method module's attributes."""

    name: str
    SPEC: Spec
    DIALECTS: Dialects
    init: Callable[..., Any]
    step: Callable[..., tuple[Array, Any]]
    solution: Callable[[Array, Any], Array] | None = None


class Bound(NamedTuple):
    """A method whose hyperparameters are chosen: ``init(x, ...)`` and ``step(objective, x, state)``."""

    init: Callable[..., Any]
    step: Callable[[Any, Array, Any], tuple[Array, Any]]


def name_of(method: Method) -> str:
    """Return the short name of a method: its module's last name, or a wrapper's own."""
    if isinstance(method, Wrapped):
        return method.name
    return str(getattr(method, "__name__", type(method).__name__)).rsplit(".", 1)[-1]


@lru_cache(maxsize=1024)
def keywords(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the keyword-only parameters of `function` with their defaults, in order."""
    parameters = inspect.signature(function).parameters.values()
    return MappingProxyType({p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY})


def bind(method: Method, **hyper: Any) -> Bound:
    """Route every keyword to `init` and/or `step` by signature; `bind(adam, lr=1e-3, **adam.DIALECTS["torch"])`.

    Instances of `Schedule` are evaluated at `state.k` before each step. Raises TypeError for a name that the
    method does not know (with the nearest one it does), for a missing one, and for a schedule on an `init` option.
    """
    of_init = set(keywords(method.init)) - {"objective", "seed"}
    of_step = keywords(method.step)
    for key in hyper:
        if key not in of_init and key not in of_step:
            hint = nearest(key, of_init | set(of_step))
            raise TypeError(f"{name_of(method)} has no hyperparameter {key!r}{hint}")
    for key, default in of_step.items():
        if default is inspect.Parameter.empty and key not in hyper:
            raise TypeError(f"{name_of(method)} needs the hyperparameter {key!r}")
    init_options = {key: value for key, value in hyper.items() if key in of_init}
    for key, value in init_options.items():
        if isinstance(value, Schedule):
            raise TypeError(f"{key!r} of {name_of(method)} is fixed at init and cannot follow a schedule")
    step_options = {key: value for key, value in hyper.items() if key in of_step}
    scheduled = {key: value for key, value in step_options.items() if isinstance(value, Schedule)}
    offered = set(keywords(method.init)) & {"objective", "seed"}

    def init(x: Array, *, objective: Any = None, seed: int = 0) -> Any:
        given = {"objective": objective, "seed": seed}
        return method.init(x, **{key: given[key] for key in offered}, **init_options)

    def step(objective: Any, x: Array, state: Any) -> tuple[Array, Any]:
        if not scheduled:
            return method.step(objective, x, state, **step_options)
        now = {key: schedule(state.k) for key, schedule in scheduled.items()}
        return method.step(objective, x, state, **{**step_options, **now})

    return Bound(init, step)


def names() -> list[str]:
    """Return the names of all methods, folder by folder, alphabetically within one."""
    return [name for _, name in _files()]


def get(name: str) -> Method:
    """Return the method called `name`. Raises ValueError with the nearest name for an unknown one.

    >>> get("adam").SPEC.title
    'Adam'
    """
    for folder, known in _files():
        if known == name:
            module = importlib.import_module(f"refopt.{folder}.{name}")
            require(isinstance(module, Method), f"{module.__name__} must define init, step, SPEC, DIALECTS", name)
            return module
    raise ValueError(f"unknown method {name!r}{nearest(name, names())}")


def folder_of(name: str) -> str:
    """Return the folder, such as 'first_order', in which the method `name` lives."""
    return next(folder for folder, known in _files() if known == name)


@cache
def _files() -> Sequence[tuple[str, str]]:
    """Return (folder, name) of every method's file, looked up once: a page of a study asks ten thousand times."""
    packages = {folder: importlib.import_module(f"refopt.{folder}") for folder in FOLDERS}
    return [(folder, i.name) for folder, package in packages.items() for i in pkgutil.iter_modules(package.__path__)]
