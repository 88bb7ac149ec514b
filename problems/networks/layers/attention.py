"""Causal attention."""

# ruff: noqa: D102 (the passes are described once, in layer.py)

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from backends.arrays import Array, device, namespace
from problems.networks.layers.activation import softmax
from problems.networks.layers.layer import Parts
from refopt.status import require


@dataclass(frozen=True)
class Attention:
    """z_t = sum over s <= t of A_ts v_s, head by head, for a = [q, k, v] (..., batch, T, 3 d) and z (..., batch, T, d).

        S_ts = q_t . k_s / sqrt(d / heads),    A_t = softmax of S_t over the positions s <= t

    Each head has its d / heads features of q, k and v. The layer has no parameters: self-attention is this between two
    dense layers, PerPosition(Dense(d, 3 d)) and PerPosition(Dense(d, d)).
    Cost: 2 batch T^2 d multiplications to apply, 4 backward; memory: batch heads T^2 for A.
    Source: A. Vaswani et al., NeurIPS 2017, arXiv:1706.03762.
    """

    heads: int = 1
    kind = "attention"
    gain = 1.0

    def __post_init__(self) -> None:
        require(self.heads >= 1, "heads must be at least 1", self.heads)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {}

    def init(self, like: Array, seed: int, purpose: str, gain: float) -> dict[str, Array]:
        return {}

    def apply(self, p: Parts, a: Array) -> Array:
        return self.forward(p, a)[0]

    def forward(self, p: Parts, a: Array) -> tuple[Array, Any]:
        q, k, v = self._split(a)
        S = self._scale(q) * (q @ _T(k))
        xp, T = namespace(S), S.shape[-1]
        past = xp.tril(xp.ones((T, T), dtype=xp.bool, device=device(S)))
        A = softmax(xp.where(past, S, xp.full_like(S, -math.inf)))
        z = A @ v
        return _join(z), (q, k, v, A, z)

    def backward(self, cache: Any, gz: Array, *, to_input: bool = True) -> tuple[Array | None, Any]:
        if not to_input:
            return None, None
        q, k, v, A, _ = cache
        (gz,) = self._split(gz, parts=1)
        gA = gz @ _T(v)
        gS = self._scale(q) * A * (gA - _sum(A * gA))
        return _join(gS @ k, _T(gS) @ q, _T(A) @ gz), (gz, gA, gS)

    def gradients(self, cache: Any, back: Any) -> Parts:
        return {}

    def squared_backward(self, cache: Any, hz: Array, *, to_input: bool = True) -> tuple[Array | None, Parts]:
        if not to_input:
            return None, {}
        q, k, v, A, z = cache
        (hz,) = self._split(hz, parts=1)
        # The squares of dz_ti/dv_si = A_ts,  dz_ti/dk_sj = c A_ts (v_si - z_ti) q_tj  and  dz_ti/dq_tj = c sum_s A_ts
        # (v_si - z_ti) k_sj,  c = sqrt(heads / d); the last takes batch heads T (d / heads)^2 numbers of memory.
        cc, xp = self._scale(q) ** 2, namespace(z)
        hS = A * A * (hz @ _T(v * v) - 2.0 * (hz * z) @ _T(v) + _sum(hz * z * z))
        vk = v[..., None] * k[..., None, :]
        Avk = xp.reshape(A @ xp.reshape(vk, (*v.shape[:-1], -1)), vk.shape)
        dz_dq = Avk - z[..., None] * (A @ k)[..., None, :]
        hq = xp.sum(hz[..., None] * dz_dq * dz_dq, axis=-2)
        return _join(cc * hq, cc * (_T(hS) @ (q * q)), _T(A * A) @ hz), {}

    def r_forward(self, cache: Any, rp: Parts, ra: Array | None) -> tuple[Array | None, Any]:
        if ra is None:
            return None, None
        q, k, v, A, _ = cache
        rq, rk, rv = self._split(ra)
        rS = self._scale(q) * (rq @ _T(k) + q @ _T(rk))
        rA = A * (rS - _sum(A * rS))
        return _join(rA @ v + A @ rv), (rq, rk, rv, rA)

    def r_backward(self, cache: Any, back: Any, r_cache: Any, rgz: Array) -> tuple[Array | None, Parts]:
        if r_cache is None:
            return None, {}
        (q, k, v, A, _), (gz, gA, gS), (rq, rk, rv, rA) = cache, back, r_cache
        (rgz,) = self._split(rgz, parts=1)
        rgA = rgz @ _T(v) + gz @ _T(rv)
        rgS = self._scale(q) * (rA * (gA - _sum(A * gA)) + A * (rgA - _sum(rA * gA + A * rgA)))
        rgq = rgS @ k + gS @ rk
        rgk = _T(rgS) @ q + _T(gS) @ rq
        return _join(rgq, rgk, _T(rA) @ gz + _T(A) @ rgz), {}

    def factors(self, cache: Any, back: Any) -> dict[str, tuple[Array, Array]]:
        return {}

    def _split(self, a: Array, parts: int = 3) -> list[Array]:
        """Return the parts of a (..., batch, T, parts d) by heads, each (..., batch, heads, T, d / heads)."""
        *lead, T, width = a.shape
        cut = parts * self.heads
        require(
            width % cut == 0, f"the features must be a multiple of {cut}: {parts} parts of {self.heads} heads", width
        )
        xp = namespace(a)
        by_head = xp.moveaxis(xp.reshape(a, (*lead, T, parts, self.heads, width // cut)), -4, -2)
        return [by_head[..., i, :, :, :] for i in range(parts)]

    def _scale(self, q: Array) -> float:
        return 1.0 / math.sqrt(q.shape[-1])


def _join(*parts: Array) -> Array:
    """Return (..., batch, T, parts d) of parts by heads, the inverse of `Attention._split`."""
    xp = namespace(*parts)
    by_position = [xp.moveaxis(part, -3, -2) for part in parts]
    return xp.concat([xp.reshape(part, (*part.shape[:-2], -1)) for part in by_position], axis=-1)


def _T(a: Array) -> Array:
    return namespace(a).matrix_transpose(a)


def _sum(a: Array) -> Array:
    return namespace(a).sum(a, axis=-1, keepdims=True)
