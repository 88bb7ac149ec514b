"""A dense layer."""

# ruff: noqa: D102 (the passes are described once, in layer.py)

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from backends import random
from backends.arrays import Array, namespace
from problems.networks.layers.layer import Parts


@dataclass(frozen=True)
class Dense:
    """z = a W + b, or a W where `bias` is False.

    W (d_in, d_out) and b (d_out,) lie one after the other in the flat vector, so together they are the homogeneous
    matrix (d_in + 1, d_out) that acts on [a, 1].
    """

    d_in: int
    d_out: int
    bias: bool = True
    kind = "dense"
    gain = 1.0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        W = (self.d_in, self.d_out)
        return {"W": W, "b": (self.d_out,)} if self.bias else {"W": W}

    def init(self, like: Array, seed: int, purpose: str, gain: float) -> dict[str, Array]:
        """Draw W with variance gain^2 / d_in; b is zero."""
        W = random.normal(self.shapes["W"], seed=seed, k=0, purpose=purpose, like=like)
        W = (gain / math.sqrt(self.d_in)) * W
        return {"W": W, "b": namespace(W).zeros_like(W[0, :])} if self.bias else {"W": W}

    def apply(self, p: Parts, a: Array) -> Array:
        z = a @ p["W"]
        if self.bias:
            z += p["b"][..., None, :]  # into the product, which is nobody else's yet
        return z

    def forward(self, p: Parts, a: Array) -> tuple[Array, Any]:
        return self.apply(p, a), (a, p["W"])

    def backward(self, cache: Any, gz: Array, *, to_input: bool = True) -> tuple[Array | None, Any]:
        _, W = cache
        return gz @ namespace(W).matrix_transpose(W) if to_input else None, gz

    def gradients(self, cache: Any, back: Any) -> Parts:
        (a, _), gz = cache, back
        return self._with_bias(namespace(gz).matrix_transpose(a) @ gz, gz)

    def squared_backward(self, cache: Any, hz: Array, *, to_input: bool = True) -> tuple[Array | None, Parts]:
        a, W = cache
        ha, _ = self.backward((a, W * W), hz, to_input=to_input)
        return ha, self.gradients((a * a, W), hz)

    def r_forward(self, cache: Any, rp: Parts, ra: Array | None) -> tuple[Array, Any]:
        a, W = cache
        if ra is None:
            return self.apply(rp, a), (ra, rp["W"])
        rz = ra @ W
        rz += self.apply(rp, a)
        return rz, (ra, rp["W"])

    def r_backward(self, cache: Any, back: Any, r_cache: Any, rgz: Array) -> tuple[Array | None, Parts]:
        (a, W), gz, (ra, rW) = cache, back, r_cache
        if ra is None:
            return None, self.gradients(cache, rgz)
        xp = namespace(rgz)
        rga = rgz @ xp.matrix_transpose(W) + gz @ xp.matrix_transpose(rW)
        rgW = xp.matrix_transpose(a) @ rgz + xp.matrix_transpose(ra) @ gz
        return rga, self._with_bias(rgW, rgz)

    def factors(self, cache: Any, back: Any) -> dict[str, tuple[Array, Array]]:
        a, _ = cache
        xp = namespace(a)
        return {"": (xp.concat([a, xp.ones_like(a[..., :1])], axis=-1) if self.bias else a, back)}

    def _with_bias(self, gW: Array, gz: Array) -> dict[str, Array]:
        """Return the gradients by W and, where there is one, by b: the sum of the rows gz."""
        return {"W": gW, "b": namespace(gz).sum(gz, axis=-2)} if self.bias else {"W": gW}
