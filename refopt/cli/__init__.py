"""The command line: one module a command, which imports what it needs when it runs.

Misuse ends in one line on stderr and exit status 2.
"""

from __future__ import annotations

import sys

import typer

from refopt.cli.catalogue import list_, show
from refopt.cli.check import check
from refopt.cli.conformance import app as conformance
from refopt.cli.console import complain
from refopt.cli.golden import app as golden
from refopt.cli.lab import lab
from refopt.cli.race import race
from refopt.cli.saddles import saddles
from refopt.cli.spectrum import spectrum

app = typer.Typer(
    name="refopt",
    help="Reference implementations of first- and second-order optimizers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("list")(list_)
app.command()(show)
app.command()(race)
app.command()(spectrum)
app.command()(saddles)
app.command()(check)
app.command()(lab)
app.add_typer(golden, name="golden")
app.add_typer(conformance, name="conformance")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; `arguments` are those of the process unless given."""
    try:
        code = app(arguments, standalone_mode=False)
    except Exception as error:
        if not hasattr(error, "format_message"):  # what typer raises for wrong arguments has it
            raise
        complain(error.format_message())
        code = 2
    sys.exit(code if isinstance(code, int) else 0)
