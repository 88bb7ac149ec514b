"""Mistakes in quasi-Newton methods and conjugate gradients.

The recursions and formulas are changed where the methods take them from, their modules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np

from backends.arrays import Array
from refopt.conformance.mistakes.call import Call, Rule
from refopt.curvature import secant_pairs
from refopt.curvature.secant_pairs import SecantPairs


def scaled(gamma: Callable[[SecantPairs], float]) -> Rule:
    """Return the rule with another H_0 = gamma I."""
    two_loop = secant_pairs.two_loop

    def rule(call: Call) -> tuple[Array, Any]:
        changed = mock.patch.object(secant_pairs, "two_loop", lambda pairs, g, _: two_loop(pairs, g, gamma(pairs)))
        with changed:
            return call()

    return rule


def oldest_last(pairs: SecantPairs, g: Array, gamma: float | Array) -> Array:
    """Return the two loops' H g with the pairs in the opposite order."""
    m, kept = pairs.S.shape[0], len(pairs.gammas)
    rows = [(pairs.newest - i) % m for i in range(kept)]  # the newest first
    q, alphas = g, []
    for row in reversed(rows):
        alphas.append(pairs.S[row] @ q)
        q = q - alphas[-1] * pairs.Y[row]
    r = gamma * q
    for row in rows:
        r = r + (alphas.pop() - pairs.Y[row] @ r) * pairs.S[row]
    return r


def replaced(name: str, formula: Callable[..., Any]) -> Rule:
    """Return the rule that has `formula` for the function `name` of the method."""

    def rule(call: Call) -> tuple[Array, Any]:
        with mock.patch.object(call.method, name, formula):
            return call()

    return rule


def dfp(H: Array, s: Array, y: Array) -> Array:
    """Return H after the update of Davidon, Fletcher and Powell."""
    Hy = H @ y
    updated: Array = H + np.outer(s, s) / (s @ y) - np.outer(Hy, Hy) / (y @ Hy)
    return updated


def loops_turned(call: Call) -> tuple[Array, Any]:
    """Go through the pairs in the opposite order."""
    with mock.patch.object(secant_pairs, "two_loop", oldest_last):
        return call()


LBFGS: dict[str, Rule] = {
    "H_0 = I": scaled(lambda pairs: 1.0),
    "gamma = y^T y / s^T y": scaled(lambda pairs: 1 / pairs.gammas[-1]),
    "gamma = s^T s / s^T y": scaled(lambda pairs: float(pairs.S[pairs.newest] @ pairs.S[pairs.newest])),
    "gamma of the oldest pair": scaled(lambda pairs: pairs.gammas[0]),
    "the loops in the opposite order": loops_turned,
}


def memoryless(call: Call) -> tuple[Array, Any]:
    """Update gamma I at each step."""
    updated = call.method.updated

    def from_identity(H: Array, s: Array, y: Array) -> Array:
        gamma = 1.0 if call.hyper["start"] == "identity" else float(s @ y) / float(y @ y)
        return updated(
            (max(1.0, gamma) if call.hyper["start"] == "raised" else gamma) * np.eye(len(s), dtype=s.dtype), s, y
        )

    with mock.patch.object(call.method, "updated", from_identity):
        return call()


BFGS: dict[str, Rule] = {"DFP's update": replaced("updated", dfp), "H made anew at each step": memoryless}
NONLINEAR_CG: dict[str, Rule] = {
    "PR without the 0": replaced("conjugacy", lambda formula, p, g, new: float(new @ (new - g)) / float(g @ g)),
    "beta over the new gradient": replaced(
        "conjugacy", lambda formula, p, g, new: max(0.0, float(new @ (new - g)) / float(new @ new))
    ),
}
