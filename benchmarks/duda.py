"""The author's own experiments on gradient regression, run again; and what the method costs at scale.

    python benchmarks/duda.py [--seeds 3] [--json PATH] [--figure PATH] [--scale]

Three tables of J. Duda's notebooks (github.com/JarekDuda/SGD-OGR-Hessian-estimator) with their hyperparameters:
 1. Beale's function of two variables, 15 starts, 30 steps, gradient noise 0.1: mean of f.
 2. Its sum of two in three variables, 343 starts, 50 steps, noise 0.1: geometric mean of f.
 3. Five functions of two variables, 121 starts, 20 steps, noise 0.5: geometric mean of f.
`--scale` times one step of sOGR with d = 10 at n = 1e7 in float32 beside Adam's on the same path. `--figure` draws
paths on Beale's function.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from backends import random
from refopt import bind
from refopt.first_order import adam, heavy_ball, sgd
from refopt.gradient_regression import ogr_combined, ogr_diagonal, ogr_full, ogr_subspace
from refopt.objective import Objective

Point = np.ndarray[Any, Any]


class Row(NamedTuple):
    """One method of a table: its settings and the figure that the author published."""

    label: str
    method: Any
    hyper: dict[str, Any]
    published: float


def beale(x: float, y: float) -> float:
    """Beale's function, 0 at (3, 1/2)."""
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def beale_grad(x: float, y: float) -> Point:
    """Its gradient."""
    a, b, c = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
    return 2.0 * np.array([a * (y - 1) + b * (y**2 - 1) + c * (y**3 - 1), a * x + 2 * b * x * y + 3 * c * x * y**2])


def beale3(p: Point) -> float:
    """b(x, y) + b(z, y)."""
    return beale(p[0], p[1]) + beale(p[2], p[1])


def beale3_grad(p: Point) -> Point:
    """Its gradient."""
    a, b = beale_grad(p[0], p[1]), beale_grad(p[2], p[1])
    return np.array([a[0], a[1] + b[1], b[0]])


def final_values(
    row: Row,
    f: Callable[[Point], float],
    grad: Callable[[Point], Point],
    starts: Sequence[Sequence[float]],
    steps: int,
    noise: float,
    seed: int,
    radius: float = np.inf,
) -> Point:
    """Return f after `steps` steps from every start; a step that leaves the ball of `radius` is undone."""
    init, step = bind(row.method, **row.hyper)
    values = []
    for i, start in enumerate(starts):
        draws = noise * random.normal((steps, len(start)), seed=seed, k=i, purpose="duda noise", like=np.empty(0))
        x = np.array(start, dtype=np.float64)
        state = init(x, seed=seed)
        with np.errstate(all="ignore"):
            for draw in draws:
                new, state = step(Objective(grad=lambda x, draw=draw: grad(x) + draw), x, state)
                if np.linalg.norm(new) < radius:
                    x = new
            values.append(f(x))
    return np.array(values)


DIVERGED = 1e6


def geometric_mean(values: Point) -> float:
    """Return the geometric mean over the starts that did not diverge; one that did would decide it alone."""
    kept = values[values < DIVERGED]
    return float(np.exp(np.mean(np.log(np.maximum(kept, 1e-300)))))


TABLE_1 = [
    Row("fOGR", ogr_full, ogr_full.DIALECTS["notebook"], 0.0183),
    # The author's momentum is m = m + gamma (g - m), x = x - alpha m.
    Row("momentum .5/.017", heavy_ball, {"lr": 0.017 * 0.5, "momentum": 0.5}, 1.016),
    Row("Adam .4/.8/.9", adam, {"lr": 0.4, "beta1": 0.8, "beta2": 0.9}, 0.473),
]

TABLE_2 = [
    Row("momentum .5/.0003", heavy_ball, {"lr": 0.0003 * 0.5, "momentum": 0.5}, 18.672),
    Row("Adam 1.5/.8/.9", adam, {"lr": 1.5, "beta1": 0.8, "beta2": 0.9}, 0.1417),
    Row("s1OGR", ogr_subspace, ogr_subspace.DIALECTS["notebook"], 0.0539),
    Row(
        "s2OGR",
        ogr_subspace,
        {"d": 2, "beta": 0.6, "gamma": 0.9, "Gamma": 0.2, "div": 4.0, "cut": 20.0, "alpha": 1e-3},
        0.2012,
    ),
    Row("fOGR", ogr_full, {"start": "notebook", "beta": 0.5, "gamma": 0.6, "div": 1.5, "cut": 10.0}, 0.01228),
    Row("dOGR", ogr_diagonal, ogr_diagonal.DIALECTS["notebook"], 0.00701),
    Row("ds1OGR", ogr_combined, ogr_combined.DIALECTS["notebook"], 0.00399),
    Row("ds2OGR", ogr_combined, {**ogr_combined.DIALECTS["notebook"], "rank": 2, "w": 0.4}, 0.00424),
    Row(
        "idOGR",
        ogr_diagonal,
        {"start": "notebook", "corr": "one", "beta": 0.4, "gamma": 0.5, "div": 1.1, "cut": 0.1},
        0.00170,
    ),
    Row("cdOGR", ogr_diagonal, ogr_diagonal.DIALECTS["notebook corr=1"], 0.0164),
    Row("cfOGR", ogr_full, ogr_full.DIALECTS["notebook corr=1"], 0.01005),
    Row("cs2OGR", ogr_subspace, ogr_subspace.DIALECTS["notebook corr=1"], 0.0061),
    Row("cds2OGR", ogr_combined, ogr_combined.DIALECTS["notebook corr=1"], 0.00277),
]

DEMO = {"start": "notebook", "corr": "one", "spread": 1e-6, "beta": 0.7, "gamma": 0.7, "div": 1 / 0.7, "cut": 0.0}

TABLE_3 = [
    Row("Adam .5/.8/.9", adam, {"lr": 0.5, "beta1": 0.8, "beta2": 0.9}, np.nan),
    Row("cdOGR", ogr_diagonal, DEMO, np.nan),
    Row("cfOGR", ogr_full, DEMO, np.nan),
]


def goldstein_price(x: float, y: float) -> float:
    """Goldstein and Price's function, 3 at (0, -1)."""
    a = 1 + (x + y + 1) ** 2 * (19 - 14 * x + 3 * x**2 - 14 * y + 6 * x * y + 3 * y**2)
    b = 30 + (2 * x - 3 * y) ** 2 * (18 - 32 * x + 12 * x**2 + 48 * y - 36 * x * y + 27 * y**2)
    return a * b


# Each shifted so that its minimum is 0 at the origin, as in the demonstration.
FIVE: dict[str, Callable[[Any, Any], Any]] = {
    "Beale": lambda x, y: beale(x + 3, y + 0.5),
    "Rosenbrock": lambda x, y: x**2 + 100 * (y + 1 - (x + 1) ** 2) ** 2,
    "Matyas": lambda x, y: 0.26 * (x**2 + y**2) - 0.48 * x * y,
    "Goldstein-Price": lambda x, y: goldstein_price(x, y - 1) - 3,
    "three-hump camel": lambda x, y: 2 * x**2 - 1.05 * x**4 + x**6 / 6 + x * y + y**2,
}


def run_tables(seeds: int) -> dict[str, dict[str, Any]]:
    """Return all figures: {table: {row: ...}}."""
    report: dict[str, dict[str, Any]] = {}
    grid = list(product((-1, 0, 1), (-2, -1, 0, 1, 2)))
    title = "1. Beale, 15 starts, 30 steps: mean f, median over seeds"
    report[title] = {}
    for row in TABLE_1:
        finals = (
            final_values(row, lambda p: beale(*p), lambda p: beale_grad(*p), grid, 30, 0.1, seed)
            for seed in range(10 * seeds)
        )
        means = [float(np.mean(values)) for values in finals]
        quartiles = np.quantile(means, [0.25, 0.75])
        report[title][row.label] = {
            "published": row.published,
            "ours": statistics.median(means),
            "best seed": min(means),
            "quartiles": quartiles.tolist(),
        }
    title = "2. Beale in three variables, 343 starts, 50 steps: geometric mean of f"
    report[title] = {}
    lattice = list(product(range(-3, 4), repeat=3))
    for row in TABLE_2:
        values = [final_values(row, beale3, beale3_grad, lattice, 50, 0.1, seed) for seed in range(seeds)]
        report[title][row.label] = {
            "published": row.published,
            "ours": statistics.median(geometric_mean(v) for v in values),
            "diverged": int(sum(np.sum(~(v < DIVERGED)) for v in values)),
        }
    lattice = list(product(range(-5, 6), repeat=2))
    for name, f in FIVE.items():
        derive = Objective.from_function(lambda p, xp, f=f: f(p[0], p[1])).grad
        title = f"3. {name}, 121 starts, 20 steps: geometric mean of f"
        report[title] = {
            row.label: {
                "ours": geometric_mean(final_values(row, lambda p, f=f: f(*p), derive, lattice, 20, 0.5, 0, 20.0))
            }
            for row in TABLE_3
        }
    return report


def scale(n: int = 10**7, d: int = 10) -> dict[str, float]:
    """Return the seconds of a step of sOGR and of Adam, plain NumPy expressions both, at n parameters in float32."""
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal(n, dtype=np.float32), rng.standard_normal(n, dtype=np.float32)
    f = Objective(grad=lambda _: g)
    seconds = {}
    for name, method, hyper in (("adam", adam, {}), ("sogr", ogr_subspace, {"d": d}), ("sgd", sgd, {})):
        init, step = bind(method, **hyper)
        state, times = init(x), []
        for _ in range(7):
            began = time.perf_counter()
            _, state = step(f, x, state)
            times.append(time.perf_counter() - began)
        seconds[name] = statistics.median(times[2:])
    seconds["sogr / adam"] = seconds["sogr"] / seconds["adam"]
    return seconds


def draw(path: str) -> None:
    """Draw paths on Beale's function beside Adam and momentum."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [TABLE_1[1], TABLE_1[2], TABLE_1[0]]
    colours = ["#0072B2", "#E69F00", "#009E73"]
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), sharey=True, layout="constrained")
    X, Y = np.meshgrid(np.linspace(-3, 4.5, 300), np.linspace(-2.5, 2.5, 300))
    starts = [(-1, -1), (0, 2), (1, -2), (1, 1), (-1, 1)]
    for ax, row, colour in zip(axes, rows, colours, strict=True):
        ax.contour(X, Y, beale(X, Y), levels=np.logspace(-1.5, 3.5, 16), colors="0.8", linewidths=0.7)
        init, step = bind(row.method, **row.hyper)
        for i, start in enumerate(starts):
            draws = 0.1 * random.normal((30, 2), seed=0, k=i, purpose="duda noise", like=np.empty(0))
            points = [np.array(start, dtype=np.float64)]
            state = init(points[0])
            for noise in draws:
                new, state = step(Objective(grad=lambda p, e=noise: beale_grad(*p) + e), points[-1], state)
                points.append(new)
            path_points = np.array(points)
            ax.plot(*path_points.T, ".-", color=colour, lw=1, ms=3.5)
            ax.plot(*path_points[0], "o", mfc="white", mec=colour)
        ax.plot(3, 0.5, "k*", ms=11)
        ax.set(title=row.label, xlim=(-3, 4.5), ylim=(-2.5, 2.5), xlabel="x")
    axes[0].set_ylabel("y")
    figure.suptitle("Beale's function, gradient noise 0.1, 30 steps from five starts; the star is the minimum")
    figure.savefig(path, dpi=130)


def main() -> None:
    """Run what is asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--figure", help="draw paths to this PNG file and end")
    parser.add_argument("--scale", action="store_true", help="time a step at n = 1e7 and end")
    arguments = parser.parse_args()
    if arguments.figure:
        draw(arguments.figure)
        return
    report: dict[str, Any] = {"scale (s)": scale()} if arguments.scale else run_tables(arguments.seeds)
    console = Console()
    for title, rows in report.items():
        table = Table(title=title, title_justify="left")
        records = {k: v if isinstance(v, dict) else {"value": v} for k, v in rows.items()}
        columns = list(next(iter(records.values())))
        table.add_column("")
        for column in columns:
            table.add_column(column, justify="right")
        for label, record in records.items():
            cells = [record[c] for c in columns]
            table.add_row(label, *(f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells))
        console.print(table)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
