"""Kronecker factors against the dense matrices that they stand for."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest

from backends.arrays import array_like
from refopt.curvature import kronecker

SHAPES = {"first": (4, 3), "second": (3, 5), "third": (5, 2)}
HostArray = np.ndarray[Any, Any]


class Layer(NamedTuple):
    where: slice
    inputs: Any
    output_grads: Any


def chain(seed: int, batch: int = 30, shapes: dict[str, tuple[int, int]] = SHAPES) -> dict[str, Layer]:
    """Layers whose inputs, and whose gradients, are correlated with those of the next layer."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(batch, 3))
    layers, start = {}, 0
    for name, (d_in, d_out) in shapes.items():
        a, g = (common @ rng.normal(size=(3, d)) + 0.5 * rng.normal(size=(batch, d)) for d in (d_in, d_out))
        layers[name] = Layer(slice(start, start := start + d_in * d_out), a, g)
    return layers


def n_of(layers: dict[str, Layer]) -> int:
    return sum(layer.where.stop - layer.where.start for layer in layers.values())


def moments(layers: dict[str, Layer], **options: Any) -> kronecker.Factors:
    return kronecker.moments(kronecker.sums(layers, n_of(layers), **options))


def dense(times: Any, layers: dict[str, Layer]) -> HostArray:
    """The matrix of a linear map of the layers' matrices."""
    factors = moments(layers)
    columns = [kronecker.flat(times(kronecker.matrices(e, factors))) for e in np.eye(n_of(layers))]
    return np.stack(columns, axis=1)


def dense_factored_fisher(factors: kronecker.Factors, layers: dict[str, Layer]) -> HostArray:
    """The blocks F_ij with |i - j| <= 1 of A_ij (x) G_ij, and zeros."""
    n = n_of(layers)
    F = np.zeros((n, n))
    for name, layer in layers.items():
        F[layer.where, layer.where] = np.kron(factors.A[name], factors.G[name])
    for (name, layer), (_, after) in pairwise(layers.items()):
        if name in factors.A_next:
            F[layer.where, after.where] = np.kron(factors.A_next[name], factors.G_next[name])
            F[after.where, layer.where] = F[layer.where, after.where].T
    return F


def test_moments_are_means_over_the_batch() -> None:
    layers = chain(0)
    factors = moments(layers, neighbours=True)
    a, g, b = layers["first"].inputs, layers["first"].output_grads, layers["second"].inputs
    np.testing.assert_allclose(factors.A["first"], np.mean([np.outer(r, r) for r in a], axis=0))
    np.testing.assert_allclose(factors.G["first"], np.mean([np.outer(r, r) for r in g], axis=0))
    np.testing.assert_allclose(
        factors.A_next["first"], np.mean([np.outer(r, q) for r, q in zip(a, b, strict=True)], axis=0)
    )
    assert list(factors.G_next) == ["first", "second"]


def test_one_example_is_factored_exactly() -> None:
    layers = chain(1, batch=1)
    factors = moments(layers, neighbours=True)
    gradient = kronecker.flat({n: np.outer(layer.inputs[0], layer.output_grads[0]) for n, layer in layers.items()})
    F = dense_factored_fisher(factors, layers)
    np.testing.assert_allclose(F[F != 0.0], np.outer(gradient, gradient)[F != 0.0])


def test_deep_linear_networks_under_squared_loss_are_factored_exactly() -> None:
    """There the gradients of the outputs do not depend on the inputs, once the targets are the model's own."""
    rng = np.random.default_rng(1)
    x, W1, W2 = rng.normal(size=(5, 4)), rng.normal(size=(4, 3)), rng.normal(size=(3, 2))
    noise = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=float)  # every target of unit covariance
    a = np.repeat(x, 4, axis=0)
    e = np.tile(noise, (5, 1))
    layers = {"first": Layer(slice(0, 12), a, e @ W2.T), "second": Layer(slice(12, 18), a @ W1, e)}
    own = np.concatenate(
        [np.einsum("bi,bo->bio", layer.inputs, layer.output_grads).reshape(20, -1) for layer in layers.values()], axis=1
    )
    F = dense_factored_fisher(moments(layers, neighbours=True), layers)
    np.testing.assert_allclose(F, own.T @ own / 20, atol=1e-12)


@pytest.mark.parametrize("gamma", [1e-3, 0.3, 10.0])
def test_the_block_diagonal_inverse_is_that_of_the_damped_blocks(gamma: float) -> None:
    layers = chain(2)
    factors = moments(layers)
    P = dense(kronecker.block_diagonal(factors, gamma).times, layers)
    F = dense_factored_fisher(kronecker.damped(factors, gamma), layers)
    np.testing.assert_allclose(P @ F, np.eye(len(F)), atol=1e-9)


@pytest.mark.parametrize("gamma", [1e-2, 0.3, 10.0])
def test_the_block_tridiagonal_inverse_is_the_one_with_those_blocks_and_no_others(gamma: float) -> None:
    """Its inverse agrees with F~ on the three diagonals of blocks, and it has no other blocks: that determines it."""
    layers = chain(3)
    factors = moments(layers, neighbours=True)
    P = dense(kronecker.block_tridiagonal(factors, gamma).times, layers)
    F = dense_factored_fisher(kronecker.damped(factors, gamma), layers)
    near = F != 0.0
    np.testing.assert_allclose(P, P.T, rtol=1e-9, atol=1e-12 * np.abs(P).max())
    np.testing.assert_allclose(P[~near], 0.0, atol=1e-13 * np.abs(P).max())
    np.testing.assert_allclose(np.linalg.inv(P)[near], F[near], rtol=1e-8)
    assert np.linalg.eigvalsh((P + P.T) / 2).min() > 0.0


def test_two_layers_have_no_block_left_out() -> None:
    layers = chain(4, shapes={"first": (4, 3), "second": (3, 2)})
    factors = moments(layers, neighbours=True)
    P = dense(kronecker.block_tridiagonal(factors, 0.1).times, layers)
    F = dense_factored_fisher(kronecker.damped(factors, 0.1), layers)
    np.testing.assert_allclose(P @ F, np.eye(len(F)), atol=1e-9)


def test_uncorrelated_neighbours_make_the_two_inverses_one() -> None:
    layers = chain(5)
    factors = moments(layers, neighbours=True)
    apart = factors._replace(A_next={name: 0.0 * M for name, M in factors.A_next.items()})
    P, Q = (
        dense(inverse(apart, 0.1).times, layers) for inverse in (kronecker.block_tridiagonal, kronecker.block_diagonal)
    )
    np.testing.assert_allclose(P, Q, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("inverse", [kronecker.block_diagonal, kronecker.block_tridiagonal])
def test_undamped_steps_do_not_depend_on_the_coordinates_of_inputs_and_outputs(inverse: Any) -> None:
    """Inputs a M and outputs' gradients g N, so weights M^{-1} W N^{-T}: the change of the outputs stays as it is."""
    layers = chain(6)
    rng = np.random.default_rng(0)
    M, N = ({n: np.eye(d) + 0.3 * rng.normal(size=(d, d)) for n, d in sizes} for sizes in _sizes())
    changed = {
        n: layer._replace(inputs=layer.inputs @ M[n], output_grads=layer.output_grads @ N[n])
        for n, layer in layers.items()
    }
    steps = []
    for here in (layers, changed):
        V = {n: layer.inputs.T @ layer.output_grads for n, layer in here.items()}
        steps.append(inverse(moments(here, neighbours=True), 1e-9).times(V))
    for name in layers:
        np.testing.assert_allclose(M[name] @ steps[1][name] @ N[name].T, steps[0][name], rtol=1e-5, atol=1e-6)


def _sizes() -> list[list[tuple[str, int]]]:
    return [[(name, shape[side]) for name, shape in SHAPES.items()] for side in (0, 1)]


@pytest.mark.parametrize("inverse", [kronecker.block_diagonal, kronecker.block_tridiagonal])
def test_strong_damping_leaves_the_gradient(inverse: Any) -> None:
    layers = chain(7)
    factors = moments(layers, neighbours=True)
    V = kronecker.matrices(np.random.default_rng(0).normal(size=37), factors)
    out = inverse(factors, 1e6).times(V)
    for name in V:
        np.testing.assert_allclose(1e12 * out[name], V[name], rtol=1e-4, atol=1e-4)


def test_pi_balances_the_factors() -> None:
    rng = np.random.default_rng(0)
    A, G = np.diag(rng.uniform(1, 2, size=4)) * 100.0, np.diag(rng.uniform(1, 2, size=3)) * 0.01
    factors = kronecker.damped(kronecker.Factors({"a": A}, {"a": G}, {}, {}), gamma=0.5)
    pi = np.sqrt((np.trace(A) / 4) / (np.trace(G) / 3))
    np.testing.assert_allclose(factors.A["a"], A + 0.5 * pi * np.eye(4))
    np.testing.assert_allclose(factors.G["a"], G + 0.5 / pi * np.eye(3))
    dead = kronecker.damped(kronecker.Factors({"a": A}, {"a": 0.0 * G}, {}, {}), gamma=0.5)
    np.testing.assert_allclose(dead.G["a"], 0.5 * np.eye(3))


@pytest.mark.parametrize("shared", ["expand", "reduce"])
def test_one_position_is_no_sharing(shared: Any) -> None:
    layers = chain(8)
    single = {
        n: layer._replace(inputs=layer.inputs[:, None, :], output_grads=layer.output_grads[:, None, :])
        for n, layer in layers.items()
    }
    for M, N in zip(moments(single, shared=shared), moments(layers), strict=True):
        for name in N:
            np.testing.assert_allclose(M[name], N[name])


def shared_linear_layer(pooled: bool) -> tuple[Layer, HostArray]:
    """One linear layer shared over positions under squared loss, and its exact Fisher matrix over all signs of noise.

    Each position has an output of its own, or the outputs are averaged over the positions: there "expand" and
    "reduce" are exact.
    """
    rng = np.random.default_rng(9)
    examples, T, d_in, d_out = 3, 4, 3, 2
    inputs = rng.normal(size=(examples, T, d_in))
    heads = d_out if pooled else T * d_out
    signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * heads)).reshape(heads, -1).T  # covariance I exactly
    if pooled:
        grads = np.repeat(signs[:, None, :], T, axis=1) / T
    else:
        grads = signs.reshape(-1, T, d_out)
    layer = Layer(slice(0, d_in * d_out), np.repeat(inputs, len(grads), axis=0), np.tile(grads, (examples, 1, 1)))
    own = np.einsum("bti,bto->bio", layer.inputs, layer.output_grads).reshape(-1, d_in * d_out)
    return layer, own.T @ own / len(own)


@pytest.mark.parametrize(("shared", "pooled"), [("expand", False), ("reduce", True)])
def test_shared_weights_are_exact_where_the_theory_says_so(shared: Any, pooled: bool) -> None:
    layer, F = shared_linear_layer(pooled)
    factors = moments({"conv": layer}, shared=shared)
    np.testing.assert_allclose(np.kron(factors.A["conv"], factors.G["conv"]), F, atol=1e-12)
    other = moments({"conv": layer}, shared="reduce" if shared == "expand" else "expand")
    assert not np.allclose(np.kron(other.A["conv"], other.G["conv"]), F)


def test_neighbours_need_one_row_an_example() -> None:
    layer, _ = shared_linear_layer(pooled=True)
    with pytest.raises(ValueError, match="layers that share weights need shared='reduce', got 'conv'"):
        moments({"conv": layer}, neighbours=True)
    assert moments({"conv": layer}, shared="reduce", neighbours=True).A["conv"].shape == (3, 3)


def test_layers_are_put_in_order_and_must_cover_the_vector() -> None:
    layers = chain(10)
    shuffled = dict(reversed(layers.items()))
    assert list(kronecker.in_order(shuffled, 37)) == list(SHAPES)
    with pytest.raises(ValueError, match="once; 37:40 belongs to none"):
        kronecker.in_order(layers, 40)
    with pytest.raises(ValueError, match="once; 12:27 belongs to none"):
        kronecker.in_order({name: layers[name] for name in ("first", "third")}, 37)
    twice = layers | {"again": layers["third"]}
    with pytest.raises(ValueError, match="once; 27:37 belongs to two"):
        kronecker.in_order(twice, 37)


def test_workers_change_no_bit() -> None:
    layers = chain(11)
    factors = moments(layers, neighbours=True)
    for inverse in (kronecker.block_diagonal, kronecker.block_tridiagonal):
        for M, N in zip(inverse(factors, 0.1, workers=1), inverse(factors, 0.1, workers=3), strict=True):
            for name in M:
                np.testing.assert_array_equal(M[name], N[name])


def test_what_cannot_be_inverted_is_nan() -> None:
    layers = chain(12)
    for factor, gamma in ((-1.0, 1e-3), (np.nan, 1.0)):
        factors = moments(layers, neighbours=True)
        broken = factors._replace(A={name: factor * M for name, M in factors.A.items()})
        for inverse in (kronecker.block_diagonal, kronecker.block_tridiagonal):
            assert np.isnan(inverse(broken, gamma)[0]["first"]).all()


@pytest.mark.parametrize("d", [1, 64, 65, 200])
def test_whitening_is_lower_triangular_and_whitens(d: int) -> None:
    rows = np.random.default_rng(d).normal(size=(2 * d, d))
    M = rows.T @ rows / (2 * d)
    B = kronecker.whitening(M)
    np.testing.assert_allclose(B @ M @ B.T, np.eye(d), atol=1e-12)
    np.testing.assert_array_equal(B, np.tril(B))
    np.testing.assert_allclose(B, np.linalg.inv(np.linalg.cholesky(M)), atol=1e-11)


@pytest.mark.parametrize("place", [0, 80, 150])
def test_whitening_says_nan_wherever_the_matrix_is_not_positive_definite(place: int) -> None:
    M = np.eye(200)
    M[place, place] = -1.0
    B = kronecker.whitening(M)
    assert np.isnan(B.T @ B).all()


@pytest.mark.parametrize("inverse", [kronecker.block_diagonal, kronecker.block_tridiagonal])
def test_every_backend_agrees(backend: Any, inverse: Any) -> None:
    layers = chain(13, shapes={"first": (70, 3), "second": (3, 5), "third": (5, 2)})
    moved = {
        name: layer._replace(inputs=backend.array(layer.inputs), output_grads=backend.array(layer.output_grads))
        for name, layer in layers.items()
    }
    v = np.random.default_rng(0).normal(size=235)
    want, got = (
        inverse(factors, 0.1).times(kronecker.matrices(array_like(v, factors.A["first"]), factors))
        for factors in (moments(layers, neighbours=True), moments(moved, neighbours=True))
    )
    for name in want:
        np.testing.assert_allclose(backend.numpy(got[name]), want[name], rtol=1e-8, atol=1e-10)
