"""Shampoo, wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from refopt.conformance.streams import LAYOUT
from tests.conformance.mutants.mutant import Mutant, Update


def power(A: Any, exponent: float) -> Any:
    eigenvalues, Q = np.linalg.eigh(A)
    return (Q * eigenvalues**exponent) @ Q.T


def shampoo(
    of_matrix: float = -1 / 4, of_vector: float = -1 / 2, eps: float = 1e-4, mean: float = 1.0, right: bool = True
) -> Update:
    """Shampoo of a matrix and a vector, each with an exponent of its own."""

    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        G, b = LAYOUT.split(g)["w"], LAYOUT.split(g)["b"]
        L, R, B = state or (0 * G @ G.T, 0 * G.T @ G, 0 * np.outer(b, b))
        L, R, B = mean * L + G @ G.T, mean * R + G.T @ G, mean * B + np.outer(b, b)
        roots = [power(A + eps * np.eye(len(A), dtype=A.dtype), of_matrix) for A in (L, R)]
        U = roots[0] @ G @ roots[1] if right else roots[0] @ G
        u = power(B + eps * np.eye(len(B), dtype=B.dtype), of_vector) @ b
        return x - lr * LAYOUT.join({"w": U, "b": u}), (L, R, B)

    return update


RIGHT = shampoo()
# The tolerance is coordinate by coordinate: it does not know of roots that mix one of 1e-9 with one of 1e2.
EIGH: dict[str, Any] = {"rtol": 1e-8, "streams": ("decay", "quadratic", "saddle")}

MUTANTS = {
    "Shampoo: -1 / k": Mutant(shampoo(-1 / 2, -1.0), "shampoo", ("exponents -1 / k in place of -1 / (2 k)",), EIGH),
    "Shampoo: -1 / 2": Mutant(shampoo(-1 / 2, -1 / 2), "shampoo", ("exponents -1 / 2 for every part",), EIGH),
    "Shampoo: -1 / 4": Mutant(shampoo(-1 / 4, -1 / 4), "shampoo", ("exponents -1 / 4 for every part",), EIGH),
    "Shampoo: eps 1e-6": Mutant(shampoo(eps=1e-6), "shampoo", ("eps=1e-06",), EIGH),
}
