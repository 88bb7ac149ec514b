"""One layer at every position of a sequence, with the same weights."""

# ruff: noqa: D102 (the passes are described once, in layer.py)

from __future__ import annotations

from typing import Any

from backends.arrays import Array, namespace
from problems.networks.layers.layer import NetworkLayer, Parts


class PerPosition:
    """z_t = layer(a_t) at each position t, for sequences a (..., batch, T, d) and a layer of rows (..., batch, d).

    To the layer, batch and positions are batch T rows. Its parameters and its kind are the layer's, so a dense one is
    called dense1. As T positions share the weights, its factors are (batch, T, d_in + 1) and (batch, T, d_out).
    """

    def __init__(self, layer: NetworkLayer) -> None:
        self.layer, self.layers = layer, {"": layer}
        self.kind, self.gain, self.shapes = layer.kind, layer.gain, layer.shapes

    def init(self, like: Array, seed: int, purpose: str, gain: float) -> dict[str, Array]:
        return self.layer.init(like, seed, purpose, gain)

    def apply(self, p: Parts, a: Array) -> Array:
        return _sequences(self.layer.apply(p, rows(a)), a.shape[-3:-1])

    def forward(self, p: Parts, a: Array) -> tuple[Array, Any]:
        z, cache = self.layer.forward(p, rows(a))
        shape = a.shape[-3:-1]
        return _sequences(z, shape), (cache, shape)

    def backward(self, cache: Any, gz: Array, *, to_input: bool = True) -> tuple[Array | None, Any]:
        own, shape = cache
        ga, back = self.layer.backward(own, rows(gz), to_input=to_input)
        return None if ga is None else _sequences(ga, shape), back

    def gradients(self, cache: Any, back: Any) -> Parts:
        return self.layer.gradients(cache[0], back)

    def squared_backward(self, cache: Any, hz: Array, *, to_input: bool = True) -> tuple[Array | None, Parts]:
        own, shape = cache
        ha, hp = self.layer.squared_backward(own, rows(hz), to_input=to_input)
        return None if ha is None else _sequences(ha, shape), hp

    def r_forward(self, cache: Any, rp: Parts, ra: Array | None) -> tuple[Array | None, Any]:
        own, shape = cache
        rz, r_cache = self.layer.r_forward(own, rp, None if ra is None else rows(ra))
        return None if rz is None else _sequences(rz, shape), r_cache

    def r_backward(self, cache: Any, back: Any, r_cache: Any, rgz: Array | None) -> tuple[Array | None, Parts]:
        own, shape = cache
        rga, rgp = self.layer.r_backward(own, back, r_cache, None if rgz is None else rows(rgz))
        return None if rga is None else _sequences(rga, shape), rgp

    def factors(self, cache: Any, back: Any) -> dict[str, tuple[Array, Array]]:
        own, shape = cache
        return {
            name: (_sequences(inputs, shape), _sequences(gz, shape))
            for name, (inputs, gz) in self.layer.factors(own, back).items()
        }


def rows(a: Array) -> Array:
    """Return sequences (..., batch, T, d) as rows (..., batch T, d)."""
    *lead, batch, T, d = a.shape
    return namespace(a).reshape(a, (*lead, batch * T, d))


def _sequences(a: Array, shape: tuple[int, ...]) -> Array:
    """Return rows (..., batch T, d) as sequences, the inverse of `rows`; `shape` is (batch, T)."""
    *lead, _, d = a.shape
    return namespace(a).reshape(a, (*lead, *shape, d))
