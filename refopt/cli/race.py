"""`refopt race [PROBLEM ...]`: hold a race, write its report and say who won."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from refopt.cli.console import ENGINE, SCHEDULER, add_row, complain, misuse, new_table, number, progress_bars

if TYPE_CHECKING:
    from refopt.race.engine import Engine
    from refopt.race.plan import Plan
    from refopt.race.standing import Standings


def race(
    problems: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROBLEM", help="Names, with options as in saddle:n=20,index=3."),
    ] = None,
    problem: Annotated[
        list[str] | None,
        typer.Option(help="A problem of your own, path/to/file.py:name: f(x, xp) with a start x0, or a Problem."),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Names, comma-separated; muon+adamw is the first on matrices, the second on all else; "
            "path/to/file.py:name for an update(x, g, state) of your own."
        ),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="What each run may spend: 500ge (gradient equivalents) or 30s.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Examples a minibatch, where there are examples; 64 unless given.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs to report of each method; 3 unless given.")] = None,
    tune: Annotated[
        int | None, typer.Option(help="Trials to tune each method by; 0: default settings only; 8 unless given.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help='Fix a knob: adam.lr=1e-3, "sgd.lr=cosine(0.1, 500)".')
    ] = None,
    backend: Annotated[str | None, typer.Option(help="numpy unless given, cupy or array_api_strict.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float64 unless given, or float32.")] = None,
    out: Annotated[Path, typer.Option(help="The folder to write into.")] = Path("race-results"),
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the race in the folder; what you name anew replaces its settings."),
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes, one thread each; one a core, or one on a GPU, unless given.")
    ] = None,
    engine: Annotated[str, typer.Option(help=ENGINE)] = "local",
    scheduler: Annotated[str | None, typer.Option(help=SCHEDULER)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Race methods on problems at equal cost; without arguments, a sensible set on digits and on a saddle."""
    from dataclasses import replace

    from refopt.race import engine as engines
    from refopt.race.plan import make_plan
    from refopt.race.results import stored_settings

    asked: dict[str, Any] = {
        "problems": tuple(dict.fromkeys([*(problems or ()), *(problem or ())])) or None,
        "methods": methods if methods is None else tuple(dict.fromkeys(name for name in methods.split(",") if name)),
        "budget": budget,
        "batch_size": batch_size,
        "seeds": seeds,
        "tune": tune,
        "fixed": tuple(set_) if set_ else None,
        "backend": backend,
        "dtype": dtype,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    with misuse():
        settings = replace(stored_settings(out, resume), **given)
        if settings.backend == "cupy" and scheduler is None:
            workers = workers or 1  # more processes would only share the GPU
        performing = engines.make(engine, workers=workers, scheduler=scheduler)
        plan = make_plan(settings)
    _hold(plan, out, performing, json)


def _hold(plan: Plan, out: Path, engine: Engine, as_json: bool) -> None:
    """Hold the race, write its files and print who won."""
    import json

    from refopt.race import answer, contest, report, results, standing

    notes = Console(stderr=True, highlight=False)
    for problem, _, why in plan.absent:
        notes.print(f"{problem}: {why}", markup=False, soft_wrap=True)
    try:
        with misuse():
            results.write_race(out, plan)
            with engine, progress_bars(notes) as watch:
                race = contest.hold(plan, out, engine, watch)
            results.write_table(out, "runs", results.runs_table(race))
            results.write_table(out, "steps", results.steps_table(race))
    except KeyboardInterrupt:
        finished = len(list((out / "runs").glob("*.json")))
        complain(f"interrupted; {finished} finished runs are in {out}, and --resume --out {out} goes on")
        raise typer.Exit(130) from None
    found = standing.standings(race, plan.problems)
    sentences = answer.sentences(race, found, plan.problems)
    with misuse():
        results.write_race(out, plan, standings=found, answer=sentences)
        try:
            report.write(out, plan, race, found, sentences)
        except RuntimeError as missing:
            notes.print(str(missing), markup=False, soft_wrap=True)
    if as_json:
        print(json.dumps(results.finite({"standings": found, "answer": sentences, "out": str(out)}), indent=1))
        return
    console = Console(highlight=False)
    for table in found:
        console.print(_standings(table, console.width))
        console.print()
    for line in (*sentences, f"The results are in {out}."):
        console.print(line, markup=False, soft_wrap=True)


def _standings(found: Standings, width: int) -> Table:
    """Lay the standings on one problem out for a terminal: one row a method."""
    from refopt.race.standing import AXES

    what = "f" if found.minimum is None else "f - min f"
    title = f"{found.title}: {what} after {found.budget:g} {AXES[found.axis]}, by the median"
    table = new_table(title=Text(title, style="bold"), title_justify="left", collapse_padding=True)
    table.add_column("method", overflow="fold", min_width=12)  # the numbers keep their places, whatever the names
    first, *others = found.settings
    at = f"at {found.place:.2g} {'s' if found.other == 'seconds' else 'ge'}"
    failed = ["failed"] if any(row.failures for row in found.rows) else []
    for column in (first, "range", *others, at, *(f"test {name}" for name in found.tests), "seconds", *failed):
        table.add_column(Text(column), justify="right", no_wrap=True)
    if width >= 110:
        table.add_column("knobs", overflow="fold")
    for row in found.leaders:
        rivals = found.others(row)
        cells = [
            number(found.height(row.end.median)),
            f"{number(found.height(row.end.low))} .. {number(found.height(row.end.high))}",
            *(number(found.height(rival.end.median)) for rival in rivals),
            number(found.height(row.elsewhere.median)),
            *(number(row.test[name]) if name in row.test else "" for name in found.tests),
            number(row.spent["seconds"]),
        ]
        if failed:
            cells.append(str(sum(sum(one.failures.values()) for one in (row, *rivals)) or ""))
        if width >= 110:
            cells.append(", ".join(f"{k}={number(v) if isinstance(v, float) else v}" for k, v in row.hyper.items()))
        add_row(table, _short(row.method, [one.method for one in found.leaders]), *cells)
    return table


def _short(method: str, rivals: Sequence[str]) -> str:
    """Return a method of the user's own file without the folders on the way, where that is still one of its own."""
    name = Path(method).name
    return name if [Path(rival).name for rival in rivals].count(name) == 1 else method
