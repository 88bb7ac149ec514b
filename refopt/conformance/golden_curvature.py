"""The curvature of small named problems at their starts, for the Lanczos, CG and K-FAC of other languages.

hessian, ggn, fisher   each with its matrix (n, n), products M v_i with the probes v_i, eigenvalues and trace
cg                     the iterates on the Hessian, or on the ggn where that is indefinite, from 0 for the right side -g
lanczos                alpha and beta of T, from the first probe, with full reorthogonalisation, and the Ritz values
kfac                   each layer's inputs, output gradients and factors A = E[a a^T], G = E[g g^T]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import problems
from backends import random
from backends.arrays import Array
from refopt.curvature import cg, lanczos
from refopt.curvature.products import dense

PROBLEMS: Mapping[str, Mapping[str, Any]] = {
    "quadratic": {"n": 8, "condition": 100.0},
    "rosenbrock": {"n": 4},
    "saddle": {"n": 6, "index": 2},
    "deep_linear": {"depth": 2, "width": 3, "hidden": 2, "singular_values": (2.0, 1.0), "examples": 64},
}

PROBES = 3


def measure(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the curvature of a problem at its start, as a tree. Raises ValueError for an unknown problem."""
    problem = problems.get(name, **options)
    objective, x = problem.objective, problem.x0
    probes = random.normal((PROBES, problem.n), seed=0, k=0, purpose="golden curvature", like=x)
    value, g, hessian = objective.linearize(x)
    tree = {"problem": name, "options": dict(options), "x": x, "value": float(value), "grad": g, "probes": probes}
    tree["hessian"] = _matrix(hessian, probes)
    for part in ("ggn", "fisher"):
        if part in objective.parts:
            tree[part] = _matrix(getattr(objective, part)(x), probes)
    definite = "hessian" if tree["hessian"]["eigenvalues"][0] > 0 else "ggn"
    if definite in tree:
        tree["cg"] = {"of": definite, **_cg(tree[definite]["matrix"], -g)}
    tree["lanczos"] = _lanczos(hessian, probes[0])
    if "layers" in objective.parts:
        tree["kfac"] = {name: _factors(layer) for name, layer in objective.layers(x, seed=0, k=0).items()}
    return tree


def _matrix(mv: Callable[[Array], Array], probes: Array) -> dict[str, Any]:
    M = dense(mv, probes[0])
    eigenvalues = np.linalg.eigvalsh((M + M.T) / 2)
    return {
        "matrix": M,
        "products": np.stack([mv(v) for v in probes]),
        "eigenvalues": eigenvalues,
        "trace": float(np.trace(M)),
    }


def _cg(A: Array, b: Array) -> dict[str, Any]:
    iterates: list[Array] = []
    norms: list[float] = []

    def keep(x: Array, residual: Array) -> None:
        iterates.append(x)
        norms.append(float(np.linalg.norm(residual)))

    # No closer than this: the last iterates of a CG that is about to end exactly are a matter of rounding.
    solution = cg(lambda v: A @ v, b, rtol=1e-4, callback=keep)
    keep(solution.x, b - A @ solution.x)
    return {"b": b, "iterates": np.stack(iterates), "residual_norms": np.asarray(norms), "status": solution.status.name}


def _lanczos(mv: Callable[[Array], Array], v0: Array) -> dict[str, Any]:
    T = lanczos(mv, v0, len(v0) // 2)
    return {"v0": v0, "alpha": T.alpha, "beta": T.beta, "ritz_values": T.ritz_values}


def _factors(layer: Any) -> dict[str, Any]:
    a, g = layer.inputs, layer.output_grads
    return {"inputs": a, "output_grads": g, "A": a.T @ a / len(a), "G": g.T @ g / len(g)}
