"""Every pass of every stack against the tape and autograd's dense matrices, and each layer against its matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from backends import autodiff
from backends.arrays import namespace
from problems.networks.layers import (
    Attention,
    AveragePool,
    Bias,
    Conv2d,
    Dense,
    Flatten,
    GlobalAveragePool,
    LayerNorm,
    Multiplier,
    PerPosition,
    Stack,
)
from problems.networks.losses import softmax
from problems.networks.network import network_objective
from refopt.layout import Layout
from tests.problems.naive import cross_entropy, naive_outputs
from tests.problems.stacks import CASES, B, Case, directions, gelu, point, tanh

every_stack = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@every_stack
def test_value_gradient_and_products_are_those_of_the_tape(backend: Any, case: Case) -> None:
    objective, inputs, targets, x = case.on(backend)
    V = backend.array(directions(case.net))
    outputs, loss = naive_outputs(case.net, inputs, namespace(inputs)), cross_entropy(targets)
    value, grad, H = autodiff.hessian(lambda x, xp: loss(outputs(x, xp), xp), x)
    _, _, G = autodiff.ggn(outputs, loss, x)
    own_value, own_grad, mv = objective.linearize(x)
    for own, other in (
        (own_value, value),
        (objective.value(x), value),
        (own_grad, grad),
        (objective.grad(x), grad),
        (mv(V), H(V)),
        (mv(V[:, 0]), H(V[:, 0])),
        (objective.ggn(x)(V), G(V)),
        (objective.ggn(x)(V[:, 0]), G(V[:, 0])),
        (objective.fisher(x)(V), G(V)),
    ):
        assert_allclose(backend.numpy(own), backend.numpy(other), rtol=1e-9, atol=1e-12)


@every_stack
def test_per_example_gradients_are_those_of_the_tape_and_make_the_sampled_fisher_matrix(
    backend: Any, case: Case
) -> None:
    objective, inputs, targets, x = case.on(backend)
    P = backend.numpy(objective.per_example_grads(x))
    for i in range(B):
        outputs = naive_outputs(case.net, inputs[i : i + 1, ...], namespace(inputs))
        loss = cross_entropy(targets[i : i + 1, ...])
        alone = autodiff.grad(lambda x, xp, outputs=outputs, loss=loss: loss(outputs(x, xp), xp))(x)
        assert_allclose(P[i], backend.numpy(alone), rtol=1e-9, atol=1e-12)
    sampled = case.loss.draw(softmax(case.net.apply(Layout(case.net.shapes).split(x), inputs)), 5, 2)
    drawn = network_objective(case.net, case.loss, inputs, sampled)
    P, V = backend.numpy(drawn.per_example_grads(x)), directions(case.net)
    F = objective.fisher(x, seed=5, k=2)
    assert_allclose(backend.numpy(F(backend.array(V))), P.T @ (P @ V) / B, atol=1e-13)


@every_stack
def test_dense_hessian_and_gauss_newton_matrices_are_those_of_autograd(case: Case) -> None:
    import autograd
    import autograd.numpy as anp

    net, loss, inputs, targets = case
    objective, x = network_objective(net, loss, inputs, targets), point(net)
    anp.concat, identity = anp.concatenate, np.eye(x.size)
    H, G = objective.linearize(x)[2](identity), objective.ggn(x)(identity)
    outputs, mean = naive_outputs(net, inputs, np), cross_entropy(targets)
    assert_allclose(H, autograd.hessian(lambda x: mean(outputs(x, anp), anp))(x), rtol=1e-9, atol=1e-12)
    z = outputs(x, np).reshape(-1, targets.shape[-1])  # rows: the examples, or all positions of all of them
    J = autograd.jacobian(lambda x: outputs(x, anp))(x).reshape(*z.shape, x.size)
    p = np.exp(z) / np.sum(np.exp(z), axis=-1, keepdims=True)
    C = np.eye(z.shape[-1]) * p[:, None, :] - p[:, :, None] * p[:, None, :]
    assert_allclose(G, np.einsum("rin,rij,rjm->nm", J, C, J) / B, rtol=1e-9, atol=1e-12)


@every_stack
def test_the_factors_of_the_layers_give_every_entry_of_the_gradient(backend: Any, case: Case) -> None:
    objective, _, _, x = case.on(backend)
    g, P = backend.numpy(objective.grad(x)), backend.numpy(objective.per_example_grads(x))
    covered = []
    for name, (where, a, gz) in objective.layers(x).items():
        a, gz = backend.numpy(a), backend.numpy(gz)
        assert a.shape[:-1] == gz.shape[:-1]
        assert a.shape[0] == B
        if f"{name}.W" in case.net.shapes:
            assert np.all(a[..., -1] == 1.0) == (f"{name}.b" in case.net.shapes)
        if a.ndim == 2:
            a, gz = a[:, None, :], gz[:, None, :]
        assert_allclose(np.einsum("bti,btj->ij", a, gz).ravel() / B, g[where], rtol=1e-9, atol=1e-13)
        assert_allclose(np.einsum("bti,btj->bij", a, gz).reshape(B, -1), P[:, where], rtol=1e-9, atol=1e-13)
        covered += list(range(where.start, where.stop))
    assert sorted(covered) == list(range(x.shape[0]))


@every_stack
def test_single_precision_is_kept_and_right(case: Case) -> None:
    net, loss, inputs, targets = case
    in_single = inputs if inputs.dtype.kind == "i" else inputs.astype(np.float32)
    double = network_objective(net, loss, inputs, targets, l2=0.1)
    single = network_objective(net, loss, in_single, targets.astype(np.float32), l2=0.1)

    def everything(f: Any, x: Any, v: Any) -> list[Any]:
        value, grad, mv = f.linearize(x)
        layers = f.layers(x, seed=0).values()
        return [
            *(value, grad, mv(v), f.value(x), f.ggn(x)(v), f.ggn_diagonal(x), f.fisher(x, seed=0)(v)),
            *(f.per_example_grads(x), *(a for layer in layers for a in layer[1:])),
        ]

    x, v = point(net), directions(net)[:, 0]
    found = everything(single, x.astype(np.float32), v.astype(np.float32))
    for a, b in zip(found, everything(double, x, v), strict=True):
        assert a.dtype == np.float32
        assert_allclose(a, b, rtol=1e-3, atol=1e-4)


# ------------------------------------------------------------------------------------------------ one layer at a time

LAYERS = {
    "dense": (Dense(3, 2), (4, 3)),
    "dense without bias": (Dense(3, 2, bias=False), (4, 3)),
    "conv": (Conv2d(2, 3, kernel=3, stride=2, padding=1), (3, 5, 4, 2)),
    "pool": (AveragePool(2), (3, 4, 2, 2)),
    "global pool": (GlobalAveragePool(), (3, 4, 2, 2)),
    "flatten": (Flatten(), (3, 4, 2, 2)),
    "bias": (Bias(4), (3, 4, 2, 2)),
    "multiplier": (Multiplier(2), (3, 4)),
    "gelu": (gelu, (3, 4)),
    "layer norm": (LayerNorm(3, eps=0.1), (4, 3)),
    "attention": (Attention(2), (2, 3, 12)),
    "per position": (PerPosition(Stack(Dense(3, 2), tanh)), (2, 3, 3)),
}


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_backward_is_the_transpose_of_the_tangent_and_squared_backward_that_of_its_squares(layer, shape):
    rng = np.random.default_rng(2)
    a = rng.normal(size=shape)
    p = {name: rng.normal(size=own) for name, own in layer.shapes.items()}
    z, cache = layer.forward(p, a)
    gz = rng.normal(size=z.shape)
    zero = {name: np.zeros_like(part) for name, part in p.items()}
    to_a, _ = layer.r_forward(cache, zero, np.eye(a.size).reshape(a.size, *shape))
    J = np.broadcast_to(to_a, (a.size, *z.shape)).reshape(a.size, z.size)
    ga, back = layer.backward(cache, gz)
    assert_allclose(ga.ravel(), J @ gz.ravel(), atol=1e-13)
    ha, hp = layer.squared_backward(cache, gz)
    if not isinstance(layer, PerPosition):  # a stack leaves out what its paths share
        assert_allclose(ha.ravel(), (J * J) @ gz.ravel(), atol=1e-13)
    for name, gp in layer.gradients(cache, back).items():
        d = p[name].size
        along = {
            other: np.eye(d).reshape(d, *p[name].shape) if other == name else np.zeros((d, *p[other].shape))
            for other in p
        }
        Jp = layer.r_forward(cache, along, None)[0].reshape(d, z.size)
        assert_allclose(gp.ravel(), Jp @ gz.ravel(), atol=1e-13)
        assert_allclose(hp[name].ravel(), (Jp * Jp) @ gz.ravel(), atol=1e-13)
