"""The small problems that methods which ask are held together on, and how an objective is served with a listener."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeAlias

import numpy as np

import problems
from backends.arrays import Array
from refopt.conformance.streams import Stream
from refopt.layout import Layout
from refopt.method import Method, name_of
from refopt.objective import Objective

Touch: TypeAlias = Callable[[Any], Any]
"""What an answer is passed through."""
Ask: TypeAlias = Callable[[Array, Array | None], None]
"""Told of each question: the point, and the direction if it is about curvature."""


@dataclass(frozen=True, eq=False)
class Arena(Stream):
    """A stream whose gradients come with everything else that is known of the problem."""

    objective: Callable[[int], Objective] = lambda k: Objective(grad=lambda x: x)  # of step k: a batch, or all
    layout: Layout | None = None


def _whole(name: str, title: str = "", way: float = 1.0, **options: Any) -> Callable[[], Arena]:
    """Make an arena that starts at `way` of the way from the minimum to where the problem starts."""

    def make() -> Arena:
        problem = problems.get(name, **options)
        f = problem.objective
        x0 = problem.x0 if way == 1.0 else problem.minimizers[0] + way * (problem.x0 - problem.minimizers[0])
        return Arena(title or name, x0, lambda k, x: f.grad(x), None, lambda k: f, problem.layout)

    return make


def _sum(name: str, batch: int, **options: Any) -> Callable[[], Arena]:
    def make() -> Arena:
        problem = problems.get(name, **options)
        f = problem.objective
        draw = cache(lambda k: f.sample(batch, seed=0, k=k))
        return Arena(name, problem.x0, lambda k, x: f.grad(x), None, draw, problem.layout)

    return make


def _in_float32(name: str) -> Callable[[], Arena]:
    """Make the arena whose x and answers are those of `name`, rounded."""

    def make() -> Arena:
        arena = ARENAS[name]()

        def objective(k: int) -> Objective:
            return served(arena.objective(k), lambda x, v: None, _rounded)

        x0 = arena.x0.astype("float32")
        return Arena(f"{name}_float32", x0, lambda k, x: _rounded(arena.grad(k, x)), None, objective, arena.layout)

    return make


def _rounded(node: Any) -> Any:
    """Return an answer with every float of it rounded to float32."""
    if isinstance(node, dict):
        return {name: _rounded(item) for name, item in node.items()}
    if isinstance(node, tuple):
        items = map(_rounded, node)
        return type(node)(*items) if hasattr(node, "_fields") else tuple(items)
    if isinstance(node, float | np.floating):
        return float(np.float32(node))
    return node.astype("float32") if isinstance(node, np.ndarray) else node


def _scheduled(name: str) -> Callable[[], Arena]:
    """Make the arena `name` where lr changes at every step."""
    return lambda: replace(ARENAS[name](), name=f"{name}_schedule", lr=_falling)


def _falling(k: int) -> float:
    return (1.0, 0.5, 0.25)[k % 3]  # never above 1: a Newton step is as long as it may be


ARENAS: dict[str, Callable[[], Arena]] = {
    "quadratic": _whole("quadratic", n=6, condition=30.0),
    "quadratic nearby": _whole("quadratic", "quadratic nearby", 1e-3, n=6, condition=30.0),  # what clips does not here
    "rosenbrock": _whole("rosenbrock"),
    "saddle": _whole("saddle", n=4),
    "least_squares": _sum("least_squares", 5, examples=20, n=4, condition=10.0),
    "deep_linear": _sum("deep_linear", 10, depth=2, width=3, hidden=2, singular_values=(2.0, 1.0), examples=20),
}
MIRRORED = ("quadratic", "least_squares", "deep_linear")
ARENAS |= {f"{name}_schedule": _scheduled(name) for name in MIRRORED}
ARENAS |= {f"{name}_float32": _in_float32(name) for name in MIRRORED}


def arenas(method: Method) -> list[list[Arena]]:
    """Return those whose problems have what `method` needs: those that are no sums, and those that are.

    Raises TypeError where none has.
    """
    found = [arena for arena in (make() for make in ARENAS.values()) if set(method.SPEC.needs) <= _parts(arena)]
    if not found:
        needs = ", ".join(method.SPEC.needs)
        raise TypeError(f"no problem is served here that has what {name_of(method)} needs: {needs}")
    sums = [arena.objective(0).n_examples is not None for arena in found]
    return [[arena for arena, is_sum in zip(found, sums, strict=True) if is_sum == kind] for kind in (False, True)]


def _parts(arena: Arena) -> set[str]:
    f = arena.objective(0)
    return {*f.parts, *(() if f.n_examples is None else ("minibatch", "full"))}


def served(objective: Objective, ask: Ask, touch: Touch) -> Objective:
    """Return the objective with every question told to `ask(x, v)` and every answer passed through `touch`."""
    whole = _served(objective.full, ask, touch)
    return whole if objective.indices is None else whole.minibatch(objective.indices)


def _served(objective: Objective, ask: Ask, touch: Touch) -> Objective:
    def asked(part: str) -> Callable[..., Any]:
        def answer(x: Array, *more: Any, **options: Any) -> Any:
            v = more[0] if part == "hvp" else None
            ask(x, v)
            found = getattr(objective, part)(x.copy(), *more, **options)
            if part == "linearize":
                value, g, mv = found
                return touch(value), touch(g), product(x, mv)
            return product(x, found) if callable(found) else touch(found)

        return answer

    def product(x: Array, mv: Callable[[Array], Array]) -> Callable[[Array], Array]:
        def answer(v: Array) -> Array:
            ask(x, v)
            return touch(mv(v))

        return answer

    parts: dict[str, Any] = {part: asked(part) for part in objective.parts}
    if objective.n_examples is not None and objective.indices is None:
        parts["n_examples"] = objective.n_examples
        parts["restrict"] = lambda indices: _served(objective.minibatch(indices), ask, touch)
    new = Objective(**parts, prices=objective.prices)
    new.joint = objective.joint
    return new
