"""Layers of sequences: what each of them is; the transformer and the language model; misuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import problems
from problems.networks.char_lm import transformer
from problems.networks.layers import (
    Attention,
    Dense,
    Embedding,
    LayerNorm,
    PerPosition,
    Stack,
)
from problems.networks.network import network_objective
from refopt.layout import Layout
from tests.problems.stacks import CODE, CODED, CODES, NEXT, OF_SEQUENCES, B, T, point


def test_gauss_newton_is_the_fisher_matrix_by_enumeration_of_the_sequences():
    """Of one example with two positions: the loss is minus the log-likelihood of the sequence."""
    net = Stack(Embedding(2, 2, 3), Attention(), PerPosition(Dense(1, 2)))
    x, code, F = point(net), np.array([[0, 1]]), 0.0
    for first in range(2):
        for second in range(2):
            drawn = network_objective(net, OF_SEQUENCES, code, np.eye(2)[[[first, second]]])
            F = F + math.exp(-drawn.value(x)) * np.outer(drawn.grad(x), drawn.grad(x))
    assert_allclose(drawn.ggn(x)(np.eye(x.size)), F, atol=1e-14)


def test_summed_over_positions_the_factors_of_a_norm_make_its_block_of_the_sampled_fisher_matrix():
    net = CODED["transformer"]
    objective, x = network_objective(net, OF_SEQUENCES, CODE, NEXT), point(net)
    F = objective.fisher(x, seed=3)(np.eye(x.size))
    where, a, gz = objective.layers(x, seed=3)["residual1.layer_norm1"]
    assert np.all(a == 1.0)
    g = gz.sum(axis=1)
    assert_allclose(g.T @ g / B, F[where, where], atol=1e-14)


def test_an_embedding_is_a_dense_layer_of_one_hot_codes():
    """Without positions, as P = 0; and with a softmax's diagonal left out, its Gauss-Newton diagonal is exact."""
    embedded = Stack(Embedding(CODES, T, CODES))
    dense = Stack(PerPosition(Dense(CODES, CODES)))
    E = np.random.default_rng(3).normal(size=(CODES, CODES)).ravel()
    f = network_objective(embedded, OF_SEQUENCES, CODE, NEXT)
    g = network_objective(dense, OF_SEQUENCES, np.eye(CODES)[CODE], NEXT)
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
