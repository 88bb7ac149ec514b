"""Mistakes in x = x - lr m_hat / (sqrt(v_hat) + eps), written again from the moments that the method computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from backends.arrays import Array
from refopt.conformance.mistakes.call import Call, Rule
from refopt.method import name_of


class Quotient(NamedTuple):
    """The parts of x = x - lr m_hat / (sqrt(v_hat) + eps) after the moments have moved, and the moments before."""

    g: Array
    m: Array
    v: Array
    c1: float  # m_hat = m / c1; 1 where the method does not correct
    c2: float
    bias: float  # 1 - beta2^t
    eps: float
    m_last: Array
    v_last: Array


QUOTIENTS = {
    "adam": ("m", "v"),
    "adamw": ("m", "v"),
    "amsgrad": ("m", "v_max"),
    "adabelief": ("m", "s"),
    "radam": ("m", "v"),
    "rmsprop": (None, "v"),
    "adagrad": (None, "s"),
    "adahessian": ("m", "v"),
}
"""The fields of m and v; without m it is g itself."""

PLAIN = {"momentum": 0.0, "centered": False, "power": 1.0, "block": 1, "refresh": 1}
"""The hyperparameters under which the last line is the one above."""


def quotient(direction: Callable[[Quotient], Array]) -> Rule:
    """Return the rule whose last line is x = x - lr direction [- the decoupled decay]."""

    def rule(call: Call) -> tuple[Array, Any]:
        x, state = call()
        of_m, of_v = QUOTIENTS[name_of(call.method)]
        lr, t = call.hyper["lr"], call.state.k + 1
        bias = 1 - call.hyper.get("beta2", call.hyper.get("rho", 0.0)) ** t
        g = call.objective.grad(call.x)
        q = Quotient(
            g,
            getattr(state, of_m) if of_m else g,
            getattr(state, of_v),
            1 - call.hyper["beta1"] ** t if of_m else 1.0,
            bias if of_m else 1.0,
            bias,
            call.hyper["eps"],
            getattr(call.state, of_m) if of_m else g,
            getattr(call.state, of_v),
        )
        x = call.x - lr * direction(q)
        if name_of(call.method) in ("adamw", "adahessian"):
            x = x - (lr if call.hyper.get("decay_times_lr", True) else 1.0) * call.decay
        return x, state

    return rule


def root(v: Array) -> Array:
    """Return sqrt(v)."""
    return np.sqrt(v)


ANY_QUOTIENT: dict[str, Rule] = {
    "the second moment of the step before": quotient(lambda q: q.m / q.c1 / (root(q.v_last / q.c2) + q.eps)),
    "no square root": quotient(lambda q: q.m / q.c1 / (q.v / q.c2 + q.eps)),
}
CORRECTED: dict[str, Rule] = {
    "eps inside the root": quotient(lambda q: q.m / q.c1 / root(q.v / q.c2 + q.eps)),
    "eps beside the uncorrected root": quotient(lambda q: q.m / q.c1 * root(q.c2) / (root(q.v) + q.eps)),
    "bias correction of the first moment missing": quotient(lambda q: q.m / (root(q.v / q.c2) + q.eps)),
    "bias correction of the second moment missing": quotient(lambda q: q.m / q.c1 / (root(q.v) + q.eps)),
    "bias correction of the second moment outside its root": quotient(
        lambda q: q.m / q.c1 / (root(q.v) / q.c2 + q.eps)
    ),
    "the first moment of the step before": quotient(lambda q: q.m_last / q.c1 / (root(q.v / q.c2) + q.eps)),
}
ADAHESSIAN: dict[str, Rule] = {"bias correction missing": quotient(lambda q: q.m / (root(q.v) + q.eps))}
UNCORRECTED: dict[str, Rule] = {
    "bias correction added": quotient(lambda q: q.g / (root(q.v / q.bias) + q.eps)),
}
