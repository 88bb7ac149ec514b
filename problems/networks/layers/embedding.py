"""An embedding of integer codes and of their positions."""

# ruff: noqa: D102 (the passes are described once, in layer.py)

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from backends import random
from backends.arrays import Array, device, namespace
from problems.networks.layers.layer import Parts
from problems.networks.layers.per_position import rows
from refopt.status import require


@dataclass(frozen=True)
class Embedding:
    """z_t = E[code_t] + P[t], for integer codes (..., batch, T) in [0, codes), T being at most `length`.

    E (codes, d) and P (length, d) lie one after the other in the flat vector: together they are the matrix that acts on
    the one-hot [code_t, t], which are the inputs in its factors. Codes have no gradient, so the layer can only be the
    first. Cost: a product of batch T (codes + length) d for the gradient, none to look up.
    """

    codes: int
    length: int
    d: int
    kind = "embedding"
    gain = 1.0

    def __post_init__(self) -> None:
        for name in ("codes", "length", "d"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1", getattr(self, name))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"E": (self.codes, self.d), "P": (self.length, self.d)}

    def init(self, like: Array, seed: int, purpose: str, gain: float) -> dict[str, Array]:
        """Draw E and P with variance gain^2 / 2, so that z has gain^2."""
        return {
            name: gain / math.sqrt(2.0) * random.normal(shape, seed=seed, k=0, purpose=f"{purpose}.{name}", like=like)
            for name, shape in self.shapes.items()
        }

    def apply(self, p: Parts, a: Array) -> Array:
        E, P, T = p["E"], p["P"], a.shape[-1]
        xp = namespace(E, a)
        if not xp.isdtype(a.dtype, "integral"):
            raise TypeError(f"embedding takes integer codes, and so is the first layer; got dtype {a.dtype}")
        require(self.length >= T, f"sequences must have at most {self.length} positions", T)
        found = xp.take(E, xp.reshape(a, (-1,)), axis=-2)
        return xp.reshape(found, (*E.shape[:-2], *a.shape, self.d)) + P[..., None, :T, :]

    def forward(self, p: Parts, a: Array) -> tuple[Array, Any]:
        return self.apply(p, a), a

    def backward(self, cache: Any, gz: Array, *, to_input: bool = True) -> tuple[Array | None, Any]:
        return None, gz

    def gradients(self, cache: Any, back: Any) -> Parts:
        M = namespace(back).matrix_transpose(rows(self._one_hot(cache, back))) @ rows(back)
        return {"E": M[..., : self.codes, :], "P": M[..., self.codes :, :]}

    def squared_backward(self, cache: Any, hz: Array, *, to_input: bool = True) -> tuple[Array | None, Parts]:
        return None, self.gradients(cache, hz)

    def r_forward(self, cache: Any, rp: Parts, ra: Array | None) -> tuple[Array, Any]:
        return self.apply(rp, cache), None

    def r_backward(self, cache: Any, back: Any, r_cache: Any, rgz: Array) -> tuple[Array | None, Parts]:
        return None, self.gradients(cache, rgz)

    def factors(self, cache: Any, back: Any) -> dict[str, tuple[Array, Array]]:
        return {"": (self._one_hot(cache, back), back)}

    def _one_hot(self, a: Array, like: Array) -> Array:
        """Return [code_t, t] one-hot, (..., batch, T, codes + length), in the dtype of `like`."""
        xp = namespace(a, like)
        each = xp.arange(self.codes, dtype=a.dtype, device=device(a))
        code = xp.astype(xp.expand_dims(a, axis=-1) == each, like.dtype)
        t = xp.eye(a.shape[-1], self.length, dtype=like.dtype, device=device(a))
        return xp.concat([code, xp.broadcast_to(t, (*a.shape, self.length))], axis=-1)
