"""Streams of gradients of a layout, what an orthogonal change of a matrix's bases does to them, and shared weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from refopt import Layout, bind
from refopt.objective import Objective

SHARED_WEIGHTS: list[tuple[str, dict[str, Any]]] = [
    ("conv_digits", {"channels": (2,)}),
    ("char_lm", {"context": 4, "width": 4, "examples": 16}),
]
"""Problems whose layers act at several positions, by name and size: convolutions, attention."""

EVERY_ORDER = Layout({"scalar": (), "b": (3,), "W": (4, 2), "T": (2, 3, 2), "K": (2, 1, 3, 2)})


def stream(n: int, steps: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(steps, n))


def orthogonal(d: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def replay(method: Any, gradients: Any, x0: Any, **hyper: Any) -> list[tuple[Any, Any]]:
    """The point and the state after each step on given gradients, whatever the points are."""
    init, step = bind(method, **hyper)
    x, state, path = x0, init(x0), []
    for g in gradients:
        x, state = step(Objective(grad=lambda _, g=g: g), x, state)
        path.append((x, state))
    return path


def points(method: Any, gradients: np.ndarray, x0: np.ndarray | None = None, **hyper: Any) -> np.ndarray:
    start = np.zeros(gradients.shape[1]) if x0 is None else x0
    return np.array([x for x, _ in replay(method, gradients, start, **hyper)])


def turned(method: Any, shape: tuple[int, int], seed: int, **hyper: Any) -> tuple[np.ndarray, np.ndarray]:
    """The matrices that gradients O1 G O2 lead to, and O1 W O2 of those that G leads to."""
    G = stream(shape[0] * shape[1], seed=seed).reshape(-1, *shape)
    O1, O2 = orthogonal(shape[0], seed + 1), orthogonal(shape[1], seed + 2)
    layout = Layout({"W": shape})
    there = points(method, (O1 @ G @ O2).reshape(len(G), -1), layout=layout, **hyper)
    back = points(method, G.reshape(len(G), -1), layout=layout, **hyper)
    return there.reshape(G.shape), O1 @ back.reshape(G.shape) @ O2
