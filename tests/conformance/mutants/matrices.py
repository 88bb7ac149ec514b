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


def soap(
    left_behind: bool = False, sorted_too: bool = True, interval: int = 10, beta1: float = 0.95, rotated: bool = True
) -> Update:
    """SOAP of a matrix, Adam of a vector; M is kept rotated, as the later versions of the authors do."""

    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        G, b = LAYOUT.split(g)["w"], LAYOUT.split(g)["b"]
        if state is None:
            L, R = 0.05 * G @ G.T, 0.05 * G.T @ G
            bases = [np.linalg.eigh(A)[1] if rotated else np.eye(len(A), dtype=A.dtype) for A in (L, R)]
            return x, (0, L, R, *bases, 0 * G, 0 * G, 0 * b, 0 * b)
        t, L, R, P, Q, M, V, m, v = state
        t, L, R = t + 1, 0.95 * L + 0.05 * G @ G.T, 0.95 * R + 0.05 * G.T @ G
        rotated_G = P.T @ G @ Q
        M, V = beta1 * M + (1 - beta1) * rotated_G, 0.95 * V + 0.05 * rotated_G**2
        m, v = beta1 * m + (1 - beta1) * b, 0.95 * v + 0.05 * b**2
        c1, c2 = np.float64(1 - beta1**t).astype(x.dtype), np.float64(1 - 0.95**t).astype(x.dtype)
        N = P @ (M / c1 / (np.sqrt(V / c2) + x.dtype.type(1e-8))) @ Q.T
        x = x - lr * LAYOUT.join({"w": N, "b": m / c1 / (np.sqrt(v / c2) + x.dtype.type(1e-8))})
        if t % interval == 0 and rotated:
            M = P @ M @ Q.T
            of_rows, of_columns = np.argsort(-np.sum(P * (L @ P), axis=0)), np.argsort(-np.sum(Q * (R @ Q), axis=0))
            if sorted_too:
                V = V[of_rows][:, of_columns]
            old_P, old_Q = P, Q
            P, Q = np.linalg.qr((L @ P)[:, of_rows])[0], np.linalg.qr((R @ Q)[:, of_columns])[0]
            M = old_P.T @ M @ old_Q if left_behind else P.T @ M @ Q
        return x, (t, L, R, P, Q, M, V, m, v)

    return update


def muon(
    momentum: float = 0.95,
    nesterov: bool = True,
    ns_steps: int = 5,
    of: Any = np.linalg.norm,
    coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
    scale: Any = lambda rows, columns: np.sqrt(max(1.0, columns / rows)),
    turned: bool = False,
) -> Update:
    """Muon of two matrices, the polynomial by products with X X^T from the left whatever their shapes."""
    a, b, c = coefficients

    def direction(U: Any) -> Any:
        X = U / (of(U) + 1e-7)
        for _ in range(ns_steps):
            A = X @ X.T
            X = a * X + b * (A @ X) + c * (A @ (A @ X))
        if turned and len(X) > len(X.T):
            X = X.T.reshape(X.shape)
        return scale(*U.shape) * X

    def update(x: Any, g: Any, B: Any, lr: float) -> tuple[Any, Any]:
        B = momentum * (0 * x if B is None else B) + (1 - momentum) * g
        U = MATRICES.split(momentum * B + (1 - momentum) * g if nesterov else B)
        return x - lr * MATRICES.join({name: direction(part).astype(x.dtype) for name, part in U.items()}), B

    return update


RIGHT = {
    "shampoo": (shampoo(), {}),
    "soap": (soap(), {}),
    "muon": (muon(), {}),
    "muon with other knobs": (muon(0.9, nesterov=False), {"momentum": 0.9, "nesterov": False}),
}

MUTANTS = {
    "Shampoo: -1 / k": Mutant(shampoo(-1 / 2, -1.0), "shampoo", ("exponents -1 / k in place of -1 / (2 k)",)),
    "Shampoo: -1 / 2": Mutant(shampoo(-1 / 2, -1 / 2), "shampoo", ("exponents -1 / 2 for every part",)),
    "Shampoo: -1 / 4": Mutant(shampoo(-1 / 4, -1 / 4), "shampoo", ("exponents -1 / 4 for every part",)),
    "Shampoo: eps 1e-6": Mutant(shampoo(eps=1e-6), "shampoo", ("eps=1e-06",)),
    "Shampoo: L alone": Mutant(shampoo(right=False), "shampoo", ("the root of the first axis alone",)),
    "Shampoo: L alone, eps 1e-6": Mutant(
        shampoo(right=False, eps=1e-6), "shampoo", ("the root of the first axis alone", "eps=1e-06")
    ),
    "SOAP: M left behind": Mutant(soap(left_behind=True), "soap", ("M not rotated on with the basis",)),
    "SOAP: V not sorted": Mutant(soap(sorted_too=False), "soap", ()),
    "SOAP: every 9 steps": Mutant(soap(interval=9), "soap", ("interval=9",)),
    "SOAP: beta1 0.9": Mutant(soap(beta1=0.9), "soap", ("beta1=0.9",)),
    "SOAP: no basis": Mutant(soap(rotated=False), "soap", ("max_dim=1",)),
    "Muon: not Nesterov": Mutant(muon(nesterov=False), "muon", ("nesterov=False",)),
    "Muon: momentum 0.9": Mutant(muon(0.9), "muon", ("momentum=0.9",)),
    "Muon: four rounds": Mutant(muon(ns_steps=4), "muon", ("ns_steps=4",)),
    "Muon: by the spectral norm": Mutant(
        muon(of=lambda U: np.linalg.norm(U, 2)), "muon", ("the spectral norm in place of Frobenius'",)
    ),
    "Muon: cubic": Mutant(muon(coefficients=(1.5, -0.5, 0.0)), "muon", ("coefficients (1.5, -0.5, 0)",)),
    "Muon: (2, -1.5, 0.5)": Mutant(muon(coefficients=(2.0, -1.5, 0.5)), "muon", ("coefficients (2, -1.5, 0.5)",)),
    "Muon: no scale": Mutant(muon(scale=lambda rows, columns: 1.0), "muon", ("no scale",)),
    "Muon: torch's scale": Mutant(
        muon(scale=lambda rows, columns: np.sqrt(max(1.0, rows / columns))),
        "muon",
        ("the scale of the transposed matrix",),
    ),
    "Muon: moonshot": Mutant(
        muon(scale=lambda rows, columns: 0.2 * np.sqrt(max(rows, columns))), "muon", ("scale='moonshot'",)
    ),
    "Muon: left transposed": Mutant(muon(turned=True), "muon", ("tall matrices not transposed back",)),
}
