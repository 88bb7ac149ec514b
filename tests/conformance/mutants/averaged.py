"""ASGD and the schedule-free methods, wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.conformance.mutants.mutant import Mutant, Update


def asgd(
    alpha: float = 0.75,
    lambd: float = 1e-4,
    counts: int = 0,
    decays: bool = True,
    of_lr: bool = True,
    late: bool = False,
    sign: float = 1.0,
) -> Update:
    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        k, last = state or (0, lr)
        now = last if late else lr
        eta = now / (1 + lambd * (now if of_lr else 1.0) * (k + counts)) ** alpha
        return x - eta * (sign * g + (lambd * x if decays else 0.0)), (k + 1, lr)

    return update


def asgd_average(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
    """Go on from the average."""
    k, a = state or (0, x)
    x = x - lr * g
    a = a + (x - a) / max(1, k)
    return a, (k + 1, a)


def schedule_free(
    momentum: float = 0.9,
    power: float = 2.0,
    late: int = 0,
    early: bool = False,
    at_average: bool = False,
    l2_of_z: float = 0.0,
    decay: float = 0.0,
    swapped: bool = False,
) -> Update:
    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        k, z, a, total = state or (0, x, x, 0.0)
        old, weight = z, lr**power
        z = z - lr * (g + decay * x + l2_of_z * z)
        total = total + weight
        c = 1 / (k + 1 + late) if late else weight / total
        a = a + c * ((old if early else z) - a)
        y = a if at_average else a + momentum * (z - a) if swapped else z + momentum * (a - z)
        return y, (k + 1, z, a, total)

    return update


def schedule_free_adamw(
    inside: bool = False,
    place: str = "lr",
    eps: float = 1e-8,
    beta1: float = 0.9,
    power: float = 2.0,
    l2: float = 0.0,
    of_z: float = 0.0,
    decay: float = 0.0,
    stale: bool = False,
    beta2: float = 0.999,
) -> Update:
    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        g = g + l2 * x
        k, z, a, v, total = state or (0, x, x, 0 * x, 0.0)
        old, v = v, beta2 * v + (1 - beta2) * g * g
        bias = np.float64(1 - beta2 ** (k + 1))
        lr_t = lr * np.sqrt(bias) if place == "lr" else lr
        c2 = bias if place == "v" else 1.0
        used = old if stale else v
        d = g / (np.sqrt(used / c2 + eps) if inside else np.sqrt(used / c2) + eps)
        z = z - lr_t * (d + decay * x + of_z * z)
        weight = lr_t**power
        total = total + weight
        a = a + weight / total * (z - a)
        return z + beta1 * (a - z), (k + 1, z, a, v, total)

    return update


TORCH = {"dialect": "torch"}
OPTAX = {"dialect": "optax"}
DECAY = {"weight_decay": 0.1}

RIGHT: dict[str, tuple[Update, dict[str, Any]]] = {
    "asgd": (asgd(), TORCH),
    "schedule_free": (schedule_free(), {}),
    "schedule_free with decay": (schedule_free(decay=0.1), DECAY),
    "schedule_free_adamw": (schedule_free_adamw(), {}),
    "schedule_free_adamw of optax": (schedule_free_adamw(place="v", decay=0.1), {**OPTAX, **DECAY}),
}

MUTANTS = {
    "ASGD: alpha 1": Mutant(asgd(alpha=1.0), "asgd", ("alpha=1.0",), TORCH),
    "ASGD: k from 1": Mutant(asgd(counts=1), "asgd", ("t starting at 2",), TORCH),
    "ASGD: no decay": Mutant(asgd(decays=False), "asgd", ("lambd in eta alone",), TORCH),
    "ASGD: eta stays": Mutant(asgd(alpha=0.0), "asgd", ("alpha=0.0",), TORCH),
    "ASGD: eta without lr": Mutant(asgd(of_lr=False), "asgd", ("lr outside the buffer",), TORCH),
    "ASGD: lr late": Mutant(asgd(late=True), "asgd", ("lr lagging one step",), TORCH),
    "ASGD: lambd forgotten": Mutant(asgd(lambd=0.0), "asgd", ("lambd=0.0",), TORCH),
    "ASGD: ascends": Mutant(asgd(sign=-1.0), "asgd", ("the gradient's sign turned",), TORCH),
    "ASGD: lambd 1e-3": Mutant(asgd(lambd=1e-3), "asgd", ("lambd=0.001",), TORCH),
    "ASGD: no decay, alpha 1": Mutant(
        asgd(alpha=1.0, decays=False), "asgd", ("lambd in eta alone", "alpha=1.0"), TORCH
    ),
    "ASGD: from the average": Mutant(asgd_average, "asgd", ("the point to report in place of x",)),
    "Schedule-free: momentum 0.1": Mutant(schedule_free(0.1), "schedule_free", ("momentum=0.1",)),
    "Schedule-free: z and a swapped": Mutant(schedule_free(swapped=True), "schedule_free", ("momentum=0.1",)),
    "Schedule-free: 1 / t": Mutant(schedule_free(power=0.0), "schedule_free", ("a mean with equal weights",)),
    "Schedule-free: by lr": Mutant(schedule_free(power=1.0), "schedule_free", ("a mean with the weights lr",)),
    "Schedule-free: 1 / (t + 1)": Mutant(
        schedule_free(late=1), "schedule_free", ("a mean with equal weights that counts x0",)
    ),
    "Schedule-free: old z": Mutant(schedule_free(early=True), "schedule_free", ("a mean of z before its step",)),
    "Schedule-free: at the average": Mutant(
        schedule_free(at_average=True), "schedule_free", ("the point to report in place of x",)
    ),
    "Schedule-free: decay of z": Mutant(schedule_free(l2_of_z=0.1), "schedule_free", ("decay of z",), DECAY),
    "Schedule-free: by lr, momentum 0.95": Mutant(
        schedule_free(0.95, power=1.0), "schedule_free", ("a mean with the weights lr", "momentum=0.95")
    ),
    "Schedule-free: old z, no decay": Mutant(
        schedule_free(early=True), "schedule_free", ("a mean of z before its step", "weight_decay=0.0"), DECAY
    ),
    "Schedule-free AdamW: beta2 0.99": Mutant(schedule_free_adamw(beta2=0.99), "schedule_free_adamw", ("beta2=0.99",)),
    "Schedule-free AdamW: uncorrected, eps 1e-7": Mutant(
        schedule_free_adamw(place="", eps=1e-7), "schedule_free_adamw", ("bias correction missing", "eps=1e-07")
    ),
    "Schedule-free AdamW: eps inside, 1 / t": Mutant(
        schedule_free_adamw(inside=True, power=0.0),
        "schedule_free_adamw",
        ("eps inside the root", "a mean with equal weights"),
    ),
    "Schedule-free: no decay": Mutant(schedule_free(), "schedule_free", ("weight_decay=0.0",), DECAY),
    "Schedule-free AdamW: eps inside": Mutant(
        schedule_free_adamw(inside=True), "schedule_free_adamw", ("eps inside the root",)
    ),
    "Schedule-free AdamW: eps inside, v corrected": Mutant(
        schedule_free_adamw(inside=True, place="v"), "schedule_free_adamw", ("eps inside the root",), OPTAX
    ),
    "Schedule-free AdamW: uncorrected": Mutant(
        schedule_free_adamw(place=""), "schedule_free_adamw", ("bias correction missing",)
    ),
    "Schedule-free AdamW: v corrected": Mutant(
        schedule_free_adamw(place="v"), "schedule_free_adamw", ("correction='v'",)
    ),
    "Schedule-free AdamW: 1 / t": Mutant(
        schedule_free_adamw(power=0.0), "schedule_free_adamw", ("a mean with equal weights",)
    ),
    "Schedule-free AdamW: L2": Mutant(
        schedule_free_adamw(l2=0.1), "schedule_free_adamw", ("L2 in place of the decay",), DECAY
    ),
    "Schedule-free AdamW: decay of z": Mutant(
        schedule_free_adamw(of_z=0.1), "schedule_free_adamw", ("decay of z",), DECAY
    ),
    "Schedule-free AdamW: old v": Mutant(
        schedule_free_adamw(place="v", stale=True),
        "schedule_free_adamw",
        ("the second moment of the step before",),
        OPTAX,
    ),
    "Schedule-free AdamW: eps 1e-7, beta1 0.95": Mutant(
        schedule_free_adamw(eps=1e-7, beta1=0.95), "schedule_free_adamw", ("beta1=0.95", "eps=1e-07")
    ),
}
