"""Why would a few directions out of n help? What the tracked ones have of the Hessian and of the gradient.

    python benchmarks/overlap.py [--problem mlp_digits] [--steps 300] [--points 20] [--d 10] [--batches 0 256 64 16]
                                 [--Gamma 0.1] [--figure docs/images/overlap.png]

At `points` steps of a network's training: sOGR's basis V (d rows, by its nudge or by Oja's rule) and the parabola's
direction v against the d eigenvectors U of the full Hessian's largest eigenvalues, by thick-restart Lanczos. Batch 0 is
the full batch; Gamma is that of Oja's rule.

    overlap   |U^T V^T|_F^2 / d      1: the same span; d / n where V is drawn at random
    energy    |V g|^2 / |g|^2        the share of the full gradient's square inside the span
    U energy  |U^T g|^2 / |g|^2      what the eigenvectors themselves would capture on sOGR's path
    v in U    |U^T v|^2
    v energy  (v . g)^2 / |g|^2
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np

import problems
from refopt import iterate
from refopt.curvature import thick_restart_lanczos
from refopt.gradient_regression import ogr_subspace, parabola

COLUMNS = ("overlap", "energy", "U energy", "oja overlap", "oja energy", "oja U energy", "v in U", "v energy")


def follow(problem: Any, batch_size: int | None, steps: int, points: int, d: int, Gamma: float) -> Any:
    """Return k and the columns at each of the points, along runs of sOGR by either rule and of the parabola."""
    every = max(1, steps // points)
    runs = [
        iterate(problem, ogr_subspace, batch_size=batch_size, d=d),
        iterate(problem, ogr_subspace, batch_size=batch_size, d=d, basis="oja", Gamma=Gamma),
        iterate(problem, parabola, batch_size=batch_size),
    ]
    rows = []
    for k, *now in zip(range(steps + 1), *runs, strict=False):
        if k and k % every == 0:
            nudge, oja, line = (list(shares(problem.objective, it.x, it.state, d)) for it in now)
            rows.append((k, *nudge, *oja, *line[:2]))
    return np.array(rows)


def shares(f: Any, x: Any, state: Any, d: int) -> Iterator[float]:
    """Yield what the directions tracked have of U, and of the gradient, and what U has of it."""
    V = state.V if hasattr(state, "V") else state.v[None, :]
    _, g, mv = f.linearize(x)
    U = thick_restart_lanczos(mv, x, top=d, rtol=1e-3).vectors
    yield float(np.sum((V @ U) ** 2)) / len(V)
    yield float(np.sum((V @ g) ** 2) / (g @ g))
    yield float(np.sum((g @ U) ** 2) / (g @ g))


def main() -> None:
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", default="mlp_digits")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--batches", type=int, nargs="+", default=[0, 256, 64, 16])
    parser.add_argument("--d", type=int, default=10)
    parser.add_argument("--Gamma", type=float, default=0.1)
    parser.add_argument("--figure", help="draw to this PNG file")
    options = parser.parse_args()
    paths = {}
    print("| batch, steps | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (1 + len(COLUMNS)))
    problem = problems.get(options.problem)
    for batch_size in options.batches:
        label = f"batch {batch_size}" if batch_size else "full batch"
        rows = paths[label] = follow(
            problem, batch_size or None, options.steps, options.points, options.d, options.Gamma
        )
        third = max(1, len(rows) // 3)
        for name, part in (("first third", rows[:third]), ("last third", rows[-third:])):
            cells = " | ".join(f"{c:.2g}" for c in np.median(part[:, 1:], axis=0))
            print(f"| {label}, {name} | {cells} |", flush=True)
    if options.figure:
        draw(paths, options.figure)


def draw(paths: dict[str, Any], path: str) -> None:
    """Draw the columns along the runs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(COLUMNS) // 2, figsize=(11, 5.4), sharex=True, sharey=True, layout="constrained")
    for i, (ax, title) in enumerate(zip(axes.flat, COLUMNS, strict=True)):
        for label, colour in zip(paths, ("#0072B2", "#E69F00", "#009E73", "#CC79A7"), strict=False):
            ax.plot(paths[label][:, 0], paths[label][:, 1 + i], color=colour, label=label)
        ax.set(title=title, ylim=(0, 1))
    axes[0, 0].legend(fontsize=8)
    figure.supxlabel("steps")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
