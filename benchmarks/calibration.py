"""Is the promise of gradient regression kept? Its curvature and its distance to the extremum against the truth.

    python benchmarks/calibration.py [--steps 300] [--figure docs/images/calibration.png]

At a step the parabola says what the curvature along its direction v is, and how far the extremum; sOGR says the
largest curvature in its d directions, and the distance to the stationary point there. The truth is v^T H v by an exact
Hessian product, the distance to the minimum of the full objective along v, V H V^T, and |(V H V^T)^{-1} V grad f|.
Figures are ratios, said over true: their median and quartiles along a run at default settings, the first tenth left
out. Quadratics: 50 coordinates, curvatures from 1 to 100, Gaussian noise in each coordinate of the gradient.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

import problems
from refopt import iterate
from refopt.gradient_regression import ogr_subspace, parabola
from refopt.objective import Objective

COLUMNS = ("lam", "distance", "lam max", "distance in V")


class Case(NamedTuple):
    """A problem at a level of noise; `exact` is the objective that the truth is asked of."""

    label: str
    exact: Objective
    x0: Any
    noise: float = 0.0
    batch_size: int | None = None

    def noisy(self) -> Objective:
        """Return the objective that the method sees."""
        if self.noise == 0.0:
            return self.exact
        rng = np.random.default_rng(0)
        return Objective(grad=lambda x: self.exact.grad(x) + self.noise * rng.standard_normal(x.shape))


def cases() -> list[Case]:
    """Return quadratics and a network, each from no noise to much."""
    h = np.logspace(0, 2, 50)
    quadratic = Objective(value=lambda x: 0.5 * x @ (h * x), grad=lambda x: h * x, hvp=lambda x, v: (h * v.T).T)
    x0 = np.random.default_rng(1).standard_normal(50)
    network = problems.get("mlp_digits")
    return [
        *(Case(f"quadratic, noise {noise:g}", quadratic, x0, noise) for noise in (0.0, 0.01, 0.1, 1.0)),
        Case("network, full batch", network.objective, network.x0),
        *(Case(f"network, batch {b}", network.objective, network.x0, 0.0, b) for b in (512, 64, 16)),
    ]


def along(case: Case, steps: int) -> Iterable[tuple[float, float]]:
    """Yield what the parabola says over what is true: curvature and distance to the minimum, every tenth step."""
    f, previous = case.exact, case.x0
    for k, x, state, _ in iterate(case.noisy(), parabola, x0=case.x0, batch_size=case.batch_size):
        if k > steps:
            return
        if k > steps // 10 and k % 10 == 0 and state.info["distance"] is not None:
            v, at = state.info["v"], previous
            curvature = float(v @ f.hvp(at, v))
            slope = float(v @ f.grad(at))
            guess = -slope / abs(curvature)
            minimum = minimize_scalar(lambda t, at=at, v=v: float(f.value(at + t * v)), bracket=(0.0, guess)).x
            yield state.info["lam"] / curvature, state.info["distance"] / minimum
        previous = x


def inside(case: Case, steps: int, d: int = 5) -> Iterable[tuple[float, float]]:
    """Yield the same of sOGR: the largest curvature in its span, and the distance to the stationary point there."""
    f, previous = case.exact, case.x0
    for k, x, state, _ in iterate(case.noisy(), ogr_subspace, x0=case.x0, batch_size=case.batch_size, d=d):
        if k > steps:
            return
        if k > steps // 10 and k % 10 == 0:
            V = state.info["V"]
            H = V @ np.stack([f.hvp(previous, v) for v in V], axis=1)
            distance = np.linalg.norm(np.linalg.solve(H, V @ f.grad(previous)))
            yield np.max(state.info["lam"]) / np.linalg.eigvalsh(H)[-1], state.info["distance"] / distance
        previous = x


def main() -> None:
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--figure", help="draw to this PNG file")
    options = parser.parse_args()
    print("| said / true | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (1 + len(COLUMNS)))
    table: dict[str, list[Any]] = {}
    for case in cases():
        pairs = np.array(list(along(case, options.steps))), np.array(list(inside(case, options.steps)))
        table[case.label] = [np.percentile(p[:, i], (25, 50, 75)) for p in pairs for i in (0, 1)]
        cells = (f"{q[1]:.2g} ({q[0]:.2g} .. {q[2]:.2g})" for q in table[case.label])
        print(f"| {case.label} | " + " | ".join(cells) + " |", flush=True)
    if options.figure:
        draw(table, options.figure)


def draw(table: dict[str, list[Any]], path: str) -> None:
    """Draw medians and quartiles of each column; 1 is the truth."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(COLUMNS), figsize=(12, 3.6), sharey=True, layout="constrained")
    for i, (ax, title) in enumerate(zip(axes, COLUMNS, strict=True)):
        q = np.array([row[i] for row in table.values()])
        y = np.arange(len(q))
        ax.hlines(y, q[:, 0], q[:, 2], color="#0072B2", lw=3, alpha=0.5)
        ax.plot(q[:, 1], y, "o", color="#0072B2")
        ax.axvline(1.0, color="0.4", lw=1)
        ax.set(title=title, xscale="symlog", xlabel="said / true")
        ax.set_yticks(y, list(table))
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
