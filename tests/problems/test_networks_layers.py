"""Convolution, pooling, residual blocks and scalars: every pass against the tape, and each layer against its matrix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.signal import correlate

from backends import autodiff
from problems.networks.layers import (
    ACTIVATIONS,
    AveragePool,
    Bias,
    Conv2d,
    Dense,
    Flatten,
    GlobalAveragePool,
    Multiplier,
    NetworkLayer,
    Residual,
    Stack,
)
from problems.networks.losses import SoftmaxCrossEntropy, softmax
from problems.networks.network import network_objective
from refopt.layout import Layout
from tests.problems import small

tanh, gelu, softplus = (ACTIVATIONS[name] for name in ("tanh", "gelu", "softplus"))
MAPS = (4, 4, 2)
NETS = {
    "convolutions": Stack(
        *(Conv2d(2, 3, kernel=3, padding=1), tanh, AveragePool(2), Conv2d(3, 2, kernel=2), softplus, Flatten()),
        Dense(2, 3),
    ),
    "strides": Stack(
        *(Conv2d(2, 2, kernel=3, stride=2, padding=2), gelu, Conv2d(2, 2, kernel=1), GlobalAveragePool(), Dense(2, 3))
    ),
    "dense residual": Stack(
        *(Flatten(), Dense(32, 2), Bias(), softplus),
        Residual(Bias(), Dense(2, 3), Bias(), tanh, Bias(), Dense(3, 2), Multiplier(), Bias()),
        *(tanh, Bias(), Dense(2, 3)),
    ),
    "convolutional residual": Stack(
        Conv2d(2, 2, kernel=2),
        Residual(Bias(4), tanh, Conv2d(2, 2, padding=1), Multiplier(4), tanh),
        *(gelu, AveragePool(3), Flatten(), Dense(2, 3)),
    ),
    "without biases": Stack(
        *(Conv2d(2, 2, kernel=3, bias=False), Bias(4), tanh, Conv2d(2, 3, kernel=2, bias=False), Flatten()),
        Dense(3, 3, bias=False),
    ),
    "begins without weights": Stack(
        Residual(tanh, Bias(4)),
        AveragePool(2),
        Multiplier(4),
        Residual(Conv2d(2, 2, padding=1)),
        Flatten(),
        Dense(8, 3),
    ),
}
B = 5
_rng = np.random.default_rng(8)
X = _rng.normal(size=(B, *MAPS))
Y = np.eye(3)[_rng.integers(0, 3, B)]
every_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


def point(net: Stack, seed: int = 0) -> np.ndarray:
    return 0.5 * np.random.default_rng(seed).normal(size=Layout(net.shapes).n)


def directions(net: Stack) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(Layout(net.shapes).n, 3))


# --------------------------------------------------------------------------------- the layers from their definitions


def naive(layer: NetworkLayer, p: dict[str, Any], a: Any, xp: Any) -> Any:
    """z of one layer, in operations that a tape has rules for."""
    if isinstance(layer, Stack):
        for name, inner in layer.layers.items():
            a = naive(inner, {part: p[f"{name}.{part}"] for part in inner.shapes}, a, xp)
        return a
    match layer:
        case Residual():
            return a + naive(layer.branch, p, a, xp)
        case Dense():
            return a @ p["W"] + p["b"] if layer.bias else a @ p["W"]
        case Conv2d():
            return naive_convolution(layer, p, a, xp)
        case Bias():
            return a + p["b"]
        case Multiplier():
            return a * p["m"]
        case Flatten():
            return xp.reshape(a, (a.shape[0], -1))
        case GlobalAveragePool():
            return xp.sum(a, axis=(1, 2)) / (a.shape[1] * a.shape[2])
        case AveragePool(s):
            corners = [
                xp.stack([a[:, i : i + s, j : j + s, :] for j in range(0, a.shape[2], s)], axis=1)
                for i in range(0, a.shape[1], s)
            ]
            return xp.sum(xp.stack(corners, axis=1), axis=(3, 4)) / s**2
    if layer.kind == "gelu":
        return 0.5 * a * (1.0 + xp.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))
    return xp.tanh(a) if layer.kind == "tanh" else xp.log(1.0 + xp.exp(a))


def naive_convolution(layer: Conv2d, p: dict[str, Any], a: Any, xp: Any) -> Any:
    """Every patch gathered pixel by pixel; outside the map lies one more pixel, which is 0."""
    batch, height, width, c = a.shape
    flat = xp.concat([xp.reshape(a, (batch, -1)), xp.zeros_like(xp.reshape(a, (batch, -1))[:, :1])], axis=1)
    outside = height * width * c
    corners = [range(-layer.padding, d + layer.padding - layer.kernel + 1, layer.stride) for d in (height, width)]
    places = [
        (i * width + j) * c + channel if 0 <= i < height and 0 <= j < width else outside
        for top in corners[0]
        for left in corners[1]
        for i in range(top, top + layer.kernel)
        for j in range(left, left + layer.kernel)
        for channel in range(c)
    ]
    patches = xp.concat([flat[:, k : k + 1] for k in places], axis=1)
    patches = xp.reshape(patches, (batch, *map(len, corners), layer.kernel**2 * c))
    return patches @ p["W"] + p["b"] if layer.bias else patches @ p["W"]


def naive_outputs(net: Stack, inputs: Any) -> Any:
    layout = Layout(net.shapes)

    def outputs(x: Any, xp: Any) -> Any:
        parts = {name: xp.reshape(x[where], layout.shapes[name]) for name, where in layout.slices.items()}
        return naive(net, parts, inputs, xp)

    return outputs


def cross_entropy(targets: Any) -> Any:
    return lambda z, xp: -xp.sum(targets * (z - xp.log(xp.sum(xp.exp(z), axis=-1, keepdims=True)))) / targets.shape[0]


@every_net
def test_value_gradient_and_products_are_those_of_the_tape(backend, net):
    inputs, targets, x, V = (backend.array(a) for a in (X, Y, point(net), directions(net)))
    objective = network_objective(net, SoftmaxCrossEntropy(), inputs, targets)
    outputs, loss = naive_outputs(net, inputs), cross_entropy(targets)
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


@every_net
def test_per_example_gradients_are_those_of_the_tape_and_make_the_sampled_fisher_matrix(backend, net):
    inputs, targets, x = (backend.array(a) for a in (X, Y, point(net)))
    objective = network_objective(net, SoftmaxCrossEntropy(), inputs, targets)
    P = backend.numpy(objective.per_example_grads(x))
    for i in range(B):
        outputs, loss = naive_outputs(net, inputs[i : i + 1, ...]), cross_entropy(targets[i : i + 1, :])
        alone = autodiff.grad(lambda x, xp, outputs=outputs, loss=loss: loss(outputs(x, xp), xp))(x)
        assert_allclose(P[i], backend.numpy(alone), rtol=1e-9, atol=1e-12)
    sampled = SoftmaxCrossEntropy().draw(softmax(net.apply(Layout(net.shapes).split(x), inputs)), 5, 2)
    drawn = network_objective(net, SoftmaxCrossEntropy(), inputs, sampled)
    P, V = backend.numpy(drawn.per_example_grads(x)), directions(net)
    F = objective.fisher(x, seed=5, k=2)
    assert_allclose(backend.numpy(F(backend.array(V))), P.T @ (P @ V) / B, atol=1e-13)


@every_net
def test_dense_hessian_and_gauss_newton_matrices_are_symmetric_and_those_of_autograd(net):
    import autograd
    import autograd.numpy as anp

    objective, x = network_objective(net, SoftmaxCrossEntropy(), X, Y), point(net)
    anp.concat, identity = anp.concatenate, np.eye(x.size)
    H, G = objective.linearize(x)[2](identity), objective.ggn(x)(identity)
    outputs, loss = naive_outputs(net, X), cross_entropy(Y)
    assert_allclose(H, autograd.hessian(lambda x: loss(outputs(x, anp), anp))(x), rtol=1e-9, atol=1e-12)
    J = autograd.jacobian(lambda x: outputs(x, anp))(x)
    p = np.exp(z := outputs(x, np)) / np.sum(np.exp(z), axis=1, keepdims=True)
    C = np.eye(3) * p[:, None, :] - p[:, :, None] * p[:, None, :]
    assert_allclose(G, np.einsum("bin,bij,bjm->nm", J, C, J) / B, rtol=1e-9, atol=1e-12)


@every_net
def test_the_factors_of_the_layers_give_every_entry_of_the_gradient(backend, net):
    inputs, targets, x = (backend.array(a) for a in (X, Y, point(net)))
    objective = network_objective(net, SoftmaxCrossEntropy(), inputs, targets)
    g, P = backend.numpy(objective.grad(x)), backend.numpy(objective.per_example_grads(x))
    covered = []
    for name, (where, a, gz) in objective.layers(x).items():
        a, gz = backend.numpy(a), backend.numpy(gz)
        assert a.shape[:-1] == gz.shape[:-1]
        assert a.shape[0] == B
        if f"{name}.W" in net.shapes:
            assert np.all(a[..., -1] == 1.0) == (f"{name}.b" in net.shapes)
        if a.ndim == 2:
            a, gz = a[:, None, :], gz[:, None, :]
        assert_allclose(np.einsum("bti,btj->ij", a, gz).ravel() / B, g[where], rtol=1e-9, atol=1e-13)
        assert_allclose(np.einsum("bti,btj->bij", a, gz).reshape(B, -1), P[:, where], rtol=1e-9, atol=1e-13)
        covered += list(range(where.start, where.stop))
    assert sorted(covered) == list(range(x.shape[0]))


@every_net
def test_single_precision_is_kept_and_right(net):
    double = network_objective(net, SoftmaxCrossEntropy(), X, Y, l2=0.1)
    single = network_objective(net, SoftmaxCrossEntropy(), X.astype(np.float32), Y.astype(np.float32), l2=0.1)

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
        assert_allclose(a, b, rtol=2e-4, atol=2e-5)


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


@pytest.mark.parametrize("net", [NETS["convolutions"], NETS["dense residual"]])
def test_where_the_input_is_data_no_pass_computes_its_gradient(net):
    parts = Layout(net.shapes).split(point(net))
    z, cache = net.forward(parts, X)
    ga, back = net.backward(cache, z, to_input=False)
    _, r_cache = net.r_forward(cache, parts, None)
    assert ga is None
    assert net.squared_backward(cache, z, to_input=False)[0] is None
    assert net.r_backward(cache, back, r_cache, z)[0] is None


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 1, 0), (3, 1, 1), (2, 2, 0), (3, 2, 1), (2, 3, 2)])
def test_convolution_is_scipys_correlation(backend, kernel, stride, padding):
    rng = np.random.default_rng(4)
    a, W, b = rng.normal(size=(2, 6, 5, 3)), rng.normal(size=(kernel**2 * 3, 4)), rng.normal(size=4)
    layer = Conv2d(3, 4, kernel=kernel, stride=stride, padding=padding)
    z = backend.numpy(layer.apply({"W": backend.array(W), "b": backend.array(b)}, backend.array(a)))
    padded = np.pad(a, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    for channel in range(4):
        filter_ = W[:, channel].reshape(1, kernel, kernel, 3)
        own = correlate(padded, filter_, mode="valid", method="direct")[:, ::stride, ::stride, 0] + b[channel]
        assert_allclose(z[..., channel], own, atol=1e-13)


def test_fold_is_the_transpose_of_unfold():
    layer, rng = Conv2d(2, 1, kernel=3, stride=2, padding=1), np.random.default_rng(0)
    a = rng.normal(size=(3, 2, 6, 5, 2))
    gz, W = rng.normal(size=(3, 2 * 9, 4)), rng.normal(size=(3, 9 * 2, 4))
    ga = layer.fold(gz, W, a.shape)
    assert_allclose(np.sum(layer.unfold(a) * (gz @ W.swapaxes(-1, -2))), np.sum(a * ga), rtol=1e-12)


def test_a_convolution_of_the_whole_map_is_a_dense_layer():
    conv = Stack(Conv2d(2, 3, kernel=4), Flatten())
    dense = Stack(Flatten(), Dense(32, 3))
    x = point(conv)
    a, b = (network_objective(net, SoftmaxCrossEntropy(), X, Y) for net in (conv, dense))
    assert_allclose(a.grad(x), b.grad(x), atol=1e-15)
    assert_allclose(a.ggn_diagonal(x), b.ggn_diagonal(x), atol=1e-15)
    assert_allclose(a.layers(x)["conv1"].inputs[:, 0, :], b.layers(x)["dense1"].inputs)


def test_diagonal_of_the_gauss_newton_matrix_is_exact_where_nothing_is_shared():
    for net in (
        Stack(AveragePool(2), Flatten(), Dense(8, 3)),
        Stack(Conv2d(2, 2, kernel=4), tanh, Flatten(), Dense(2, 3)),
    ):
        objective, x = network_objective(net, small.LOSSES["squared"], X, Y), point(net)
        assert_allclose(objective.ggn_diagonal(x), np.diag(objective.ggn(x)(np.eye(x.size))), atol=1e-14)


def test_curvatures_of_the_skip_and_of_the_branch_add_up():
    branch, rng = Stack(tanh, Dense(3, 3)), np.random.default_rng(5)
    p, a, hz = Layout(branch.shapes).split(rng.normal(size=12)), rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    block = Residual(*branch.layers.values())
    (ha, hp), (own, own_p) = (net.squared_backward(net.forward(p, a)[1], hz) for net in (block, branch))
    assert_allclose(ha, hz + own)
    assert all(np.array_equal(hp[name], own_p[name]) for name in p)


def test_gelu_is_near_the_exact_one_and_its_tails_are_accurate(backend):
    from scipy.stats import norm

    a = np.linspace(-6.0, 6.0, 301)
    assert np.max(np.abs(backend.numpy(gelu.f(backend.array(a))) - a * norm.cdf(a))) < 5e-4
    far = backend.array([-1e30, -20.0, 20.0, 1e30], "float32")
    z = gelu.f(far)
    assert_allclose(backend.numpy(z), [0.0, 0.0, 20.0, 1e30], atol=1e-6)
    assert_allclose(backend.numpy(gelu.slope(far, z)), [0.0, 0.0, 1.0, 1.0], atol=1e-6)
    assert_allclose(backend.numpy(gelu.bend(far, z)), 0.0, atol=1e-6)


# ------------------------------------------------------------------------------------------- initial values and misuse


def test_a_gain_reaches_the_weights_past_layers_that_keep_the_spread(backend):
    relu = ACTIVATIONS["relu"]
    net = Stack(
        *(
            Conv2d(10, 200, kernel=3),
            Bias(4),
            AveragePool(1),
            relu,
            Conv2d(200, 100, kernel=1),
            Conv2d(100, 300, kernel=1),
        ),
        *(Residual(Conv2d(300, 100, kernel=1), Stack(Bias(4), relu), Conv2d(100, 300, kernel=1)), relu),
    )
    parts = net.init(backend.array(np.empty(0)), seed=3)
    assert list(parts) == list(net.shapes)
    for name, variance in {
        "conv1.W": 2 / 90,
        "conv2.W": 1 / 200,
        "conv3.W": 1 / 100,
        "residual1.conv1.W": 2 / 300,
        "residual1.conv2.W": 2 / 100,
    }.items():
        assert_allclose(np.var(backend.numpy(parts[name])), variance, rtol=0.05)
    assert backend.numpy(parts["bias1.b"]).shape == (1, 1, 1, 1)


def test_misuse_is_named():
    for options, message in (
        ({"kernel": 0}, "kernel must be at least 1, got 0"),
        ({"stride": 0}, "stride must be at least 1, got 0"),
        ({"padding": -1}, "padding must be at least 0, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            Conv2d(1, 1, **options)
    parts = {"W": np.zeros((18, 1)), "b": np.zeros(1)}
    with pytest.raises(ValueError, match="the maps must have 2 channels, got 3"):
        Conv2d(2, 1).apply(parts, np.zeros((1, 4, 4, 3)))
    with pytest.raises(ValueError, match="the maps must hold a patch of 3 x 3"):
        Conv2d(2, 1).apply(parts, np.zeros((1, 2, 4, 2)))
    with pytest.raises(ValueError, match="the maps' sides must be multiples of 2"):
        AveragePool(2).apply({}, np.zeros((1, 4, 3, 1)))
    with pytest.raises(ValueError, match="size must be at least 1"):
        AveragePool(0)
    with pytest.raises(ValueError, match="axes must be at least 2"):
        Bias(1)
