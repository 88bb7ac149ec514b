"""Layers one after the other."""

# ruff: noqa: D102 (the passes are described once, in layer.py)

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from backends.arrays import Array
from problems.networks.layers.layer import NetworkLayer, Parts
from refopt.status import require

T = TypeVar("T")


class Stack:
    """Layers one after the other; itself a layer.

    The layers are named by kind and count, so the parameters of `Stack(Dense(64, 32), tanh, Dense(32, 10))` are
    dense1.W, dense1.b, dense2.W, dense2.b.
    """

    kind = "stack"

    def __init__(self, *layers: NetworkLayer) -> None:
        require(len(layers) > 0, "a stack needs at least one layer", layers)
        kinds = [layer.kind for layer in layers]
        self.layers = {f"{kind}{kinds[: i + 1].count(kind)}": layers[i] for i, kind in enumerate(kinds)}
        self.shapes = _named({name: layer.shapes for name, layer in self.layers.items()})
        self.gain = next((layer.gain for layer in layers if layer.gain is not None), None)

    def init(self, like: Array, seed: int, purpose: str = "network", gain: float = 1.0) -> dict[str, Array]:
        """Draw all parameters; a layer's gain is that of the next layer that has one, the last one's is `gain`."""
        parts = {}
        for name, layer in reversed(self.layers.items()):
            parts[name] = layer.init(like, seed, f"{purpose}.{name}", gain)
            gain = gain if layer.gain is None else layer.gain
        return _named({name: parts[name] for name in self.layers})

    def apply(self, p: Parts, a: Array) -> Array:
        for name, layer in self.layers.items():
            a = layer.apply(_parts_of(name, layer, p), a)
        return a

    def forward(self, p: Parts, a: Array) -> tuple[Array, Any]:
        cache = {}
        for name, layer in self.layers.items():
            a, cache[name] = layer.forward(_parts_of(name, layer, p), a)
        return a, cache

    def backward(self, cache: Any, gz: Array, *, to_input: bool = True) -> tuple[Array | None, Any]:
        back = {}
        first, g = next(iter(self.layers)), gz
        for name, layer in reversed(self.layers.items()):
            g, back[name] = layer.backward(cache[name], g, to_input=to_input or name != first)
        return g, back

    def gradients(self, cache: Any, back: Any) -> Parts:
        return _named({name: layer.gradients(cache[name], back[name]) for name, layer in self.layers.items()})

    def squared_backward(self, cache: Any, hz: Array, *, to_input: bool = True) -> tuple[Array | None, Parts]:
        hp = {}
        first, h = next(iter(self.layers)), hz
        for name, layer in reversed(self.layers.items()):
            h, hp[name] = layer.squared_backward(cache[name], h, to_input=to_input or name != first)
        return h, _named(hp)

    def r_forward(self, cache: Any, rp: Parts, ra: Array | None) -> tuple[Array | None, Any]:
        r_cache = {}
        for name, layer in self.layers.items():
            ra, r_cache[name] = layer.r_forward(cache[name], _parts_of(name, layer, rp), ra)
        return ra, r_cache

    def r_backward(self, cache: Any, back: Any, r_cache: Any, rgz: Array) -> tuple[Array | None, Parts]:
        rgp = {}
        rg = rgz
        for name, layer in reversed(self.layers.items()):
            rg, rgp[name] = layer.r_backward(cache[name], back[name], r_cache[name], rg)
        return rg, _named(rgp)

    def factors(self, cache: Any, back: Any) -> dict[str, tuple[Array, Array]]:
        return _named({name: layer.factors(cache[name], back[name]) for name, layer in self.layers.items()})


def _parts_of(name: str, layer: NetworkLayer, p: Parts) -> Parts:
    return {part: p[f"{name}.{part}"] for part in layer.shapes}


def _named(by_layer: Mapping[str, Mapping[str, T]]) -> dict[str, T]:
    """Return {layer.part: value} of {layer: {part: value}}; the part "" is the layer's own."""
    return {f"{name}.{part}" if part else name: v for name, own in by_layer.items() for part, v in own.items()}
