"""Random numbers that are the same on every backend, and the same after a resume.

Draws come from a counter-based generator on the host (Philox4x64-10; Salmon, Moraes, Dror, Shaw, SC 2011),
keyed by a seed and a purpose and started at a counter block of its own for every step k. So a draw depends on
(seed, k, purpose) and on nothing that was drawn before: no generator state has to be stored or shared.
Numbers are drawn in float64, rounded to the dtype asked for, and moved to the device of `like`.
A seed is an integer in [0, 2**64).

``stream="device"`` draws on the GPU instead (CuPy only): faster, other numbers, so it is an explicit choice.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import array_api_compat
import numpy as np

from backends.arrays import Array, device, namespace

Shape: TypeAlias = int | tuple[int, ...]
Rows: TypeAlias = np.ndarray[Any, Any] | slice

_MASK = (1 << 64) - 1
_part: ContextVar[tuple[int, Rows] | None] = ContextVar("part", default=None)  # the size of a batch, and rows of it


def generator(seed: int, k: int, purpose: str) -> np.random.Generator:
    """Return the host generator of (seed, k, purpose). Raises ValueError for a seed outside [0, 2**64).

    The seed and the purpose make the 128-bit key; k is the top word of the 256-bit counter, so the streams of
    two steps are 2**192 draws apart.
    """
    if not 0 <= operator.index(seed) <= _MASK:
        raise ValueError(f"seed must be in [0, 2**64), got {seed}")
    tag = int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "little")
    if tag >> 63:
        tag = int(float(tag))  # the upper half of all tags in 53 bits: so were the numbers drawn that are on record
    philox = np.random.Philox(key=np.array([seed, tag], dtype=np.uint64), counter=[0, 0, 0, k & _MASK])
    return np.random.Generator(philox)


@contextmanager
def among(batch: int, rows: Rows) -> Iterator[None]:
    """Let a draw with a row for each of the `rows` of a `batch` be these rows of the draw for the whole batch.

    So the parts of a batch, wherever they are, draw together what one piece does. Inside, a draw of another shape
    raises ValueError.

    >>> whole = uniform((5, 2), seed=0, k=0, purpose="a", like=np.empty(0))
    >>> with among(5, np.array([3, 1])):
    ...     part = uniform((2, 2), seed=0, k=0, purpose="a", like=np.empty(0))
    >>> bool(np.all(part == whole[[3, 1]]))
    True
    """
    token = _part.set((batch, rows))
    try:
        yield
    finally:
        _part.reset(token)


def normal(shape: Shape, *, seed: int, k: int, purpose: str, like: Array, stream: str = "host") -> Array:
    """Draw independent standard normal numbers, with the dtype and on the device of `like`."""
    return _draw(lambda g, shape: g.standard_normal(shape), shape, seed, k, purpose, like, stream)


def uniform(shape: Shape, *, seed: int, k: int, purpose: str, like: Array, stream: str = "host") -> Array:
    """Draw independent numbers uniform in [0, 1), with the dtype and on the device of `like`."""
    return _draw(lambda g, shape: g.random(shape), shape, seed, k, purpose, like, stream)


def rademacher(shape: Shape, *, seed: int, k: int, purpose: str, like: Array, stream: str = "host") -> Array:
    """Draw independent signs, -1 or +1 with equal chance, with the dtype and on the device of `like`."""
    # Not an integer draw: its exclusive upper bound, misread, has given other libraries constant signs.
    return _draw(lambda g, shape: 1.0 - 2.0 * (g.random(shape) < 0.5), shape, seed, k, purpose, like, stream)


def choice(n: int, size: int, *, seed: int, k: int, purpose: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Draw `size` different indices out of range(n), sorted, as host integers."""
    if not 1 <= size <= n:
        raise ValueError(f"size must be in [1, {n}], got {size}")
    return np.sort(generator(seed, k, purpose).choice(n, size=size, replace=False))


def _draw(
    sample: Callable[[Any, Shape], Any], shape: Shape, seed: int, k: int, purpose: str, like: Array, stream: str
) -> Array:
    xp = namespace(like)
    if stream not in ("host", "device"):
        raise ValueError(f"stream must be 'host' or 'device', got {stream!r}")
    drawing = generator(seed, k, purpose)
    if on_device := stream == "device" and array_api_compat.is_cupy_array(like):
        import cupy

        drawing = cupy.random.Generator(cupy.random.Philox4x3210(seed=int(drawing.integers(1 << 63))))
    part = _part.get()
    if part is None:
        drawn = sample(drawing, shape)
    else:
        batch, rows = part
        here, *others = (shape,) if isinstance(shape, int) else shape
        drawn = sample(drawing, (batch, *others))[rows]
        if drawn.shape[0] != here:
            raise ValueError(f"a draw among a batch must have a row for each of {drawn.shape[0]} examples, got {shape}")
    return xp.asarray(drawn, dtype=like.dtype, **({} if on_device else {"device": device(like)}))
