"""SGD, heavy ball, Nesterov, QHM, AggMo and LARS, wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from refopt.conformance.streams import LAYOUT
from tests.conformance.mutants.mutant import Mutant, Update


def sgd(scale: float = 1.0) -> Update:
    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        return x - scale * lr * g, None

    return update


def sgd_stale(x: Any, g: Any, last: Any, lr: float) -> tuple[Any, Any]:
    return (x if last is None else x - lr * last), g.copy()


def sgd_late_lr(x: Any, g: Any, last: Any, lr: float) -> tuple[Any, Any]:
    return x - (last or lr) * g, lr


def sgd_first_lr(x: Any, g: Any, first: Any, lr: float) -> tuple[Any, Any]:
    return x - (first or lr) * g, first or lr


def sgd_clipped(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
    return x - lr * g / max(np.linalg.norm(g), 1.0), None


def heavy_ball(
    momentum: float = 0.9,
    weight: float = 1.0,
    first: float = 1.0,
    lr_inside: bool = False,
    nesterov: bool = False,
    late: bool = False,
    forgets: bool = False,
) -> Update:
    """Velocity with a weight of g, another one of the first g."""

    def update(x: Any, g: Any, v: Any, lr: float) -> tuple[Any, Any]:
        inner, outer = (lr, 1.0) if lr_inside else (1.0, lr)
        old = 0 * g if v is None else v
        v = momentum * old + (first if v is None else weight) * inner * g
        x = x - outer * (old if late else momentum * v + inner * g if nesterov else v)
        return x, None if forgets else v

    return update


def lookahead(x: Any, g: Any, v: Any, lr: float) -> tuple[Any, Any]:
    """On a replayed gradient what a lookahead does; it reads the gradient where it stands all the same."""
    v = g if v is None else 0.9 * v + g
    return x - lr * v, v


def qhm(momentum: float = 0.999, nu: float = 0.7, corrected: bool = False) -> Update:
    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        t, m = state or (0, 0 * x)
        m = momentum * m + (1 - momentum) * g
        m_hat = m / (1 - momentum ** (t + 1)) if corrected else m
        return x - lr * ((1 - nu) * g + nu * m_hat), (t + 1, m)

    return update


def aggmo(mean: bool = True, lr_inside: bool = False, g_scale: float = 1.0) -> Update:
    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        inner, outer = (lr, 1.0) if lr_inside else (1.0, lr)
        vs = [beta * v + g_scale * inner * g for beta, v in zip((0.0, 0.9, 0.99), state or [0 * x] * 3, strict=True)]
        return x - outer * sum(vs) / (3 if mean else 1), vs

    return update


def lars(lr_outside: bool = False, trusted: bool = True, coefficient: float = 1e-3) -> Update:
    def update(x: Any, g: Any, v: Any, lr: float) -> tuple[Any, Any]:
        parts = LAYOUT.split(x), LAYOUT.split(g)
        lengths = {name: (np.linalg.norm(parts[0][name]), np.linalg.norm(parts[1][name])) for name in parts[0]}
        trust = {name: coefficient * w / d if trusted and w and d else 1.0 for name, (w, d) in lengths.items()}
        scaled = LAYOUT.join({name: trust[name] * parts[1][name] for name in trust})
        v = 0.9 * (0 * x if v is None else v) + (1.0 if lr_outside else lr) * scaled
        return x - (lr if lr_outside else 1.0) * v, v

    return update


TORCH = {"dialect": "torch"}
KERAS = {"dialect": "keras"}

MUTANTS = {
    "sgd: lr 0.1 times": Mutant(sgd(0.1), "sgd", ("lr=0.001",)),
    "sgd: lr 1.3 times": Mutant(sgd(1.3), "sgd", ("lr=0.013",)),
    "sgd: ascends": Mutant(sgd(-1.0), "sgd", ("the gradient's sign turned",)),
    "sgd: stale gradient": Mutant(sgd_stale, "sgd", ("the gradient of the step before",)),
    "sgd: lr one step late": Mutant(sgd_late_lr, "sgd", ("lr lagging one step",)),
    "sgd: deaf to the schedule": Mutant(sgd_first_lr, "sgd", ("the lr of the first step throughout",)),
    "sgd: clips": Mutant(sgd_clipped, "sgd", ("the gradient clipped to norm 1",)),
    "sgd: momentum": Mutant(heavy_ball(), "sgd", ("the rule of heavy_ball",), {"lr": 0.01}),
    "heavy ball: lr inside": Mutant(heavy_ball(lr_inside=True), "heavy_ball", ("lr_placement='inside'",)),
    "heavy ball: lr outside": Mutant(heavy_ball(), "heavy_ball", ("lr_placement='outside'",), KERAS),
    "heavy ball: average": Mutant(heavy_ball(weight=0.1, first=0.1), "heavy_ball", ("momentum as a running mean",)),
    "heavy ball: dampening": Mutant(heavy_ball(weight=0.1), "heavy_ball", ("dampening=0.9",)),
    "heavy ball: slight dampening": Mutant(heavy_ball(weight=0.97), "heavy_ball", ("dampening=0.03",)),
    "heavy ball: Nesterov": Mutant(heavy_ball(nesterov=True), "heavy_ball", ("the rule of nesterov", "form='shifted'")),
    "heavy ball: forgets": Mutant(heavy_ball(forgets=True), "heavy_ball", ("v not kept between steps",)),
    "heavy ball: momentum 0.99": Mutant(heavy_ball(0.99), "heavy_ball", ("momentum=0.99",)),
    "heavy ball: old velocity": Mutant(heavy_ball(late=True), "heavy_ball", ("the gradient of the step before",)),
    "heavy ball: average, lr inside": Mutant(
        heavy_ball(weight=0.1, first=0.1, lr_inside=True),
        "heavy_ball",
        ("lr_placement='inside'", "momentum as a running mean"),
    ),
    "Nesterov: Polyak": Mutant(heavy_ball(), "nesterov", ("the rule of heavy_ball",), TORCH),
    "Nesterov: momentum 0.95": Mutant(heavy_ball(0.95, nesterov=True), "nesterov", ("momentum=0.95",), TORCH),
    "Nesterov: lr inside": Mutant(
        heavy_ball(lr_inside=True, nesterov=True), "nesterov", ("lr_placement='inside'",), TORCH
    ),
    "Nesterov: average": Mutant(heavy_ball(weight=0.1, first=0.1, nesterov=True), "nesterov", (), TORCH),
    "QHM: nu for 1 - nu": Mutant(qhm(nu=0.3), "qhm", ("nu=0.3",)),
    "QHM: momentum 0.9": Mutant(qhm(0.9), "qhm", ("momentum=0.9",)),
    "QHM: momentum 0.998": Mutant(qhm(0.998), "qhm", ("momentum=0.998",)),
    "AggMo: sum": Mutant(aggmo(mean=False), "aggmo", ("lr=0.03",)),
    "AggMo: lr inside": Mutant(aggmo(lr_inside=True), "aggmo", ("lr inside the buffer",)),
    "AggMo: gradient halved": Mutant(aggmo(g_scale=0.5), "aggmo", ("the gradient halved",)),
    "LARS: lr outside": Mutant(lars(lr_outside=True), "lars", ("lr outside the buffer",)),
    "LARS: coefficient 0.01": Mutant(lars(coefficient=1e-2), "lars", ("coefficient=0.01",)),
    "LARS: no trust ratio": Mutant(lars(trusted=False), "lars", ("the rule of heavy_ball", "lr_placement='inside'")),
}
