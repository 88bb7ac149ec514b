"""`refopt golden export | verify`: trajectories for implementations in other languages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refopt.cli.console import misuse

app = typer.Typer(help="Golden trajectories, for implementations in other languages.", no_args_is_help=True)


@app.command()
def export(
    methods: Annotated[str, typer.Option(help="Names, comma-separated, or all.")] = "all",
    out: Annotated[Path, typer.Option(help="The folder to write into.")] = Path("golden"),
) -> None:
    """Write what methods do, number by number, as JSON and npz; docs/golden.md describes the files."""
    from refopt.conformance import golden

    chosen = None if methods == "all" else [name for name in methods.split(",") if name]
    with misuse():
        written = golden.write(out, chosen)
    print(f"{len(written)} files are in {out}.")


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="Where golden files are, in folders or not.")],
) -> None:
    """Hold golden files against this library. Exit status 0: all agree, 1: some differ, 2: some could not be read."""
    from refopt.conformance import golden

    states = []
    with misuse():
        for outcome in golden.verify(folder):
            states.append(outcome.state)
            if outcome.state != "agrees":
                print(f"{outcome.path}: {outcome.state}: {outcome.finding}")
    print(f"{states.count('agrees')} of {len(states)} files agree.")
    raise typer.Exit(2 if "unreadable" in states else 1 if "differs" in states else 0)
