"""Mistakes in ASGD and the schedule-free methods, which report a mean of their points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backends.arrays import Array
from refopt.conformance.mistakes.call import Call, Rule
from refopt.conformance.mistakes.quotients import between, rate


def reported(call: Call) -> tuple[Array, Any]:
    """Go on from the point to report."""
    x, state = call()
    return call.method.solution(x, state), state


def weighted(weight: Callable[[float], float], before: float = 0.0) -> Rule:
    """Return the rule whose mean weighs z by weight(lr_t), with `before` for x0."""

    def rule(call: Call) -> tuple[Array, Any]:
        _, state = call()
        total = call.recall(before) + weight(rate(call))
        call.keep(total)
        return between(call, state, state.z, weight(rate(call)) / total)

    return rule


def mean_of_last_z(call: Call) -> tuple[Array, Any]:
    """Let z enter the mean before its step."""
    _, state = call()
    return between(call, state, state.z, rate(call) ** 2 / state.weight_sum, of_mean=call.state.z)


def decay_of_z(call: Call) -> tuple[Array, Any]:
    """Subtract lr_t weight_decay z, not y."""
    _, state = call()
    z = state.z + rate(call) * call.hyper["weight_decay"] * (call.x - call.state.z)
    return between(call, state, z, rate(call) ** 2 / state.weight_sum)


ASGD: dict[str, Rule] = {
    "lambd in eta alone": lambda call: call(gradient=lambda g: g - call.hyper["lambd"] * call.x),
    "the point to report in place of x": reported,
}
SCHEDULE_FREE: dict[str, Rule] = {
    "a mean with equal weights": weighted(lambda lr: 1.0),
    "a mean with the weights lr": weighted(lambda lr: lr),
    "a mean with equal weights that counts x0": weighted(lambda lr: 1.0, before=1.0),
    "a mean of z before its step": mean_of_last_z,
    "decay of z": decay_of_z,
    "the point to report in place of x": reported,
}
