"""`refopt conformance table | record | correctness`: the references beside other libraries, and beside their tests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refopt.cli.console import misuse

app = typer.Typer(help="The references beside other libraries, and beside their own tests.", no_args_is_help=True)

Methods = Annotated[list[str] | None, typer.Argument(help="Names of methods; all unless given.")]
Library = Annotated[list[str] | None, typer.Option(help="torch, optax, keras, pytorch_optimizer; may be given twice.")]


@app.command()
def table(
    methods: Methods = None,
    library: Library = None,
    recordings: Annotated[Path | None, typer.Option(help="What stands in for libraries that are missing.")] = None,
    out: Annotated[Path | None, typer.Option(help="A page to write, with claims, solvers and bugs.")] = None,
) -> None:
    """Replay every dialect beside the library that it is named after. Exit status 1 where one is not what it claims."""
    from rich.console import Console

    from refopt.cli.console import add_row, new_table
    from refopt.conformance import table as deviations

    with misuse():
        found = list(deviations.agreements(methods or (), library or (), recordings or deviations.RECORDINGS))
        if out is not None:
            out.write_text(deviations.page(found), encoding="utf-8")
    rows = new_table(*deviations.COLUMNS)
    for agreement in found:
        add_row(rows, *agreement.cells)
    Console().print(rows)
    raise typer.Exit(0 if all(agreement.as_claimed for agreement in found) else 1)


@app.command()
def record(
    out: Annotated[Path, typer.Argument(help="The folder to write into.")],
    methods: Methods = None,
    library: Library = None,
) -> None:
    """Record the installed libraries on all streams, so that tests can do without them."""
    from refopt.conformance import table as deviations
    from refopt.conformance.dialects import version
    from refopt.conformance.recording import save

    with misuse():
        out.mkdir(parents=True, exist_ok=True)
        for peer in deviations.peers(methods or (), library or ()):
            if version(peer.library):
                save(peer.record(), out / f"{peer.name}.npz")


@app.command()
def correctness(
    out: Annotated[Path | None, typer.Option(help="The page to write.")] = None,
) -> None:
    """Run the tests of all methods and say what stands behind each. Exit status 1 where a test fails."""
    from refopt.conformance import correctness as behind

    with misuse():
        checks = behind.run()
        page = behind.page(checks)
        if out is not None:
            out.write_text(page, encoding="utf-8")
    if out is None:
        print(page)
    raise typer.Exit(1 if any(check.failed for check in checks) else 0)
