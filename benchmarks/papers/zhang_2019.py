"""Fixup: depth without normalisation, and which units die (Zhang, Dauphin and Ma, 2019)."""

from __future__ import annotations

import math

from backends.arrays import Array, namespace
from papers.claim import Claim, Entrant, Finding, Found, end, known, measured, of, shown
from problems.problem import Problem
from refopt.loop import Result
from refopt.method import LogUniform
from refopt.status import Status

DEPTHS, BUDGET, BATCH = (4, 16, 64), 15, 128
TRAINED = 0.5  # f, which is log 10 = 2.3 where nothing is known


def dead(problem: Problem, x: Array) -> float:
    """Return the share of units whose output is the same for all examples, those before a dense layer counted."""
    units = constant = 0
    for name, layer in problem.objective.layers(x).items():
        shape = problem.layout.shapes.get(f"{name}.W", (64, 0))
        if shape[0] != 64:  # else it is a scalar, or the first layer, which sees pixels
            xp, a = namespace(layer.inputs), layer.inputs[:, : shape[0]]
            units += shape[0]
            constant += int(xp.sum(xp.astype(xp.max(a, axis=0) == xp.min(a, axis=0), xp.int64)))
    return constant / units


def measure(problem: Problem, result: Result) -> dict[str, float]:
    """Return the share of dead units at the start and, unless the run was lost, at the end."""
    start = {"dead at the start": dead(problem, problem.x0)}
    if result.status in (Status.DIVERGED, Status.NOT_FINITE):
        return start
    return {**start, "dead at the end": dead(problem, result.x)}


def entrant(depth: int, init: str, method: str) -> Entrant:
    fixed = {"momentum": 0.9} if method == "heavy_ball" else {}
    problem = f"resnet_digits:depth={depth},init={init}"
    return Entrant(problem, method, BUDGET, BATCH, fixed=fixed, search={"lr": LogUniform(1e-5, 1e0)})


def judge(found: Found) -> Finding:
    """Ask Fixup to train at every depth, and to matter at the largest."""
    f = {name: end(outcomes) for name, outcomes in found.items()}
    deepest = DEPTHS[-1]
    parts = [
        all(f[f"{depth} layers, fixup"] < TRAINED for depth in DEPTHS),
        not f[f"{deepest} layers, standard"] < TRAINED,
    ]
    died = []
    for name, outcomes in found.items():
        if name.startswith(f"{deepest} layers, "):
            start, last = measured(outcomes, "dead at the start"), measured(outcomes, "dead at the end")
            then = "the run diverged" if math.isnan(last) else f"{last:.0%} at the end"
            died.append(f"{name.removeprefix(f'{deepest} layers, ')} {known(start, '.0%')} at the start, {then}")
    said = ", ".join(f"{name} {shown(last)}" for name, last in f.items())
    return Finding(f"f: {said}; dead units at {deepest} layers: {', '.join(died)}", of(parts))


CLAIM = Claim(
    paper="Zhang, Dauphin, Ma, ICLR 2019, arXiv:1901.09321",
    claim="Residual networks without normalisation train at any depth from Fixup's start, at the same rates, where "
    "from the standard start deep ones do not.",
    setting=f"Dense residual networks of width 32 on digits, 4 to 64 layers where they went to 10000; {BUDGET} epochs "
    f"in batches of {BATCH}; heavy ball with momentum 0.9, and Adam at the largest depth, rates tuned down to 1e-5. "
    f"Trained means f < {TRAINED}. A unit is dead where its output is the same for every example: whether units die is "
    f"a question to the initialisation and to the optimizer, so both are varied.",
    entrants={
        **{
            f"{depth} layers, {init}": entrant(depth, init, "heavy_ball")
            for depth in DEPTHS
            for init in ("standard", "fixup")
        },
        **{f"{DEPTHS[-1]} layers, {init}, Adam": entrant(DEPTHS[-1], init, "adam") for init in ("standard", "fixup")},
    },
    judge=judge,
    measure=measure,
)
