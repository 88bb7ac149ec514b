from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from refopt import Layout, bind, minimize
from refopt.first_order import adagrad, adam, rmsprop, sgd
from refopt.structured import shampoo
from tests.quadratic import quadratic
from tests.structured.streams import EVERY_ORDER, points, replay, stream, turned

OFF = 10**9  # a start that never comes


@pytest.mark.parametrize("graft", [sgd, adagrad, adam, rmsprop])
def test_without_preconditioning_it_is_its_graft(graft: Any) -> None:
    G, x0 = stream(EVERY_ORDER.n), stream(EVERY_ORDER.n, seed=1)[0]
    got = points(shampoo, G, x0, layout=EVERY_ORDER, graft=graft, start=OFF, lr=0.03)
    np.testing.assert_allclose(got, points(graft, G, x0, lr=0.03), rtol=1e-12, atol=1e-14)


def test_every_part_moves_as_far_as_its_graft_does() -> None:
    G, x0 = stream(EVERY_ORDER.n), np.zeros(EVERY_ORDER.n)
    ours = np.diff(points(shampoo, G, x0, layout=EVERY_ORDER, graft="adam", lr=0.03), axis=0)
    adams = np.diff(points(adam, G, x0, lr=0.03), axis=0)
    for where in EVERY_ORDER.slices.values():
        lengths = [np.linalg.norm(steps[:, where], axis=1) for steps in (ours, adams)]
        np.testing.assert_allclose(*lengths, rtol=1e-10)


def test_a_graft_is_a_name_a_module_or_bound() -> None:
    G = stream(6)
    by_name, by_module = (points(shampoo, G, graft=graft, lr=0.1) for graft in ("adam", adam))
    np.testing.assert_array_equal(by_name, by_module)
    tuned = points(shampoo, G, graft=bind(adam, lr=1.0, beta2=0.9), lr=0.1)
    scaled = points(shampoo, G, graft=bind(adam, lr=0.5, beta2=0.9), lr=0.2)
    np.testing.assert_allclose(tuned, scaled, rtol=1e-12)
    assert np.max(np.abs(tuned - by_name)) > 1e-3
    with pytest.raises(ValueError, match="unknown method 'adm'; did you mean 'adam'"):
        points(shampoo, G, graft="adm")
    with pytest.raises(TypeError, match="graft must be the name of a method, a method or what bind returned, got 3"):
        points(shampoo, G, graft=3)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (6, 2), (4, 1)])
def test_the_first_step_is_the_polar_factor(shape: tuple[int, int]) -> None:
    G = stream(shape[0] * shape[1], steps=1)
    P, _, Qt = np.linalg.svd(G.reshape(shape), full_matrices=False)
    step = points(shampoo, G, layout=Layout({"W": shape}), lr=0.1, eps=1e-13)[0].reshape(shape)
    np.testing.assert_allclose(step, -0.1 * P @ Qt, atol=1e-9)


@settings(max_examples=40)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10**6), st.sampled_from([1.0, 0.9]))
def test_turns_of_rows_and_columns_go_through(rows: int, columns: int, seed: int, beta2: float) -> None:
    there, back = turned(shampoo, (rows, columns), seed, beta2=beta2, momentum=0.9, eps=1e-2, interval=2, graft="sgd")
    np.testing.assert_allclose(there, back, atol=1e-9)


def test_of_a_vector_it_is_full_matrix_adagrad() -> None:
    G, eps = stream(5), 1e-3
    x, A = np.zeros(5), eps * np.eye(5)
    want = []
    for g in G:
        A = A + np.outer(g, g)
        x = x - 0.1 * np.linalg.solve(scipy.linalg.sqrtm(A), g)
        want.append(x)
    np.testing.assert_allclose(points(shampoo, G, lr=0.1, eps=eps), want, rtol=1e-9)
    np.testing.assert_allclose(points(shampoo, G[:, :1], lr=0.1, eps=0.0), points(adagrad, G[:, :1], lr=0.1, eps=0.0))


@pytest.mark.parametrize("p", [None, 1, 2, 3])
def test_every_order_against_dense_kronecker_products(p: int | None) -> None:
    G, x0 = stream(EVERY_ORDER.n), stream(EVERY_ORDER.n, seed=1)[0]
    got = points(shampoo, G, x0, layout=EVERY_ORDER, lr=0.1, eps=1e-2, p=p, weight_decay=0.3)
    for name, shape in EVERY_ORDER.shapes.items():
        w = x0[EVERY_ORDER.slices[name]]
        gs = G[:, EVERY_ORDER.slices[name]]
        for t in range(1, len(G) + 1):
            factors = []
            for i, d in enumerate(shape):
                unfolded = [np.moveaxis(g.reshape(shape), i, 0).reshape(d, -1) for g in gs[:t]]
                L_i = 1e-2 * np.eye(d) + sum(u @ u.T for u in unfolded)
                factors.append(scipy.linalg.fractional_matrix_power(L_i, -1 / (p or 2 * len(shape))))
            w = w - 0.1 * (functools.reduce(np.kron, factors, np.eye(1)) @ gs[t - 1] + 0.3 * w)
            np.testing.assert_allclose(got[t - 1, EVERY_ORDER.slices[name]], w, rtol=1e-8, atol=1e-10)


def test_a_block_is_a_tensor_of_its_own() -> None:
    G = stream(35).reshape(-1, 5, 7)
    whole = points(shampoo, G.reshape(len(G), -1), layout=Layout({"W": (5, 7)}), block=3, lr=0.1).reshape(G.shape)
    for rows in (slice(0, 3), slice(3, 5)):
        for columns in (slice(0, 3), slice(3, 6), slice(6, 7)):
            piece = G[:, rows, columns]
            alone = points(shampoo, piece.reshape(len(G), -1), layout=Layout({"W": piece.shape[1:]}), lr=0.1)
            np.testing.assert_allclose(whole[:, rows, columns], alone.reshape(piece.shape), rtol=1e-12)


@pytest.mark.parametrize("block", [4, 5, 1000])
def test_a_block_that_nothing_exceeds_changes_nothing(block: int) -> None:
    G = stream(EVERY_ORDER.n)
    want = points(shampoo, G, layout=EVERY_ORDER, block=10**6, graft="adam")
    np.testing.assert_array_equal(points(shampoo, G, layout=EVERY_ORDER, block=block, graft="adam"), want)


def test_both_ways_to_the_roots_agree() -> None:
    G = stream(EVERY_ORDER.n)
    for damping, atol in (({"eps": 1e-2}, 1e-9), ({"eps": 0.0, "ridge": 0.1}, 1e-4)):
        eigh, newton = (points(shampoo, G, layout=EVERY_ORDER, roots=roots, **damping) for roots in ("eigh", "newton"))
        np.testing.assert_allclose(newton, eigh, atol=atol)


def test_where_newton_fails_the_eigendecomposition_steps_in() -> None:
    G = np.zeros((3, 4))
    G[:, 0] = 1.0  # with eps = ridge = 0 the statistics are singular; those of the first step of a dead part are zero
    path = points(shampoo, np.concatenate([0 * G[:1], G]), lr=0.1, eps=0.0, roots="newton")
    assert np.all(np.isfinite(path))
    np.testing.assert_allclose(path[:, 0], -0.1 * np.cumsum([0.0, *1 / np.sqrt([1.0, 2.0, 3.0])]), rtol=1e-12)


def test_the_running_mean_is_free_of_bias() -> None:
    g = stream(6, steps=1)[0]
    path = points(shampoo, np.tile(g, (5, 1)), layout=Layout({"W": (2, 3)}), beta2=0.9, lr=0.1)
    np.testing.assert_allclose(np.diff(path, axis=0), np.tile(path[0], (4, 1)), rtol=1e-9)
    states = [s for _, s in replay(shampoo, stream(4, steps=3), np.zeros(4), beta2=0.9)]
    G = stream(4, steps=3)
    want = sum(0.1 * 0.9 ** (2 - k) * np.outer(g, g) for k, g in enumerate(G))
    np.testing.assert_allclose(states[-1].L["x/0"][0], want, rtol=1e-12)


def test_roots_stand_between_intervals_and_statistics_gather_before_the_start() -> None:
    G = stream(4, steps=9)
    states = [s for _, s in replay(shampoo, G, np.zeros(4), interval=3, start=2, eps=1e-2)]
    assert [bool(s.P) for s in states] == [False, *[True] * 8]
    changed = [not np.array_equal(a.P["x/0"][0], b.P["x/0"][0]) for a, b in itertools.pairwise(states[1:])]
    assert changed == [False, False, True, False, False, True, False]
    root = states[4].P["x/0"][0]
    np.testing.assert_allclose(root @ root @ (1e-2 * np.eye(4) + G[:5].T @ G[:5]), np.eye(4), atol=1e-10)
    assert states[4].info["flops"] > states[3].info["flops"] > 0


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_gathers_preconditioned_steps(nesterov: bool) -> None:
    G = stream(5)
    steps = -np.diff(np.vstack([np.zeros(5), points(shampoo, G, lr=1.0)]), axis=0)
    m, x, want = np.zeros(5), np.zeros(5), []
    for u in steps:
        m = 0.8 * m + u
        x = x - 0.1 * (0.8 * m + u if nesterov else m)
        want.append(x)
    np.testing.assert_allclose(points(shampoo, G, lr=0.1, momentum=0.8, nesterov=nesterov), want, rtol=1e-10)


def test_every_order_runs_on_every_backend(backend: Any) -> None:
    G, x0 = stream(EVERY_ORDER.n), stream(EVERY_ORDER.n, seed=1)[0]
    hyper = {**shampoo.DIALECTS["practical"], "layout": EVERY_ORDER, "block": 2, "interval": 2}
    x = replay(shampoo, [backend.array(g) for g in G], backend.array(x0), **hyper)[-1][0]
    np.testing.assert_allclose(backend.numpy(x), points(shampoo, G, x0, **hyper)[-1], rtol=1e-9)


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"lr": -1.0}, "lr must be at least 0"),
        ({"beta2": 0.0}, r"beta2 must be in \(0, 1\]"),
        ({"eps": -1.0}, "eps must be at least 0"),
        ({"ridge": -1.0}, "ridge must be at least 0"),
        ({"p": 0}, "p must be None or at least 1"),
        ({"roots": "svd"}, "roots must be 'eigh' or 'newton', got 'svd'"),
        ({"interval": 0}, "interval must be at least 1"),
        ({"start": 0}, "start must be at least 1"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\)"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"block": 0}, "block must be at least 1"),
        ({"layout": Layout({"W": (3,)})}, r"x must have shape \(3,\)"),
    ],
)
def test_bad_ranges_are_named(hyper: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        minimize(quadratic(np.eye(1)), shampoo, x0=np.ones(1), steps=1, **hyper)
