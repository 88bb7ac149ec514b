r"""Gram-Schmidt for a few long rows, by products of the whole block (Cholesky QR), and its update when all rows move.

    G = W W^T
    T lower triangular with T G T^T = I;  the row of a vector that depends on those before it is zero
    V = T W,    and once more if a row was mostly along those before it: rounding then tells

In exact arithmetic V is what Gram-Schmidt gives, row by row; here W is read d times less often. G is (d, d), so T is
found on the host in double precision.

Where each row of an orthonormal V has moved along one vector g, the rows V + u g^T need not be formed, nor their
products: with E = T [V; g] orthonormal, [V; g] = L E and L = K T^T, K being the Gram matrix of the d + 1 rows,

    V + u g^T = [I u] L E,    Q = GramSchmidt([I u] L)  of d rows of d + 1 numbers,    V_new = (Q T) [V; g]

so V is read twice, for V g and for V_new, and written once. Q T is well conditioned, however long u g^T is. What else
is to be multiplied by V_new is multiplied block by block, while the block is in cache.
Source: Y. Yamamoto, Y. Nakatsukasa, Y. Yanagisawa, T. Fukaya, ETNA 44, 2015, for the second round.
Cost: 4 d^2 n flops a round; 2 d^2 n for the update.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from backends.arrays import Array, array_like, asnumpy, device, namespace
from backends.elementwise import donated

BLOCK = 1 << 15  # columns of the update at a time, which stay in cache
REMEASURE = 16  # steps: what rounding does to V in as many is far below what it does to a gradient


def gram_schmidt(W: Array) -> Array:
    """Return V (d, n) with orthonormal rows, the first j of which span what the first j rows of W (d, n) span.

    A row that depends on those before it, to the precision of the dtype, becomes zero. Waits for the device.
    """
    eps = float(namespace(W).finfo(W.dtype).eps)
    for _ in range(2):
        T, least = _coefficients(asnumpy(W @ W.T).astype(np.float64), 16.0 * W.shape[0] * eps)
        W = array_like(T, W) @ W
        if least > 0.1:  # the rows are orthonormal up to eps / least
            break
    return W


def turned(
    V: Array, g: Array, Gamma: float, k: int, *, onto: Sequence[Array] = (), oja: bool = False
) -> tuple[Array, Array, list[Array]]:
    """Return Gram-Schmidt of the rows v_i + Gamma g, its products R (d, d) with the old rows, and those with `onto`.

    With `oja` of v_i + Gamma (g . v_i) g. V is (d, n), g and each vector of `onto` (n,), `k` the step. The rows of V
    are taken for orthonormal; when k is a multiple of REMEASURE, or a row seems to be zero, their products are
    computed, and what rounding has done to them is mended. V is written over where the loop has donated it. Waits for
    the device.
    """
    xp = namespace(V)
    d, eps = V.shape[0], float(xp.finfo(V.dtype).eps)
    a = asnumpy(V @ g).astype(np.float64)
    G = asnumpy(V @ V.T).astype(np.float64) if k % REMEASURE == 0 or np.any(a == 0.0) else np.eye(d)
    K = np.block([[G, a[:, None]], [a, float(g @ g)]])
    T, _ = _coefficients(K, 16.0 * d * eps)
    u = Gamma * (a if oja else np.ones(d))
    moved = np.column_stack([np.eye(d), u]) @ K @ T.T
    C = _rows(moved) @ T
    R = array_like(C @ K[:, :d], V)
    C = array_like(C, V)
    new = V if donated() else xp.empty_like(V)
    rows = xp.empty((d + 1, min(BLOCK, V.shape[1])), dtype=V.dtype, device=device(V))
    products = [xp.zeros_like(V[:, 0]) for _ in onto]
    for start in range(0, V.shape[1], BLOCK):
        stop = min(start + BLOCK, V.shape[1])
        rows[:d, : stop - start] = V[:, start:stop]
        rows[d, : stop - start] = g[start:stop]
        block = C @ rows[:, : stop - start]
        new[:, start:stop] = block
        products = [p + block @ v[start:stop] for p, v in zip(products, onto, strict=True)]
    return new, R, products


def _rows(M: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return Gram-Schmidt of a small M in double precision, each row twice; zero where a row depends on others."""
    Q = np.zeros_like(M)
    for j, row in enumerate(M):
        q = row - (Q[:j] @ row) @ Q[:j]
        q = q - (Q[:j] @ q) @ Q[:j]
        length = np.linalg.norm(q)
        if length > 1e-13 * np.linalg.norm(row):
            Q[j] = q / length
    return Q


def _coefficients(G: np.ndarray[Any, Any], tolerance: float) -> tuple[np.ndarray[Any, Any], float]:
    """Return the T that makes rows with Gram matrix G orthonormal, or zero where they are dependent.

    And the least share of a row's squared length that is not along the rows before it, dependent rows aside.
    """
    T, least = np.zeros_like(G), 1.0
    for j in range(len(G)):
        along = T[:j] @ G[:, j]  # of row j on the rows done
        T[j, j] = 1.0
        T[j] -= along @ T[:j]
        square = T[j] @ G @ T[j]
        if square > tolerance * G[j, j]:
            T[j] /= np.sqrt(square)
            least = min(least, square / G[j, j])
        else:
            T[j] = 0.0
    return T, least
