"""Layer normalisation."""

# ruff: noqa: D102 (the passes are described once, in layer.py)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from backends.arrays import Array, array_like, namespace
from problems.networks.layers.layer import Parts
from refopt.status import require


@dataclass(frozen=True)
class LayerNorm:
    """z = g n + b, elementwise, with n = s (a - mean a) and s = 1 / sqrt(var a + eps), over the d features of a row.

    g (d,) is 1 and b (d,) is 0 at first. The tangent of n is its own transpose,

        N(u) = s (u - mean u - n mean(n u)),    and that of s is -s^2 mean(n u).

    Its factors are a constant 1 and the gradient by [g, b] of each row, a 1 x 2 d matrix: the block that they make is
    exact for rows, and for sequences with shared="reduce".
    Source: J. L. Ba, J. R. Kiros, G. E. Hinton, arXiv:1607.06450, 2016; eps is inside the root, as in torch.
    """

    d: int
    eps: float = 1e-5
    kind = "layer_norm"
    gain = 1.0

    def __post_init__(self) -> None:
        require(self.d >= 1, "d must be at least 1", self.d)
        require(self.eps > 0, "eps must be positive", self.eps)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"g": (self.d,), "b": (self.d,)}

    def init(self, like: Array, seed: int, purpose: str, gain: float) -> dict[str, Array]:
        return {"g": array_like(np.ones(self.d), like), "b": array_like(np.zeros(self.d), like)}

    def apply(self, p: Parts, a: Array) -> Array:
        return self.forward(p, a)[0]

    def forward(self, p: Parts, a: Array) -> tuple[Array, Any]:
        xp = namespace(a)
        centred = a - _mean(a)
        s = 1.0 / xp.sqrt(_mean(centred * centred) + self.eps)
        n, g = s * centred, _of_rows(p["g"])
        return g * n + _of_rows(p["b"]), (n, s, g)

    def backward(self, cache: Any, gz: Array, *, to_input: bool = True) -> tuple[Array | None, Any]:
        n, s, g = cache
        return _tangent(n, s, g * gz) if to_input else None, gz

    def gradients(self, cache: Any, back: Any) -> Parts:
        (n, _, _), gz = cache, back
        xp = namespace(gz)
        return {"g": xp.sum(n * gz, axis=-2), "b": xp.sum(gz, axis=-2)}

    def squared_backward(self, cache: Any, hz: Array, *, to_input: bool = True) -> tuple[Array | None, Parts]:
        n, s, g = cache
        hp = self.gradients((n * n, s, g), hz)
        if not to_input:
            return None, hp
        # s^2 sum_i h_i ( [i = j] - (1 + n_i n_j) / d )^2
        h, nn, d = g * g * hz, n * n, self.d
        shared = (_mean(h) + 2.0 * n * _mean(n * h) + nn * _mean(nn * h)) / d
        return s * s * (h * (1.0 - 2.0 * (1.0 + nn) / d) + shared), hp

    def r_forward(self, cache: Any, rp: Parts, ra: Array | None) -> tuple[Array, Any]:
        n, s, g = cache
        rg = _of_rows(rp["g"])
        rz = rg * n + _of_rows(rp["b"])
        if ra is None:
            return rz, None
        rn, rs = _tangent(n, s, ra), -s * s * _mean(n * ra)
        return g * rn + rz, (rn, rs, rg)

    def r_backward(self, cache: Any, back: Any, r_cache: Any, rgz: Array) -> tuple[Array | None, Parts]:
        (n, s, g), gz = cache, back
        rgp = self.gradients(cache, rgz)
        if r_cache is None:
            return None, rgp
        rn, rs, rg = r_cache
        gn, rgn = g * gz, rg * gz + g * rgz
        rga = _tangent(n, s, rgn) + _tangent(n, rs, gn) - s * (rn * _mean(n * gn) + n * _mean(rn * gn))
        return rga, {"g": rgp["g"] + namespace(gz).sum(rn * gz, axis=-2), "b": rgp["b"]}

    def factors(self, cache: Any, back: Any) -> dict[str, tuple[Array, Array]]:
        (n, _, _), gz = cache, back
        xp = namespace(gz)
        return {"": (xp.ones_like(gz[..., :1]), xp.concat([n * gz, gz], axis=-1))}


def _tangent(n: Array, s: Array, u: Array) -> Array:
    return s * (u - _mean(u) - n * _mean(n * u))


def _mean(a: Array) -> Array:
    return namespace(a).mean(a, axis=-1, keepdims=True)


def _of_rows(p: Array) -> Array:
    """Return parameters (..., d) so that they meet rows (..., batch, d)."""
    return p[..., None, :]
