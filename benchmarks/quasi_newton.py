"""Quasi-Newton methods against scipy's: evaluations, seconds and own overhead, all in one run.

    python benchmarks/quasi_newton.py [--rounds 5] [--starts 5] [--only rosenbrock] [--json PATH]

Scipy runs first, to a largest gradient entry of 1e-6; ours runs to the gradient norm that scipy ended with, or to 1e-6,
which meets scipy's rule too. How many evaluations a long run takes hangs on its last bits: the counts are medians over
starts that differ by 1e-6 in each coordinate, the first of them the problem's own. Every time is from that one, a
median over rounds that alternate between the two, and is divided by scipy's of the same run. `own` is a step's time
without the objective's, in microseconds. Both run on one thread, and glibc is told to keep freed memory, which spares
both page faults.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize as scipy_minimize

import problems
from refopt import minimize
from refopt.method import Method
from refopt.objective import Objective
from refopt.quasi_newton import bfgs, lbfgs, nonlinear_cg

ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
GTOL = 1e-6


class Case(NamedTuple):
    """One comparison; `steps` bounds both, where the whole way would take too long."""

    method: Method
    peer: str  # scipy's name
    problem: str
    make: Callable[[], tuple[Objective, Any]]  # objective and x0
    target: float | None = None  # for the ratio of times
    steps: int = 20_000


def catalogued(name: str, **options: Any) -> Callable[[], tuple[Objective, Any]]:
    """Return a maker of a problem of the catalogue."""

    def make() -> tuple[Objective, Any]:
        problem = problems.get(name, **options)
        return problem.objective, problem.x0

    return make


def separable_rosenbrock(n: int) -> tuple[Objective, Any]:
    """Return n / 2 Rosenbrock valleys side by side; the start is jittered, or all would be one."""

    def value_and_grad(x: Any) -> tuple[Any, Any]:
        a, b = x[0::2], x[1::2]
        t, u = b - a * a, 1.0 - a
        g = np.empty_like(x)
        g[0::2], g[1::2] = -400.0 * a * t - 2.0 * u, 200.0 * t
        return 100.0 * (t @ t) + u @ u, g

    jitter = 0.1 * np.random.default_rng(0).standard_normal(n)
    return Objective(value_and_grad=value_and_grad), np.where(np.arange(n) % 2, 1.0, -1.2) + jitter


CASES = [
    Case(lbfgs, "L-BFGS-B", "rosenbrock 2", catalogued("rosenbrock", n=2)),
    Case(lbfgs, "L-BFGS-B", "rosenbrock 100", catalogued("rosenbrock", n=100), 1.0),
    Case(lbfgs, "L-BFGS-B", "rosenbrock 1000", catalogued("rosenbrock", n=1000), 1.0),
    Case(lbfgs, "L-BFGS-B", "separable 1e5", lambda: separable_rosenbrock(100_000), 0.27),
    Case(lbfgs, "L-BFGS-B", "logistic 31", catalogued("logistic_breast_cancer")),
    Case(lbfgs, "L-BFGS-B", "softmax 650", catalogued("softmax_digits")),
    Case(bfgs, "BFGS", "rosenbrock 2", catalogued("rosenbrock", n=2)),
    Case(bfgs, "BFGS", "rosenbrock 100", catalogued("rosenbrock", n=100)),
    Case(bfgs, "BFGS", "rosenbrock 1000", catalogued("rosenbrock", n=1000), 0.1, steps=20),
    Case(bfgs, "BFGS", "logistic 31", catalogued("logistic_breast_cancer")),
    Case(nonlinear_cg, "CG", "rosenbrock 2", catalogued("rosenbrock", n=2)),
    Case(nonlinear_cg, "CG", "rosenbrock 100", catalogued("rosenbrock", n=100)),
    Case(nonlinear_cg, "CG", "rosenbrock 1000", catalogued("rosenbrock", n=1000)),
    Case(nonlinear_cg, "CG", "logistic 31", catalogued("logistic_breast_cancer")),
    Case(nonlinear_cg, "CG", "softmax 650", catalogued("softmax_digits")),
]


class Run(NamedTuple):
    """What one run took."""

    evaluations: int
    steps: int
    seconds: float
    inside: float  # of which in the objective
    grad_norm: float


class Clock:
    """An objective's `value_and_grad` that counts and times itself."""

    def __init__(self, objective: Objective) -> None:
        self.objective, self.calls, self.seconds = objective, 0, 0.0

    def __call__(self, x: Any) -> tuple[Any, Any]:
        """Return the value and the gradient at x."""
        began = time.perf_counter()
        result: tuple[Any, Any] = self.objective.value_and_grad(x)
        self.seconds += time.perf_counter() - began
        self.calls += 1
        return result


def scipys(case: Case, objective: Objective, x0: Any) -> Run:
    options: dict[str, Any] = {"gtol": GTOL, "maxiter": case.steps}
    if case.peer == "L-BFGS-B":
        options |= {"ftol": 0.0, "maxcor": 10, "maxfun": 10 * case.steps}
    clock, began = Clock(objective), time.perf_counter()
    found = scipy_minimize(clock, x0, jac=True, method=case.peer, options=options)
    seconds = time.perf_counter() - began
    return Run(clock.calls, found.nit, seconds, clock.seconds, float(np.linalg.norm(found.jac)))


def ours(case: Case, objective: Objective, x0: Any, grad_norm: float) -> Run:
    clock, began = Clock(objective), time.perf_counter()
    counted = Objective(value_and_grad=clock)
    found = minimize(counted, case.method, x0=x0, steps=case.steps, stop={"grad_norm": grad_norm}, donate=True)
    seconds = time.perf_counter() - began
    return Run(clock.calls, found.steps, seconds, clock.seconds, found.history[-1].grad_norm)


def pair(case: Case, objective: Objective, x0: Any) -> tuple[Run, Run]:
    """Return scipy's run and ours, to where scipy ended."""
    their = scipys(case, objective, x0)
    cut = their.steps == case.steps
    return their, ours(case, objective, x0, 0.0 if cut else max(GTOL, their.grad_norm))


def compare(case: Case, rounds: int, starts: int) -> dict[str, Any]:
    """Return the figures of one case; times are those of whole runs, or of a step where `steps` cuts them short."""
    objective, x0 = case.make()
    near = [x0 + 1e-6 * np.random.default_rng(i).standard_normal(x0.shape) for i in range(1, starts)]
    theirs, our = map(list, zip(*(pair(case, objective, x0) for _ in range(rounds + 1)), strict=True))
    moved = [(theirs[0], our[0]), *(pair(case, objective, x) for x in near)]
    cut = theirs[0].steps == case.steps

    def seconds(runs: list[Run]) -> float:  # the first round warms up
        return statistics.median(run.seconds / (run.steps if cut else 1) for run in runs[1:])

    def own(runs: list[Run]) -> float:
        return 1e6 * statistics.median((run.seconds - run.inside) / run.steps for run in runs[1:])

    return {
        "method": case.peer,
        "problem": case.problem,
        "evaluations": statistics.median_low([run.evaluations for _, run in moved]),
        "scipy_evaluations": statistics.median_low([run.evaluations for run, _ in moved]),
        "seconds": seconds(our),
        "scipy_seconds": seconds(theirs),
        "ratio": seconds(our) / seconds(theirs),
        "own": own(our),
        "scipy_own": own(theirs),
        "target": case.target,
        "per_step": cut,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--only", default="", help="cases whose method and problem have this in them")
    parser.add_argument("--json", metavar="PATH", help="save the figures")
    options = parser.parse_args()

    figures = []
    print(f"{'':28}{'evaluations':>15}{'milliseconds':>19}{'ratio':>8}{'own us a step':>16}")
    for case in CASES:
        if options.only in f"{case.peer} {case.problem}":
            f = compare(case, options.rounds, options.starts)
            figures.append(f)
            line = f"{case.peer:10}{case.problem:18}{f['evaluations']:7} /{f['scipy_evaluations']:6}"
            line += f"{1e3 * f['seconds']:9.2f} /{1e3 * f['scipy_seconds']:8.2f}{f['ratio']:8.2f}"
            line += f"{f['own']:8.0f} /{f['scipy_own']:6.0f}{'  a step' if f['per_step'] else ''}"
            print(line + (f"   target {case.target}" if case.target else ""), flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({**vars(options), "figures": figures}, file, indent=2)


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})
    main()
