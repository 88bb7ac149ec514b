"""Golden files on the disk: a tree of dicts, lists and float64 arrays, as JSON or as npz.

The two hold the same bits: JSON has the shortest decimals that round to the double, as Python's repr gives them, and an
npz file has the arrays under the paths of their keys, 'streams/scales/x', and the rest of the tree as JSON text. Files
are read as data: no pickle, and at most `LARGEST` bytes once unpacked. docs/golden.md describes the trees.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from refopt.conformance import npz
from refopt.status import require

Tree: TypeAlias = dict[str, Any]
"""Dicts, lists, strings, numbers and float64 arrays."""

FORMAT, VERSION = "refopt golden", 1
LARGEST = 1 << 26
NOT_FINITE = ("NaN", "Infinity", "-Infinity")


def write(path: Path, tree: Tree) -> list[Path]:
    """Write a tree as `path` with the suffixes ``.json`` and ``.npz``, and return the two paths."""
    path.parent.mkdir(parents=True, exist_ok=True)
    json_path, npz_path = path.with_suffix(".json"), path.with_suffix(".npz")
    json_path.write_text(as_json(tree), encoding="utf-8")
    _write_npz(npz_path, tree)
    return [json_path, npz_path]


def as_json(tree: Tree) -> str:
    """Return a tree as JSON text; what JSON has no number for is "Infinity", "-Infinity" or "NaN"."""
    return json.dumps(_listed(tree), separators=(",", ":"), sort_keys=True, allow_nan=False) + "\n"


def _listed(node: Any) -> Any:
    """Return a tree whose arrays are lists and whose numbers are finite."""
    if isinstance(node, Mapping):
        return {key: _listed(item) for key, item in node.items()}
    if isinstance(node, np.ndarray):
        return _listed(node.tolist())
    if isinstance(node, list | tuple):
        return [_listed(item) for item in node]
    if isinstance(node, float) and not math.isfinite(node):
        return "NaN" if math.isnan(node) else "Infinity" if node > 0 else "-Infinity"
    return node


def _write_npz(path: Path, tree: Tree) -> None:
    """Write the arrays under the paths of their keys, 'streams/scales/x', and the tree without them as 'about'."""
    arrays: dict[str, Any] = {}

    def taken(node: Any, key: str) -> Any:
        if isinstance(node, np.ndarray):
            arrays[key] = node
            return {"array": key}
        if isinstance(node, Mapping):
            return {name: taken(item, f"{key}/{name}".lstrip("/")) for name, item in node.items()}
        if isinstance(node, list):
            return [taken(item, f"{key}/{i}") for i, item in enumerate(node)]
        return node

    about = as_json(taken(tree, ""))
    np.savez_compressed(path, about=np.asarray(about), **arrays)


def read(path: str | os.PathLike[str]) -> Tree:
    """Read a golden file, ``.json`` or ``.npz``.

    Raises FileNotFoundError, and ValueError for a file that is too large, is of another kind or version, or lacks
    what every file has.
    """
    path = Path(path)
    size = path.stat().st_size
    require(path.is_file(), "a golden file must be a file, and no device", str(path))
    require(size <= LARGEST, f"{path} must be at most {LARGEST} bytes", size)
    try:
        tree = _read_npz(path) if path.suffix == ".npz" else _read_json(path)
    except Exception as error:  # a damaged file may make its readers raise anything
        raise ValueError(f"{path} is no golden file: {str(error) or type(error).__name__}") from error
    head: Tree = tree if isinstance(tree, dict) else {}
    for key, allowed in (("format", (FORMAT,)), ("version", (VERSION,)), ("kind", ("methods", "curvature"))):
        require(head.get(key) in allowed, f"{key} of {path} must be {' or '.join(map(repr, allowed))}", head.get(key))
    return head


def _read_json(path: Path) -> Any:
    return _gathered(json.loads(path.read_text(encoding="utf-8")))


def _gathered(node: Any) -> Any:
    """Return a tree whose lists of numbers, and of equally long lists of numbers, are float64 arrays."""
    if isinstance(node, dict):
        return {key: item if key in ("hyper", "options") else _gathered(item) for key, item in node.items()}
    if not isinstance(node, list):
        return node
    items = [_gathered(item) for item in node]
    if items and all(_is_number(item) or isinstance(item, np.ndarray) for item in items):
        return np.asarray(items, dtype=np.float64)
    return items


def _is_number(item: Any) -> bool:
    return item in NOT_FINITE if isinstance(item, str) else type(item) in (int, float)


def _read_npz(path: Path) -> Any:
    arrays = npz.read(path, LARGEST)

    def put_back(node: Any) -> Any:
        if isinstance(node, dict):
            return arrays[node["array"]] if set(node) == {"array"} else {k: put_back(v) for k, v in node.items()}
        return [put_back(item) for item in node] if isinstance(node, list) else node

    return put_back(json.loads(str(arrays["about"])))
