"""Gradient regression on minibatches of networks, at its defaults and tuned, beside Adam and momentum.

    python benchmarks/gradient_regression.py [--problems mlp_digits ...] [--passes 20] [--trials 12] [--seeds 3]

Every method takes the same passes over the data, by the ledger, in minibatches of 64. Tuned: the best of `trials`
settings drawn from the method's search space, by the objective over all data with seed 0; then, as the defaults, run
with `seeds` other seeds. The figures are that objective at the end: median, least and largest. The defaults of the
parabola and of sOGR were chosen on mlp_digits and mlp_mnist5k. On all others only Adam and Nesterov are tuned, for the
question there is what a default is worth that nobody chose for the problem: the last table has the defaults' medians
over the better of those two. Ten minutes of an idle core.
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

CHOSEN_ON = {"mlp_digits": 20.0, "mlp_mnist5k": 5.0}
HELD_OUT = {"autoencoder_digits": 20.0, "conv_digits": 10.0, "resnet_digits": 10.0}
PASSES = CHOSEN_ON | HELD_OUT
PEERS = ("Adam", "Nesterov")

ROWS: dict[str, tuple[Any, Mapping[str, Any]]] = {
    "Adam": (adam, {}),
    "Nesterov": (nesterov, {}),
    "SGD": (sgd, {}),
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


def table(name: str, passes: float, trials: int, seeds: int) -> dict[str, tuple[float, float]]:
    """Print a problem's table; return each method's median, tuned and at its defaults."""
    problem, medians = problems.get(name), {}
    print(f"\n**{name}**, n = {problem.x0.shape[0]}, {passes:g} passes over {problem.objective.n_examples} examples.\n")
    print("| method | tuned | range | defaults | range | best setting |\n|---|---|---|---|---|---|", flush=True)
    for label, (method, fixed) in ROWS.items():
        defaults = [final(problem, method, passes, 1 + s, fixed) for s in range(seeds)]
        chosen, ends = fixed, defaults
        if name not in HELD_OUT or label in PEERS:
            drawn = [{**s, **fixed} for s in settings(method.SPEC.search, trials, "tune")]
            tried = [final(problem, method, passes, 0, hyper) for hyper in drawn]
            chosen = drawn[tried.index(min(tried))]
            ends = [final(problem, method, passes, 1 + s, chosen) for s in range(seeds)]
        medians[label] = (statistics.median(ends), statistics.median(defaults))
        cells = (f"{statistics.median(e):.2g} | {min(e):.2g} .. {max(e):.2g}" for e in (ends, defaults))
        words = ", ".join(f"{k}={v:.2g}" if isinstance(v, float) else f"{k}={v}" for k, v in chosen.items())
        print(f"| {label} | {' | '.join(cells)} | {words} |", flush=True)
    return medians


def main() -> None:
    """Print a table for each problem, and what no tuning costs over all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=list(PASSES))
    parser.add_argument("--passes", type=float, help="for all problems alike")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    found = {
        name: table(name, options.passes or PASSES[name], options.trials, options.seeds) for name in options.problems
    }
    print("\n| defaults / tuned | " + " | ".join(found) + " |\n|" + "---|" * (1 + len(found)))
    for label in ROWS:
        ratios = (m[label][1] / min(m[peer][0] for peer in PEERS) for m in found.values())
        print(f"| {label} | " + " | ".join(f"{r:.2g}" for r in ratios) + " |")


if __name__ == "__main__":
    main()
