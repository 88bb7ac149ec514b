r"""MINRES (Paige & Saunders, 1975): least residuals over Krylov spaces, for A x = b with A symmetric, indefinite too.

The Lanczos process makes A V_k = Q_{k+1} T_k from beta_1 q_1 = b - A x_0, and reflections make T_k upper triangular,
column by column, as it grows; v = M^{-1} q with a preconditioner M, symmetric positive definite, and v = q without:

    alpha_k = v_k^T A v_k,    beta_{k+1} q_{k+1} = A v_k - alpha_k q_k - beta_k q_{k-1},    v_k^T q_k = 1
    epsilon_k = s_{k-2} beta_k
    delta_k   = -c_{k-1} c_{k-2} beta_k + s_{k-1} alpha_k
    gammabar_k = -s_{k-1} c_{k-2} beta_k - c_{k-1} alpha_k
    gamma_k = sqrt(gammabar_k^2 + beta_{k+1}^2),    c_k = gammabar_k / gamma_k,    s_k = beta_{k+1} / gamma_k
    d_k = (v_k - delta_k d_{k-1} - epsilon_k d_{k-2}) / gamma_k
    x_k = x_{k-1} + c_k phi_{k-1} d_k,    phi_k = s_k phi_{k-1} = |b - A x_k|,    phi_0 = beta_1

|r| stands for sqrt(r^T M^{-1} r), the norm that is least over the Krylov space.

phi_k never grows, and drifts from |b - A x_k| by about eps kappa |A| |x|, kappa the condition: a factor kappa
more than in `cg`. Where A is singular and b is not in its range, |A r| tends to 0 instead of |r|:

    |A r_{k-1}| = phi_{k-1} sqrt(gammabar_k^2 + (c_{k-1} beta_{k+1})^2)

Negative curvature. The residual z = M^{-1} (b - A x) is itself a direction whose curvature comes free, and while that
is positive A is so on the whole Krylov space (Liu & Roosta):

    z_{k-1}^T A z_{k-1} = -c_{k-1} gammabar_k phi_{k-1}^2,    z_k = s_k^2 z_{k-1} - c_k phi_k v_{k+1}

Source: C. C. Paige and M. A. Saunders, SIAM J. Numer. Anal. 12 (1975) 617-629; |A r| as in S.-C. T. Choi,
C. C. Paige and M. A. Saunders, SIAM J. Sci. Comput. 33 (2011) 1810-1836; negative curvature, Y. Liu and F. Roosta, SIAM
J. Optim. 32 (2022) 2636-2661.
Cost: 1 product, 2 inner products, 4 vector updates a step.    Memory: 7 vectors, 9 with M; 1 more for z.
Differs: scipy stops by a backward error, |r| <= rtol (|A| |x| + |b|).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from backends.arrays import Array, namespace, norm
from refopt.curvature.products import MatVec
from refopt.status import Status, require


class MINRES(NamedTuple):
    """What MINRES found; see `minres`."""

    x: Array  # (n,)
    residual_norm: float  # phi, or |b - A x| where that was computed afresh; in the norm of M^{-1}
    products: int  # calls of mv
    status: Status
    direction: Array | None = None  # (n,) the z whose curvature was not positive
    curvature: float | None = None  # z^T A z / z^T z there


def minres(
    mv: MatVec,
    b: Array,
    *,
    x0: Array | None = None,
    rtol: float = 1e-8,
    atol: float = 0.0,
    maxiter: int | None = None,
    preconditioner: MatVec | None = None,
    until_negative: bool = False,
) -> MINRES:
    """Solve A x = b, A = `mv` symmetric, until |b - A x| <= max(rtol |b|, atol).

    `b` and `x0` (zero by default) have shape (n,); `maxiter` is 10 n by default; `preconditioner(r)` returns M^{-1} r
    with M symmetric positive definite. Ends as CONVERGED, MAX_STEPS, STAGNATED (phi says converged, and b - A x,
    computed afresh where rounding may have spoilt phi, does not), or BREAKDOWN (something is not finite, or M is not
    positive definite). CONVERGED with a residual above the tolerance is a least-squares solution, |A r| <= 2 sqrt(eps)
    |A| |r|: A is singular, as far as rounding lets one see, and b not in its range. With `until_negative` it ends as
    NEGATIVE_CURVATURE, with that direction, before the first step for which z^T A z <= eps |A| |z|^2.
    Raises ValueError for a negative tolerance.

    >>> import numpy as np
    >>> minres(lambda v: np.array([1.0, -2.0]) * v, np.array([3.0, 4.0])).x
    array([ 3., -2.])
    """
    require(rtol >= 0, "rtol must be at least 0", rtol)
    require(atol >= 0, "atol must be at least 0", atol)
    xp = namespace(b)
    eps = float(xp.finfo(b.dtype).eps)
    singular = 2.0 * math.sqrt(eps)
    maxiter = 10 * b.shape[0] if maxiter is None else maxiter

    def dual(r: Array) -> tuple[Array, float]:
        """Return M^{-1} r and the length of r, nan where M is not positive definite."""
        if preconditioner is None:
            return r, norm(r)
        z = preconditioner(r)
        rz = float(r @ z)
        return z, math.sqrt(rz) if rz >= 0.0 else math.nan

    d = d_old = q_old = xp.zeros_like(b)
    z, norm_b = dual(b)
    x, r, phi, spent = d, b, norm_b, 0
    if x0 is not None:
        x, r, spent = x0, b - mv(x0), 1
        z, phi = dual(r)
    tol = max(rtol * norm_b, atol)
    if phi <= tol:
        return MINRES(x, phi, spent, Status.CONVERGED)
    if not math.isfinite(phi):
        return MINRES(x, phi, spent, Status.BREAKDOWN)

    q, beta = r / phi, 0.0
    v = q if preconditioner is None else z / phi
    norm_A, norm_inverse = 0.0, 0.0  # lower bounds of |A| and |A^{-1}|
    c, s, c_old, s_old = -1.0, 0.0, -1.0, 0.0
    for products in range(spent + 1, spent + maxiter + 1):
        w = mv(v)
        alpha = float(v @ w)
        w = w - alpha * q - beta * q_old
        Mw, beta_new = dual(w)
        if not (math.isfinite(alpha) and math.isfinite(beta_new)):
            return MINRES(x, phi, products, Status.BREAKDOWN)
        norm_A = max(norm_A, math.hypot(beta, alpha, beta_new))
        epsilon = s_old * beta
        delta = -c * c_old * beta + s * alpha
        gammabar = -s * c_old * beta - c * alpha
        if until_negative and -c * gammabar <= eps * norm_A:
            curvature = -c * gammabar * (phi / norm(z)) ** 2
            return MINRES(x, phi, products, Status.NEGATIVE_CURVATURE, z, curvature)
        if math.hypot(gammabar, c * beta_new) <= singular * norm_A:
            _, residual_norm = dual(b - mv(x))
            status = Status.CONVERGED if residual_norm <= 1.1 * phi else Status.STAGNATED
            return MINRES(x, residual_norm, products + 1, status)
        gamma = math.hypot(gammabar, beta_new)
        norm_inverse = max(norm_inverse, 1.0 / gamma)
        c_old, s_old, c, s = c, s, gammabar / gamma, beta_new / gamma
        d, d_old = (v - delta * d - epsilon * d_old) / gamma, d
        x = x + (c * phi) * d
        phi = s * phi
        if phi <= max(tol, eps * norm_b):
            if eps * norm_inverse * norm_A**2 * norm(x) < tol:
                return MINRES(x, phi, products, Status.CONVERGED)
            _, residual_norm = dual(b - mv(x))
            status = Status.CONVERGED if residual_norm <= tol else Status.STAGNATED
            return MINRES(x, residual_norm, products + 1, status)
        q_old, q, beta = q, w / beta_new, beta_new
        v = q if preconditioner is None else Mw / beta_new
        if until_negative:
            z = (s * s) * z - (c * phi) * v
    return MINRES(x, phi, spent + maxiter, Status.MAX_STEPS)
