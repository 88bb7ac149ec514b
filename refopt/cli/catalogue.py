"""`refopt list` and `refopt show NAME`: what there is, and what is known of it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from refopt.cli.console import add_row, misuse, new_table

if TYPE_CHECKING:
    from refopt.method import Method, Spec


def list_(
    what: Annotated[Literal["methods", "problems", "backends", "dialects"], typer.Argument()] = "methods",
) -> None:
    """List what there is."""
    console = Console()
    console.print({"methods": _methods, "problems": _problems, "backends": _backends, "dialects": _dialects}[what]())


def _methods() -> Table:
    from refopt import method

    table = new_table("method", "cost a step", "memory (vectors)", "source")
    folder = ""
    for name in method.names():
        if method.folder_of(name) != folder:
            folder = method.folder_of(name)
            add_row(table, Text(folder.replace("_", " "), style="bold cyan"))
        spec = method.get(name).SPEC
        add_row(table, f"  {name}", spec.cost, _memory(spec), spec.source)
    return table


def _memory(spec: Spec, unit: str = "") -> str:
    size = "" if spec.memory is None else f"{spec.memory:g}{unit}"
    return "; by default ".join(part for part in (spec.memory_note, size) if part)


def _problems() -> Table:
    import problems

    table = new_table("problem", "options", "what it is")
    for name in problems.names():
        options = ", ".join(f"{option}={default!r}" for option, default in problems.options(name).items())
        add_row(table, name, options, problems.describe(name).splitlines()[0])
    return table


def _backends() -> Table:
    from backends.arrays import BACKENDS, get_backend

    table = new_table("backend", "here")
    for name in BACKENDS:
        try:
            get_backend(name)
            add_row(table, name, "yes")
        except RuntimeError as error:
            add_row(table, name, f"no: {error}")
    return table


def _dialects() -> Table:
    from refopt import method

    table = new_table("method", "dialect", "knobs")
    for name in method.names():
        for dialect, knobs in method.get(name).DIALECTS.items():
            add_row(
                table, name, dialect, ", ".join(f"{knob}={value!r}" for knob, value in knobs.items()) or "the defaults"
            )
    return table


def show(name: Annotated[str, typer.Argument(help="A method or a problem; `refopt list` has their names.")]) -> None:
    """Show a method's rule, source, cost, knobs and dialects; or what is known of a problem."""
    import problems
    from refopt import method
    from refopt.status import nearest

    console = Console()
    with misuse():
        if name in method.names():
            _show_method(console, method.get(name))
        elif name in problems.names():
            _show_problem(console, name)
        else:
            known = [*method.names(), *problems.names()]
            raise ValueError(f"unknown method or problem {name!r}{nearest(name, known)}")


def _show_method(console: Console, method: Method) -> None:
    from refopt.method import keywords

    spec = method.SPEC
    console.print(inspect.getdoc(method), markup=False, highlight=False, soft_wrap=True)
    facts = new_table("", "", show_header=False)
    add_row(facts, "needs", ", ".join(spec.needs))
    add_row(facts, "cost a step", spec.cost)
    add_row(facts, "memory", _memory(spec, " vector of length n" if spec.memory == 1 else " vectors of length n"))
    for knob, default in {**keywords(method.init), **keywords(method.step)}.items():
        if knob not in ("objective", "seed"):
            add_row(facts, knob, "required" if default is inspect.Parameter.empty else f"{default!r}")
    for knob, axis in spec.search.items():
        add_row(facts, f"search {knob}", axis)
    for dialect, knobs in method.DIALECTS.items():
        add_row(facts, f"dialect {dialect}", ", ".join(f"{k}={v!r}" for k, v in knobs.items()) or "the defaults")
    console.print()
    console.print(facts)


def _show_problem(console: Console, name: str) -> None:
    import problems

    console.print(problems.describe(name), markup=False, highlight=False, soft_wrap=True)
    facts = new_table("", "", show_header=False)
    for option, default in problems.options(name).items():
        add_row(facts, option, repr(default))
    if problems.options(name).get("path") == "":  # the user's own data: nothing more is known before it is named
        console.print()
        console.print(facts)
        return
    problem = problems.get(name)
    add_row(facts, "parts", ", ".join(problem.objective.parts))
    add_row(facts, "parameters", problem.n)
    if problem.objective.n_examples is not None:
        add_row(facts, "examples", problem.objective.n_examples)
    for label, known in (("minimum", problem.minimum), ("L", problem.L), ("mu", problem.mu)):
        if known is not None:
            add_row(facts, label, f"{known:.6g}")
    for point in problem.stationary_points:
        kind = "degenerate point" if point.degenerate else "saddle" if point.index else "minimum"
        add_row(facts, kind, f"value {point.value:.6g}, index {point.index}")
    console.print()
    console.print(facts)
