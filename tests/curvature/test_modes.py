"""Products along the modes of a tensor, against dense Kronecker products."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from refopt.curvature.modes import gram, mode_products

SHAPES = [(4,), (3, 5), (2, 3, 4), (2, 3, 1, 4)]


@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_one_kronecker_product(shape: tuple[int, ...], backend: Any) -> None:
    rng = np.random.default_rng(0)
    G, M = rng.normal(size=shape), [rng.normal(size=(d, d + 1)) for d in shape]
    got = backend.numpy(mode_products(backend.array(G), [backend.array(M_i) for M_i in M]))
    assert got.shape == tuple(d + 1 for d in shape)
    np.testing.assert_allclose(got.ravel(), functools.reduce(np.kron, [M_i.T for M_i in M]) @ G.ravel(), rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_none_is_the_identity(shape: tuple[int, ...], backend: Any) -> None:
    rng = np.random.default_rng(1)
    G, M = rng.normal(size=shape), [rng.normal(size=(d, d)) if i % 2 else None for i, d in enumerate(shape)]
    want = mode_products(G, [np.eye(d) if M_i is None else M_i for M_i, d in zip(M, shape, strict=True)])
    got = mode_products(backend.array(G), [None if M_i is None else backend.array(M_i) for M_i in M])
    np.testing.assert_allclose(backend.numpy(got), want, rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_gram_is_that_of_the_unfolding(shape: tuple[int, ...], backend: Any) -> None:
    G = np.random.default_rng(2).normal(size=shape)
    for i, d in enumerate(shape):
        unfolded = np.moveaxis(G, i, 0).reshape(d, -1)
        np.testing.assert_allclose(backend.numpy(gram(backend.array(G), i)), unfolded @ unfolded.T, rtol=1e-12)
