"""Do stochastic quasi-Newton methods read fewer data than SGD on logistic regression? (Byrd et al. 2016; Schraudolph)

    python benchmarks/data_accesses.py [--batches 32 64 142 284] [--passes 40] [--seeds 3]

Logistic regression on the breast cancer data. Data accesses are examples read over all examples: b a gradient, b a
Hessian product; of a gradient pair of online L-BFGS both count. Every method has 15 learning rates: five constants, and
each with two decays lr / (1 + k / k0), k0 at 5 and at 30 passes. A cell is the fewest accesses to f - f* <= level over
them, a setting judged by its median over seeds; "-" where that takes more than the budget.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np

import problems
from refopt import iterate, minimize
from refopt.first_order import sgd
from refopt.quasi_newton import lbfgs, online_lbfgs, sqn
from refopt.schedules import robbins_monro

LEVELS = (1e-2, 3e-3, 1e-3, 3e-4)
RATES: dict[str, tuple[Any, tuple[float, ...]]] = {
    "SGD": (sgd, (0.25, 0.5, 1.0, 2.0, 4.0)),
    "online L-BFGS": (online_lbfgs, (0.03, 0.1, 0.3, 0.6, 1.0)),
    "SQN": (sqn, (0.03, 0.1, 0.3, 0.6, 1.0)),
}


def accesses(problem: Any, star: float, method: Any, batch: int, passes: float, **hyper: Any) -> list[float]:
    """Return the data accesses until f - f* is first below each level, by every fifth step; infinity if never."""
    found: list[float] = []
    for it in iterate(problem, method, batch_size=batch, **hyper):
        if it.k % 5:
            continue
        read = sum(it.ledger.counts.values()) * batch / problem.objective.n_examples
        gap = float(problem.objective.value(it.x)) - star
        found += [read for level in LEVELS[len(found) :] if gap <= level]
        if len(found) == len(LEVELS) or read > passes or not gap < 10:
            break
    return found + [np.inf] * (len(LEVELS) - len(found))


def fewest(problem: Any, star: float, label: str, batch: int, passes: float, seeds: int) -> list[float]:
    """Return for each level the fewest accesses over the learning rates, each judged by its median over the seeds."""
    method, rates = RATES[label]
    extra = {"hessian_batch": batch} if method is sqn else {}
    rows = []
    for rate in rates:
        for k0 in (np.inf, 5.0, 30.0):
            lr = robbins_monro(rate, offset=k0 * problem.objective.n_examples / batch)
            runs = [accesses(problem, star, method, batch, passes, seed=s, lr=lr, **extra) for s in range(seeds)]
            rows.append([statistics.median(column) for column in zip(*runs, strict=True)])
    return list(np.min(rows, axis=0))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 64, 142, 284])
    parser.add_argument("--passes", type=float, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    problem = problems.get("logistic_breast_cancer")
    star = minimize(problem, lbfgs, steps=500).value
    print("| batch, method | " + " | ".join(f"{level:g}" for level in LEVELS) + " |\n|" + "---|" * (1 + len(LEVELS)))
    for batch in options.batches:
        for label in RATES:
            found = fewest(problem, star, label, batch, options.passes, options.seeds)
            cells = " | ".join(f"{x:.1f}" if np.isfinite(x) else "-" for x in found)
            print(f"| {batch}, {label} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
