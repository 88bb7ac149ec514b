"""Layers of sequences: every pass against the tape, dense matrices of autograd, and each layer against its matrix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import problems
from backends import autodiff
from backends.arrays import namespace
from problems.networks.char_lm import transformer
from problems.networks.layers import (
    ACTIVATIONS,
    Attention,
    Dense,
    Embedding,
    LayerNorm,
    NetworkLayer,
    PerPosition,
    Residual,
    Stack,
)
from problems.networks.losses import SoftmaxCrossEntropy, softmax
from problems.networks.network import network_objective
from refopt.layout import Layout
from refopt.objective import Objective

tanh, gelu = ACTIVATIONS["tanh"], ACTIVATIONS["gelu"]
B, T, CODES, D = 4, 3, 3, 4
CODED = {
    "transformer": Stack(
        Embedding(CODES, T, D),
        Residual(PerPosition(LayerNorm(D)), PerPosition(Dense(D, 3 * D)), Attention(2), PerPosition(Dense(D, D))),
        Residual(PerPosition(Stack(LayerNorm(D), Dense(D, 3), gelu, Dense(3, D)))),
        *(PerPosition(LayerNorm(D)), PerPosition(Dense(D, CODES))),
    ),
    "one head": Stack(Embedding(CODES, T + 1, 6), Attention(), tanh, PerPosition(Dense(2, CODES))),
}
ONE_HOT = {
    "dense first": Stack(PerPosition(Dense(CODES, 6)), Attention(), PerPosition(Dense(2, CODES))),
    "norm first": Stack(PerPosition(LayerNorm(CODES, eps=0.1)), Residual(Attention(), PerPosition(Dense(1, CODES)))),
    "begins without weights": Stack(Attention(), PerPosition(Stack(tanh, Dense(1, CODES)))),
}
_rng = np.random.default_rng(8)
CODE = _rng.integers(0, CODES, (B, T))
REAL = _rng.normal(size=(B, T, CODES))
Y = np.eye(CODES)[_rng.integers(0, CODES, (B, T))]
NETS = {**{n: (net, CODE) for n, net in CODED.items()}, **{n: (net, REAL) for n, net in ONE_HOT.items()}}
every_net = pytest.mark.parametrize(("net", "X"), NETS.values(), ids=NETS)
LOSS = SoftmaxCrossEntropy(axes=3)


def point(net: Stack) -> np.ndarray:
    return 0.7 * np.random.default_rng(0).normal(size=Layout(net.shapes).n)


def directions(net: Stack) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(Layout(net.shapes).n, 3))


def given(backend: Any, net: Stack, X: np.ndarray) -> tuple[Objective, Any, Any, Any]:
    inputs, targets, x = backend.array(X, X.dtype.name), backend.array(Y), backend.array(point(net))
    return network_objective(net, LOSS, inputs, targets), inputs, targets, x


# --------------------------------------------------------------------------------- the layers from their definitions


def naive(layer: NetworkLayer, p: dict[str, Any], a: Any, xp: Any) -> Any:
    """z of one layer for a (batch, T, d), in operations that a tape has rules for."""
    if isinstance(layer, Stack):
        for name, inner in layer.layers.items():
            a = naive(inner, {part: p[f"{name}.{part}"] for part in inner.shapes}, a, xp)
        return a
    match layer:
        case PerPosition():
            return naive(layer.layer, p, a, xp)
        case Residual():
            return a + naive(layer.branch, p, a, xp)
        case Dense():
            return a @ p["W"] + p["b"]
        case Embedding():
            return a @ p["E"] + p["P"][: a.shape[1], :]
        case LayerNorm():
            mean = xp.sum(a, axis=-1, keepdims=True) / layer.d
            variance = xp.sum(a * a, axis=-1, keepdims=True) / layer.d - mean**2
            return p["g"] * (a - mean) / (variance + layer.eps) ** 0.5 + p["b"]
        case Attention():
            return naive_attention(a, layer.heads, xp)
    return xp.tanh(a) if layer.kind == "tanh" else naive_gelu(a, xp)


def naive_gelu(a: Any, xp: Any) -> Any:
    return 0.5 * a * (1.0 + xp.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))


def naive_attention(a: Any, heads: int, xp: Any) -> Any:
    """Position by position and head by head, from the past alone: no mask."""
    d = a.shape[-1] // 3
    size = d // heads
    outputs = []
    for t in range(a.shape[1]):
        for h in range(heads):
            q, k, v = (a[:, : t + 1, i * d + h * size : i * d + (h + 1) * size] for i in range(3))
            e = xp.exp(xp.sum(q[:, t : t + 1, :] * k, axis=-1, keepdims=True) / math.sqrt(size))
            outputs.append(xp.sum(e * v, axis=1) / xp.sum(e, axis=1))
    return xp.reshape(xp.stack(outputs, axis=1), (a.shape[0], a.shape[1], d))


def naive_outputs(net: Stack, inputs: Any, xp: Any) -> Any:
    layout = Layout(net.shapes)
    if xp.isdtype(inputs.dtype, "integral"):
        inputs = xp.astype(inputs[..., None] == xp.arange(CODES, device=inputs.device), xp.float64)

    def outputs(x: Any, xp: Any) -> Any:
        parts = {name: xp.reshape(x[where], layout.shapes[name]) for name, where in layout.slices.items()}
        return naive(net, parts, inputs, xp)

    return outputs


def naive_loss(targets: Any) -> Any:
    return lambda z, xp: -xp.sum(targets * (z - xp.log(xp.sum(xp.exp(z), axis=-1, keepdims=True)))) / targets.shape[0]


@every_net
def test_value_gradient_and_products_are_those_of_the_tape(backend, net, X):
    objective, inputs, targets, x = given(backend, net, X)
    V = backend.array(directions(net))
    outputs, loss = naive_outputs(net, inputs, namespace(inputs)), naive_loss(targets)
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
def test_per_example_gradients_are_those_of_the_tape_and_make_the_sampled_fisher_matrix(backend, net, X):
    objective, inputs, targets, x = given(backend, net, X)
    P = backend.numpy(objective.per_example_grads(x))
    for i in range(B):
        outputs = naive_outputs(net, inputs[i : i + 1, ...], namespace(inputs))
        loss = naive_loss(targets[i : i + 1, ...])
        alone = autodiff.grad(lambda x, xp, outputs=outputs, loss=loss: loss(outputs(x, xp), xp))(x)
        assert_allclose(P[i], backend.numpy(alone), rtol=1e-9, atol=1e-12)
    sampled = LOSS.draw(softmax(net.apply(Layout(net.shapes).split(x), inputs)), 5, 2)
    drawn = network_objective(net, LOSS, inputs, sampled)
    P, V = backend.numpy(drawn.per_example_grads(x)), directions(net)
    F = objective.fisher(x, seed=5, k=2)
    assert_allclose(backend.numpy(F(backend.array(V))), P.T @ (P @ V) / B, atol=1e-13)


@every_net
def test_dense_hessian_and_gauss_newton_matrices_are_those_of_autograd(net, X):
    import autograd
    import autograd.numpy as anp

    objective, x = network_objective(net, LOSS, X, Y), point(net)
    identity = np.eye(x.size)
    H, G = objective.linearize(x)[2](identity), objective.ggn(x)(identity)
    outputs, loss = naive_outputs(net, X, np), naive_loss(Y)
    assert_allclose(H, autograd.hessian(lambda x: loss(outputs(x, anp), anp))(x), rtol=1e-9, atol=1e-12)
    J = autograd.jacobian(lambda x: outputs(x, anp))(x)
    p = np.exp(z := outputs(x, np)) / np.sum(np.exp(z), axis=-1, keepdims=True)
    C = np.eye(CODES) * p[..., None, :] - p[..., None] * p[..., None, :]
    assert_allclose(G, np.einsum("btin,btij,btjm->nm", J, C, J) / B, rtol=1e-9, atol=1e-12)


def test_gauss_newton_is_the_fisher_matrix_by_enumeration_of_the_sequences():
    """Of one example with two positions: the loss is minus the log-likelihood of the sequence."""
    net = Stack(Embedding(2, 2, 3), Attention(), PerPosition(Dense(1, 2)))
    x, code, F = point(net), np.array([[0, 1]]), 0.0
    for first in range(2):
        for second in range(2):
            drawn = network_objective(net, LOSS, code, np.eye(2)[[[first, second]]])
            F = F + math.exp(-drawn.value(x)) * np.outer(drawn.grad(x), drawn.grad(x))
    assert_allclose(drawn.ggn(x)(np.eye(x.size)), F, atol=1e-14)


@every_net
def test_the_factors_of_the_layers_give_every_entry_of_the_gradient(backend, net, X):
    objective, _, _, x = given(backend, net, X)
    P = backend.numpy(objective.per_example_grads(x))
    covered = []
    for where, a, gz in objective.layers(x).values():
        assert a.shape[:2] == gz.shape[:2] == (B, T)
        own = np.einsum("bti,btj->bij", backend.numpy(a), backend.numpy(gz)).reshape(B, -1)
        assert_allclose(own, P[:, where], rtol=1e-9, atol=1e-13)
        covered += list(range(where.start, where.stop))
    assert sorted(covered) == list(range(x.shape[0]))


def test_summed_over_positions_the_factors_of_a_norm_make_its_block_of_the_sampled_fisher_matrix():
    net, X = NETS["transformer"]
    objective, x = network_objective(net, LOSS, X, Y), point(net)
    F = objective.fisher(x, seed=3)(np.eye(x.size))
    where, a, gz = objective.layers(x, seed=3)["residual1.layer_norm1"]
    assert np.all(a == 1.0)
    g = gz.sum(axis=1)
    assert_allclose(g.T @ g / B, F[where, where], atol=1e-14)


@every_net
def test_single_precision_is_kept_and_right(net, X):
    single_inputs = X if X.dtype.kind == "i" else X.astype(np.float32)
    double = network_objective(net, LOSS, X, Y, l2=0.1)
    single = network_objective(net, LOSS, single_inputs, Y.astype(np.float32), l2=0.1)

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
    "layer_norm": (LayerNorm(3, eps=0.1), (4, 3)),
    "attention": (Attention(2), (2, 3, 12)),
    "per_position": (PerPosition(Stack(Dense(3, 2), tanh)), (2, 3, 3)),
}


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_backward_is_the_transpose_of_the_tangent_and_curvatures_that_of_its_squares(layer, shape):
    rng = np.random.default_rng(2)
    a = rng.normal(size=shape)
    p = {name: rng.normal(size=own) for name, own in layer.shapes.items()}
    z, cache = layer.forward(p, a)
    gz = rng.normal(size=z.shape)
    zero = {name: np.zeros_like(part) for name, part in p.items()}
    to_a, _ = layer.r_forward(cache, zero, np.eye(a.size).reshape(a.size, *shape))
    J = to_a.reshape(a.size, z.size)
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


def test_an_embedding_is_a_dense_layer_of_one_hot_codes():
    """Without positions, as P = 0; and with a softmax's diagonal left out, its Gauss-Newton diagonal is exact."""
    embedded = Stack(Embedding(CODES, T, CODES))
    dense = Stack(PerPosition(Dense(CODES, CODES)))
    E = np.random.default_rng(3).normal(size=(CODES, CODES)).ravel()
    f = network_objective(embedded, LOSS, CODE, Y)
    g = network_objective(dense, LOSS, np.eye(CODES)[CODE], Y)
    x, y = np.concatenate([E, np.zeros(T * CODES)]), np.concatenate([E, np.zeros(CODES)])
    assert_allclose(f.value(x), g.value(y))
    assert_allclose(f.grad(x)[: E.size], g.grad(y)[: E.size], atol=1e-15)
    assert_allclose(f.ggn_diagonal(x), np.diag(f.ggn(x)(np.eye(x.size))), atol=1e-14)


def test_attention_looks_back_only(backend):
    a = np.random.default_rng(6).normal(size=(1, 5, 12))
    later = a.copy()
    later[:, 3:, :] += 1.0
    z, moved = (backend.numpy(Attention(2).apply({}, backend.array(x))) for x in (a, later))
    assert np.array_equal(z[:, :3, :], moved[:, :3, :])
    assert np.all(z[:, 3:, :] != moved[:, 3:, :])
    assert_allclose(z[:, 0, :], a[:, 0, 8:])  # the first position has only itself to look at


def test_equal_keys_give_the_mean_of_the_past(backend):
    a = np.random.default_rng(6).normal(size=(2, 4, 6))
    a[:, :, 2:4] = 1.0
    z = backend.numpy(Attention().apply({}, backend.array(a)))
    assert_allclose(z, np.cumsum(a[:, :, 4:], axis=1) / np.arange(1, 5)[:, None], rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_scores_stay_finite(backend, dtype):
    a = backend.array(1e4 * np.random.default_rng(6).normal(size=(1, 4, 6)), dtype)
    layer = Attention()
    z, cache = layer.forward({}, a)
    ga, back = layer.backward(cache, z)
    rz, r_cache = layer.r_forward(cache, {}, a)
    for part in (z, ga, rz, layer.r_backward(cache, back, r_cache, z)[0], layer.squared_backward(cache, z * z)[0]):
        assert np.all(np.isfinite(backend.numpy(part)))


def test_layer_norm_has_mean_0_and_variance_1_whatever_scale_and_shift_its_rows_have(backend):
    a = np.random.default_rng(6).normal(size=(5, 8))
    layer = LayerNorm(8, eps=1e-12)
    parts = layer.init(backend.array(np.empty(0)), 0, "", 1.0)
    z, scaled = (backend.numpy(layer.apply(parts, backend.array(x))) for x in (a, 30.0 * a - 7.0))
    assert_allclose(z.mean(axis=-1), 0.0, atol=1e-14)
    assert_allclose(z.var(axis=-1), 1.0, rtol=1e-10)
    assert_allclose(z, scaled, rtol=1e-9, atol=1e-10)


def test_layer_norm_of_equal_features_is_its_bias():
    layer = LayerNorm(3)
    z, cache = layer.forward({"g": np.ones(3), "b": np.arange(3.0)}, np.full((2, 3), 5.0))
    assert np.array_equal(z, np.tile(np.arange(3.0), (2, 1)))
    assert np.all(np.isfinite(layer.backward(cache, z)[0]))


def test_the_transformer_starts_alike_everywhere_with_outputs_of_unit_spread(backend):
    net = Stack(Embedding(50, 20, 64), PerPosition(LayerNorm(64)), PerPosition(Dense(64, 50)))
    parts = net.init(backend.array(np.empty(0)), seed=4)
    codes = np.random.default_rng(0).integers(0, 50, (4, 20))
    assert_allclose(np.var(backend.numpy(parts["embedding1.E"])), 0.5, rtol=0.1)
    z = net.apply(parts, backend.array(codes, "int64"))
    assert_allclose(np.var(backend.numpy(z)), 1.0, rtol=0.1)
    own = net.init(np.empty(0), seed=4)
    assert all(np.array_equal(backend.numpy(part), own[name]) for name, part in parts.items())


def test_misuse_is_named():
    parts = {"E": np.zeros((3, 2)), "P": np.zeros((4, 2))}
    with pytest.raises(TypeError, match="embedding takes integer codes, and so is the first layer; got dtype float64"):
        Embedding(3, 4, 2).apply(parts, np.zeros((1, 4)))
    with pytest.raises(ValueError, match="sequences must have at most 4 positions, got 5"):
        Embedding(3, 4, 2).apply(parts, np.zeros((1, 5), dtype=int))
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        Embedding(3, 0, 2)
    with pytest.raises(ValueError, match="the features must be a multiple of 6: 3 parts of 2 heads, got 9"):
        Attention(2).apply({}, np.zeros((1, 2, 9)))
    with pytest.raises(ValueError, match="heads must be at least 1"):
        Attention(0)
    with pytest.raises(ValueError, match="eps must be positive"):
        LayerNorm(3, eps=0.0)


# -------------------------------------------------------------------------------------------- the language model


def text_file(tmp_path: Any, text: str) -> str:
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    return str(tmp_path / "text.txt")


def small_model(path: str, **options: Any) -> problems.Problem:
    return problems.get("char_lm", path=path, **{"context": 3, "width": 4, "examples": 4, **options})


def test_windows_are_cut_from_the_text_and_every_fifth_is_kept_apart(tmp_path):
    """Of the logits that are 0, each character costs log(codes) nats, and the model names the first one."""
    problem = small_model(text_file(tmp_path, "aab" * 4 + "bbbb"))
    parts = {**problem.layout.split(problem.x0), "dense1.W": np.zeros((4, 2)), "dense1.b": np.zeros(2)}
    x = problem.layout.join(parts)
    assert problem.objective.n_examples == 4
    assert_allclose(problem.objective.value(x), 3 * math.log(2))
    assert problem.test(x) == {"bits per character": pytest.approx(1.0), "error": 1.0}
    inputs = problem.objective.layers(x)["embedding1"].inputs  # [code, position], one-hot
    assert np.array_equal(inputs[0], np.concatenate([np.eye(2)[[0, 0, 1]], np.eye(3)], axis=1))


def test_a_model_of_the_text_alone_knows_what_always_comes_next(tmp_path):
    """The table of pairs in the head: no attention, no norm, as all that they add is 0."""
    problem = small_model(text_file(tmp_path, "abcd" * 20), width=4, examples=8)
    parts = {name: 0.0 * part for name, part in problem.layout.split(problem.x0).items()}
    parts["embedding1.E"], parts["layer_norm1.g"] = np.eye(4), np.ones(4)
    parts["dense1.W"] = 20.0 * np.roll(np.eye(4), 1, axis=1)
    x = problem.layout.join(parts)
    assert problem.objective.value(x) < 1e-10
    assert problem.test(x)["error"] == 0.0


def test_rare_characters_share_a_code(tmp_path):
    text = "".join(chr(0x4E00 + i) * (200 - i) for i in range(150))
    problem = small_model(text_file(tmp_path, text))
    assert problem.layout.shapes["embedding1.E"] == (128, 4)


def test_the_model_is_causal():
    net = transformer(codes=5, context=6, width=4, heads=2, blocks=2)
    parts, codes = Layout(net.shapes).split(point(net)), np.array([[0, 1, 2, 3, 4, 0]])
    later = np.array([[0, 1, 2, 1, 1, 1]])
    z, moved = net.apply(parts, codes), net.apply(parts, later)
    assert np.array_equal(z[:, :3, :], moved[:, :3, :])
    assert np.all(z[:, 3:, :] != moved[:, 3:, :])


def test_without_a_file_the_text_is_pythons_help():
    problem = problems.get("char_lm", context=8, width=4, examples=8)
    assert "pydoc_data.topics" in problem.title
    assert (problem.objective.n_examples, problem.layout.shapes["embedding1.P"]) == (8, (8, 4))


def test_a_text_that_will_not_do_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*nowhere.txt"):
        small_model(str(tmp_path / "nowhere.txt"))
    with pytest.raises(ValueError, match=r"path must name a text of at least 16 characters, five windows, got 15"):
        small_model(text_file(tmp_path, "a" * 15))
    (tmp_path / "latin.txt").write_bytes("Grüße".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin.txt must be text in UTF-8"):
        small_model(str(tmp_path / "latin.txt"))
