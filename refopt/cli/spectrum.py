"""`refopt spectrum PROBLEM`: the curvature at a point."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refopt.cli.console import SCHEDULER, misuse, report


def spectrum(
    problem: Annotated[
        str, typer.Argument(help="A name, with options as in mlp_digits:l2=1e-3, or path/to/file.py:name.")
    ],
    at: Annotated[str, typer.Option(help="start, end-of-METHOD, or FILE.npz with x or a checkpoint.")] = "start",
    budget: Annotated[str, typer.Option(help="What METHOD may spend: 200ge or 30s.")] = "200ge",
    matrix: Annotated[str, typer.Option(help="hessian, gauss-newton, fisher or empirical-fisher.")] = "hessian",
    top: Annotated[int | None, typer.Option(help="How many of the largest eigenvalues [5, or n].")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="The trace, with its error bar.")] = False,
    density: Annotated[bool, typer.Option("--density", help="The spectral density.")] = False,
    chunk: Annotated[int, typer.Option(help="Examples linearised at once: bounds the memory.")] = 4096,
    backend: Annotated[str, typer.Option(help="numpy, cupy or array_api_strict.")] = "numpy",
    dtype: Annotated[str | None, typer.Option(help="float64 or float32 \\[float64].")] = None,
    engine: Annotated[
        str,
        typer.Option(help="Where the examples are: local, or dask (spread over a cluster; install refopt\\[dask])."),
    ] = "local",
    scheduler: Annotated[str | None, typer.Option(help=SCHEDULER)] = None,
    seed: Annotated[int, typer.Option(help="Of the start, and of what is drawn.")] = 0,
    out: Annotated[Path | None, typer.Option(help="A folder for spectrum.html, .png and .json.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Measure the spectrum of a problem's curvature at a point: extreme eigenvalues, index, trace, density."""
    from refopt import spectrum as spectra

    with misuse():
        with spectra.performed(problem, engine, scheduler, seed=seed, backend=backend, dtype=dtype) as chosen:
            x = spectra.point(chosen, at, budget, seed)
            found = spectra.measure(
                chosen, x, matrix=matrix, top=top, trace=trace, density=density, chunk=chunk, seed=seed
            )
        title = f"{chosen.title}: {matrix} at {at}"
        if out is not None:
            spectra.write(found, out, title)
    report(title, [], ("", ""), spectra.facts(found), spectra.as_json(found), out, json)
