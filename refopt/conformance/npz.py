"""Arrays of an npz file that nobody vouches for: no pickle, and nothing is allocated that the file does not hold."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from backends.arrays import Array
from refopt.status import require


def read(path: Path, most: int) -> dict[str, Array]:
    """Return the arrays by name; the file must unpack to at most `most` bytes.

    Raises ValueError for what is too large or of objects, and whatever `zipfile` raises on a damaged file.
    """
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        size = sum(member.file_size for member in members)
        require(size <= most, f"{path.name} must unpack to at most {most} bytes", size)
        for member in members:
            with archive.open(member) as file:
                shape, fortran, dtype = _header(file, member.filename)
                require(not dtype.hasobject, "arrays of objects are not read: allow_pickle=False", str(dtype))
                held = math.prod(shape) * dtype.itemsize
                require(0 <= held <= member.file_size, f"{member.filename} must hold {held} bytes", member.file_size)
                array = np.frombuffer(bytearray(file.read(held)), dtype=dtype)
            name = member.filename.removesuffix(".npy")
            arrays[name] = array.reshape(shape, order="F" if fortran else "C")
    return arrays


def _header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return read(file)
    except Exception as error:  # NumPy reads it with Python's own tokenizer and parser
        raise ValueError(f"the header of {name} cannot be read") from error
