"""The spectrum of a problem's curvature at a point: extreme eigenvalues, index, trace, density.

    exact          n <= 300: the matrix itself by n products, and all its eigenvalues
    top            the largest eigenvalues by thick-restart Lanczos, each with the bound |A v - lambda v|
    index          how many eigenvalues are negative, at least, by Lanczos and interlacing
    trace          XTrace with its standard error
    density        stochastic Lanczos quadrature

All from products over all examples, `chunk` of them at a time: memory is some vectors of length n, which `Spectrum`
names, and what linearising one chunk keeps. On the engine "dask" a chunk is spread over the workers.
"""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from backends.arrays import Array, all_finite, array_like, asnumpy, namespace, norm
from problems.problem import Problem
from refopt import checkpoint, page
from refopt.curvature import inertia, spectral_density, thick_restart_lanczos, xtrace
from refopt.curvature.inertia import Inertia
from refopt.curvature.products import MatVec, dense, matrix_at
from refopt.curvature.spectral_density import SpectralDensity
from refopt.curvature.trace import Trace
from refopt.ledger import Ledger, counted
from refopt.loop import minimize
from refopt.objective import MissingPart
from refopt.race import engine as engines
from refopt.race import sources
from refopt.race.dask_engine import Dask
from refopt.race.plan import Budget
from refopt.race.results import finite
from refopt.sharded import sharded
from refopt.status import Status, require

EXACT_UP_TO = 300
TRACE_PRODUCTS = 60
DENSITY_STEPS = 100
INDEX_STEPS = 30  # as many vectors as the largest eigenvalues take by default


class Spectrum(NamedTuple):
    """What is known of a matrix of curvature at a point; see `measure`."""

    matrix: str
    n: int
    value: float
    grad_norm: float
    top: tuple[float, ...]  # the largest eigenvalues, descending
    bounds: tuple[float, ...]  # an eigenvalue lies within that of each
    inertia: Inertia
    trace: Trace | None
    density: SpectralDensity | None
    vectors: int  # of length n, held at once
    chunk: int | None  # examples linearised at once; None where there are none
    products: int
    gradient_equivalents: float
    seconds: float
    status: Status


@contextmanager
def performed(
    problem: str, engine: str, scheduler: str | None, *, seed: int = 0, backend: str = "numpy", dtype: str | None = None
) -> Iterator[Problem]:
    """Yield the `problem`, given in words. With the engine "dask", its examples lie on the workers, a shard on each.

    These are the workers of the `scheduler`, or processes of this machine without one. They have the `backend`, and x
    is a NumPy array here. Raises ValueError or TypeError for misuse, MissingPart where there are no examples to spread,
    RuntimeError or OSError where the cluster cannot be had or is lost.
    """
    performing = engines.make(engine, scheduler=scheduler)
    if not isinstance(performing, Dask):
        yield sources.find_problem(problem, seed=seed, backend=backend, dtype=dtype)
        return
    here = sources.find_problem(problem, seed=seed, backend="numpy", dtype=dtype)
    m = here.objective.n_examples
    if m is None:
        raise MissingPart(f"{problem} is no finite sum, so there are no examples for --engine dask to spread")
    performing.direct = True
    with performing:
        client = performing.client
        assert client is not None
        shards = min(m, max(1, len(client.nthreads())))
        spread = sharded(problem, client, shards=shards, seed=seed, backend=backend, dtype=dtype)
        yield replace(here, objective=spread)


def point(problem: Problem, at: str, budget: str, seed: int) -> Array:
    """Return the point that `at` names: "start", "end-of-METHOD" after `budget`, or FILE.npz.

    A method runs with its default knobs on the full batch. A file holds x, or one array alone, or is a checkpoint of
    refopt. Raises ValueError or TypeError that says what is wrong.
    """
    if at == "start":
        return problem.x0
    if at.startswith("end-of-"):
        spent = Budget.read(budget)
        method = sources.find_method(at.removeprefix("end-of-"))
        steps = int(10 * spent.amount) + 10 if spent.unit == "ge" else 10**9
        with np.errstate(all="ignore"):
            end = minimize(
                problem, method, steps=steps, seed=seed, stop={spent.rule: spent.amount}, history_every=steps
            )
        return end.x
    if at.endswith(".npz"):
        return _from_file(problem, at)
    raise ValueError(f"at must be start, end-of-METHOD or FILE.npz, got {at!r}")


def _from_file(problem: Problem, path: str) -> Array:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (AttributeError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged or no npz file of arrays ({error})") from None
    if "manifest" in arrays:
        arrays = {"x": asnumpy(checkpoint.load(path, problem.x0)["x"])}
    if "x" not in arrays and len(arrays) != 1:
        raise ValueError(f"{path} must hold an array x, or one array alone, got {', '.join(arrays)}")
    host = arrays.get("x", next(iter(arrays.values())))
    require(host.shape == (problem.n,), f"x in {path} must have shape ({problem.n},)", host.shape)
    if host.dtype.kind != "f":
        raise TypeError(f"x in {path} must hold floating-point numbers, got dtype {host.dtype}")
    x = array_like(host, problem.x0)
    require(all_finite(x), f"x in {path} must be finite", "nan or inf in it")
    return x


def measure(
    problem: Problem,
    x: Array,
    *,
    matrix: str = "hessian",
    top: int | None = None,
    trace: bool = False,
    density: bool = False,
    chunk: int = 4096,
    seed: int = 0,
) -> Spectrum:
    """Measure the spectrum of `matrix`, one of `refopt.curvature.products.MATRICES`, at x, (n,); `top` is 5, or n.

    Raises ValueError unless 1 <= top <= n and chunk >= 1, or for an unknown matrix; TypeError where the problem lacks
    the part.
    """
    n = problem.n
    top = min(5, n) if top is None else top
    require(1 <= top <= n, f"top must be in [1, {n}]", top)
    began, ledger = time.perf_counter(), Ledger()
    objective = counted(problem.objective, ledger)
    with ledger.watch():
        value, g = objective.value_and_grad(x)
    mv = matrix_at(objective, x, matrix, chunk=chunk)
    with np.errstate(all="ignore"):
        if n <= EXACT_UP_TO:
            parts = _exact(mv, x, top, trace, density)
        else:
            parts = _estimated(mv, x, top, trace, density, seed)
    examples = objective.n_examples
    return Spectrum(
        matrix=matrix,
        n=n,
        value=float(value),
        grad_norm=norm(g),
        chunk=None if examples is None else min(chunk, examples),
        gradient_equivalents=ledger.gradient_equivalents,
        seconds=time.perf_counter() - began,
        **parts,
    )


def _exact(mv: MatVec, x: Array, top: int, trace: bool, density: bool) -> dict[str, Any]:
    xp, n = namespace(x), x.shape[0]
    A = dense(mv, x)
    signs = inertia(lambda v: A @ v, x, exact_up_to=n)
    largest = signs.largest
    values = A[0, :0] if largest is None else xp.linalg.eigvalsh(A)
    count = min(top, values.shape[0])
    return {
        "top": tuple(asnumpy(values)[::-1][:top].tolist()),
        "bounds": () if largest is None else (largest.residual,) * count,
        "inertia": signs,
        "trace": Trace(float(xp.sum(values)), 0.0, n, signs.status) if trace else None,
        "density": SpectralDensity(values, xp.full_like(values, 1.0 / n), n, n, signs.status) if density else None,
        "vectors": 2 * n,
        "products": n,
        "status": signs.status,
    }


def _estimated(mv: MatVec, x: Array, top: int, trace: bool, density: bool, seed: int) -> dict[str, Any]:
    pairs = thick_restart_lanczos(mv, x, top=top, seed=seed)
    found = {
        "inertia": inertia(mv, x, exact_up_to=0, steps=INDEX_STEPS, seed=seed),
        "trace": xtrace(mv, x, products=TRACE_PRODUCTS, seed=seed) if trace else None,
        "density": spectral_density(mv, x, steps=DENSITY_STEPS, seed=seed) if density else None,
    }
    all_parts = [pairs, *(part for part in found.values() if part is not None)]
    failed = [part.status for part in all_parts if part.status.failed]
    return {
        "top": tuple(asnumpy(pairs.values)[::-1].tolist()),
        "bounds": tuple(asnumpy(pairs.residuals)[::-1].tolist()),
        **found,
        "vectors": max(2 * top + 20, INDEX_STEPS, 2 * TRACE_PRODUCTS * trace, DENSITY_STEPS * density),
        "products": sum(part.products for part in all_parts),
        "status": failed[0] if failed else pairs.status,
    }


# -------------------------------------------------------------------------------------------------------- in words


def facts(found: Spectrum) -> list[tuple[str, str]]:
    """Return the spectrum in words, as (what, how much)."""
    signs = found.inertia
    lines = [("f, |grad f|", f"{found.value:.6g}, {found.grad_norm:.3g}")]
    for i, (value, bound) in enumerate(zip(found.top, found.bounds, strict=True), start=1):
        lines.append((f"lambda_{i}", f"{value:.8g} +- {bound:.1g}"))
    if signs.smallest is not None:
        least = "" if signs.exact else "at least "
        zero = f", {signs.zero} zero" if signs.zero else ""
        lines.append(("smallest", f"{signs.smallest.value:.6g} +- {signs.smallest.residual:.1g}"))
        lines.append(("index", f"{least}{signs.negative} negative, {least}{signs.positive} positive{zero}"))
    if found.trace is not None:
        lines.append(("trace", f"{found.trace.value:.6g} +- {found.trace.error:.1g}"))
    if found.density is not None and found.density.nodes.shape[0]:
        lines.append(("|A|_F", f"{found.density.trace(lambda t: t * t) ** 0.5:.6g}, by the density"))
    spent = f"{found.products} products, {found.gradient_equivalents:.4g} gradients, {found.seconds:.3g} s"
    examples = "" if found.chunk is None else f", and {found.chunk} examples linearised at once"
    return [
        *lines,
        ("cost", spent),
        ("memory", f"{found.vectors} vectors of length {found.n}{examples}"),
        ("status", str(found.status)),
    ]


def as_json(found: Spectrum) -> dict[str, Any]:
    """Return the spectrum as plain JSON values."""
    plain = {name: getattr(found, name) for name in ("matrix", "n", "value", "grad_norm", "top", "bounds", "products")}
    signs, density = found.inertia, found.density
    return {
        **plain,
        "gradient_equivalents": found.gradient_equivalents,
        "seconds": found.seconds,
        "status": found.status.name,
        "negative": signs.negative,
        "positive": signs.positive,
        "zero": signs.zero,
        "exact": signs.exact,
        "smallest": None if signs.smallest is None else signs.smallest.value,
        "trace": None if found.trace is None else {"value": found.trace.value, "error": found.trace.error},
        "density": None
        if density is None
        else {"nodes": asnumpy(density.nodes).tolist(), "weights": asnumpy(density.weights).tolist()},
    }


def draw(found: Spectrum, title: str) -> Any:
    """Return a figure: the density where it was asked for, and the largest eigenvalues with the smallest."""
    drawn = page.figure(6.4 * (1 + (found.density is not None)), 4.6)
    panels = drawn.subplots(1, 1 + (found.density is not None), squeeze=False).ravel()
    axes = panels[-1]
    places = range(1, len(found.top) + 1)
    axes.errorbar(places, found.top, yerr=found.bounds, fmt="o", color=page.COLOURS[0], capsize=3, label="largest")
    if found.inertia.smallest is not None:
        axes.axhline(found.inertia.smallest.value, color=page.COLOURS[1], linewidth=1, linestyle="--", label="smallest")
    axes.axhline(0.0, color=page.SOFT, linewidth=0.8)
    axes.set(xlabel="i", ylabel="eigenvalue", xticks=places)
    axes.legend(frameon=False)
    page.dress(axes, "extreme eigenvalues")
    if found.density is not None and found.density.nodes.shape[0]:
        _draw_density(panels[0], found.density)
    drawn.suptitle(title, color=page.INK, fontsize=12, x=0.01, ha="left")
    return drawn


def _draw_density(axes: Any, found: SpectralDensity) -> None:
    nodes = asnumpy(found.nodes)
    low, high = float(nodes.min()), float(nodes.max())
    width = 0.01 * ((high - low) or max(1.0, abs(high)))
    t = np.linspace(low - 4 * width, high + 4 * width, 1000)
    heights = asnumpy(found.density(array_like(t, found.nodes), sigma=width))
    axes.semilogy(t, heights, color=page.COLOURS[0], linewidth=1.2)
    axes.set_ylim(0.1 / (found.n * (high - low + width)), 3.0 * heights.max())
    axes.set(xlabel="eigenvalue", ylabel="density")
    page.dress(axes, "spectral density")


def write(found: Spectrum, out: Path, title: str) -> None:
    """Write spectrum.json, spectrum.png and spectrum.html into the folder `out`."""
    drawn = draw(found, title)
    page.write(out, "spectrum", title, [], [page.Rows(("", ""), facts(found))], {"": drawn})
    checkpoint.write_atomically(out / "spectrum.json", json.dumps(finite(as_json(found)), indent=1).encode())
