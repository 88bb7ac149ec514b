r"""One method on the matrices of a layout, another on everything else: muon+adamw.

    on_matrices(muon, adamw)  =  groups(layout, {"matrices": (matrix, muon, ...), "rest": (else, adamw, ...)})

a matrix being a part with two or more axes longer than 1, for the layout that `init` and `step` are given: by
`minimize`, the problem's. The knobs are those of the first method under their own names, and those of the second after
its name: lr and adamw_lr.
Cost and memory: those of `groups`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import Any

from backends.arrays import Array
from refopt.layout import Layout
from refopt.method import Method, Spec, Wrapped, keywords, name_of
from refopt.objective import MissingPart, Objective
from refopt.status import require
from refopt.wrappers.groups import State, groups

Shape = tuple[int, ...]


def on_matrices(method: Method, rest: Method) -> Wrapped:
    """Return `method` on the parts of a layout with two or more axes longer than 1, and `rest` on the others.

    Raises ValueError for a method that reports another point than it iterates; a run raises MissingPart, a TypeError,
    where the layout lacks either kind of part.

    >>> import problems
    >>> from refopt import minimize
    >>> from refopt.first_order import adamw
    >>> from refopt.structured import muon
    >>> result = minimize(problems.get("mlp_digits"), on_matrices(muon, adamw), steps=2, lr=0.02, adamw_lr=3e-3)
    >>> list(result.state.groups)
    ['matrices', 'rest']
    """
    for part in (method, rest):
        require(getattr(part, "solution", None) is None, "a method must report the point it iterates", name_of(part))
    name, prefix = f"{name_of(method)}+{name_of(rest)}", f"{name_of(rest)}_"

    def grouped(layout: Layout | None, knobs: Mapping[str, Any]) -> Wrapped:
        shapes = {} if layout is None else layout.shapes
        if layout is None or {_is_matrix(part, shape) for part, shape in shapes.items()} != {True, False}:
            raise MissingPart(f"{name} needs a layout with matrices and with other parts, got {shapes or None}")
        of_rest = {knob.removeprefix(prefix): value for knob, value in knobs.items() if knob.startswith(prefix)}
        of_matrices = {knob: value for knob, value in knobs.items() if not knob.startswith(prefix)}
        return groups(
            layout, {"matrices": (_is_matrix, method, of_matrices), "rest": (lambda part, shape: True, rest, of_rest)}
        )

    def init(
        x: Array, *, objective: Objective | None = None, seed: int = 0, layout: Layout | None = None, **knobs: Any
    ) -> State:
        state: State = grouped(layout, knobs).init(x, objective=objective, seed=seed)
        return state

    def step(
        objective: Objective, x: Array, state: State, *, layout: Layout | None = None, **knobs: Any
    ) -> tuple[Array, State]:
        return grouped(layout, knobs).step(objective, x, state)

    def signature(of: Callable[[Method], Callable[..., Any]], given: Mapping[str, Any]) -> Signature:
        both = {**keywords(of(method)), **{f"{prefix}{knob}": value for knob, value in keywords(of(rest)).items()}}
        known = {knob: value for knob, value in both.items() if knob.removeprefix(prefix) not in given} | {**given}
        return Signature([Parameter(knob, Parameter.KEYWORD_ONLY, default=value) for knob, value in known.items()])

    init_given = {"objective": None, "seed": 0, "layout": None}
    init.__signature__ = signature(lambda m: m.init, init_given)  # type: ignore[attr-defined]
    step.__signature__ = signature(lambda m: m.step, {"layout": None})  # type: ignore[attr-defined]
    first, second = method.SPEC, rest.SPEC
    spec = Spec(
        title=f"{first.title} on matrices, {second.title} on the rest",
        source="; ".join(dict.fromkeys((first.source, second.source))),
        needs=tuple(dict.fromkeys((*first.needs, *second.needs))),
        cost="that of both; a gradient at x counts once",
        gradient_equivalents=(
            max(first.gradient_equivalents[0], second.gradient_equivalents[0]),
            first.gradient_equivalents[1] + second.gradient_equivalents[1],
        ),
        memory=None,
        memory_note="that of each method, on its own parts",
        search={**first.search, **{f"{prefix}{knob}": axis for knob, axis in second.search.items()}},
    )
    return Wrapped(name, spec, {}, init, step)


def _is_matrix(part: str, shape: Shape) -> bool:
    return sum(length > 1 for length in shape) >= 2  # a scalar in the shape of a matrix has no directions
