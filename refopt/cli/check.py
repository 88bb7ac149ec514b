"""`refopt check CANDIDATE --reference METHOD`: is an optimizer right?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refopt.cli.console import misuse


def check(
    candidate: Annotated[
        str, typer.Argument(help="module:attribute, FILE.py:attribute, or a log: .npz, .safetensors, .json, .csv.")
    ],
    reference: Annotated[
        str | None, typer.Option(help="The method that it should be; none for a solver(fun, x0).")
    ] = None,
    dialect: Annotated[str | None, typer.Option(help="Of the method; the one that agrees best, unless given.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Of each stream, 200 unless given; a log has all of its own.")
    ] = None,
    hyper: Annotated[str, typer.Option(help="The method's hyperparameters: lr=0.01,eps=1e-7.")] = "",
    diagnose: Annotated[bool, typer.Option("--diagnose/--no-diagnose", help="Search for what explains it.")] = True,
    time_limit: Annotated[float, typer.Option(help="Seconds that the candidate may take.")] = 120.0,
    html: Annotated[Path | None, typer.Option(help="A page to write, with the difference curves.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Hold an optimizer of any library, or a log of its run, against a method; status 0 agrees, 1 differs, 2 failed."""
    from refopt.conformance import report
    from refopt.conformance.process import check_apart

    with misuse():
        if html is not None:
            report.require_folder(html)
        found = check_apart(
            candidate,
            reference,
            dialect=dialect,
            steps=steps,
            hyper=hyper,
            diagnose=diagnose,
            time_limit=time_limit,
        )
        print(report.as_json(found) if json else found)
        if html is not None:
            report.write_html(found, html)
    raise typer.Exit(report.EXIT_STATUS[found.outcome])
