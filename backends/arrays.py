"""Which library an array belongs to, and the few moves that the array API standard leaves open.

The arrays that the user passes choose the library: write ``xp = namespace(x)`` and then only what the
standard has. Nothing here converts silently from one library to another.
"""

from __future__ import annotations

import importlib
import math
from typing import Any, TypeAlias

import array_api_compat
import numpy as np

Array: TypeAlias = Any
"""An array of any library that follows the array API standard."""

Namespace: TypeAlias = Any
"""A module of array functions, as `namespace` returns it."""

BACKENDS = ("numpy", "cupy", "array_api_strict")

# NumPy's own namespace follows the standard since 2.1. Its wrapper in array_api_compat would add nothing but the import
# of all of NumPy's lazy parts, a tenth of a second.
_namespace_of_type: dict[type, Namespace] = {np.ndarray: np}


def namespace(*arrays: Array) -> Namespace:
    """Return the one array-API namespace that all `arrays` belong to.

    Raises TypeError if the arrays come from two libraries, or if one of them is no array at all.
    Costs a dictionary lookup per array: every method calls it once a step.
    """
    found = None
    for array in arrays:
        xp = _namespace_of_type.get(type(array))
        if xp is None:
            xp = _find_namespace(array)
        if found is None:
            found = xp
        elif found is not xp:
            raise TypeError(
                f"arrays of two backends meet: {found.__name__} and {xp.__name__}; "
                "move one with backends.arrays.to_backend"
            )
    if found is None:
        raise TypeError("namespace needs at least one array")
    return found


def _find_namespace(array: Array) -> Namespace:
    try:
        xp = np if isinstance(array, np.ndarray | np.generic) else array_api_compat.array_namespace(array)
    except TypeError:
        raise TypeError(f"expected an array, got {type(array).__name__}: {array!r}") from None
    _namespace_of_type[type(array)] = xp
    return xp


def device(x: Array) -> Any:
    """Return the device that `x` lies on, in its own library's words."""
    return array_api_compat.device(x)


def asnumpy(x: Array) -> np.ndarray[Any, Any]:
    """Copy or view `x` as a NumPy array on the host. The only door from a device back to NumPy."""
    if isinstance(x, np.ndarray):
        return x
    if array_api_compat.is_cupy_array(x):
        return np.asarray(x.get())
    if hasattr(x, "__array_namespace__"):
        # array_api_strict refuses conversion from any device but its CPU: go there first, and openly.
        host = x.to_device(namespace(x).__array_namespace_info__().default_device())
        return np.asarray(host)
    return np.asarray(x)


def to_backend(x: Array, like: Array) -> Array:
    """Return `x` as an array of the library and on the device of `like`, keeping the dtype of `x`."""
    if type(x) is type(like) and device(x) == device(like):
        return x
    xp = namespace(like)
    return xp.asarray(asnumpy(x), device=device(like))


def array_like(values: Any, like: Array) -> Array:
    """Return host `values` (numbers, lists, a NumPy array) with the dtype, library and device of `like`."""
    return namespace(like).asarray(np.asarray(values), dtype=like.dtype, device=device(like))


def floating(x: Array) -> bool:
    """Say whether `x` holds real floating-point numbers."""
    return bool(namespace(x).isdtype(x.dtype, "real floating"))


def all_finite(x: Array) -> bool:
    """Say whether no entry of `x` is nan or infinite. Waits for the device."""
    xp = namespace(x)
    return bool(xp.all(xp.isfinite(x)))


def norm(x: Array) -> float:
    """Return the Euclidean norm of the vector `x`, safe from overflow, as a float. Waits for the device."""
    xp = namespace(x)
    if x.shape[0] == 0:
        return 0.0
    direct = math.sqrt(float(x @ x))
    if 1e-15 < direct < 1e15 or (1e-150 < direct < 1e150 and x.dtype == xp.float64):
        return direct
    scale = float(xp.max(xp.abs(x)))
    if scale == 0.0 or scale != scale or scale == float("inf"):
        return scale
    y = x / scale
    return scale * math.sqrt(float(y @ y))


def get_backend(name: str) -> Namespace:
    """Return the namespace of a backend by name: one of `BACKENDS`.

    Raises ValueError for an unknown name, and RuntimeError, saying what to install, where the library
    or the GPU is missing.
    """
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {name!r}")
    if name == "numpy":
        return np
    try:
        library = importlib.import_module(name)
    except ImportError:
        extra = "; install refopt[gpu] (CUDA 12) or refopt[gpu13] (CUDA 13)" if name == "cupy" else ""
        raise RuntimeError(f"backend {name!r} is not installed{extra}") from None
    if name == "cupy":
        try:
            n_devices = library.cuda.runtime.getDeviceCount()
        except library.cuda.runtime.CUDARuntimeError as error:
            raise RuntimeError(f"backend 'cupy' found no usable GPU: {error}") from None
        if n_devices == 0:
            raise RuntimeError("backend 'cupy' found no GPU")
    return namespace(library.empty(0))
