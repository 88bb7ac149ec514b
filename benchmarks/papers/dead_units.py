"""Which units die or saturate: is it the initialisation or the optimizer?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from backends.arrays import Array, namespace
from papers.claim import Claim, Entrant, Finding, Found, measured, of
from problems import data
from problems.networks.mlp import classifier, mlp
from problems.problem import Problem
from refopt.loop import Result
from refopt.method import LogUniform
from refopt.status import Status

HIDDEN, BUDGET, BATCH = (32, 32, 32), 15, 128
ACTIVATIONS = {"relu": "dead", "tanh": "saturated"}
INITS = ("scaled", "wide", "low bias")
LOW = -2.0  # the biases of "low bias"
FULL, MOST = 0.99, 0.95  # a tanh unit is saturated where |a| > FULL for MOST of the examples
LITTLE = 0.1  # of the units
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "heavy ball": {"method": "heavy_ball", "fixed": {"momentum": 0.9}, "search": {"lr": LogUniform(1e-4, 1e0)}},
    "Adam": {"method": "adam", "search": {"lr": LogUniform(1e-4, 1e-1)}},
    "K-FAC": {"method": "kfac", "search": {"lam": LogUniform(1e-2, 1e2)}},
}


def find(text: str, seed: int, dtype: str) -> Problem:
    """Return the classifier of digits that ``digits-ACTIVATION-INIT`` names."""
    _, activation, init = text.split("-")
    net = mlp((64, *HIDDEN, 10), activation)
    problem = classifier(text, "digits", net, data.digits(), np.empty(0, dtype=dtype), l2=0.0, seed=seed)
    parts = dict(problem.layout.split(problem.x0))
    for name, part in parts.items():
        if init == "wide" and name.endswith(".W"):
            parts[name] = part / part.std()
        if init == "low bias" and name.endswith(".b"):
            parts[name] = part + LOW
    return replace(problem, x0=problem.layout.join(parts))


def stuck(problem: Problem, x: Array) -> float:
    """Return the share of the hidden units that are dead (relu) or saturated (tanh)."""
    _, *later = problem.objective.layers(x).values()  # their inputs are what the hidden units give, and a 1
    outputs = [layer.inputs[:, :-1] for layer in later]
    xp = namespace(*outputs)
    a = xp.concat(outputs, axis=1)
    if "-relu-" in problem.name:
        idle = xp.max(a, axis=0) == 0
    else:
        idle = xp.mean(xp.astype(xp.abs(a) > FULL, a.dtype), axis=0) >= MOST
    return float(xp.mean(xp.astype(idle, a.dtype)))


def measure(problem: Problem, result: Result) -> dict[str, float]:
    """Return the share of stuck units at the start and, unless the run was lost, at the end."""
    start = {"stuck at the start": stuck(problem, problem.x0)}
    if result.status in (Status.DIVERGED, Status.NOT_FINITE):
        return start
    return {**start, "stuck at the end": stuck(problem, result.x)}


def entrants() -> dict[str, Entrant]:
    """Return every optimizer from every start."""
    return {
        f"{activation}, {init}, {name}": Entrant(f"digits-{activation}-{init}", budget=BUDGET, batch_size=BATCH, **how)
        for activation in ACTIVATIONS
        for init in INITS
        for name, how in OPTIMIZERS.items()
    }


def judge(found: Found) -> Finding:
    """Ask for more difference between the starts, with any optimizer, than between optimizers, and there for little."""
    parts, said = [], []
    for activation, word in ACTIVATIONS.items():
        runs = [[found[f"{activation}, {init}, {optimizer}"] for optimizer in OPTIMIZERS] for init in INITS]
        ends = np.asarray([[measured(outcomes, "stuck at the end") for outcomes in row] for row in runs])
        between_starts, between_optimizers = np.ptp(ends, axis=0).min(), np.ptp(ends, axis=1).max()
        parts += [bool(between_starts > between_optimizers), bool(between_optimizers <= LITTLE)]
        told = [
            f"{init} {measured(row[0], 'stuck at the start'):.0%}, then {', '.join(f'{share:.0%}' for share in last)}"
            for init, row, last in zip(INITS, runs, ends, strict=True)
        ]
        said.append(
            f"{activation}, {word}: {'; '.join(told)}; at least {between_starts:.0%} apart by the start, at most "
            f"{between_optimizers:.0%} by the optimizer"
        )
    return Finding(f"at the start, then with {', '.join(OPTIMIZERS)}: {'. '.join(said)}", of(parts))


CLAIM = Claim(
    paper="An answer in a discussion, without a paper",
    claim="That units die or saturate is a matter of the initialisation, not of the optimizer.",
    setting=f"Classifiers of digits, 64-32-32-32-10, from three starts: scaled (weights of variance 1/d_in, 2/d_in "
    f"before a relu, and biases 0), wide (weights of variance 1), and low bias (scaled, biases {LOW:g}). {BUDGET} "
    f"epochs' gradients in batches of {BATCH} with heavy ball (momentum 0.9), Adam and K-FAC, which has curvature; "
    f"rates, and K-FAC's damping, tuned by f. Stuck is a relu unit that is 0 for all training examples (dead), and a "
    f"tanh unit whose |a| > {FULL} for {MOST:.0%} of them (saturated). Asked of each activation: with any optimizer, "
    f"the ends from the three starts differ by more than those of the optimizers do from any start; and these by at "
    f"most {LITTLE:.0%} of the units.",
    entrants=entrants(),
    judge=judge,
    against=tuple(entrants()),  # each is compared with all others
    find=find,
    measure=measure,
)
