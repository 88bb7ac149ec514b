from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from backends import autodiff, random
from backends.arrays import namespace
from problems.networks.layers import ACTIVATIONS, Dense, Stack
from problems.networks.losses import BinaryCrossEntropy, SoftmaxCrossEntropy, softmax
from problems.networks.mlp import mlp
from problems.networks.network import network_objective
from refopt.layout import Layout
from refopt.objective import Objective
from tests.problems import small

every_net = pytest.mark.parametrize(("activation", "loss"), list(itertools.product(small.ACTIVATIONS, small.LOSSES)))


def dense(mv: Any, n: int = small.N) -> np.ndarray:
    return mv(np.eye(n))


def host_objective(activation: str = "tanh", loss: str = "softmax", l2: float = 0.0) -> Objective:
    return network_objective(small.net(activation), small.LOSSES[loss], small.X, small.Y[loss], l2=l2)


# ------------------------------------------------------------------------------ against second implementations


@every_net
def test_value_gradient_and_products_are_those_of_the_tape(backend, activation, loss):
    objective = small.objective(backend, activation, loss)
    inputs, targets, x, V = (backend.array(a) for a in (small.X, small.Y[loss], small.x0, small.V))

    def outputs(x, xp):
        return small.naive_model(x, inputs, xp, activation)

    def mean_loss(z, xp):
        return small.naive_loss(z, targets, xp, loss)

    value, grad, H = autodiff.hessian(lambda x, xp: mean_loss(outputs(x, xp), xp), x)
    _, _, G = autodiff.ggn(outputs, mean_loss, x)
    own_value, own_grad, mv = objective.linearize(x)
    for own, other in (
        (own_value, value),
        (objective.value(x), value),
        (objective.value_and_grad(x)[0], value),
        (own_grad, grad),
        (objective.grad(x), grad),
        (mv(V), H(V)),
        (mv(V[:, 0]), H(V[:, 0])),
        (objective.hvp(x, V[:, 1]), H(V[:, 1])),
        (objective.ggn(x)(V), G(V)),
        (objective.ggn(x)(V[:, 0]), G(V[:, 0])),
        (objective.fisher(x)(V), G(V)),
    ):
        assert_allclose(backend.numpy(own), backend.numpy(other), rtol=1e-10, atol=1e-12)


@every_net
def test_value_gradient_and_hessian_are_those_of_autograd(activation, loss):
    import autograd
    import autograd.numpy as anp

    def f(x):
        return small.naive_loss(small.naive_model(x, small.X, anp, activation), small.Y[loss], anp, loss)

    value, grad, mv = host_objective(activation, loss).linearize(small.x0)
    assert_allclose(value, f(small.x0), rtol=1e-12)
    assert_allclose(grad, autograd.grad(f)(small.x0), rtol=1e-10, atol=1e-12)
    assert_allclose(dense(mv), autograd.hessian(f)(small.x0), rtol=1e-10, atol=1e-12)


@every_net
def test_hessian_is_symmetric_and_gauss_newton_positive_semidefinite(activation, loss):
    objective = host_objective(activation, loss)
    H, G = dense(objective.linearize(small.x0)[2]), dense(objective.ggn(small.x0))
    assert_allclose(H, H.T, atol=1e-13)
    assert_allclose(G, G.T, atol=1e-13)
    assert np.linalg.eigvalsh(G)[0] > -1e-12
    assert np.linalg.matrix_rank(G) < small.N  # fewer outputs than parameters, so positive definite it is not


def test_gauss_newton_is_the_hessian_of_a_model_that_is_linear_in_its_parameters():
    for loss in small.LOSSES:
        objective = network_objective(mlp((3, 3)), small.LOSSES[loss], small.X, small.Y[loss])
        x = small.x0[:12]
        assert_allclose(dense(objective.ggn(x), 12), dense(objective.linearize(x)[2], 12), atol=1e-14)


def test_l2_adds_its_own_part_everywhere_but_to_the_fisher_matrix():
    plain, penalised = host_objective(), host_objective(l2=0.3)
    x, v = small.x0, small.V[:, 0]
    f, g, H = plain.linearize(x)
    f2, g2, H2 = penalised.linearize(x)
    assert_allclose(f2, f + 0.15 * x @ x)
    assert_allclose(penalised.value(x), f2)
    assert_allclose(g2, g + 0.3 * x)
    assert_allclose(penalised.grad(x), g2)
    assert_allclose(H2(v), H(v) + 0.3 * v)
    assert_allclose(penalised.ggn(x)(v), plain.ggn(x)(v) + 0.3 * v)
    assert_allclose(penalised.fisher(x)(v), plain.fisher(x)(v))
    assert_allclose(penalised.fisher(x, seed=1)(v), plain.fisher(x, seed=1)(v))
    assert_allclose(penalised.per_example_grads(x).mean(axis=0), g2)
    assert_allclose(penalised.minibatch([0, 1]).grad(x), plain.minibatch([0, 1]).grad(x) + 0.3 * x)


# -------------------------------------------------------------------------------------------- the Fisher matrix


def fisher_by_enumeration(loss: str, labels: list[np.ndarray]) -> np.ndarray:
    """1/B sum_i sum_y P(y | z_i) g_iy g_iy^T over all label vectors y."""
    F = np.zeros((small.N, small.N))
    for y in labels:
        targets = np.broadcast_to(y, (small.B, 3))
        objective = network_objective(small.net(), small.LOSSES[loss], small.X, targets)
        for i, g in enumerate(objective.per_example_grads(small.x0)):
            probability = np.exp(-objective.minibatch([i]).value(small.x0))
            F += probability * np.outer(g, g) / small.B
    return F


@pytest.mark.parametrize(
    ("loss", "labels"),
    [("softmax", list(np.eye(3))), ("binary", [np.array(y) for y in itertools.product((0.0, 1.0), repeat=3)])],
)
def test_gauss_newton_is_the_fisher_matrix_by_enumeration_of_the_labels(loss, labels):
    F = fisher_by_enumeration(loss, labels)
    objective = host_objective(loss=loss)
    assert_allclose(dense(objective.ggn(small.x0)), F, atol=1e-14)
    assert_allclose(dense(objective.fisher(small.x0)), F, atol=1e-14)


@pytest.mark.parametrize("loss", small.LOSSES)
def test_sampled_fisher_matrix_is_the_outer_products_of_the_sampled_gradients(backend, loss):
    objective = small.objective(backend, "tanh", loss)
    x, inputs = backend.array(small.x0), backend.array(small.X)
    z = small.net().apply(Layout(small.net().shapes).split(x), inputs)
    sampled = small.LOSSES[loss].draw(small.LOSSES[loss].mean(z), 5, 2)
    drawn = network_objective(small.net(), small.LOSSES[loss], inputs, sampled)
    P = backend.numpy(drawn.per_example_grads(x))
    V = backend.array(small.V)
    assert_allclose(backend.numpy(objective.fisher(x, seed=5, k=2)(V)), P.T @ (P @ small.V) / small.B, atol=1e-13)
    for name, layer in objective.layers(x, seed=5, k=2).items():
        own = drawn.layers(x)[name]
        assert_allclose(backend.numpy(layer.output_grads), backend.numpy(own.output_grads), atol=1e-15)


@pytest.mark.parametrize("loss", small.LOSSES)
def test_sampled_fisher_matrix_is_unbiased(loss):
    objective = host_objective(loss=loss)
    exact = objective.fisher(small.x0)(small.V)
    draws = np.stack([objective.fisher(small.x0, seed=1, k=k)(small.V) for k in range(1500)])
    quadratic = np.einsum("ij,kij->kj", small.V, draws)
    error = np.abs(quadratic.mean(axis=0) - np.einsum("ij,ij->j", small.V, exact))
    assert np.all(error < 4 * quadratic.std(axis=0) / np.sqrt(len(draws)))


def test_sampled_fisher_matrix_depends_on_seed_and_step_alone():
    objective = host_objective()
    v = small.V[:, 0]
    first = objective.fisher(small.x0, seed=1, k=4)(v)
    assert np.array_equal(first, objective.fisher(small.x0, seed=1, k=4)(v))
    assert not np.array_equal(first, objective.fisher(small.x0, seed=2, k=4)(v))
    assert not np.array_equal(first, objective.fisher(small.x0, seed=1, k=5)(v))


# ----------------------------------------------------------------------------- examples, minibatches and layers


@every_net
def test_per_example_gradients_are_those_of_the_examples_alone(backend, activation, loss):
    objective = small.objective(backend, activation, loss)
    x = backend.array(small.x0)
    P = backend.numpy(objective.per_example_grads(x))
    assert P.shape == (small.B, small.N)
    assert_allclose(P.mean(axis=0), backend.numpy(objective.grad(x)), rtol=1e-10, atol=1e-14)
    for i in range(small.B):
        alone = objective.minibatch([i]).grad(x)
        assert_allclose(P[i], backend.numpy(alone), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("part", ["value", "grad", "hessian", "ggn", "fisher"])
def test_minibatches_that_cover_the_examples_average_to_the_whole(part):
    objective = host_objective(l2=0.1)

    def evaluate(batch: Objective) -> Any:
        v = small.V[:, 0]
        return {
            "value": lambda: batch.value(small.x0),
            "grad": lambda: batch.grad(small.x0),
            "hessian": lambda: batch.linearize(small.x0)[2](v),
            "ggn": lambda: batch.ggn(small.x0)(v),
            "fisher": lambda: batch.fisher(small.x0)(v),
        }[part]()

    indices = [np.array([4, 0]), np.array([1, 6, 3, 2]), np.array([5])]
    mean = sum(len(i) * evaluate(objective.minibatch(i)) for i in indices) / small.B
    assert_allclose(mean, evaluate(objective), rtol=1e-12, atol=1e-15)


@every_net
def test_a_layers_gradient_is_inputs_times_output_gradients(backend, activation, loss):
    objective = small.objective(backend, activation, loss)
    x = backend.array(small.x0)
    g = backend.numpy(objective.grad(x))
    layers = objective.layers(x)
    assert list(layers) == ["dense1", "dense2", "dense3"]
    covered = []
    for (where, inputs, output_grads), d_in in zip(layers.values(), small.WIDTHS, strict=False):
        a, gz = backend.numpy(inputs), backend.numpy(output_grads)
        assert a.shape == (small.B, d_in + 1)
        assert np.all(a[:, -1] == 1.0)
        assert_allclose((a.T @ gz).ravel() / small.B, g[where], rtol=1e-10, atol=1e-14)
        covered += list(range(where.start, where.stop))
    assert covered == list(range(small.N))


def test_of_one_example_a_layers_outer_products_are_its_block_of_the_sampled_fisher_matrix():
    one = host_objective().minibatch([2])
    F = dense(one.fisher(small.x0, seed=3))
    for where, a, gz in one.layers(small.x0, seed=3).values():
        assert_allclose(np.kron(a.T @ a, gz.T @ gz), F[where, where], atol=1e-15)


# ----------------------------------------------------------------------------------- precision, cost and purity


@every_net
def test_single_precision_is_kept_and_right(activation, loss):
    single = network_objective(
        small.net(activation),
        small.LOSSES[loss],
        small.X.astype(np.float32),
        small.Y[loss].astype(np.float32),
        l2=0.1,
    )
    double = host_objective(activation, loss, l2=0.1)
    x, v = small.x0.astype(np.float32), small.V[:, 0].astype(np.float32)

    def everything(f: Objective, x: Any, v: Any) -> list[Any]:
        value, grad, mv = f.linearize(x)
        layers = f.layers(x, seed=0).values()
        return [
            *(value, grad, mv(v), f.value(x), f.ggn(x)(v), f.fisher(x, seed=0)(v), f.per_example_grads(x)),
            *(a for layer in layers for a in layer[1:]),
        ]

    for a, b in zip(everything(single, x, v), everything(double, small.x0, small.V[:, 0]), strict=True):
        assert a.dtype == np.float32
        assert_allclose(a, b, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", small.ACTIVATIONS)
@pytest.mark.parametrize("loss", ["softmax", "binary"])
def test_extreme_activations_and_logits_stay_finite(backend, activation, loss, dtype):
    objective = small.objective(backend, activation, loss, dtype)
    for scale in (1e3, -1e3):
        x, v = backend.array(scale * small.x0, dtype), backend.array(small.V, dtype)
        value, grad, mv = objective.linearize(x)
        for part in (value, grad, mv(v), objective.ggn(x)(v), objective.fisher(x, seed=0)(v)):
            assert np.all(np.isfinite(backend.numpy(part)))
        assert float(value) >= 0


class Counting(np.ndarray):
    """Counts the multiplications of its matrix products."""

    count = 0

    def __matmul__(self, other: Any) -> Any:
        Counting.count += self.size * other.shape[-1]
        return np.asarray(self) @ np.asarray(other).view(Counting)


def test_products_cost_the_matrix_products_that_they_need():
    widths, batch = (20, 9, 7, 4), 6
    m1, m2, m3 = (batch * a * b for a, b in itertools.pairwise(widths))
    net = mlp(widths)
    inputs, x, v = (
        np.ones(shape).view(Counting) for shape in ((batch, 20), Layout(net.shapes).n, Layout(net.shapes).n)
    )
    objective = network_objective(net, small.LOSSES["squared"], inputs, np.ones((batch, 4)).view(Counting))
    mv, G = objective.linearize(x)[2], objective.ggn(x)
    calls = {
        m1 + m2 + m3: lambda: objective.value(x),
        2 * m1 + 3 * m2 + 3 * m3: lambda: objective.value_and_grad(x),
        2 * m1 + 6 * m2 + 6 * m3: lambda: mv(v),
        2 * m1 + 4 * m2 + 4 * m3: lambda: G(v),
        m1 + 2 * m2 + 2 * m3: lambda: objective.layers(x),
    }
    for needed, call in calls.items():
        Counting.count = 0
        call()
        assert Counting.count == needed


# ---------------------------------------------------------------------------------------------- layers and stacks


def test_a_stack_within_a_stack_is_the_same_network():
    flat = small.net()
    dense1, tanh1, dense2, tanh2, dense3 = flat.layers.values()
    nested = Stack(dense1, Stack(tanh1, Stack(dense2, tanh2)), dense3)
    assert Layout(nested.shapes).names == (
        *("dense1.W", "dense1.b", "stack1.stack1.dense1.W", "stack1.stack1.dense1.b", "dense2.W", "dense2.b"),
    )
    a, b = (network_objective(n, SoftmaxCrossEntropy(), small.X, small.Y["softmax"]) for n in (flat, nested))
    (_, g, H), (_, g2, H2) = a.linearize(small.x0), b.linearize(small.x0)
    assert np.array_equal(g, g2)
    assert np.array_equal(H(small.V), H2(small.V))
    assert np.array_equal(a.per_example_grads(small.x0), b.per_example_grads(small.x0))
    for one, other in zip(a.layers(small.x0).values(), b.layers(small.x0).values(), strict=True):
        assert one.where == other.where
        assert np.array_equal(one.output_grads, other.output_grads)


def test_a_network_may_begin_with_an_activation():
    net = Stack(ACTIVATIONS["tanh"], Dense(3, 3))
    moved = network_objective(mlp((3, 3)), SoftmaxCrossEntropy(), np.tanh(small.X), small.Y["softmax"])
    own = network_objective(net, SoftmaxCrossEntropy(), small.X, small.Y["softmax"])
    x, V = small.x0[:12], small.V[:12]
    assert_allclose(own.grad(x), moved.grad(x), atol=1e-15)
    assert_allclose(own.linearize(x)[2](V), moved.linearize(x)[2](V), atol=1e-15)


def test_weights_and_bias_lie_as_the_homogeneous_matrix():
    layer, x = Stack(Dense(3, 2)), np.arange(8.0)
    homogeneous = np.column_stack([small.X, np.ones(small.B)]) @ x.reshape(4, 2)
    assert_allclose(layer.apply(Layout(layer.shapes).split(x), small.X), homogeneous)


@pytest.mark.parametrize("activation", small.ACTIVATIONS)
@pytest.mark.parametrize("a", [-800.0, -30.0, -1.0, 0.3, 2.0, 40.0, 800.0])
def test_slope_and_bend_are_the_derivatives(activation, a):
    layer, h = ACTIVATIONS[activation], 1e-6
    point = np.array([[a]])
    z = layer.f(point)
    slope = (layer.f(point + h) - layer.f(point - h)) / (2 * h)
    assert_allclose(layer.slope(point, z), slope, atol=2e-8)
    bend = (layer.slope(point + h, layer.f(point + h)) - layer.slope(point - h, layer.f(point - h))) / (2 * h)
    assert_allclose(layer.bend(point, z) if layer.bend else 0.0 * z, bend, atol=2e-8)


def test_initial_weights_have_the_documented_spread_and_are_the_same_everywhere(backend):
    for activation, variance in (("tanh", 1 / 200), ("relu", 2 / 200)):
        net = mlp((200, 300, 2), activation)
        parts = net.init(backend.array(np.empty(0)), seed=4)
        W = backend.numpy(parts["dense1.W"])
        assert_allclose(np.var(W), variance, rtol=0.03)
        assert np.all(backend.numpy(parts["dense1.b"]) == 0.0)
        assert np.array_equal(W, net.init(np.empty(0), seed=4)["dense1.W"])
        assert not np.array_equal(W, net.init(np.empty(0), seed=5)["dense1.W"])
        assert_allclose(np.var(backend.numpy(parts["dense2.W"])), 1 / 300, rtol=0.2)


def test_layers_of_one_shape_start_apart():
    parts = mlp((3, 3, 3)).init(np.empty(0), seed=0)
    assert not np.array_equal(parts["dense1.W"], parts["dense2.W"])


def test_misuse_is_named():
    with pytest.raises(ValueError, match="l2 must be at least 0, got -1"):
        host_objective(l2=-1)
    with pytest.raises(ValueError, match="targets must have 7 rows"):
        network_objective(small.net(), SoftmaxCrossEntropy(), small.X, np.eye(3))
    with pytest.raises(ValueError, match="x must have shape"):
        host_objective().value(np.zeros(3))
    for wrong in (np.zeros(small.N - 1), np.zeros((small.N + 1, 2))):
        with pytest.raises(ValueError, match=f"a direction must have {small.N} entries"):
            host_objective().linearize(small.x0)[2](wrong)
    with pytest.raises(ValueError, match="at least one layer"):
        Stack()
    with pytest.raises(ValueError, match="widths must be at least two"):
        mlp((3,))
    with pytest.raises(ValueError, match="every width must be at least 1"):
        mlp((3, 0, 2))
    with pytest.raises(ValueError, match="unknown activation 'tahn'; did you mean 'tanh'"):
        mlp((3, 3, 2), "tahn")


def test_two_libraries_in_one_objective_are_an_error():
    import array_api_strict

    x = array_api_strict.asarray(small.x0)
    for part in ("value", "grad", "linearize", "ggn", "per_example_grads", "layers"):
        with pytest.raises(TypeError, match="two backends"):
            getattr(host_objective(), part)(x)


# --------------------------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_losses_of_extreme_logits_are_exact(backend, dtype):
    z = backend.array([[1e4, 0.0, -1e4], [-1e4, -1e4, 1e4]], dtype)
    y = backend.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]], dtype)
    value, grads = SoftmaxCrossEntropy().value_and_grads(z, y)
    assert float(value) == 1e4
    assert_allclose(backend.numpy(grads), [[1, 0, -1], [0, 0, 0]])
    value, grads = BinaryCrossEntropy().value_and_grads(z, y)
    assert_allclose(float(value), (1e4 + np.log(2) + 1e4) / 2, rtol=1e-7)
    assert_allclose(backend.numpy(grads), [[1, 0.5, -1], [0, 0, 0]])


def test_small_losses_keep_their_relative_accuracy():
    z, y = np.array([[40.0, -40.0]]), np.array([[1.0, 0.0]])
    value, grads = BinaryCrossEntropy().value_and_grads(z, y)
    assert_allclose(value, 2 * np.exp(-40.0), rtol=1e-12)
    assert_allclose(grads, [[0.0, np.exp(-40.0)]], rtol=1e-12)


@pytest.mark.parametrize("loss", small.LOSSES)
def test_sampled_targets_have_the_models_mean_and_covariance(backend, loss):
    z = backend.array(np.tile([[0.3, -1.0, 1.2]], (20000, 1)))
    y = small.LOSSES[loss].draw(small.LOSSES[loss].mean(z), 0, 0)
    assert y.dtype == z.dtype
    y = backend.numpy(y)
    _, minus_mean = small.LOSSES[loss].value_and_grads(z[:1, :], 0.0 * z[:1, :])
    assert_allclose(y.mean(axis=0), backend.numpy(minus_mean)[0], atol=0.03)
    xp = namespace(z)
    C = small.LOSSES[loss].hessians(z[:1, :])(xp.expand_dims(backend.array(np.eye(3)), axis=1))
    assert_allclose(np.cov(y.T), backend.numpy(C)[:, 0, :], atol=0.03)
    if loss == "softmax":
        assert np.all(y.sum(axis=1) == 1.0)
    if loss != "squared":
        assert set(np.unique(y)) == {0.0, 1.0}


def test_a_draw_above_the_rounded_sum_of_the_probabilities_is_the_last_class(monkeypatch):
    just_below_1 = np.nextafter(1.0, 0.0)
    monkeypatch.setattr(random, "uniform", lambda shape, **_: np.full(shape, just_below_1))
    z = np.zeros((1, 10))
    assert np.sum(np.cumsum(softmax(z))[-1:] <= just_below_1) == 1
    assert np.array_equal(SoftmaxCrossEntropy().draw(softmax(z), 0, 0), np.eye(10)[9:])


def test_sampled_classes_are_certain_where_the_model_is():
    z = np.diag([1e3, 1e3, 1e3])
    assert np.array_equal(SoftmaxCrossEntropy().draw(softmax(z), 0, 0), np.eye(3))
