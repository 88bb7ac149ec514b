r"""Inverse roots of small dense matrices, for Kronecker-factored methods.

    inverse_pth_root    A^{-1/p} = Q diag(lambda_i^{-1/p}) Q^T             by eigendecomposition
    coupled_newton      A^{-1/p}, by products alone: fast where eigh is slow

Coupled Newton iteration, which keeps M_k = X_k^p A and drives it to I:

    z = (1 + p) / (2 |A|_F),    X_0 = z^{1/p} I,    M_0 = z A
    T_k = ((p + 1) I - M_k) / p
    X_{k+1} = X_k T_k,    M_{k+1} = T_k^p M_k

Both add (damping + ridge lambda_max) I to A first, the iteration with lambda_max by power iteration, as Anil et al.

Accuracy: A is known to rounding only, which moves A^{-1/p} by eps kappa / p of its norm, kappa = lambda_max /
lambda_min. Both ways come as near, for every p: measured on d <= 256 and kappa <= 1 / eps, relative errors within
eps (30 + kappa / p) by eigendecomposition, eps (10 d + kappa / p) by the iteration. So a root to 1e-10 needs kappa / p
below 4e5 in double precision; in single precision kappa = 1e6 leaves errors of 1e-2 / p or more and from kappa = 1e7 on
the small eigenvalues are noise, which damping above 1e-7 lambda_max covers. optax' iteration takes M^{2^round(log2 p)}
for M^p: wrong for p = 3, 5, 6, 7.
Source: R. Anil, V. Gupta, T. Koren, K. Regan, Y. Singer, arXiv 2002.09018 (2020); the iteration is that of
C.-H. Guo and N. J. Higham, SIAM J. Matrix Anal. Appl. 28 (2006) 788-804.
Cost: eigh about 9 d^3 flops; an iteration 2 (2 + log2 p) d^3, and a product with a vector 2 d^2.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from backends.arrays import Array, device, namespace
from refopt.curvature.power_iteration import power_iteration
from refopt.status import Status, require

_SQUARE = "A must be a square matrix"


def inverse_pth_root(A: Array, p: int, *, damping: float = 0.0, ridge: float = 0.0) -> Array:
    """Return (A + (damping + ridge lambda_max) I)^{-1/p}, shape (d, d), of a symmetric positive semi-definite `A`.

    Eigenvalues that rounding made negative count as zero before they are damped, so that no rounding of a large `A`
    hides the damping; and zero as the smallest normal number: without damping the root of a singular matrix is large
    but finite. All nan if `A` is not finite. Raises ValueError unless `A` is square, p >= 1, damping and ridge >= 0.

    >>> import numpy as np
    >>> inverse_pth_root(np.diag([16.0, 81.0]), 4)
    array([[0.5       , 0.        ],
           [0.        , 0.33333333]])
    """
    require(A.ndim == 2 and A.shape[0] == A.shape[1], _SQUARE, A.shape)
    require(p >= 1, "p must be at least 1", p)
    require(damping >= 0, "damping must be at least 0", damping)
    require(ridge >= 0, "ridge must be at least 0", ridge)
    xp = namespace(A)
    try:
        lam, Q = xp.linalg.eigh(A)
    except ValueError:  # LinAlgError: NumPy refuses what CuPy fills with nan
        return xp.full_like(A, math.nan)
    lam = xp.clip(lam, 0.0, None)
    lam = xp.clip(lam + damping + ridge * lam[-1], float(xp.finfo(A.dtype).smallest_normal), None)
    B = Q * lam ** (-0.5 / p)
    return B @ B.T


class Root(NamedTuple):
    """What the coupled Newton iteration found; see `coupled_newton`."""

    x: Array  # (d, d) A^{-1/p}
    error: float  # largest entry of |M - I|
    iterations: int
    status: Status


def coupled_newton(
    A: Array, p: int, *, damping: float = 0.0, ridge: float = 0.0, tol: float | None = None, maxiter: int = 100
) -> Root:
    """Return (A + (damping + ridge lambda_max) I)^{-1/p}, (d, d), of a symmetric positive definite `A`, by products.

    At most 100 products with a vector give lambda_max; where many eigenvalues come near it, to a few hundredths.
    Iterates until no entry of M - I exceeds `tol` (10 d eps by default). Ends as CONVERGED, MAX_STEPS,
    STAGNATED (the error grows: `x` is the iterate before) or BREAKDOWN (`A` is zero or not finite). Raises
    ValueError unless `A` is square, p >= 1, damping and ridge >= 0.
    """
    require(A.ndim == 2 and A.shape[0] == A.shape[1], _SQUARE, A.shape)
    require(p >= 1, "p must be at least 1", p)
    require(damping >= 0, "damping must be at least 0", damping)
    require(ridge >= 0, "ridge must be at least 0", ridge)
    xp = namespace(A)
    d = A.shape[0]
    tol = 10.0 * d * float(xp.finfo(A.dtype).eps) if tol is None else tol
    eye = xp.eye(d, dtype=A.dtype, device=device(A))
    lambda_max = power_iteration(lambda v: A @ v, A[0, :], rtol=0.0).values[0] if ridge else 0.0
    M = A + (damping + ridge * lambda_max) * eye
    norm_M = float(xp.linalg.matrix_norm(M))
    if not 0.0 < norm_M < math.inf:
        return Root(xp.full_like(A, math.nan), math.inf, 0, Status.BREAKDOWN)
    z = (1.0 + p) / (2.0 * norm_M)
    X, M = z ** (1.0 / p) * eye, z * M
    error = float(xp.max(xp.abs(M - eye)))
    for iterations in range(maxiter):
        if error <= tol:
            return Root(X, error, iterations, Status.CONVERGED)
        T = ((p + 1.0) * eye - M) / p
        M = xp.linalg.matrix_power(T, p) @ M
        previous, error = error, float(xp.max(xp.abs(M - eye)))
        if iterations > 0 and not error < previous:  # after one step the spectrum of M lies in (0, 1]
            return Root(X, previous, iterations, Status.STAGNATED)
        X = X @ T
    return Root(X, error, maxiter, Status.MAX_STEPS)
