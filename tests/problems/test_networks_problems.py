"""The networks of the catalogue: what Fixup promises, and what is known of deep linear networks."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import problems
from problems import data
from problems.networks.convnet import maps
from problems.networks.layers import ACTIVATIONS, Bias, Dense, Residual, Stack
from problems.networks.losses import SoftmaxCrossEntropy
from problems.networks.network import network_objective
from problems.networks.resnet import fixup, resnet
from refopt.layout import Layout

DEPTHS = (4, 8, 16, 32, 64)
digits = data.digits()
INPUTS, TARGETS = digits.inputs[:100], np.eye(10)[digits.labels[:100]]


def net(depth: int, activation: str = "relu") -> Stack:
    return resnet(lambda i: Dense(16 if i else 64, 16, bias=False), [Bias(), Dense(16, 10)], depth, activation, axes=2)


def change(depth: int, init: str, activation: str = "relu", weights_only: bool = False, lr: float = 1e-8) -> float:
    """Return how far a step of gradient descent moves the outputs, root mean square, in units of lr."""
    layers = net(depth, activation)
    layout = Layout(layers.shapes)
    standard = layers.init(np.empty(0), seed=0)
    parts = standard if init == "standard" else fixup(layers, standard)
    if init == "without rule 2":
        parts = {name: standard[name] if name.endswith("dense1.W") else part for name, part in parts.items()}
    moved = np.ones(layout.n)
    if weights_only:
        # At zero the classifier keeps the first gradient from all layers but itself: draw it, to see theirs.
        last = [name for name in layout.names if name.endswith(".W")][-1]
        parts = {**parts, last: standard[last]}
        moved = layout.mask(lambda name, _: name.endswith(".W"), like=np.empty(0)).astype(float)
    x = layout.join(parts)
    g = network_objective(layers, SoftmaxCrossEntropy(), INPUTS, TARGETS).grad(x)
    before, after = (layers.apply(layout.split(point), INPUTS) for point in (x, x - lr * moved * g))
    return float(np.sqrt(np.mean((after - before) ** 2))) / lr


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_with_fixup_the_first_update_does_not_grow_with_depth(activation):
    updates = [change(depth, "fixup", activation) for depth in DEPTHS]
    assert max(updates) <= updates[0] * (1 + 1e-6)
    updates = [change(depth, "fixup", activation, weights_only=True) for depth in DEPTHS]
    assert max(updates) < 1.5 * updates[0]


def test_without_fixup_or_without_its_second_rule_the_first_update_grows_with_depth():
    for init, weights_only, growth in (("standard", False, 1e3), ("without rule 2", True, 3.0)):
        updates = [change(depth, init, weights_only=weights_only, lr=1e-10) for depth in (4, 16, 64)]
        assert updates[0] < updates[1] < updates[2]
        assert updates[2] > growth * updates[0]


def test_fixup_starts_as_its_rules_say():
    layers = net(10)
    standard = layers.init(np.empty(0), seed=0)
    parts = fixup(layers, standard)
    for L in range(1, 5):
        assert_allclose(parts[f"residual{L}.dense1.W"], 4**-0.5 * standard[f"residual{L}.dense1.W"])
        assert not np.any(parts[f"residual{L}.dense2.W"])
        assert np.all(parts[f"residual{L}.multiplier1.m"] == 1.0)
        assert [name for name in parts if name.startswith(f"residual{L}.bias")] == [
            f"residual{L}.bias{i}.b" for i in (1, 2, 3, 4)
        ]
    assert "residual5.dense1.W" not in parts
    assert not np.any(parts["dense2.W"])
    assert_allclose(parts["dense1.W"], standard["dense1.W"])
    assert not any(np.any(part) for name, part in parts.items() if name.endswith(".b"))


def test_fixup_counts_the_layers_of_a_branch():
    branch = [Dense(3, 3), ACTIVATIONS["relu"], Dense(3, 3), ACTIVATIONS["relu"], Dense(3, 3)]
    layers = Stack(*(Residual(*branch) for _ in range(16)), Residual(Dense(3, 3)), Dense(3, 2))
    standard = layers.init(np.empty(0), seed=0)
    parts = fixup(layers, standard)
    for name in ("residual3.dense1.W", "residual3.dense2.W"):
        assert_allclose(parts[name], 17**-0.25 * standard[name])
    assert not np.any(parts["residual3.dense3.W"])
    assert not np.any(parts["residual17.dense1.W"])


def test_with_fixup_the_classifier_starts_undecided_at_any_depth():
    for depth in DEPTHS:
        problem = problems.get("resnet_digits", depth=depth, width=8)
        assert_allclose(problem.objective.value(problem.x0), np.log(10.0))


@pytest.mark.parametrize("name", ["resnet_digits", "conv_resnet_digits"])
def test_initialisations_are_of_the_same_network(name):
    fixed, standard = (problems.get(name, depth=4, init=init) for init in ("fixup", "standard"))
    assert fixed.layout == standard.layout
    v = 0.1 * np.random.default_rng(0).normal(size=fixed.n)
    assert fixed.objective.value(v) == standard.objective.value(v)


def test_depth_counts_the_layers_with_weights():
    for depth in (4, 10):
        for name in ("resnet_digits", "conv_resnet_digits"):
            names = problems.get(name, depth=depth).layout.names
            assert sum(part.endswith(".W") for part in names) == depth


def test_scalars_are_the_only_biases_but_the_classifiers():
    for name in ("resnet_digits", "conv_resnet_digits"):
        shapes = problems.get(name, depth=4).layout.shapes
        vectors = [part for part, shape in shapes.items() if part.endswith(".b") and np.prod(shape) > 1]
        assert vectors == [[part for part in shapes if part.endswith(".b")][-1]]


def test_maps_are_the_images():
    images = maps(digits)
    assert images.inputs.shape == (1437, 8, 8, 1)
    assert_allclose(images.test_inputs[3, 2, 5, 0], digits.test_inputs[3, 2 * 8 + 5])


# ------------------------------------------------------------------------------------------------------ deep linear


def test_deep_linear_loss_is_the_distance_of_the_product_of_its_matrices():
    problem = problems.get("deep_linear", hidden=6)
    rng = np.random.default_rng(0)
    x = problem.x0 + 0.3 * rng.normal(size=problem.n)
    parts = problem.layout.split(x)
    product, constant = np.eye(8), np.zeros(8)
    for i in range(1, 5):
        product, constant = product @ parts[f"dense{i}.W"], constant @ parts[f"dense{i}.W"] + parts[f"dense{i}.b"]
    zero = problem.layout.split(np.zeros(problem.n))
    assert_allclose(problem.objective.value(problem.layout.join(zero)), (25 + 16 + 9 + 4 + 1) / 2)
    # The target, from the gradient of the network of one layer at 0: -M, above that of the bias.
    linear = problems.get("deep_linear", depth=1)
    M = -linear.layout.split(linear.objective.grad(np.zeros(linear.n)))["dense1.W"]
    assert_allclose(np.linalg.svd(M)[1], [5, 4, 3, 2, 1, 0, 0, 0], atol=1e-13)
    expected = (np.sum((product - M) ** 2) + constant @ constant) / 2
    assert_allclose(problem.objective.value(x), expected, rtol=1e-12)


def test_deep_linear_minimum_is_attained_by_the_largest_singular_values():
    problem, linear = (problems.get("deep_linear", depth=depth, hidden=2) for depth in (3, 1))
    M = -linear.layout.split(linear.objective.grad(np.zeros(linear.n)))["dense1.W"]
    P, s, Qt = np.linalg.svd(M)
    root = np.diag(np.cbrt(s[:2]))
    parts = {name: np.zeros(shape) for name, shape in problem.layout.shapes.items()}
    x = problem.layout.join(
        {**parts, "dense1.W": P[:, :2] @ root, "dense2.W": root, "dense3.W": root @ Qt[:2]},
    )
    assert problem.minimum == (9 + 4 + 1) / 2
    assert_allclose(problem.objective.value(x), problem.minimum)
    assert np.linalg.norm(problem.objective.grad(x)) < 1e-12


def test_deep_linear_start_of_zero_is_a_saddle_without_curvature_but_the_bias():
    problem = problems.get("deep_linear", depth=3)
    H = problem.objective.linearize(np.zeros(problem.n))[2](np.eye(problem.n))
    bias = problem.layout.slices["dense3.b"]
    expected = np.zeros_like(H)
    expected[bias, bias] = np.eye(8)
    assert_allclose(H, expected, atol=1e-14)
