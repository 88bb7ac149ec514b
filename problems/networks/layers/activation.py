"""Elementwise activations with their two derivatives."""

# ruff: noqa: D102 (the passes are described once, in layer.py)

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from backends.arrays import Array, namespace
from problems.networks.layers.layer import Parts


@dataclass(frozen=True)
class Activation:
    """z = f(a), elementwise, with slope f' and bend f'' as functions of a and z; bend None where f'' = 0.

    `gain` keeps the spread of the activations from layer to layer: the weights before are drawn with variance
    gain^2 / d_in.
    """

    kind: str
    f: Callable[[Array], Array]
    slope: Callable[[Array, Array], Array]
    bend: Callable[[Array, Array], Array] | None
    gain: float = 1.0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {}

    def init(self, like: Array, seed: int, purpose: str, gain: float) -> dict[str, Array]:
        return {}

    def apply(self, p: Parts, a: Array) -> Array:
        return self.f(a)

    def forward(self, p: Parts, a: Array) -> tuple[Array, Any]:
        z = self.f(a)
        return z, (a, z, self.slope(a, z))

    def backward(self, cache: Any, gz: Array, *, to_input: bool = True) -> tuple[Array | None, Any]:
        _, _, slope = cache
        return slope * gz if to_input else None, gz

    def gradients(self, cache: Any, back: Any) -> Parts:
        return {}

    def squared_backward(self, cache: Any, hz: Array, *, to_input: bool = True) -> tuple[Array | None, Parts]:
        _, _, slope = cache
        return slope * slope * hz if to_input else None, {}

    def r_forward(self, cache: Any, rp: Parts, ra: Array | None) -> tuple[Array | None, Any]:
        _, _, slope = cache
        return None if ra is None else slope * ra, ra

    def r_backward(self, cache: Any, back: Any, r_cache: Any, rgz: Array) -> tuple[Array | None, Parts]:
        (a, z, slope), gz, ra = cache, back, r_cache
        if ra is None:
            return None, {}
        if self.bend is None:
            return slope * rgz, {}
        return slope * rgz + self.bend(a, z) * gz * ra, {}

    def factors(self, cache: Any, back: Any) -> dict[str, tuple[Array, Array]]:
        return {}


def logistic(a: Array) -> Array:
    """Return 1 / (1 + exp(-a)), to full relative accuracy and without overflow."""
    xp = namespace(a)
    e = xp.exp(-xp.abs(a))
    return xp.where(a >= 0, xp.ones_like(e), e) / (1.0 + e)


def softplus(a: Array) -> Array:
    """Return log(1 + exp(a)) without overflow."""
    xp = namespace(a)
    return xp.maximum(a, xp.zeros_like(a)) + xp.log1p(xp.exp(-xp.abs(a)))


def softmax(a: Array) -> Array:
    """Return exp a_j / sum_j exp a_j along the last axis, without overflow; an entry of -inf gives 0."""
    xp = namespace(a)
    e = xp.exp(a - xp.max(a, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def _logistic_slope(a: Array) -> Array:
    return logistic(a) * logistic(-a)


def gelu(a: Array) -> Array:
    """Return a logistic(y) = a/2 (1 + tanh(y/2)), y = sqrt(8/pi) (a + 0.044715 a^3).

    That is within 5e-4 of a Phi(a): the array API standard has no error function.
    Source: D. Hendrycks, K. Gimpel, arXiv:1606.08415, 2016, the form that torch calls approximate="tanh".
    """
    _, y, _, _ = _gelu_logit(a)
    return a * logistic(y)


def _gelu_logit(a: Array) -> tuple[Array, Array, Array, Array]:
    """Return a, y, y' and y'', with a first brought into [-10, 10]: beyond, logistic(y) is flat and y may overflow."""
    a = namespace(a).clip(a, -10.0, 10.0)
    c, k = math.sqrt(8.0 / math.pi), 0.044715
    return a, c * a * (1.0 + k * a * a), c * (1.0 + 3.0 * k * a * a), 6.0 * c * k * a


def _gelu_slope(a: Array) -> Array:
    a, y, dy, _ = _gelu_logit(a)
    return logistic(y) + a * _logistic_slope(y) * dy


def _gelu_bend(a: Array) -> Array:
    a, y, dy, ddy = _gelu_logit(a)
    return _logistic_slope(y) * (2.0 * dy + a * (ddy + dy * dy * (1.0 - 2.0 * logistic(y))))


ACTIVATIONS = {
    "tanh": Activation(
        "tanh",
        f=lambda a: namespace(a).tanh(a),
        slope=lambda a, z: 1.0 - z * z,
        bend=lambda a, z: 2.0 * z * (z * z - 1.0),
    ),
    "relu": Activation(
        "relu",
        f=lambda a: namespace(a).maximum(a, namespace(a).zeros_like(a)),
        slope=lambda a, z: namespace(a).astype(a > 0, a.dtype),
        bend=None,
        gain=math.sqrt(2.0),
    ),
    "softplus": Activation(
        "softplus", f=softplus, slope=lambda a, z: logistic(a), bend=lambda a, z: _logistic_slope(a)
    ),
    "logistic": Activation(
        "logistic",
        f=logistic,
        slope=lambda a, z: z * (1.0 - z),
        bend=lambda a, z: z * (1.0 - z) * (1.0 - 2.0 * z),
    ),
    "gelu": Activation(
        "gelu", f=gelu, slope=lambda a, z: _gelu_slope(a), bend=lambda a, z: _gelu_bend(a), gain=math.sqrt(2.0)
    ),
}
