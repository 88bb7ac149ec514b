r"""Krylov subspace descent: a quasi-Newton method in a Krylov space, anew at each step (Vinyals and Povey, 2012).

    g = grad f_S(x)                            S this step's batch, or all examples
    W = [q_1 ... q_m, v]                       m Lanczos vectors of D^1/2 H D^1/2 from D^1/2 g, H that of f_B, and what
                                               D^-1/2 d_last has outside of their span, made of length 1
    P = W^T D^1/2 H D^1/2 W = U diag(theta) U^T
    V = D^1/2 W U diag(|theta|)^-1/2           (n, m + 1)
    a: BFGS on f_C(x + V a) from a = 0 and the inverse Hessian I, until |V^T grad f_C| <= rtol times that at x, or for
       `inner` iterations
    d = V a
    x = x + d

V spans D g, (D H) D g, ..., (D H)^{m-1} D g and d_last, and V^T H V has eigenvalues of 1 and -1. H is the Hessian or,
by `matrix`, the Gauss-Newton matrix. It only shapes the space: f_C decides, so H may be indefinite and nothing is
damped; |theta| is taken for no less than `floor` times the largest. B and C are drawn apart from S where S is a
minibatch, as many examples as it has or as are asked for, so that what fits one batch alone is not followed; else all
three are all examples, unless a number is asked for.

D is I, or by `preconditioner` "fisher" 1 / (mean_i g_i .* g_i), g_i the gradients of B's examples and no mean below
`floor` times the largest.
Source: O. Vinyals, D. Povey, AISTATS 2012, arXiv:1111.4259.
Cost: 1 gradient; on B a linearisation and m + 1 products; on C a gradient a trial step of BFGS, one an iteration as a
rule; 12 n m^2 flops.    Memory: 1 vector between steps; 3 m within.
Differs: the paper clips theta from below, negative ones too, where here their modulus counts.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from backends.arrays import Array, all_finite, device, namespace, norm
from refopt.curvature import lanczos
from refopt.curvature.products import MatVec, matrix_at
from refopt.line_search import strong_wolfe
from refopt.method import Choice, Dialects, Spec
from refopt.objective import Objective
from refopt.status import Status, require


class State(NamedTuple):
    """The direction of the last of k steps, and the seed of the batches B and C."""

    k: int
    seed: int
    d: Array | None = None  # (n,)
    status: Status = Status.RUNNING
    info: dict[str, Any] = {}


SPEC = Spec(
    title="Krylov subspace descent",
    source="Vinyals, Povey 2012, arXiv:1111.4259",
    needs=("value_and_grad", "linearize"),
    cost="1 gradient, 1 Hessian product a basis vector, 1 gradient a trial step of the inner BFGS",
    gradient_equivalents=(3.0, math.inf),
    memory=1.0,
    search={"vectors": Choice((5, 10, 20, 40)), "inner": Choice((5, 10, 30))},
)

DIALECTS: Dialects = {"paper": {"matrix": "gauss-newton", "preconditioner": "fisher"}}


def init(x: Array, *, seed: int = 0) -> State:
    """Return the state before the first step."""
    return State(0, seed)


def step(
    objective: Objective,
    x: Array,
    state: State,
    *,
    vectors: int = 20,
    inner: int = 10,
    matrix: Literal["hessian", "gauss-newton"] = "hessian",
    preconditioner: Literal["none", "fisher"] = "none",
    floor: float = 1e-4,
    curvature_batch: int | None = None,
    search_batch: int | None = None,
    rtol: float = 1e-2,
) -> tuple[Array, State]:
    """Take one step in the space of `vectors` Lanczos vectors, at most n, and the last step.

    `curvature_batch` and `search_batch` are the sizes of B and C. The status is NEGATIVE_CURVATURE where P has a
    negative eigenvalue, CONVERGED at a zero gradient of all examples, BREAKDOWN where a product was not finite,
    LINE_SEARCH_FAILED where all batches are all examples and BFGS found nothing lower. Raises ValueError for vectors
    or inner < 1, an unknown matrix or preconditioner, floor outside (0, 1], rtol < 0 or a batch out of range; TypeError
    where the objective lacks what these need.
    """
    require(vectors >= 1, "vectors must be at least 1", vectors)
    require(inner >= 1, "inner must be at least 1", inner)
    require(matrix in ("hessian", "gauss-newton"), "matrix must be 'hessian' or 'gauss-newton'", matrix)
    require(preconditioner in ("none", "fisher"), "preconditioner must be 'none' or 'fisher'", preconditioner)
    require(0 < floor <= 1, "floor must be in (0, 1]", floor)
    require(rtol >= 0, "rtol must be at least 0", rtol)
    xp = namespace(x)
    k, seed, d = state.k + 1, state.seed, state.d
    whole = objective.indices is None
    g = objective.grad(x)
    if norm(g) == 0.0:
        return x, State(k, seed, d, Status.CONVERGED if whole else Status.RUNNING)

    def batch(size: int | None, purpose: str) -> Objective:
        if size is None:
            if objective.indices is None:
                return objective
            size = len(objective.indices)
        return objective.sample(size, seed, state.k, f"krylov subspace {purpose}")

    B, C = batch(curvature_batch, "curvature"), batch(search_batch, "search")
    s = xp.ones_like(x)  # D^1/2
    if preconditioner == "fisher":
        F = xp.mean(B.per_example_grads(x) ** 2, axis=0)
        s = xp.maximum(F, floor * xp.max(F) * s) ** -0.5
    H = matrix_at(B, x, matrix)
    V, theta = _basis(lambda q: s * H(s * q), s * g, None if d is None else d / s, vectors, floor)
    if V is None:
        return x, State(k, seed, d, Status.BREAKDOWN)
    new, trials = _bfgs(C, x, xp.reshape(s, (-1, 1)) * V, inner, rtol)
    negative = float(theta[0]) < -float(xp.finfo(x.dtype).eps) * float(xp.max(xp.abs(theta)))
    info = {"theta": theta, "trials": trials, "flops": 12.0 * x.shape[0] * theta.shape[0] ** 2}
    if new is x:
        stuck = whole and B is C is objective  # other batches may do better
        return x, State(k, seed, d, Status.LINE_SEARCH_FAILED if stuck else Status.RUNNING, info)
    return new, State(k, seed, new - x, Status.NEGATIVE_CURVATURE if negative else Status.RUNNING, info)


def _basis(A: MatVec, g: Array, d: Array | None, vectors: int, floor: float) -> tuple[Array | None, Array]:
    """Return W U |theta|^-1/2, (n, m) or None where A is not finite, and theta (m,) ascending."""
    xp = namespace(g)
    eps = float(xp.finfo(g.dtype).eps)
    krylov = lanczos(A, g, vectors)
    theta, V = krylov.ritz_values, krylov.Q @ krylov.U
    if krylov.status is Status.BREAKDOWN:
        return None, theta
    if d is not None:
        v = d
        for _ in range(2):
            v = v - V @ (V.T @ v)
        if norm(v) > math.sqrt(eps) * norm(d):
            m = theta.shape[0]
            V = xp.concat([V, xp.reshape(v / norm(v), (-1, 1))], axis=1)
            P = xp.zeros((m + 1, m + 1), dtype=g.dtype, device=device(g))
            P[:m, :m] = theta * xp.eye(m, dtype=g.dtype, device=device(g))
            P[:, m] = P[m, :] = V.T @ A(V[:, m])
            if not all_finite(P):
                return None, theta
            theta, U = xp.linalg.eigh(P)
            V = V @ U
    least = floor * (float(xp.max(xp.abs(theta))) or 1.0)
    return V / xp.sqrt(xp.maximum(xp.abs(theta), least * xp.ones_like(theta))), theta


def _bfgs(f: Objective, x: Array, V: Array, maxiter: int, rtol: float) -> tuple[Array, int]:
    """Minimise f in x + span V; return the lowest point, x itself if there is none lower, and the trials made."""
    xp = namespace(x)
    H = xp.eye(V.shape[1], dtype=x.dtype, device=device(x))
    value, g = f.value_and_grad(x)
    h = V.T @ g
    tol, trials = rtol * norm(h), 0
    for _ in range(maxiter):
        p = -(H @ h)
        found = strong_wolfe.search(f, x, V @ p, value, g)
        trials += found.evaluations
        if found.status.failed and not found.value < float(value):
            break
        x, value, g = found.x, found.value, found.grad
        h, before = V.T @ g, h
        if norm(h) <= tol:
            break
        s, y = found.alpha * p, h - before
        sy = float(s @ y)
        if sy > float(xp.finfo(x.dtype).eps) * norm(s) * norm(y):
            Hy = H @ y
            w = (0.5 * (1.0 + float(y @ Hy) / sy) * s - Hy) / sy
            H = H + xp.stack([s, w], axis=1) @ xp.stack([w, s])
    return x, trials
