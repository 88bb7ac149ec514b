"""Shampoo and Muon, wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from refopt.conformance.streams import LAYOUT, MATRICES
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


def muon(momentum: float = 0.95, nesterov: bool = True, ns_steps: int = 5, of: Any = np.linalg.norm) -> Update:
    """Muon of two matrices, the polynomial by products with X X^T from the left whatever their shapes."""

    def direction(U: Any) -> Any:
        X = U / (of(U) + 1e-7)
        for _ in range(ns_steps):
            A = X @ X.T
            X = 3.4445 * X - 4.7750 * (A @ X) + 2.0315 * (A @ (A @ X))
        return np.sqrt(max(1.0, U.shape[1] / U.shape[0])) * X

    def update(x: Any, g: Any, B: Any, lr: float) -> tuple[Any, Any]:
        B = momentum * (0 * x if B is None else B) + (1 - momentum) * g
        U = MATRICES.split(momentum * B + (1 - momentum) * g if nesterov else B)
        return x - lr * MATRICES.join({name: direction(part).astype(x.dtype) for name, part in U.items()}), B

    return update


RIGHT = {
    "shampoo": (shampoo(), {}),
    "muon": (muon(), {}),
    "muon with other knobs": (muon(0.9, nesterov=False), {"momentum": 0.9, "nesterov": False}),
}

# A diagnosis looks coordinate by coordinate, which finds no cause where one of 1e-9 mixes with one of 1e2.
EVEN: dict[str, Any] = {"streams": ("decay", "quadratic", "saddle")}

MUTANTS = {
    "Shampoo: -1 / k": Mutant(shampoo(-1 / 2, -1.0), "shampoo", ("exponents -1 / k in place of -1 / (2 k)",), EVEN),
    "Shampoo: -1 / 2": Mutant(shampoo(-1 / 2, -1 / 2), "shampoo", ("exponents -1 / 2 for every part",), EVEN),
    "Shampoo: -1 / 4": Mutant(shampoo(-1 / 4, -1 / 4), "shampoo", ("exponents -1 / 4 for every part",), EVEN),
    "Shampoo: eps 1e-6": Mutant(shampoo(eps=1e-6), "shampoo", ("eps=1e-06",), EVEN),
    "Muon: not Nesterov": Mutant(muon(nesterov=False), "muon", ("nesterov=False",), EVEN),
    "Muon: momentum 0.9": Mutant(muon(0.9), "muon", ("momentum=0.9",), EVEN),
    "Muon: four rounds": Mutant(muon(ns_steps=4), "muon", ("ns_steps=4",), EVEN),
    "Muon: by the spectral norm": Mutant(
        muon(of=lambda U: np.linalg.norm(U, 2)), "muon", ("the spectral norm in place of Frobenius'",), EVEN
    ),
}
