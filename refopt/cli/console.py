"""What every command shares: one line and status 2 for misuse, tables, progress bars, JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from refopt.race.engine import Watch

ENGINE = "What performs the runs: local (processes), or dask (a cluster; install refopt\\[dask])."
SCHEDULER = "The address of a dask scheduler, tcp://HOST:8786; processes of this machine unless given."


def complain(message: str) -> None:
    """Print one line on stderr."""
    print(f"refopt: {' '.join(message.split())}", file=sys.stderr)


@contextmanager
def misuse() -> Iterator[None]:
    """End the process by one line and status 2 where something inside says what the user did wrong."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        complain(f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error))
        raise typer.Exit(2) from error


def new_table(*columns: str, **options: Any) -> Table:
    """Return a table with these columns, laid out as all of ours."""
    table = Table(box=None, pad_edge=False, header_style="bold", **options)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def add_row(table: Table, *cells: object) -> None:
    """Add a row of plain text: no markup is read in it."""
    table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in cells))


@contextmanager
def progress_bars(console: Console) -> Iterator[Watch]:
    """Show a bar for every stage that is announced."""
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        *Progress.get_default_columns()[:-1],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_interactive,  # where it would leave an empty line, and nothing else
    ) as progress:

        def watch(stage: str, total: int) -> Callable[[], None]:
            task = progress.add_task(stage, total=total)
            return lambda: progress.advance(task)

        yield watch


def number(x: float) -> str:
    """Return a measured value in two digits."""
    return "lost" if x == float("inf") else f"{x:.2g}"


def report(
    title: str,
    said: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    plain: dict[str, Any],
    out: Path | None,
    as_json: bool,
) -> None:
    """Print what was found, as JSON or as sentences and a table."""
    import json

    from refopt.race.results import finite

    if as_json:
        print(json.dumps(finite(plain), indent=1))
        return
    console = Console(highlight=False)
    for line in (title, *said):
        if line:
            console.print(line, markup=False, soft_wrap=True)
    table = new_table(*columns, show_header=any(columns))
    for column in table.columns[1:-1]:
        column.no_wrap = True
    for row in rows:
        add_row(table, *row)
    console.print(table)
    if out is not None:
        console.print(f"The results are in {out}.", markup=False, soft_wrap=True)
