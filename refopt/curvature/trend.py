r"""The curvature in a trend: the symmetric H for which gradients follow positions best (Duda, 2019).

With samples weighted by w_i and bars for their weighted means, min over symmetric H and p of

    sum_i w_i |g_i - H (x_i - p)|^2

is stationary where, Dxx and Dgx being the covariances of positions, and of gradients with positions,

    H Dxx + Dxx H = Dgx + Dgx^T,        p = mean x - H^{-1} mean g.

With Dxx = O diag(e) O^T this is solved entry by entry, H = O [ (O^T (Dgx + Dgx^T) O)_ij / (e_i + e_j) ] O^T. Along
directions never moved in, e_i + e_j = 0: nothing is known there, and H is zero.

Source: J. Duda, arXiv:1901.11457, and the notebooks of github.com/JarekDuda/SGD-OGR-Hessian-estimator.
"""

from __future__ import annotations

import math
from typing import Any

from backends.arrays import Array, all_finite, namespace, norm
from backends.elementwise import elementwise


@elementwise(updates=("m", "mx", "mg", None, None))
def means(
    m: Array, mx: Array, mg: Array, x: Array, g: Array, gamma: float, beta: float
) -> tuple[Array, Array, Array, Array, Array]:
    """Return the momentum m, the mean position mx and gradient mg with one more sample, and its deviations dx, dg."""
    m = m + gamma * (g - m)
    mx = mx + beta * (x - mx)
    mg = mg + beta * (g - mg)
    return m, mx, mg, x - mx, g - mg


@elementwise(updates=("dxx", "d"))
def moments(dxx: Array, d: Array, dx: Array, dg: Array, beta: float, corr: str) -> tuple[Array, Array]:
    """Return the averages of dx^2, and of dg dx or with corr="one" of dg^2, coordinate by coordinate."""
    dxx = dxx + beta * (dx * dx - dxx)
    d = d + beta * (dg * (dg if corr == "one" else dx) - d)
    return dxx, d


def quotient(a: Array, b: Array, known: Array) -> Array:
    """Return a / b, elementwise, where `known` says that b is a divisor to trust; zero elsewhere."""
    xp = namespace(b)
    return xp.where(known, a / xp.where(known, b, xp.ones_like(b)), xp.zeros_like(b))


def symmetric_trend(Dxx: Array, Dgx: Array) -> Array:
    """Return the symmetric H (d, d) of H Dxx + Dxx H = Dgx + Dgx^T; the cost is one eigendecomposition."""
    xp = namespace(Dxx, Dgx)
    e, O = xp.linalg.eigh(Dxx)  # noqa: E741
    e = xp.maximum(e, xp.zeros_like(e))
    sums = xp.expand_dims(e, axis=1) + xp.expand_dims(e, axis=0)
    known = sums > 4.0 * e.shape[0] * float(xp.finfo(e.dtype).eps) * e[-1]
    turned = O.T @ (Dgx + Dgx.T) @ O
    H = O @ quotient(turned, sums, known) @ O.T
    return 0.5 * (H + H.T)


def diagonal_trend(dxx: Array, d: Array, corr: str) -> Array:
    """Return lam = d / dxx coordinate by coordinate, (n,); zero where one has not moved.

    `d` is dgx; with corr="one" it is dgg, and lam = sqrt(dgg / dxx).
    """
    lam = quotient(d, dxx, dxx > 0)
    return namespace(lam).sqrt(lam) if corr == "one" else lam


def regressed(dx: Array, dg: Array, Dxx: Array, D: Array, beta: float, corr: str) -> tuple[Array, Array, Array, Array]:
    """Return the averages with one more sample, and the eigenvalues and eigenvectors of the trend.

    `dx` and `dg` (d,) are the sample's deviations from the means, `Dxx` and `D` (d, d) the averages: of dx dx^T, and of
    dg dx^T; with corr="one" of dg dg^T, and H solves H Dxx + Dxx H = sx sg + sg sx with sx, sg the roots of both.
    All nan where an average is not finite.
    """
    xp = namespace(dx)
    Dxx = Dxx + beta * (xp.expand_dims(dx, axis=1) * dx - Dxx)
    D = D + beta * (xp.expand_dims(dg, axis=1) * (dg if corr == "one" else dx) - D)
    if not (all_finite(Dxx) and all_finite(D)):
        unknown = xp.full_like(D, math.nan)
        return Dxx, D, unknown[0, :], unknown
    lam, O = xp.linalg.eigh(symmetric_trend(Dxx, root(Dxx) @ root(D) if corr == "one" else D))  # noqa: E741
    return Dxx, D, lam, O


def root(D: Array) -> Array:
    """Return the symmetric positive semi-definite square root of D (d, d)."""
    xp = namespace(D)
    e, O = xp.linalg.eigh(D)  # noqa: E741
    return (O * xp.sqrt(xp.maximum(e, xp.zeros_like(e)))) @ O.T


def clipped_rates(lam: Array, div: float, cut: float) -> Array:
    """Return 1 / max(div |lam|, cut), elementwise: the rates by which a gradient becomes a step.

    div >= 1 distrusts the model, 1 / cut is the largest rate. Where both are zero the rate is zero.
    """
    xp = namespace(lam)
    bound = xp.maximum(div * xp.abs(lam), xp.full_like(lam, cut))
    return quotient(xp.ones_like(bound), bound, bound > 0)


def prediction(lam: Array, O: Array, mx: Array, mg: Array, x: Array) -> dict[str, Any]:  # noqa: E741
    """Return what the model of eigenvalues lam (d,) and eigenvectors O (d, d) foresees, all in its d coordinates.

    "p" is the stationary point, mx - H^+ mg, and "distance" the |x - p| that is left to go.
    """
    xp = namespace(lam)
    known = xp.abs(lam) > float(xp.finfo(lam.dtype).eps) * xp.max(xp.abs(lam))
    p = mx - O @ quotient(O.T @ mg, lam, known)
    return {"lam": lam, "p": p, "distance": norm(x - p)}
