"""Mistakes in Lion and Rprop."""

from __future__ import annotations

from typing import Any

import numpy as np

from backends.arrays import Array
from refopt.conformance.mistakes.call import Call, Rule


def lion_mean_first(call: Call) -> tuple[Array, Any]:
    """Take the sign of beta1 m + (1 - beta1) g with the new m: the weight of the old one is beta1 beta2."""
    x, _ = call(beta1=call.hyper["beta1"] * call.hyper["beta2"])
    _, state = call()
    return x, state


def rprop_forgives_nothing(call: Call) -> tuple[Array, Any]:
    """Where the sign turned, step by the smaller delta, and remember g."""
    g = call.objective.grad(call.x)
    _, state = call()
    return call.x - state.delta * np.sign(g), state._replace(p=g)


LION: dict[str, Rule] = {"the mean updated before the sign": lion_mean_first}
RPROP: dict[str, Rule] = {"the step taken where the sign turned": rprop_forgives_nothing}
