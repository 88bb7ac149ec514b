"""The path of x under a stream, played now or read from a file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from backends.arrays import Array
from refopt.conformance import streams as catalogue
from refopt.conformance.adapters import Player, adapt
from refopt.conformance.streams import LAYOUT, Stream
from refopt.layout import Layout
from refopt.status import require

KEPT = (1, 2, 3, 5, 10, 30, 31, 50, 100, 150, 200)
"""The steps that a recording keeps unless told otherwise."""


class Write(NamedTuple):
    """A change made in place to the gradient that was handed out."""

    step: int
    coordinate: int
    before: float
    after: float


class Path(NamedTuple):
    """The iterates after some steps t = 1, 2, ... of a stream, and the first write into a gradient."""

    steps: Array  # (r,) integers
    x: Array  # (r, n)
    write: Write | None = None


class Recording(NamedTuple):
    """Paths under streams by name, and about what made them: versions, call, hyperparameters."""

    paths: Mapping[str, Path]
    about: Mapping[str, Any]


@contextmanager
def located(place: str) -> Iterator[None]:
    """Add a note of the place to whatever a candidate raises inside."""
    try:
        yield
    except Exception as error:
        error.add_note(place)
        raise


def first_write(k: int, handed: Sequence[tuple[Array, Array]]) -> Write | None:
    """Return the first change that was made in place to a gradient handed out at step k, given beside a copy."""
    for g, before in handed:
        if g.tobytes() != before.tobytes():
            i = int(np.argmax(g != before))
            return Write(k + 1, i, float(before[i]), float(g[i]))
    return None


def play(player: Player, stream: Stream, steps: int, lr: float) -> Path:
    """Play `steps` steps of `stream`, at the learning rate lr times the stream's own factor."""
    write: Write | None = None
    with np.errstate(all="ignore"), located(f"{player.name} at the start of stream {stream.name!r}"):
        advance = player.start(stream.x0.copy(), stream.rate(lr))
    with np.errstate(all="ignore"):  # a candidate may overflow; where, is the answer
        iterates = []
        for k in range(steps):
            handed: list[tuple[Array, Array]] = []

            def grad(x: Array, k: int = k, handed: list[tuple[Array, Array]] = handed) -> Array:
                g = stream.grad(k, x)
                handed.append((g, g.copy()))
                return g

            with located(f"{player.name} at step {k + 1} of stream {stream.name!r}"):
                x = advance(k, grad)
                if x.shape != stream.x0.shape or x.dtype != stream.x0.dtype:
                    rule = f"{player.name} must return x of shape {stream.x0.shape} and dtype {stream.x0.dtype}"
                    raise ValueError(f"{rule}, got {x.shape} and {x.dtype}")
            iterates.append(x.copy())
            write = write or first_write(k, handed)
    return Path(np.arange(1, steps + 1), np.stack(iterates), write)


def record(
    candidate: Any,
    lr: float,
    *,
    streams: Sequence[str] = catalogue.NAMES,
    steps: Sequence[int] = KEPT,
    about: Mapping[str, Any] | None = None,
    layout: Layout = LAYOUT,
) -> Recording:
    """Play `candidate` (see `adapters.adapt`) on `streams` and keep x after each of `steps`."""
    player = adapt(candidate, layout)
    paths = {}
    for stream in map(catalogue.get, streams):
        if stream.lr is None or player.takes_lr:
            path = play(player, stream, max(steps), lr)
            paths[stream.name] = Path(np.asarray(steps), path.x[np.asarray(steps) - 1], path.write)
    return Recording(paths, {"candidate": player.name, "lr": lr, **(about or {})})


def save(recording: Recording, path: str | os.PathLike[str]) -> None:
    """Write a recording as ``.npz``: x of each stream by its name, `steps`, and `about` as JSON text."""
    steps = next(iter(recording.paths.values())).steps
    iterates: dict[str, Any] = {name: path.x for name, path in recording.paths.items()}
    np.savez_compressed(path, steps=steps, about=np.asarray(json.dumps(recording.about)), **iterates)


def load(path: str | os.PathLike[str]) -> Recording:
    """Read what `save` wrote. Raises FileNotFoundError, and ValueError for a file of another kind."""
    with np.load(path) as file:
        require({"steps", "about"} <= set(file.files), f"{os.fspath(path)} must hold steps and about", file.files)
        steps, about = file["steps"], json.loads(str(file["about"]))
        return Recording(
            {name: Path(steps, file[name]) for name in file.files if name not in ("steps", "about")}, about
        )
