"""Two-dimensional convolution, as a dense layer of patches."""

# ruff: noqa: D102 (the passes are described once, in layer.py)

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

from backends.arrays import Array, device, namespace
from problems.networks.layers.dense import Dense
from problems.networks.layers.layer import Parts
from refopt.status import require


@dataclass(frozen=True)
class Conv2d:
    """z_t = patch_t W + b at each position t, for maps a (..., batch, height, width, c_in).

    patch_t are the kernel x kernel pixels of all channels that begin `stride` times t, in the map with `padding` rows
    and columns of zeros on each side. W is (kernel kernel c_in, c_out), its rows in the order of the patch: row,
    column, channel; with b (c_out,) after it, unless `bias` is False, one homogeneous matrix, as in `Dense`. The
    outputs are (..., batch, height', width', c_out) with height' = (height + 2 padding - kernel) // stride + 1. As in
    the field, the kernel is not turned round: a correlation.

    With unfold (..., batch, T, kernel kernel c_in) all patches, every pass is that of `Dense` on batch T rows, but for
    the input's gradient, which is folded: unfold transposed. Cost: batch T kernel^2 c_in c_out multiplications a pass;
    memory: the patches, kernel^2 / stride^2 maps.
    """

    c_in: int
    c_out: int
    kernel: int = 3
    stride: int = 1
    padding: int = 0
    bias: bool = True
    kind = "conv"
    gain = 1.0

    def __post_init__(self) -> None:
        for name in ("c_in", "c_out", "kernel", "stride"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1", getattr(self, name))
        require(self.padding >= 0, "padding must be at least 0", self.padding)

    @cached_property
    def dense(self) -> Dense:
        """The layer that acts on each patch."""
        return Dense(self.kernel**2 * self.c_in, self.c_out, self.bias)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self.dense.shapes

    def init(self, like: Array, seed: int, purpose: str, gain: float) -> dict[str, Array]:
        """Draw W with variance gain^2 / (kernel kernel c_in); b is zero."""
        return self.dense.init(like, seed, purpose, gain)

    def unfold(self, a: Array) -> Array:
        """Return the patches (..., batch height' width', kernel kernel c_in) of maps (..., batch, height, width, c_in).

        Raises ValueError where the maps are too small or have other channels.
        """
        *lead, batch, _, _, _ = a.shape
        height, width = self._positions(a.shape)
        xp = namespace(a)
        padded = self._padded(a)
        patches = xp.stack([padded[..., rows, columns, :] for rows, columns in self._offsets(a.shape)], axis=-2)
        return xp.reshape(patches, (*lead, batch * height * width, self.dense.d_in))

    def fold(self, gz: Array, W: Array, shape: tuple[int, ...]) -> Array:
        """Return ga (..., batch, height, width, c_in) of `shape`: patches gz W^T, each pixel summed over its places.

        gz is (..., batch height' width', c_out), W (..., kernel kernel c_in, c_out). One pixel of the kernel at a time:
        its products lie side by side, as the maps do, where those of whole patches would be added a few at a time.
        """
        batch, height, width, c = shape[-4:]
        lead, p, xp = max(gz.shape[:-2], W.shape[:-2], key=len), self.padding, namespace(gz)
        W = xp.reshape(W, (*W.shape[:-2], self.kernel**2, c, -1))
        padded = xp.zeros((*lead, batch, height + 2 * p, width + 2 * p, c), dtype=gz.dtype, device=device(gz))
        for i, (rows, columns) in enumerate(self._offsets(shape)):
            pixels = gz @ xp.matrix_transpose(W[..., i, :, :])
            padded[..., rows, columns, :] += xp.reshape(pixels, (*lead, batch, *self._positions(shape), c))
        return padded[..., p : p + height, p : p + width, :]

    def apply(self, p: Parts, a: Array) -> Array:
        return self._maps(self.dense.apply(p, self.unfold(a)), a.shape)

    def forward(self, p: Parts, a: Array) -> tuple[Array, Any]:
        rows, cache = self.dense.forward(p, self.unfold(a))
        return self._maps(rows, a.shape), (cache, a.shape)

    def backward(self, cache: Any, gz: Array, *, to_input: bool = True) -> tuple[Array | None, Any]:
        (_, W), shape = cache
        rows = self._rows(gz)
        return self.fold(rows, W, shape) if to_input else None, rows

    def gradients(self, cache: Any, back: Any) -> Parts:
        return self.dense.gradients(cache[0], back)

    def squared_backward(self, cache: Any, hz: Array, *, to_input: bool = True) -> tuple[Array | None, Parts]:
        (patches, W), shape = cache
        rows = self._rows(hz)
        _, hp = self.dense.squared_backward((patches, W), rows, to_input=False)
        return self.fold(rows, W * W, shape) if to_input else None, hp

    def r_forward(self, cache: Any, rp: Parts, ra: Array | None) -> tuple[Array, Any]:
        dense_cache, shape = cache
        rz, r_cache = self.dense.r_forward(dense_cache, rp, None if ra is None else self.unfold(ra))
        return self._maps(rz, shape), r_cache

    def r_backward(self, cache: Any, back: Any, r_cache: Any, rgz: Array) -> tuple[Array | None, Parts]:
        (patches, W), shape = cache
        gz, (r_patches, rW), r_rows = back, r_cache, self._rows(rgz)
        rgp = self.dense.gradients((patches, W), r_rows)
        if r_patches is None:
            return None, rgp
        rgW = rgp["W"] + namespace(gz).matrix_transpose(r_patches) @ gz
        return self.fold(r_rows, W, shape) + self.fold(gz, rW, shape), {**rgp, "W": rgW}

    def factors(self, cache: Any, back: Any) -> dict[str, tuple[Array, Array]]:
        dense_cache, shape = cache
        xp = namespace(back)
        return {
            name: tuple(xp.reshape(rows, (*rows.shape[:-2], shape[-4], -1, rows.shape[-1])) for rows in pair)
            for name, pair in self.dense.factors(dense_cache, back).items()
        }

    def _positions(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return (height', width') of maps of that shape."""
        require(shape[-1] == self.c_in, f"the maps must have {self.c_in} channels", shape[-1])
        height, width = ((size + 2 * self.padding - self.kernel) // self.stride + 1 for size in shape[-3:-1])
        require(height >= 1 and width >= 1, f"the maps must hold a patch of {self.kernel} x {self.kernel}", shape)
        return height, width

    def _offsets(self, shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
        """Return, for each pixel of the kernel, the rows and columns where it lies in the patches."""
        height, width = self._positions(shape)
        s = self.stride
        return [
            (slice(i, i + s * (height - 1) + 1, s), slice(j, j + s * (width - 1) + 1, s))
            for i, j in product(range(self.kernel), repeat=2)
        ]

    def _padded(self, a: Array) -> Array:
        if self.padding == 0:
            return a
        *lead, height, width, c = a.shape
        p = self.padding
        padded = namespace(a).zeros((*lead, height + 2 * p, width + 2 * p, c), dtype=a.dtype, device=device(a))
        padded[..., p : p + height, p : p + width, :] = a
        return padded

    def _maps(self, rows: Array, shape: tuple[int, ...]) -> Array:
        """Return rows (..., batch T, c_out) as maps."""
        return namespace(rows).reshape(rows, (*rows.shape[:-2], shape[-4], *self._positions(shape), self.c_out))

    def _rows(self, maps: Array) -> Array:
        """Return maps (..., batch, height', width', c_out) as rows, the inverse of `_maps`."""
        return namespace(maps).reshape(maps, (*maps.shape[:-4], -1, self.c_out))
