"""Convolution, pooling, residual blocks, activations: what each of them is, initial values and misuse."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.signal import correlate

from problems.networks.layers import (
    ACTIVATIONS,
    AveragePool,
    Bias,
    Conv2d,
    Dense,
    Flatten,
    PerPosition,
    Residual,
    Stack,
)
from problems.networks.network import network_objective
from refopt import Layout, minimize
from refopt.structured import ekfac
from tests.problems import small
from tests.problems.stacks import CLASSES, IMAGES, OF_MAPS, OF_ONE, REAL, gelu, point, tanh


@pytest.mark.parametrize("net", [OF_MAPS["convolutions"], OF_MAPS["dense residual"]])
def test_where_the_input_is_data_no_pass_computes_its_gradient(net):
    parts = Layout(net.shapes).split(point(net))
    z, cache = net.forward(parts, IMAGES)
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
    a, b = (network_objective(net, OF_ONE, IMAGES, CLASSES) for net in (conv, dense))
    assert_allclose(a.grad(x), b.grad(x), atol=1e-15)
    assert_allclose(a.ggn_diagonal(x), b.ggn_diagonal(x), atol=1e-15)
    assert_allclose(a.layers(x)["conv1"].inputs[:, 0, :], b.layers(x)["dense1"].inputs)


def test_diagonal_of_the_gauss_newton_matrix_is_exact_where_nothing_is_shared():
    for net in (
        Stack(AveragePool(2), Flatten(), Dense(8, 3)),
        Stack(Conv2d(2, 2, kernel=4), tanh, Flatten(), Dense(2, 3)),
    ):
        objective, x = network_objective(net, small.LOSSES["squared"], IMAGES, CLASSES), point(net)
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


class Scale:
    """z = w a elementwise, with the passes of a gradient, and parameters that no Kronecker factor describes."""

    kind, gain, shapes = "scale", None, {"w": (3,)}

    def forward(self, p, a):
        return p["w"] * a, (p["w"], a)

    def backward(self, cache, gz, *, to_input=True):
        return cache[0] * gz, gz

    def gradients(self, cache, back):
        return {"w": np.sum(cache[1] * back, axis=-2)}


class WithoutFactors(Scale):
    """The same, and it says that it has no factors."""

    def factors(self, cache, back):
        return {}


@pytest.mark.parametrize(
    ("layer", "name"), [(Scale(), "scale1"), (Residual(Scale()), "residual1.scale1"), (PerPosition(Scale()), "scale1")]
)
def test_a_layer_that_lacks_a_pass_is_named_where_the_pass_is_needed(layer, name):
    inputs = REAL if isinstance(layer, PerPosition) else IMAGES.reshape(5, 32)[:, :3]
    objective = network_objective(Stack(layer), small.LOSSES["squared"], inputs, inputs)
    x = np.ones(3)
    assert objective.grad(x).shape == (3,)
    for part, which in (
        ("linearize", "r_forward"),
        ("ggn", "r_forward"),
        ("fisher", "r_forward"),
        ("ggn_diagonal", "squared_backward"),
        ("layers", "factors"),
    ):
        with pytest.raises(TypeError, match=f"this needs {which} of every layer; there is none in {name}$"):
            getattr(objective, part)(x)


def test_parameters_without_factors_are_named_by_kfac():
    rows = IMAGES.reshape(5, 32)[:, :3]
    net = Stack(Dense(3, 3), Residual(WithoutFactors()))
    objective = network_objective(net, small.LOSSES["squared"], rows, rows)
    x = point(net)
    assert objective.grad(x).shape == x.shape
    with pytest.raises(
        TypeError, match=r"factors of every layer with parameters; there are none for residual1.scale1.w"
    ):
        minimize(objective, ekfac, x0=x, steps=1)
