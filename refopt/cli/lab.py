"""`refopt lab [STUDY ...]`: the obstacles of second-order methods as measured axes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from refopt.cli.console import ENGINE, SCHEDULER, add_row, complain, misuse, new_table, progress_bars


def lab(
    studies: Annotated[
        list[str] | None, typer.Argument(metavar="STUDY", help="cost, noise, saddles, training, robustness; all.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Hours instead of minutes.")] = False,
    out: Annotated[Path, typer.Option(help="The folder to write into; one that holds a part goes on.")] = Path(
        "lab-results"
    ),
    workers: Annotated[int | None, typer.Option(help="Processes, one thread each; one a core unless given.")] = None,
    engine: Annotated[str, typer.Option(help=ENGINE)] = "local",
    scheduler: Annotated[str | None, typer.Option(help=SCHEDULER)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Measure the three obstacles of second-order methods, real training, and robustness to defaults."""
    import json as encoder

    from refopt import checkpoint
    from refopt.lab import laboratory, study
    from refopt.race import engine as engines

    notes = Console(stderr=True, highlight=False)
    try:
        with misuse():
            performing = engines.make(engine, workers=workers, scheduler=scheduler)
            chosen = list(dict.fromkeys(studies or study.names()))
            for name in chosen:
                study.get(name)
            with performing, progress_bars(notes) as watch:
                checkpoint.sweep(out)
                scale: study.Scale = "full" if full else "reduced"
                found = laboratory.run(chosen, scale, out, performing, watch)
    except KeyboardInterrupt:
        complain(f"interrupted; finished runs are in {out}, and the same command goes on")
        raise typer.Exit(130) from None
    if json:
        print(encoder.dumps(laboratory.as_json(found), indent=1))
        return
    console = Console(highlight=False)
    for name, findings in found.items():
        console.print(f"\n{study.get(name).TITLE}", style="bold", markup=False)
        for line in (" ".join(findings.answer), *findings.paragraphs):
            console.print(line, markup=False, soft_wrap=True)
        for table in findings.tables:
            laid = new_table(*table.columns, show_header=any(table.columns))
            for row in table.rows:
                add_row(laid, *row)
            console.print(laid)
    console.print(f"\nThe results are in {out}.", markup=False, soft_wrap=True)
