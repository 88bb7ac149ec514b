"""Steps of K-FAC and EKFAC in their own SGD steps, on a deep autoencoder, batch 512, float32, one thread.

    python benchmarks/kfac.py [--network small | full] [--rounds 5] [--json PATH]

The networks are 784-250-100-30 and 784-1000-500-250-30, mirrored, tanh. A figure is the CPU time of a step, averaged
over a cycle of all intervals, the least of rounds that visit all contenders; beside it in steps of SGD on the same
objective. Peers on the same networks, in their own SGD steps: kfac-jax 6.5 to 8.8, adaptive, inverse every 5 or 1;
curvlinops 5.8 to 6.2, inverse every step.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

import problems
from refopt import bind
from refopt.first_order import sgd
from refopt.objective import Objective
from refopt.structured import ekfac, kfac

NETWORKS = {"small": (250, 100, 30), "full": (1000, 500, 250, 30)}
FIXED = {"lr": 1e-3, "momentum": 0.9}


class Contender(NamedTuple):
    """A method with its options, the steps in which each of its intervals comes round, and the goal."""

    method: Any
    options: dict[str, Any]
    cycle: int = 20
    at_most: float | None = None


CONTENDERS = {
    "SGD": Contender(sgd, {"lr": 1e-3}),
    "K-FAC, fixed coefficients, inverse every 10": Contender(kfac, {**FIXED, "T3": 10}, at_most=3.0),
    "the same, tau1 = 1/8": Contender(kfac, {**FIXED, "T3": 10, "tau1": 1 / 8}, at_most=3.0),
    "K-FAC, fixed coefficients, inverse every step": Contender(kfac, {**FIXED, "T3": 1}, at_most=4.5),
    "K-FAC, adaptive": Contender(kfac, {}, at_most=6.0),
    "K-FAC, adaptive, tau1 = 1/8, tau2 = 1/4": Contender(kfac, {"tau1": 1 / 8, "tau2": 1 / 4}),
    "K-FAC, block-tridiagonal, inverse every 20": Contender(kfac, {**FIXED, "structure": "block_tridiagonal"}),
    "K-FAC, block-tridiagonal, adaptive": Contender(kfac, {"structure": "block_tridiagonal"}),
    "EKFAC, basis every 50": Contender(ekfac, {"lr": 1e-3, "interval": 50}, cycle=50),
}


def seconds(objective: Objective, x0: Any, contender: Contender) -> float:
    """Return the CPU time of a step, after the first three, which K-FAC inverts at."""
    init, step = bind(contender.method, **contender.options)
    x, state = x0, init(x0)
    for _ in range(3):
        x, state = step(objective, x, state)
    start = time.process_time()
    for _ in range(contender.cycle):
        x, state = step(objective, x, state)
    return (time.process_time() - start) / contender.cycle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="small", choices=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the results there")
    arguments = parser.parse_args()

    problem = problems.get(
        "autoencoder_curves",
        examples=512,
        hidden=NETWORKS[arguments.network],
        activation="tanh",
        like=np.zeros(0, dtype=np.float32),
    )
    rounds = [
        {name: seconds(problem.objective, problem.x0, contender) for name, contender in CONTENDERS.items()}
        for _ in range(arguments.rounds)
    ]
    least = {name: min(one[name] for one in rounds) for name in CONTENDERS}
    results = {name: {"ms": 1e3 * time, "SGD steps": time / least["SGD"]} for name, time in least.items()}
    table = Table("", "ms", "SGD steps", "at most", "", title=problem.title)
    for name, found in results.items():
        at_most = CONTENDERS[name].at_most
        verdict = (
            ("", "") if at_most is None else (f"{at_most:g}", "met" if found["SGD steps"] <= at_most else "missed")
        )
        table.add_row(name, f"{found['ms']:.1f}", f"{found['SGD steps']:.2f}", *verdict)
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != "1":  # read when NumPy is imported
        one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **one})
    main()
