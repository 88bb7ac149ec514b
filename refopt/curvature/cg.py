r"""Conjugate gradients (Hestenes & Stiefel, 1952), preconditioned, for A x = b with A symmetric.

    r_0 = b - A x_0,    z_0 = M^{-1} r_0,    p_0 = z_0
    alpha_k = r_k^T z_k / p_k^T A p_k
    x_{k+1} = x_k + alpha_k p_k
    r_{k+1} = r_k - alpha_k A p_k
    z_{k+1} = M^{-1} r_{k+1}
    beta_k  = r_{k+1}^T z_{k+1} / r_k^T z_k
    p_{k+1} = z_{k+1} + beta_k p_k

In exact arithmetic it ends after as many steps as A has distinct eigenvalues with a component in r_0. The model
phi(x) = 1/2 x^T A x - b^T x, whose minimum is the solution, falls at step k by alpha_k r_k^T z_k / 2.

Negative curvature. p^T A p is known to about eps |A| |p|^2, so curvature counts as negative, and ends the
solve, when p^T A p <= eps |A| |p|^2. |A| is estimated by the largest |p^T A p| / |p|^2 met, a lower bound.
The direction p and its curvature are returned; x is the iterate before it.

Residual. The recursion's r drifts from b - A x by about eps |A| |x|. While the tolerance lies above that, r
is trusted and no product is spent on a check. Below it, b - A x is computed afresh: if it meets the tolerance
the solve has converged, if it has not halved since the last check it has stagnated, else CG restarts from x.

Source: M. R. Hestenes and E. Stiefel, J. Res. Nat. Bur. Standards 49 (1952) 409-436; Nocedal & Wright (2006),
algorithms 5.2 and 5.3.
Cost: 1 product, 3 inner products, 3 vector updates a step.    Memory: 4 vectors, 5 with M.
Differs: scipy returns the recursion's word on convergence and tests no curvature.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from backends.arrays import Array, namespace, norm
from refopt.curvature.products import MatVec
from refopt.status import Status, require


class CG(NamedTuple):
    """What CG found; see `cg`."""

    x: Array  # (n,)
    residual_norm: float  # |b - A x|
    products: int  # calls of mv
    status: Status
    direction: Array | None = None  # (n,) the p at which curvature was not positive
    curvature: float | None = None  # p^T A p / p^T p there
    model_decrease: float = 0.0  # phi(x_0) - phi(x)


def cg(
    mv: MatVec,
    b: Array,
    *,
    x0: Array | None = None,
    rtol: float = 1e-8,
    atol: float = 0.0,
    maxiter: int | None = None,
    preconditioner: MatVec | None = None,
    callback: Callable[[Array, Array], bool | None] | None = None,
) -> CG:
    """Solve A x = b, A = `mv` symmetric, until |b - A x| <= max(rtol |b|, atol).

    `b` and `x0` (zero by default) have shape (n,); `maxiter` is 10 n by default; `preconditioner(r)` returns
    M^{-1} r with M symmetric positive definite. `callback(x, r)` sees every iterate but the last, with its
    residual r = b - A x, and ends the solve by returning True.

    Ends as CONVERGED, MAX_STEPS, NEGATIVE_CURVATURE, STAGNATED, CALLBACK, or BREAKDOWN (something is not
    finite, or M is not positive definite; x is then the last good iterate). Raises ValueError for a negative
    tolerance.

    >>> import numpy as np
    >>> A = np.array([[4.0, 1.0], [1.0, 3.0]])
    >>> solution = cg(lambda v: A @ v, np.array([1.0, 2.0]))
    >>> solution.status.name, solution.products, np.round(11 * solution.x, 12)
    ('CONVERGED', 2, array([1., 7.]))
    """
    require(rtol >= 0, "rtol must be at least 0", rtol)
    require(atol >= 0, "atol must be at least 0", atol)
    xp = namespace(b)
    eps = float(xp.finfo(b.dtype).eps)
    norm_b = norm(b)
    if x0 is None or norm_b == 0.0:
        x, r, products = xp.zeros_like(b), b, 0
    else:
        x, r, products = x0, b - mv(x0), 1
    tol = max(rtol * norm_b, atol)
    unit = residual_norm = norm(r)
    if residual_norm <= tol:
        return CG(x, residual_norm, products, Status.CONVERGED)
    if not math.isfinite(residual_norm):
        return CG(x, residual_norm, products, Status.BREAKDOWN)

    r = r / unit  # r, z, p are carried in this unit: their squares then neither overflow nor vanish in float32
    z = r if preconditioner is None else preconditioner(r)
    p, rz = z, float(r @ z)
    norm_A, checked, fell = 0.0, math.inf, 0.0
    for _ in range(10 * b.shape[0] if maxiter is None else maxiter):
        Ap = mv(p)
        products += 1
        pAp, pp = float(p @ Ap), float(p @ p)
        if not (math.isfinite(pAp) and rz > 0.0 and pp > 0.0):
            return CG(x, residual_norm, products, Status.BREAKDOWN, model_decrease=fell)
        norm_A = max(norm_A, abs(pAp) / pp)
        if pAp <= eps * norm_A * pp:
            return CG(x, residual_norm, products, Status.NEGATIVE_CURVATURE, p, pAp / pp, fell)

        alpha = rz / pAp
        x = x + (unit * alpha) * p
        fell += 0.5 * unit * unit * alpha * rz
        r = r - alpha * Ap
        z = r if preconditioner is None else preconditioner(r)
        rz, previous = float(r @ z), rz
        residual_norm = unit * math.sqrt(rz if preconditioner is None else float(r @ r))
        beta = rz / previous
        if residual_norm <= max(tol, eps * norm_b):
            if eps * norm_A * norm(x) < tol:
                return CG(x, residual_norm, products, Status.CONVERGED, model_decrease=fell)
            r = b - mv(x)
            products += 1
            residual_norm = norm(r)
            if residual_norm <= tol:
                return CG(x, residual_norm, products, Status.CONVERGED, model_decrease=fell)
            if not residual_norm < 0.5 * checked:
                return CG(x, residual_norm, products, Status.STAGNATED, model_decrease=fell)
            unit = checked = residual_norm
            r = r / unit
            z = r if preconditioner is None else preconditioner(r)
            rz, beta = float(r @ z), 0.0
        if callback is not None and callback(x, unit * r):
            return CG(x, residual_norm, products, Status.CALLBACK, model_decrease=fell)
        p = z + beta * p
    return CG(x, residual_norm, products, Status.MAX_STEPS, model_decrease=fell)
