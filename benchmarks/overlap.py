"""Why would a few directions out of n help? What the tracked ones have of the Hessian and of the gradient.

    python benchmarks/overlap.py [--steps 300] [--d 10] [--figure docs/images/overlap.png]

Along training of the digits network: sOGR's basis V (d rows) and the parabola's direction v against the d eigenvectors
U of the full Hessian's largest eigenvalues, by thick-restart Lanczos.

    overlap   |U^T V^T|_F^2 / d      1: the same span; d / n where V is drawn at random
    v in U    |U^T v|^2
    energy    |V g|^2 / |g|^2        the share of the full gradient's square inside the span
    U energy  |U^T g|^2 / |g|^2      what the eigenvectors themselves would capture
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import problems
from refopt import iterate
from refopt.curvature import thick_restart_lanczos
from refopt.gradient_regression import ogr_subspace, parabola

COLUMNS = ("overlap", "energy", "U energy", "v in U", "v energy")


def follow(
    batch_size: int | None, steps: int, d: int, every: int
) -> list[tuple[int, float, float, float, float, float]]:
    """Return k and the columns along two runs, of sOGR and of the parabola."""
    problem = problems.get("mlp_digits")
    f = problem.objective
    rows = []
    runs = [
        iterate(problem, ogr_subspace, batch_size=batch_size, d=d),
        iterate(problem, parabola, batch_size=batch_size),
    ]
    for sogr, line in zip(*runs, strict=True):
        if sogr.k > steps:
            break
        if sogr.k == 0 or sogr.k % every:
            continue
        U, V, v = _leading(f, sogr.x, d), sogr.state.V, line.state.v
        g = f.grad(sogr.x)
        at, h = _leading(f, line.x, d), f.grad(line.x)
        rows.append(
            (
                sogr.k,
                float(np.sum((V @ U) ** 2)) / d,
                float(np.sum((V @ g) ** 2) / (g @ g)),
                float(np.sum((g @ U) ** 2) / (g @ g)),
                float(np.sum((v @ at) ** 2)),
                float((v @ h) ** 2 / (h @ h)),
            )
        )
    return rows


def _leading(f: Any, x: Any, d: int) -> Any:
    """Return the eigenvectors (n, d) of the Hessian's largest eigenvalues at x."""
    _, _, mv = f.linearize(x)
    return thick_restart_lanczos(mv, x, top=d, rtol=1e-3).vectors


def main() -> None:
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--d", type=int, default=10)
    parser.add_argument("--figure", help="draw to this PNG file")
    options = parser.parse_args()
    paths = {}
    print("| batch, steps | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (1 + len(COLUMNS)))
    for batch_size in (None, 256, 64, 16):
        label = f"batch {batch_size}" if batch_size else "full batch"
        rows = paths[label] = np.array(follow(batch_size, options.steps, options.d, max(1, options.steps // 20)))
        for name, part in (("first third", rows[: len(rows) // 3]), ("last third", rows[-(len(rows) // 3) :])):
            cells = " | ".join(f"{c:.2g}" for c in np.median(part[:, 1:], axis=0))
            print(f"| {label}, {name} | {cells} |", flush=True)
    if options.figure:
        draw(paths, options.figure)


def draw(paths: dict[str, Any], path: str) -> None:
    """Draw the columns along the runs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(COLUMNS), figsize=(13, 3.2), sharey=True, layout="constrained")
    for i, (ax, title) in enumerate(zip(axes, COLUMNS, strict=True)):
        for label, colour in zip(paths, ("#0072B2", "#E69F00", "#009E73", "#CC79A7"), strict=True):
            ax.plot(paths[label][:, 0], paths[label][:, 1 + i], color=colour, label=label)
        ax.set(title=title, xlabel="steps", ylim=(0, 1))
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
