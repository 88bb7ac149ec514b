"""`refopt saddles PROBLEM`: who leaves a saddle, when, and by what direction."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refopt.cli.console import misuse, report


def saddles(
    problem: Annotated[str, typer.Argument(help="A problem with a known saddle, as in saddle:n=20,index=3.")],
    methods: Annotated[str | None, typer.Option(help="Names, comma-separated, or path/to/file.py:name.")] = None,
    saddle: Annotated[int, typer.Option(help="Which of the known saddles, from 0.")] = 0,
    distance: Annotated[float, typer.Option(help="How far from it the race starts.")] = 1e-3,
    budget: Annotated[str, typer.Option(help="What each method may spend: 200ge or 30s.")] = "200ge",
    seed: Annotated[int, typer.Option(help="Of the direction of the start.")] = 0,
    out: Annotated[Path | None, typer.Option(help="A folder for saddles.html, .png and .json.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Race methods from the neighbourhood of a known saddle: who leaves, when, and by what direction."""
    from refopt import saddles as departures
    from refopt.race import sources

    named = None if methods is None else tuple(dict.fromkeys(name for name in methods.split(",") if name))
    with misuse():
        chosen = sources.find_problem(problem, seed=seed, backend="numpy", dtype=None)
        found = departures.race(chosen, named, number=saddle, distance=distance, budget=budget, seed=seed)
        if out is not None:
            departures.write(found, chosen, out)
    said = [*departures.sentences(found, chosen), *(f"{method}: {why}" for method, why in found.absent)]
    report("", said, departures.COLUMNS, departures.rows(found), departures.as_json(found), out, json)
