"""One file that a run can be continued from to the same bits. No pickle: nothing in a file is ever executed.

The file is an npz archive: the arrays of the run as ``a0``, ``a1``, ... and a JSON text ``manifest`` that holds
everything else, with ``{"array": i}`` where an array belongs. It is written beside its place, flushed to disk and
then renamed over it, so that at any moment the place holds either the old checkpoint or the new one, whole.
"""

from __future__ import annotations

import glob
import io
import json
import os
import secrets
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO, Any

import numpy as np

from backends.arrays import Array, asnumpy, device, namespace
from refopt.status import require

FORMAT = "refopt-checkpoint-1"


@dataclass(frozen=True)
class Checkpoint:
    """Where, and every how many steps, `minimize` saves a run; it resumes from there by itself."""

    path: str | os.PathLike[str]
    every: int = 100

    def __post_init__(self) -> None:
        require(self.every >= 1, "every must be at least 1", self.every)


def save(path: str | os.PathLike[str], run: Mapping[str, Any]) -> None:
    """Write the tree `run` atomically to `path`.

    Leaves are arrays of any backend, int, float, bool, str, None and Enum members; nodes are tuples, lists, dicts
    with string keys and NamedTuples (whose field `info` is left out). Raises TypeError for anything else.
    """
    arrays: list[np.ndarray[Any, Any]] = []
    manifest = json.dumps({"format": FORMAT, "run": _encode(run, arrays, "run")})
    buffer = io.BytesIO()
    named: dict[str, Any] = {f"a{i}": array for i, array in enumerate(arrays)}
    np.savez(buffer, manifest=np.array(manifest), **named)
    write_atomically(Path(path), buffer.getbuffer())


def load(path: str | os.PathLike[str], like: Array) -> Any:
    """Read the tree that `save` wrote, with its arrays on the backend and device of `like`.

    Raises ValueError, leaving the file as it is, where it is damaged or no checkpoint of refopt.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            manifest = json.loads(str(archive["manifest"]))
            if manifest["format"] != FORMAT:
                raise ValueError(f"its format is {manifest['format']!r}, not {FORMAT!r}")
            arrays = {name: archive[name] for name in archive.files if name != "manifest"}
        return _decode(manifest["run"], arrays, like)
    except FileNotFoundError:
        raise
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{os.fspath(path)} is damaged or no refopt checkpoint; it was left as it is ({error})"
        ) from None


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Put `data` at `path` so that a reader, or a crash at any moment, finds the old file or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            with suppress(OSError):  # not on every network drive; there `sweep` gets no lock either
                _lock(file)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the rename itself must reach the disk
    finally:
        os.close(directory)


def sweep(path: Path) -> None:
    """Remove what killed writers of `path`, or of the files in it where it is a folder, have left beside them.

    A writer locks its temporary file as soon as it is there; the system unlocks it when the writer ends, in any way.
    """
    folder, name = (path, "*") if path.is_dir() else (path.parent, glob.escape(path.name))
    for leftover in folder.glob(f".{name}.{'[0-9a-f]' * 8}.tmp"):
        with suppress(OSError), open(leftover, "rb") as file:
            if time.time() - leftover.stat().st_mtime > 1:
                _lock(file)
                leftover.unlink()


def _lock(file: IO[bytes]) -> None:
    """Lock a file until it is closed. Raises OSError where another process has it."""
    import fcntl  # not on Windows

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _encode(node: Any, arrays: list[np.ndarray[Any, Any]], where: str) -> Any:
    if node is None or type(node) in (bool, int, float, str):
        return node
    if isinstance(node, Enum):
        return {"enum": [type(node).__module__, type(node).__qualname__, node.name]}
    if isinstance(node, Mapping):
        wrong = [key for key in node if not isinstance(key, str)]
        if wrong:
            raise TypeError(f"{where} has the key {wrong[0]!r}; a checkpoint needs string keys")
        items = {key: _encode(value, arrays, f"{where}[{key!r}]") for key, value in node.items()}
        return {"counter" if isinstance(node, Counter) else "dict": items}
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        fields = {f: getattr(node, f) for f in node._fields if f != "info"}
        encoded = {key: _encode(value, arrays, f"{where}.{key}") for key, value in fields.items()}
        return {"named": [type(node).__module__, type(node).__qualname__], "fields": encoded}
    if isinstance(node, tuple | list):
        kind = "tuple" if isinstance(node, tuple) else "list"
        return {kind: [_encode(item, arrays, f"{where}[{i}]") for i, item in enumerate(node)]}
    try:
        namespace(node)
    except TypeError:
        raise TypeError(f"{where} is a {type(node).__name__}, which a checkpoint cannot hold") from None
    if isinstance(node, np.generic):
        node = np.asarray(node)
    arrays.append(asnumpy(node))
    return {"array": len(arrays) - 1}


def _decode(node: Any, arrays: Mapping[str, np.ndarray[Any, Any]], like: Array) -> Any:
    if not isinstance(node, dict):
        return node
    if "array" in node:
        return namespace(like).asarray(arrays[f"a{node['array']}"], device=device(like))
    if "dict" in node:
        return {key: _decode(value, arrays, like) for key, value in node["dict"].items()}
    if "counter" in node:
        return Counter(node["counter"])
    if "list" in node:
        return [_decode(item, arrays, like) for item in node["list"]]
    if "tuple" in node:
        return tuple(_decode(item, arrays, like) for item in node["tuple"])
    if "enum" in node:
        module, qualname, name = node["enum"]
        return _class(module, qualname, Enum)[name]
    fields = {key: _decode(value, arrays, like) for key, value in node["fields"].items()}
    module, qualname = node["named"]
    return _class(module, qualname, tuple)(**fields)


def _class(module: str, qualname: str, kind: type) -> Any:
    """Find a class by name among the modules already loaded; a file can neither import nor call anything else."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, kind) and (kind is Enum or hasattr(found, "_fields"))):
        raise ValueError(f"it holds an unknown class {module}.{qualname}")
    return found
