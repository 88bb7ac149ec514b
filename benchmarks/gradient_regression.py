"""Gradient regression on minibatches of a network, at its defaults and tuned, beside Adam and momentum.

    python benchmarks/gradient_regression.py [--problem mlp_digits] [--passes 20] [--trials 12] [--seeds 3]

Every method takes the same passes over the data, by the ledger, in minibatches of 64. Tuned: the best of `trials`
settings drawn from the method's search space, by the objective over all data with seed 0; then, as the defaults, run
with `seeds` other seeds. The figures are that objective at the end: median, least and largest.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Mapping
from typing import Any

import problems
from refopt import minimize
from refopt.first_order import adam, nesterov, sgd
from refopt.gradient_regression import ogr_combined, ogr_diagonal, ogr_subspace, parabola
from refopt.race.tuning import settings

ROWS: dict[str, tuple[Any, Mapping[str, Any]]] = {
    "adam": (adam, {}),
    "nesterov": (nesterov, {}),
    "sgd": (sgd, {}),
    "parabola": (parabola, {}),
    "parabola, deviation": (parabola, {"rate": "deviation"}),
    "sOGR": (ogr_subspace, {}),
    "csOGR": (ogr_subspace, {"corr": "one"}),
    "dOGR": (ogr_diagonal, {}),
    "cdOGR": (ogr_diagonal, {"corr": "one"}),
    "dsOGR": (ogr_combined, {}),
    "cdsOGR": (ogr_combined, {"corr": "one"}),
}


def final(problem: Any, method: Any, passes: float, seed: int, hyper: Mapping[str, Any]) -> float:
    """Return the objective at the end of a run; infinity where there is none."""
    result = minimize(
        problem,
        method,
        steps=10**6,
        batch_size=64,
        seed=seed,
        history_every=10**6,
        stop={"gradient_equivalents": passes},
        **hyper,
    )
    return result.value if math.isfinite(result.value) else math.inf


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", default="mlp_digits")
    parser.add_argument("--passes", type=float, default=20)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    problem = problems.get(options.problem)
    print("| method | tuned | range | defaults | range | best setting |\n|---|---|---|---|---|---|")
    for label, (method, fixed) in ROWS.items():
        trials = [{**s, **fixed} for s in settings(method.SPEC.search, options.trials, "tune")]
        found = [final(problem, method, options.passes, 0, trial) for trial in trials]
        chosen = trials[min(range(len(trials)), key=found.__getitem__)]
        cells = []
        for hyper in (chosen, fixed):
            ends = [final(problem, method, options.passes, 1 + seed, hyper) for seed in range(options.seeds)]
            cells += [f"{statistics.median(ends):.2g}", f"{min(ends):.2g} .. {max(ends):.2g}"]
        words = ", ".join(f"{k}={v:.2g}" if isinstance(v, float) else f"{k}={v}" for k, v in chosen.items())
        print(f"| {label} | {' | '.join(cells)} | {words} |", flush=True)


if __name__ == "__main__":
    main()
