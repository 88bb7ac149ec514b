"""One number for a whole layer: the biases and multipliers of Fixup."""

# ruff: noqa: D102 (the passes are described once, in layer.py)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from backends.arrays import Array, array_like, namespace
from problems.networks.layers.layer import Parts
from refopt.status import require


@dataclass(frozen=True)
class _Scalar:
    """A parameter of shape (1, ..., 1), one axis for the batch and each axis of features: it broadcasts by itself."""

    axes: int = 2  # 2 for rows (batch, d), 4 for maps (batch, height, width, c)
    gain = None
    letter: ClassVar[str]
    start: ClassVar[float]

    def __post_init__(self) -> None:
        require(self.axes >= 2, "axes must be at least 2", self.axes)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {self.letter: (1,) * self.axes}

    def init(self, like: Array, seed: int, purpose: str, gain: float) -> dict[str, Array]:
        """Return the scalar as it starts."""
        return {self.letter: array_like(np.full((1,) * self.axes, self.start), like)}

    def total(self, g: Array) -> Array:
        """Return the sum over batch and features, in the parameter's shape."""
        return namespace(g).sum(g, axis=tuple(range(-self.axes, 0)), keepdims=True)

    def per_example(self, g: Array) -> tuple[Array, Array]:
        """Return the factors ((..., batch, 1) of ones, (..., batch, 1)) of a scalar with the gradient `total(g)`."""
        xp = namespace(g)
        rows = xp.reshape(g, (*g.shape[: g.ndim - self.axes + 1], -1))
        summed = xp.sum(rows, axis=-1, keepdims=True)
        return xp.ones_like(summed), summed


@dataclass(frozen=True)
class Bias(_Scalar):
    """z = a + b, one number b, which is 0 at first."""

    kind = "bias"
    letter = "b"
    start = 0.0

    def apply(self, p: Parts, a: Array) -> Array:
        return a + p["b"]

    def forward(self, p: Parts, a: Array) -> tuple[Array, Any]:
        return self.apply(p, a), a

    def backward(self, cache: Any, gz: Array, *, to_input: bool = True) -> tuple[Array | None, Any]:
        return gz, gz

    def gradients(self, cache: Any, back: Any) -> Parts:
        return {"b": self.total(back)}

    def squared_backward(self, cache: Any, hz: Array, *, to_input: bool = True) -> tuple[Array | None, Parts]:
        return hz, {"b": self.total(hz)}

    def r_forward(self, cache: Any, rp: Parts, ra: Array | None) -> tuple[Array, Any]:
        return self.apply(rp, namespace(cache).zeros_like(cache) if ra is None else ra), None

    def r_backward(self, cache: Any, back: Any, r_cache: Any, rgz: Array) -> tuple[Array | None, Parts]:
        return rgz, {"b": self.total(rgz)}

    def factors(self, cache: Any, back: Any) -> dict[str, tuple[Array, Array]]:
        return {"": self.per_example(back)}


@dataclass(frozen=True)
class Multiplier(_Scalar):
    """z = m a, one number m, which is 1 at first."""

    kind = "multiplier"
    letter = "m"
    start = 1.0

    def apply(self, p: Parts, a: Array) -> Array:
        return p["m"] * a

    def forward(self, p: Parts, a: Array) -> tuple[Array, Any]:
        return self.apply(p, a), (a, p["m"])

    def backward(self, cache: Any, gz: Array, *, to_input: bool = True) -> tuple[Array | None, Any]:
        return cache[1] * gz, gz

    def gradients(self, cache: Any, back: Any) -> Parts:
        return {"m": self.total(cache[0] * back)}

    def squared_backward(self, cache: Any, hz: Array, *, to_input: bool = True) -> tuple[Array | None, Parts]:
        a, m = cache
        return m * m * hz, {"m": self.total(a * a * hz)}

    def r_forward(self, cache: Any, rp: Parts, ra: Array | None) -> tuple[Array, Any]:
        a, m = cache
        rz = rp["m"] * a
        return rz if ra is None else m * ra + rz, (ra, rp["m"])

    def r_backward(self, cache: Any, back: Any, r_cache: Any, rgz: Array) -> tuple[Array | None, Parts]:
        (a, m), gz, (ra, rm) = cache, back, r_cache
        if ra is None:
            return None, {"m": self.total(a * rgz)}
        return m * rgz + rm * gz, {"m": self.total(a * rgz + ra * gz)}

    def factors(self, cache: Any, back: Any) -> dict[str, tuple[Array, Array]]:
        return {"": self.per_example(cache[0] * back)}
