r"""Inertia: how many eigenvalues of A are negative, how many are zero, how many positive.

    small n    A itself, by n products, and its eigenvalues: the counts are exact, up to the tolerance
    else       k Lanczos steps from a random vector: A on a subspace, T = Q^T A Q

By Cauchy's interlacing theorem the i-th smallest eigenvalue of T is not below
the i-th smallest of A: as many negative Ritz values, at least as many negative eigenvalues; and so for the positive
ones. The counts are lower bounds then, from any subspace and with no other assumption, and what they leave open is
`undecided`. An eigenvalue counts as zero where |lambda| <= rtol |A|, as rounding hides its sign.

How many there can be at most is a matter of luck, which can be bounded. Let m of the Ritz values be negative, V their
vectors, and B the part of A orthogonal to V. No more than m eigenvalues of A lie below the lowest of B (interlacing
again), and k steps from a random vector that knows nothing of V miss that by more than

    epsilon (lambda_max(B) - lambda_min(B)),    1.648 sqrt(n) exp(-sqrt(epsilon) (2 k - 1)) = (1 - confidence) / 2

with probability (1 - confidence) / 2 at most. So with `confidence`, all eigenvalues but `negative` are at least

    floor = theta_1 - epsilon / (1 - 2 epsilon) (theta_k - theta_1),    theta the Ritz values of B:

the index is exact if that is positive, and else no eigenvalue below it was missed.

Source: J. J. Sylvester, Phil. Mag. 4 (1852) 138-142, for the law; B. N. Parlett, The Symmetric Eigenvalue Problem
(1980), section 10.1; J. Kuczynski and H. Wozniakowski, SIAM J. Matrix Anal. Appl. 13 (1992) 1094-1122, for luck.
Cost: n products and 4/3 n^3 flops; or `steps` products and 4 n steps^2 flops, twice that with a confidence.
Memory: n vectors; or `steps`, twice that with a confidence.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from backends import random
from backends.arrays import Array, all_finite, namespace
from refopt.curvature.lanczos import Lanczos, lanczos
from refopt.curvature.products import MatVec, dense
from refopt.status import Status, require


class Eigenpair(NamedTuple):
    """An approximate eigenpair: an eigenvalue lies within `residual` of `value`."""

    value: float
    vector: Array  # (n,), of length 1
    residual: float  # |A vector - value vector|


class Inertia(NamedTuple):
    """How many eigenvalues of A are known to have which sign; see `inertia`."""

    negative: int
    positive: int
    zero: int  # |eigenvalue| <= tol; 0 unless exact
    undecided: int  # eigenvalues of which nothing is known; 0 if exact
    tol: float  # what counts as zero
    smallest: Eigenpair | None  # the lowest Ritz pair; None where nothing is finite
    largest: Eigenpair | None
    products: int  # calls of mv
    status: Status
    floor: float = -math.inf  # all eigenvalues but `negative` are at least this, with the confidence asked for

    @property
    def exact(self) -> bool:
        """Whether the counts are exact, not lower bounds."""
        return self.undecided == 0


def inertia(
    mv: MatVec,
    like: Array,
    *,
    rtol: float | None = None,
    exact_up_to: int = 300,
    steps: int = 60,
    confidence: float | None = None,
    seed: int = 0,
    k: int = 0,
) -> Inertia:
    """Count the eigenvalues of A = `mv`, symmetric, on vectors like `like`, (n,), by sign.

    Exact for n <= `exact_up_to`, else lower bounds by `steps` products from a Gaussian vector keyed by (seed, k).
    `rtol` is 10 n eps by default, and 10 sqrt(n) eps for the bounds, which is what rounding adds up to in a product.
    Ends as CONVERGED where the counts are exact, MAX_STEPS where they are bounds, or BREAKDOWN (something is not
    finite; nothing is known). With a `confidence`, such as 0.999, and `steps` more products
    `floor` bounds what was missed; where the counts are exact it is -tol, or tol if none is zero. Raises ValueError
    unless rtol >= 0, steps >= 1 and confidence is in (0, 1).

    >>> import numpy as np
    >>> spectrum = np.array([-2.0, -1.0, 0.0, 5.0])
    >>> found = inertia(lambda v: spectrum * v, np.zeros(4))
    >>> found.negative, found.zero, found.positive, found.exact
    (2, 1, 1, True)
    """
    xp = namespace(like)
    n = like.shape[0]
    if rtol is None:
        rtol = 10.0 * float(xp.finfo(like.dtype).eps) * (n if n <= exact_up_to else math.sqrt(n))
    require(rtol >= 0, "rtol must be at least 0", rtol)
    require(steps >= 1, "steps must be at least 1", steps)
    require(confidence is None or 0 < confidence < 1, "confidence must be in (0, 1)", confidence)
    if n <= exact_up_to:
        A = dense(mv, like)
        values, vectors = xp.linalg.eigh(A) if all_finite(A) else (A[0, :0], A[:, :0])
        residuals, products = xp.linalg.vector_norm(A @ vectors - vectors * values, axis=0), n
    else:
        start = random.normal(n, seed=seed, k=k, purpose="inertia", like=like)
        run = lanczos(mv, start, steps)
        values, vectors, residuals, products = run.ritz_values, run.Q @ run.U, run.ritz_errors, run.products
    known = values.shape[0]
    if known == 0:
        return Inertia(0, 0, 0, n, math.nan, None, None, products, Status.BREAKDOWN)
    smallest, largest = (Eigenpair(float(values[i]), vectors[:, i], float(residuals[i])) for i in (0, known - 1))
    tol = rtol * max(abs(smallest.value), abs(largest.value))
    negative = int(xp.count_nonzero(values < -tol))
    positive = int(xp.count_nonzero(values > tol))
    rest = n - negative - positive
    zero, undecided = (rest, 0) if known == n else (0, rest)
    status, floor = (Status.CONVERGED, -tol if zero else tol) if undecided == 0 else (Status.MAX_STEPS, -math.inf)
    if undecided and confidence is not None:
        afresh = random.normal(n, seed=seed, k=k, purpose="inertia, floor", like=like)  # independent of V
        run = lanczos(*_rest(mv, vectors[:, :negative], afresh), steps)
        products += run.products
        floor = _floor(run, n, confidence)
    return Inertia(negative, positive, zero, undecided, tol, smallest, largest, products, status, floor)


def _rest(mv: MatVec, V: Array, start: Array) -> tuple[MatVec, Array]:
    """Return the part of A orthogonal to the orthonormal columns of V, (n, m), and of `start`."""

    def project(v: Array) -> Array:
        for _ in range(2):
            v = v - V @ (v @ V)
        return v

    return lambda v: project(mv(project(v))), project(start)


def _floor(run: Lanczos, n: int, confidence: float) -> float:
    """Return what no eigenvalue is below, given a run from a Gaussian vector, with this confidence."""
    if run.status is Status.BREAKDOWN:
        return -math.inf
    lowest, highest = float(run.ritz_values[0]), float(run.ritz_values[-1])
    epsilon = (math.log(2.0 * 1.648 * math.sqrt(n) / (1.0 - confidence)) / (2 * run.products - 1)) ** 2
    if run.status is Status.CONVERGED:  # the space is invariant: each eigenvalue that there is shows itself
        return lowest
    return lowest - epsilon / (1.0 - 2.0 * epsilon) * (highest - lowest) if epsilon < 0.5 else -math.inf
