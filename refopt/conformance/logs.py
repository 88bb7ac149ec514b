"""Recorded logs: the points and gradients of a run in any language, read as data and never as code.

    x        (steps + 1, n)    the start, and x after each step
    g        (steps, n)        the gradient that each step used
    lr       () or (steps,)    optional: the learning rate
    at       (steps, n)        optional: the point at which each g was taken, for methods that look ahead
    probes   (p, n)            optional: the random vectors, in the order in which they were drawn
    seed     ()                optional: of refopt's own draws, for a program that draws as `backends.random` does

or, of several tensors, x.NAME (steps + 1, ...) and g.NAME (steps, ...), in the order of the file. A run of a method
that asks for more than gradients holds its queries instead of g, one a row, in the order in which they were made:

    query_step       (q,)      k = 0, 1, ...: the step that asked
    query_x          (q, n)    where
    query_value      (q,)      f there; nan where it was not asked for
    query_g          (q, n)    the gradient there, nan where it was not
    query_v          (q, n)    the direction of a curvature product, nan where there was none
    query_product    (q, n)    H(x) v, or G(x) v of the Gauss-Newton matrix
    query_diagonal   (q, n)    the diagonal of G(x), for Becker and LeCun's method; nan where it was not asked for
    query_full       (q,)      1 where all examples were asked and not the step's batch, else 0

Floats are of float64, or float32 throughout. Four formats hold these arrays:

    .npz           by name; object arrays are refused
    .safetensors   by name, F32, F64, I32 or I64
    .json          an object of nested lists by name; "dtype": "float32" where it was; null for nan
    .csv           columns step, x0, x1, ..., g0, g1, ... and, optional, lr: row k has x before step k and g of it, and
                   the last row x alone. Lines "# dtype=float32" or "# seed=0" may stand before the header.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from backends.arrays import Array
from refopt.conformance import npz, recording
from refopt.conformance.recording import Recording
from refopt.layout import Layout
from refopt.status import nearest, require

MAX_BYTES = 1 << 28
"""The largest file, and the most that it may unpack to."""
UTF8 = "utf-8-sig"
"""As spreadsheets write it, with a mark before the text, or without."""
MAX_HEADER = 1 << 20
"""The longest header of a safetensors file."""


class Queries(NamedTuple):
    """What a run asked for, one row a question; nan where a part was not asked for."""

    step: Array  # (q,) integers
    x: Array  # (q, n)
    value: Array  # (q,)
    g: Array  # (q, n)
    v: Array  # (q, n)
    product: Array  # (q, n)
    diagonal: Array  # (q, n)
    full: Array  # (q,) booleans: of all examples, not of the step's batch


QUERIES = tuple(f"query_{part}" for part in Queries._fields)
FIELDS = ("x", "g", "lr", "at", "probes", "seed", *QUERIES)


class Log(NamedTuple):
    """One run, as its program wrote it down."""

    name: str
    x: Array  # (steps + 1, n)
    g: Array | None  # (steps, n)
    layout: Layout
    lr: Array | None = None  # (steps,)
    at: Array | None = None  # (steps, n)
    probes: Array | None = None  # (p, n)
    seed: int = 0
    queries: Queries | None = None

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.x) - 1


def read(path: str | os.PathLike[str]) -> Log | Recording:
    """Read a log, or an npz file of `recording.save`. Raises OSError, and ValueError for what is no log, in words."""
    path = Path(path)
    suffix = path.suffix.lower()
    require(suffix in SUFFIXES, f"a log must end in {', '.join(SUFFIXES)}", path.name)
    size = path.stat().st_size
    require(path.is_file(), "a log must be a file, and no device", str(path))
    require(size <= MAX_BYTES, f"{path} must be at most {MAX_BYTES} bytes", size)
    try:
        arrays = SUFFIXES[suffix](path)
    except Exception as error:  # a damaged file may make its readers raise anything
        raise ValueError(f"{path} is no log: {str(error) or type(error).__name__}") from None
    if {"steps", "about"} <= arrays.keys():
        return recording.load(path)
    return _log(path.name, arrays)


def _log(name: str, arrays: Mapping[str, Array]) -> Log:
    """Check the arrays of a log against each other."""
    known = {field: array for field, array in arrays.items() if field in FIELDS}
    parts = {field: array for field, array in arrays.items() if field.startswith(("x.", "g."))}
    for field in arrays.keys() - known.keys() - parts.keys():
        raise ValueError(f"{name} has a field {field!r} that no log has{nearest(field, FIELDS)}")
    layout, joined = _joined(name, parts)
    known |= joined
    require("x" in known, f"{name} must hold x, or tensors x.NAME", sorted(arrays))
    x = known["x"]
    require(x.ndim == 2 and len(x) >= 2 and x.size > 0, f"x of {name} must have shape (steps + 1, n)", x.shape)
    require(x.dtype in ("float32", "float64"), f"x of {name} must be of float32 or float64", str(x.dtype))
    steps, n = len(x) - 1, x.shape[1]
    for field, shape in (("g", (steps, n)), ("at", (steps, n))):
        if field in known:
            require(known[field].shape == shape, f"{field} of {name} must have shape {shape}", known[field].shape)
            require(known[field].dtype == x.dtype, f"{field} of {name} must be of {x.dtype}", str(known[field].dtype))
    queries = _queries(name, known, x) if any(field in known for field in QUERIES) else None
    require("g" in known or queries is not None, f"{name} must hold g or queries", sorted(arrays))
    lr, probes, seed = known.get("lr"), known.get("probes"), known.get("seed", np.asarray(0))
    if lr is not None:
        require(lr.shape in ((), (steps,)), f"lr of {name} must have shape () or ({steps},)", lr.shape)
        lr = np.broadcast_to(lr.astype("float64"), (steps,))
    if probes is not None:
        require(probes.ndim == 2 and probes.shape[1] == n, f"probes of {name} must have shape (p, {n})", probes.shape)
    require(seed.shape == () and seed.dtype.kind in "iu", f"seed of {name} must be an integer", seed)
    return Log(name, x, known.get("g"), layout or Layout({"x": (n,)}), lr, known.get("at"), probes, int(seed), queries)


def _joined(name: str, parts: Mapping[str, Array]) -> tuple[Layout | None, dict[str, Array]]:
    """Return the layout of the tensors x.NAME, and x and g as rows of all of them."""
    names = [field[2:] for field in parts if field.startswith("x.")]
    if not names:
        require(not parts, f"{name} must hold x.NAME for every g.NAME", sorted(parts))
        return None, {}
    joined = {}
    for letter in ("x", "g"):
        tensors = [parts.get(f"{letter}.{part}") for part in names]
        if letter == "g" and all(tensor is None for tensor in tensors):
            continue
        for part, tensor in zip(names, tensors, strict=True):
            require(tensor is not None, f"{name} must hold {letter}.{part}", sorted(parts))
        rows = {len(tensor) if tensor.ndim else 0 for tensor in tensors if tensor is not None}
        require(len(rows) == 1, f"the tensors {letter}.NAME of {name} must have the same number of rows", rows)
        joined[letter] = np.concatenate([t.reshape(len(t), -1) for t in tensors if t is not None], axis=1)
    return Layout({part: parts[f"x.{part}"].shape[1:] for part in names}), joined


def _queries(name: str, known: Mapping[str, Array], x: Array) -> Queries:
    require({"query_step", "query_x"} <= known.keys(), f"queries of {name} need query_step and query_x", sorted(known))
    q, n = len(known["query_step"]), x.shape[1]
    shapes = {field: (q,) if field in ("query_step", "query_value", "query_full") else (q, n) for field in QUERIES}
    for field, shape in shapes.items():
        if field in known:
            require(known[field].shape == shape, f"{field} of {name} must have shape {shape}", known[field].shape)
    step = known["query_step"]
    inside = q == 0 or (step.dtype.kind in "iu" and step.min() >= 0 and step.max() < len(x) - 1)
    require(inside, f"query_step of {name} must hold integers in [0, {len(x) - 1})", step)
    columns = (known.get(field, np.full(shapes[field], np.nan)).astype(x.dtype) for field in QUERIES[1:-1])
    return Queries._make([step, *columns, known.get("query_full", np.zeros(q)) != 0])


# --------------------------------------------------------------------------------------------------- the four formats


def _npz(path: Path) -> dict[str, Array]:
    return npz.read(path, MAX_BYTES)


_STORED = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4"}


def _safetensors(path: Path) -> dict[str, Array]:
    """Read 8 bytes of the header's length, the header in JSON, and the tensors' bytes."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    require(len(raw) >= 8 and length <= min(MAX_HEADER, len(raw) - 8), "its header must lie inside the file", length)
    header, data = json.loads(raw[8 : 8 + length]), memoryview(raw)[8 + length :]
    require(isinstance(header, dict), "its header must be an object", type(header).__name__)
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        shape, (begin, end) = entry["shape"], entry["data_offsets"]
        require(entry["dtype"] in _STORED, f"{name} must be of {', '.join(_STORED)}", entry["dtype"])
        require(all(isinstance(d, int) and d >= 0 for d in (*shape, begin, end)), f"{name} must have lengths", shape)
        dtype = np.dtype(_STORED[entry["dtype"]])
        size = math.prod(shape) * dtype.itemsize
        require(
            end - begin == size and end <= len(data), f"{name} must have {size} bytes inside the file", (begin, end)
        )
        arrays[name] = np.frombuffer(data[begin:end], dtype=dtype).reshape(shape)
    return arrays


def _json(path: Path) -> dict[str, Array]:
    tree = json.loads(path.read_text(encoding=UTF8))
    require(isinstance(tree, dict), "it must hold an object", type(tree).__name__)
    return _typed(tree)


def _csv(path: Path) -> dict[str, Array]:
    lines = path.read_text(encoding=UTF8).splitlines()
    notes = [line for line in lines if line.startswith("#")]
    header, *rows = csv.reader(line for line in lines if line.strip() and not line.startswith("#"))
    header = [name.strip() for name in header]
    columns: dict[str, list[int]] = {"x": [], "g": [], "lr": []}
    for i, name in enumerate(header):
        if name != "step":
            field = "lr" if name == "lr" else name.rstrip("0123456789")
            require(field in columns, "its columns must be step, lr, x0, x1, ..., g0, g1, ...", name)
            require(field == "lr" or name == f"{field}{len(columns[field])}", "its columns must count from 0", name)
            columns[field].append(i)
    for row in rows:
        require(len(row) == len(header), f"each row must have {len(header)} cells", row)
    if "step" in header:
        steps = [row[header.index("step")] for row in rows]
        require(steps == [str(k) for k in range(len(rows))], "its steps must be 0, 1, 2, ...", steps[:5])
    tree: dict[str, Any] = {"x": [[float(row[i]) for i in columns["x"]] for row in rows]}
    if columns["g"]:
        tree["g"] = [[float(row[i]) for i in columns["g"]] for row in rows[:-1]]
    if columns["lr"]:
        tree["lr"] = [float(row[columns["lr"][0]]) for row in rows[:-1]]
    for note in notes:
        name, _, value = note.lstrip("# ").partition("=")
        if name.strip() in ("dtype", "seed"):
            tree[name.strip()] = int(value) if name.strip() == "seed" else value.strip()
    return _typed(tree)


def _typed(tree: dict[str, Any]) -> dict[str, Array]:
    """Make arrays of nested lists, the floats of the dtype that is named."""
    dtype = tree.pop("dtype", "float64")
    require(dtype in ("float32", "float64"), "dtype must be float32 or float64", dtype)
    return {
        name: np.asarray(values) if name in ("seed", "query_step") else np.asarray(values, dtype=dtype)
        for name, values in tree.items()
    }


SUFFIXES: dict[str, Callable[[Path], dict[str, Array]]] = {
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".json": _json,
    ".csv": _csv,
}
