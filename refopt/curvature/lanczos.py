r"""The Lanczos process, reorthogonalised: A on a Krylov space as a tridiagonal matrix T (Lanczos, 1950).

    q_1 = v_0 / |v_0|
    w = A q_j,    alpha_j = q_j^T w
    w = w - Q_j Q_j^T w, twice        (in exact arithmetic w - alpha_j q_j - beta_{j-1} q_{j-1})
    beta_j = |w|,    q_{j+1} = w / beta_j

    A Q_k = Q_k T_k + beta_k q_{k+1} e_k^T,    T_k = tridiag(beta, alpha, beta) = U diag(theta) U^T

theta are the Ritz values, Q U the Ritz vectors. |A y - theta_i y| = beta_k |U_{ki}| for y = Q U e_i, and an
eigenvalue of A lies within that of theta_i. Without reorthogonalisation Q loses its orthogonality as soon as
a Ritz value converges, which then comes again as a ghost; done twice, it holds to rounding.

"selective" does it where it is due. What o_{j,i} = q_j^T q_i may have grown to follows from T alone:

    beta_j o_{j+1,i} = beta_i o_{j,i+1} + (alpha_i - alpha_j) o_{j,i} + beta_{i-1} o_{j,i-1} - beta_{j-1} o_{j-1,i}
                       +- 2 eps |A|

Where it passes sqrt(eps), this step and the next reorthogonalise against all, any other against q_j and q_{j-1} alone.
Q then stays orthonormal to sqrt(eps) only and T is what an orthonormal basis of the same space gives, to eps (Simon).

Source: C. Lanczos, J. Res. Nat. Bur. Standards 45 (1950) 255-282; B. N. Parlett, The Symmetric Eigenvalue
Problem (1980), chapter 13; H. D. Simon, Math. Comp. 42 (1984) 115-142, who calls the selective one partial.
Cost: 1 product and 8 n j flops at step j, or 16 n where nothing is due.    Memory: k vectors.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from backends.arrays import Array, device, namespace, norm
from refopt.curvature.products import MatVec
from refopt.status import Status, require

Host: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


class Lanczos(NamedTuple):
    """A on the Krylov space of v_0 after k steps; see `lanczos`."""

    Q: Array  # (n, k) orthonormal basis; to sqrt(eps) where that was asked for
    alpha: Array  # (k,) diagonal of T
    beta: Array  # (k,) what couples q_j to q_{j+1}: the off-diagonal of T, and last |residual|
    residual: Array  # (n,) beta_k q_{k+1}
    ritz_values: Array  # (k,) ascending
    U: Array  # (k, k) eigenvectors of T: Q @ U are the Ritz vectors
    ritz_errors: Array  # (k,) |A y - theta y|
    products: int  # calls of mv
    status: Status


def lanczos(mv: MatVec, v0: Array, steps: int, *, reorthogonalise: Literal["full", "selective"] = "full") -> Lanczos:
    """Run at most `steps` Lanczos steps of A = `mv`, symmetric, from `v0` of shape (n,).

    Ends as MAX_STEPS; as CONVERGED where the Krylov space is invariant, k < `steps` then being its dimension
    and the Ritz values eigenvalues of A; or as BREAKDOWN with the steps before something was not finite
    (k = 0 if `v0` is zero). Raises ValueError unless steps >= 1, or for an unknown `reorthogonalise`.

    >>> import numpy as np
    >>> spectrum = np.array([1.0, 3.0, 9.0])
    >>> found = lanczos(lambda v: spectrum * v, np.ones(3), steps=10)
    >>> found.status.name, np.round(found.ritz_values, 12)
    ('CONVERGED', array([1., 3., 9.]))
    """
    require(steps >= 1, "steps must be at least 1", steps)
    known = ("full", "selective")
    require(reorthogonalise in known, "reorthogonalise must be 'full' or 'selective'", reorthogonalise)
    xp = namespace(v0)
    n = v0.shape[0]
    like = {"dtype": v0.dtype, "device": device(v0)}
    eps = float(xp.finfo(v0.dtype).eps)
    rounding = 20.0 * eps  # of a product, beside |A|; one missed costs only more steps
    Q = xp.zeros((min(steps, n), n), **like)
    alphas: list[float] = []
    betas: list[float] = []
    residual, beta, norm_A = v0, norm(v0), 0.0
    overlaps, due = (np.zeros(0), np.ones(1)), False  # of the last two q with those before
    products, status = 0, Status.MAX_STEPS if 0.0 < beta < math.inf else Status.BREAKDOWN
    while status is Status.MAX_STEPS and products < Q.shape[0]:
        q = residual / beta
        w = mv(q)
        products += 1
        alpha = float(q @ w)
        Q[products - 1, :] = q
        w = _orthogonal(w, Q[:products, :] if reorthogonalise == "full" else Q[max(0, products - 2) : products, :])
        beta = norm(w)
        if not (math.isfinite(alpha) and math.isfinite(beta)):
            status = Status.BREAKDOWN
            break
        residual = w
        alphas.append(alpha)
        betas.append(beta)
        norm_A = max(norm_A, abs(alpha) + beta)
        if reorthogonalise == "selective":
            new = _overlaps(*overlaps, np.asarray(alphas), np.asarray(betas), eps * norm_A, eps * math.sqrt(n))
            again, due = due, not np.all(np.abs(new[:-1]) <= math.sqrt(eps))
            if due or again:
                residual = _orthogonal(w, Q[:products, :])
                beta = betas[-1] = norm(residual)
                new[:-1] = eps
            overlaps = overlaps[1], new
        if beta <= rounding * norm_A:
            status = Status.CONVERGED

    k = len(alphas)
    alpha_k, beta_k = xp.asarray(alphas, **like), xp.asarray(betas, **like)
    upper = xp.reshape(beta_k, (k, 1)) * xp.eye(k, k=1, **like)
    ritz_values, U = xp.linalg.eigh(alpha_k * xp.eye(k, **like) + upper + upper.T)
    ritz_errors = betas[-1] * xp.abs(U[-1, :]) if k else beta_k
    return Lanczos(Q[:k, :].T, alpha_k, beta_k, residual, ritz_values, U, ritz_errors, products, status)


def _orthogonal(w: Array, Q: Array) -> Array:
    for _ in range(2):
        w = w - (Q @ w) @ Q
    return w


def _overlaps(before: Host, now: Host, alpha: Host, beta: Host, rounding: float, least: float) -> Host:
    """Return what bounds q_{j+1}^T q_i for i = 1, ..., j + 1, from `now` for q_j and `before` for q_{j-1}."""
    grown = beta[:-1] * now[1:] + (alpha[:-1] - alpha[-1]) * now[:-1]
    grown[1:] += beta[:-2] * now[:-2]
    grown -= beta[-2:-1] * before
    grown += np.copysign(2.0 * rounding, grown)
    return np.concatenate([grown / max(float(beta[-1]), np.finfo(float).tiny), [least, 1.0]])
