"""A residual block: what the branch adds to its input."""

# ruff: noqa: D102 (the passes are described once, in layer.py)

from __future__ import annotations

from typing import Any

from backends.arrays import Array
from problems.networks.layers.layer import NetworkLayer, Parts
from problems.networks.layers.stack import Stack


class Residual:
    """z = a + branch(a), the branch being a stack of the layers given, which keeps the shape.

    Its parameters are the branch's: residual1.dense1.W.
    Source: K. He, X. Zhang, S. Ren, J. Sun, CVPR 2016, arXiv:1512.03385.
    """

    kind = "residual"
    gain = 1.0

    def __init__(self, *layers: NetworkLayer) -> None:
        self.branch = Stack(*layers)
        self.layers, self.shapes = self.branch.layers, self.branch.shapes

    def init(self, like: Array, seed: int, purpose: str, gain: float) -> dict[str, Array]:
        return self.branch.init(like, seed, purpose, gain)

    def apply(self, p: Parts, a: Array) -> Array:
        return a + self.branch.apply(p, a)

    def forward(self, p: Parts, a: Array) -> tuple[Array, Any]:
        z, cache = self.branch.forward(p, a)
        return a + z, cache

    def backward(self, cache: Any, gz: Array, *, to_input: bool = True) -> tuple[Array | None, Any]:
        ga, back = self.branch.backward(cache, gz, to_input=to_input)
        return gz + ga if to_input else None, back

    def gradients(self, cache: Any, back: Any) -> Parts:
        return self.branch.gradients(cache, back)

    def squared_backward(self, cache: Any, hz: Array, *, to_input: bool = True) -> tuple[Array | None, Parts]:
        ha, hp = self.branch.squared_backward(cache, hz, to_input=to_input)
        return hz + ha if to_input else None, hp

    def r_forward(self, cache: Any, rp: Parts, ra: Array | None) -> tuple[Array | None, Any]:
        rz, r_cache = self.branch.r_forward(cache, rp, ra)
        return rz if ra is None else ra + rz, r_cache

    def r_backward(self, cache: Any, back: Any, r_cache: Any, rgz: Array) -> tuple[Array | None, Parts]:
        rga, rgp = self.branch.r_backward(cache, back, r_cache, rgz)
        return None if rga is None else rgz + rga, rgp

    def factors(self, cache: Any, back: Any) -> dict[str, tuple[Array, Array]]:
        return self.branch.factors(cache, back)
