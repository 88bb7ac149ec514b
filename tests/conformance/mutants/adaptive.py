"""Adagrad, RMSprop and Adadelta, wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.conformance.mutants.mutant import Mutant, Update


def rmsprop(
    rho: float = 0.99,
    eps: float = 1e-8,
    weight: float | None = None,
    start: float = 0.0,
    inside: bool = False,
    momentum: float = 0.0,
    lr_inside: bool = False,
    centered: bool = False,
    stale: bool = False,
    corrected: bool = False,
    root: bool = True,
    forgets: bool = False,
    first: bool = False,
) -> Update:
    """RMSprop with torch's constants; Adagrad with rho = weight = 1."""
    weight = 1 - rho if weight is None else weight

    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        t, v, a, b = state or (0, 0 * x + start, 0 * x, 0 * x)
        old, t = v, t + 1
        v = g * g if first and t == 1 else rho * v + weight * (g * g)
        a = rho * a + (1 - rho) * g
        used = old if stale else v
        if centered:
            used = used - a * a
        if corrected:
            used = used / (1 - rho**t)
        d = g / (np.sqrt(used + eps) if inside else (np.sqrt(used) if root else used) + eps)
        b = momentum * b + (lr if lr_inside else 1.0) * d
        return x - (1.0 if lr_inside else lr) * b, (t, 0 * x + start if forgets else v, a, b)

    return update


def adadelta(rho: float = 0.95, eps: float = 1e-6, early: bool = False, lr_inside: bool = False) -> Update:
    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        s, u = state or (0 * x, 0 * x)
        old = s
        s = rho * s + (1 - rho) * g * g
        d = np.sqrt(u + eps) / np.sqrt((old if early else s) + eps) * g
        u = rho * u + (1 - rho) * (lr * d if lr_inside else d) ** 2
        return x - lr * d, (s, u)

    return update


def adagrad(**switches: Any) -> Update:
    return rmsprop(**{"rho": 1.0, "weight": 1.0, "eps": 1e-10, **switches})


TORCH = {"dialect": "torch"}
HEAVY = {"dialect": "torch", "momentum": 0.9}
CENTRED = {"dialect": "torch", "centered": True}
KERAS = {"dialect": "keras"}

MUTANTS = {
    "Adagrad: eps inside": Mutant(adagrad(inside=True), "adagrad", ("eps_placement='inside'",), TORCH),
    "Adagrad: sum from 0.1": Mutant(adagrad(start=0.1), "adagrad", ("s starting at 0.1",), TORCH),
    "Adagrad: old sum": Mutant(adagrad(stale=True), "adagrad", ("the second moment of the step before",), TORCH),
    "Adagrad: eps 1e-8": Mutant(adagrad(eps=1e-8), "adagrad", ("eps=1e-08",), TORCH),
    "Adagrad: no root": Mutant(adagrad(root=False), "adagrad", ("no square root",), TORCH),
    "Adagrad: forgets": Mutant(adagrad(forgets=True), "adagrad", ("s not kept between steps",), TORCH),
    "Adagrad: eps inside, 1e-7": Mutant(
        adagrad(inside=True, eps=1e-7), "adagrad", ("eps_placement='inside'", "eps=1e-07"), TORCH
    ),
    "RMSprop: eps inside": Mutant(rmsprop(inside=True), "rmsprop", ("eps_placement='inside'",), TORCH),
    "RMSprop: eps 1e-7": Mutant(rmsprop(eps=1e-7), "rmsprop", ("eps=1e-07",), TORCH),
    "RMSprop: v from 1": Mutant(rmsprop(start=1.0), "rmsprop", ("v starting at 1",), TORCH),
    "RMSprop: v from g^2": Mutant(rmsprop(first=True), "rmsprop", ("v starting at g^2",), TORCH),
    "RMSprop: rho 0.9": Mutant(rmsprop(0.9), "rmsprop", ("rho=0.9",), TORCH),
    "RMSprop: rho for 1 - rho": Mutant(rmsprop(1 - 0.99), "rmsprop", ("rho=0.01",), TORCH),
    "RMSprop: old v": Mutant(rmsprop(stale=True), "rmsprop", ("the second moment of the step before",), TORCH),
    "RMSprop: lr inside": Mutant(rmsprop(momentum=0.9, lr_inside=True), "rmsprop", ("lr_placement='inside'",), HEAVY),
    "RMSprop: no momentum": Mutant(rmsprop(), "rmsprop", ("momentum=0.0",), HEAVY),
    "RMSprop: not centred": Mutant(rmsprop(), "rmsprop", ("centered=False",), CENTRED),
    "RMSprop: centred": Mutant(rmsprop(centered=True), "rmsprop", ("centered=True",), TORCH),
    "RMSprop: corrected": Mutant(
        rmsprop(corrected=True), "rmsprop", ("bias correction of the second moment added",), TORCH
    ),
    "RMSprop: sum": Mutant(rmsprop(weight=1.0, rho=1.0), "rmsprop", ("the rule of adagrad",), TORCH),
    "RMSprop: no root": Mutant(rmsprop(root=False), "rmsprop", ("no square root",), TORCH),
    "RMSprop: no eps, rho 0.9": Mutant(rmsprop(0.9, eps=1e-16), "rmsprop", ("rho=0.9", "eps=1e-16"), TORCH),
    "Adadelta: rho 0.9": Mutant(adadelta(0.9), "adadelta", ("rho=0.9",)),
    "Adadelta: eps 1e-7": Mutant(adadelta(eps=1e-7), "adadelta", ("eps=1e-07",)),
    "Adadelta: old s": Mutant(adadelta(early=True), "adadelta", ("the rule of sgd",)),
    "Adadelta: lr inside": Mutant(adadelta(lr_inside=True), "adadelta", (), KERAS),
}
