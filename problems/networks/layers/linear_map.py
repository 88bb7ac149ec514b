"""Linear maps without parameters: pooling and flattening."""

# ruff: noqa: D102 (the passes are described once, in layer.py)

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from backends.arrays import Array, namespace
from problems.networks.layers.layer import Parts
from refopt.status import require


class LinearMap(ABC):
    """z = P a, each entry of P being 0 or one number, `weight`; the passes are P and its transpose."""

    gain = None

    @abstractmethod
    def apply(self, p: Parts, a: Array) -> Array: ...

    @abstractmethod
    def transpose(self, gz: Array, features: tuple[int, ...]) -> Array:
        """Return P^T gz, with the shape (height, width, c) of a map before P."""

    @abstractmethod
    def weight(self, features: tuple[int, ...]) -> float:
        """Return the entries of P that are not 0."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {}

    def init(self, like: Array, seed: int, purpose: str, gain: float) -> dict[str, Array]:
        return {}

    def forward(self, p: Parts, a: Array) -> tuple[Array, Any]:
        return self.apply(p, a), a.shape[-3:]

    def backward(self, cache: Any, gz: Array, *, to_input: bool = True) -> tuple[Array | None, Any]:
        return self.transpose(gz, cache) if to_input else None, None

    def gradients(self, cache: Any, back: Any) -> Parts:
        return {}

    def squared_backward(self, cache: Any, hz: Array, *, to_input: bool = True) -> tuple[Array | None, Parts]:
        return self.weight(cache) * self.transpose(hz, cache) if to_input else None, {}

    def r_forward(self, cache: Any, rp: Parts, ra: Array | None) -> tuple[Array | None, Any]:
        return None if ra is None else self.apply(rp, ra), ra is not None

    def r_backward(self, cache: Any, back: Any, r_cache: Any, rgz: Array) -> tuple[Array | None, Parts]:
        return self.transpose(rgz, cache) if r_cache else None, {}

    def factors(self, cache: Any, back: Any) -> dict[str, tuple[Array, Array]]:
        return {}


@dataclass(frozen=True)
class Flatten(LinearMap):
    """Maps (..., batch, height, width, c) as rows (..., batch, height width c)."""

    kind = "flatten"

    def apply(self, p: Parts, a: Array) -> Array:
        return namespace(a).reshape(a, (*a.shape[:-3], math.prod(a.shape[-3:])))

    def transpose(self, gz: Array, features: tuple[int, ...]) -> Array:
        return namespace(gz).reshape(gz, (*gz.shape[:-1], *features))

    def weight(self, features: tuple[int, ...]) -> float:
        return 1.0


@dataclass(frozen=True)
class GlobalAveragePool(LinearMap):
    """The mean over the positions: maps (..., batch, height, width, c) become rows (..., batch, c)."""

    kind = "global_pool"

    def apply(self, p: Parts, a: Array) -> Array:
        return namespace(a).mean(a, axis=(-3, -2))

    def transpose(self, gz: Array, features: tuple[int, ...]) -> Array:
        shared = self.weight(features) * gz
        return namespace(gz).broadcast_to(shared[..., None, None, :], (*gz.shape[:-1], *features))

    def weight(self, features: tuple[int, ...]) -> float:
        return 1.0 / (features[0] * features[1])


@dataclass(frozen=True)
class AveragePool(LinearMap):
    """The mean of each tile of size x size: maps (..., batch, height, width, c) shrink by `size`, which divides both.

    Raises ValueError where it does not.
    """

    size: int = 2
    kind = "pool"

    def __post_init__(self) -> None:
        require(self.size >= 1, "size must be at least 1", self.size)

    def apply(self, p: Parts, a: Array) -> Array:
        *lead, height, width, c = a.shape
        s = self.size
        require(height % s == width % s == 0, f"the maps' sides must be multiples of {s}", (height, width))
        xp = namespace(a)
        return xp.mean(xp.reshape(a, (*lead, height // s, s, width // s, s, c)), axis=(-4, -2))

    def transpose(self, gz: Array, features: tuple[int, ...]) -> Array:
        xp, s = namespace(gz), self.size
        *lead, height, width, c = gz.shape
        shared = self.weight(features) * gz
        tiles = xp.broadcast_to(shared[..., :, None, :, None, :], (*lead, height, s, width, s, c))
        return xp.reshape(tiles, (*lead, *features))

    def weight(self, features: tuple[int, ...]) -> float:
        return 1.0 / self.size**2
