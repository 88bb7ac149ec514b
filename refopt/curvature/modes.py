r"""Products of a tensor with a matrix along each of its modes, for preconditioners with a Kronecker factor per mode.

    gram(G, i)              G_(i) G_(i)^T,    (d_i, d_i)            G_(i) (d_i, n / d_i): G unfolded along mode i
    mode_products(G, M)     G x_1 M_1^T x_2 M_2^T ... x_k M_k^T     of a matrix M_1^T G M_2;  M_i = None is I

With vec row by row, vec(G x_1 M_1^T ... x_k M_k^T) = (M_1^T (x) ... (x) M_k^T) vec(G).
Source: V. Gupta, T. Koren, Y. Singer, ICML 2018, arXiv:1802.09568, for their use in optimization.
Cost: 2 n d_i flops a mode of length d_i, n being the number of entries.
"""

from __future__ import annotations

from collections.abc import Sequence

from backends.arrays import Array, namespace


def gram(G: Array, i: int) -> Array:
    """Return the products of the slices of `G` along mode `i` with each other, shape (d_i, d_i)."""
    xp = namespace(G)
    unfolded = xp.reshape(xp.moveaxis(G, i, 0), (G.shape[i], -1))
    return unfolded @ unfolded.T  # seen as such, half of a product


def mode_products(G: Array, M: Sequence[Array | None]) -> Array:
    """Return `G` multiplied along each mode by M_i^T, M_i being (d_i, e_i) or None for the identity.

    >>> import numpy as np
    >>> mode_products(np.asarray([[1.0, 2.0], [3.0, 4.0]]), [np.asarray([[0.0, 1.0], [1.0, 0.0]]), None])
    array([[3., 4.],
           [1., 2.]])
    """
    xp = namespace(G)
    for M_i in M:  # each turn contracts the first mode and puts it last: after all turns they stand as before
        G = xp.moveaxis(G, 0, -1) if M_i is None else xp.tensordot(G, M_i, axes=((0,), (0,)))
    return G
