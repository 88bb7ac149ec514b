"""Deep linear networks: linear in the inputs, and not in the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from backends import random
from backends.arrays import Array, array_like
from problems.catalogue import problem
from problems.data import HostArray
from problems.networks.layers import Dense, Stack
from problems.networks.losses import SquaredError
from problems.networks.network import network_objective
from problems.problem import Problem
from refopt.layout import Layout
from refopt.status import require


@problem
def deep_linear(
    like: Array,
    *,
    depth: int = 4,
    width: int = 8,
    hidden: int = 4,
    singular_values: Sequence[float] = (5.0, 4.0, 3.0, 2.0, 1.0),
    examples: int = 50,
    seed: int = 0,
) -> Problem:
    r"""A deep linear network with squared loss: plateaus, saddles, and only global minima.

        f(x) = 1/2 mean_i |z_i - M^T a_i|^2 = 1/2 |W_1 ... W_depth - M|_F^2 + 1/2 |c|^2,    M = P diag(sigma) Q^T

    z = (a W_1 + b_1) W_2 + ..., and c is z of a = 0; there are `width` inputs and outputs, and `hidden` units in each
    layer between. The inputs are white, mean_i a_i = 0 and mean_i a_i a_i^T = I, so the two are equal; sigma are
    `singular_values`, P and Q random with orthonormal columns. The minimum is half the sum of the squared singular
    values beyond the `hidden` largest, and every local minimum attains it (K. Kawaguchi, NeurIPS 2016,
    arXiv:1605.07110). x0 has weights of variance 1/d_in. The modes are learnt one after the other, the largest first,
    with plateaus between (A. M. Saxe, J. L. McClelland, S. Ganguli, ICLR 2014, arXiv:1312.6120).
    """
    sigma = np.asarray(singular_values, dtype=np.float64)
    require(depth >= 1, "depth must be at least 1", depth)
    require(hidden >= 1, "hidden must be at least 1", hidden)
    require(width >= 1, "width must be at least 1", width)
    require(1 <= sigma.size <= width, f"singular_values must be 1 to width = {width} numbers", singular_values)
    require(bool(np.all(sigma > 0)), "singular_values must be positive", singular_values)
    require(examples > width, f"examples must be more than width = {width}", examples)

    def orthonormal(shape: tuple[int, int], of: str) -> HostArray:
        return np.linalg.qr(random.normal(shape, seed=seed, k=0, purpose=f"deep linear {of}", like=np.empty(0)))[0]

    drawn = random.normal((examples, width), seed=seed, k=0, purpose="deep linear inputs", like=np.empty(0))
    A = np.sqrt(examples) * np.linalg.qr(drawn - drawn.mean(axis=0))[0]
    M = (orthonormal((width, sigma.size), "P") * sigma) @ orthonormal((width, sigma.size), "Q").T
    widths = (width, *(hidden,) * (depth - 1), width)
    net = Stack(*(Dense(d_in, d_out) for d_in, d_out in pairwise(widths)))
    layout = Layout(net.shapes)
    rank = min(widths)
    return Problem(
        name="deep_linear",
        title=f"deep linear network, {'-'.join(map(str, widths))}",
        objective=network_objective(net, SquaredError(), array_like(A, like), array_like(A @ M, like)),
        x0=layout.join(net.init(like, seed)),
        layout=layout,
        minimum=float(np.sum(np.sort(sigma)[::-1][rank:] ** 2)) / 2,
    )
