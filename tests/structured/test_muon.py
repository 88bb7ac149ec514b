from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refopt import Layout, minimize
from refopt.first_order import adamw
from refopt.structured import muon, shampoo
from refopt.wrappers import groups
from tests.quadratic import quadratic
from tests.structured.streams import orthogonal, points, replay, stream, turned

MATRICES = Layout({"wide": (3, 5), "tall": (4, 2), "kernel": (2, 2, 3)})
SHAPES = [(3, 5), (4, 2), (4, 3)]  # of the matrices that they are
A, B, C = muon.COEFFICIENTS


def parts(v: np.ndarray) -> list[np.ndarray]:
    return [part.reshape(shape) for part, shape in zip(MATRICES.split(v).values(), SHAPES, strict=True)]


@pytest.mark.parametrize("shape", [(6, 6), (3, 8), (8, 3), (5, 1)])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_the_iteration_maps_each_singular_value(shape: tuple[int, int], steps: int, backend: Any) -> None:
    U = stream(shape[0] * shape[1])[0].reshape(shape)
    P, s, Qt = np.linalg.svd(U / (np.linalg.norm(U) + 1e-7), full_matrices=False)
    for _ in range(steps):
        s = A * s + B * s**3 + C * s**5
    got = muon.newton_schulz(backend.array(U), steps=steps)
    np.testing.assert_allclose(backend.numpy(got), P * s @ Qt, atol=1e-11)


def test_a_short_matrix_meets_eps_where_the_dialect_has_it() -> None:
    U = np.array([[3e-8, 4e-8]])
    for placement, norm in (("added", 1.5e-7), ("clamp", 1e-7)):
        np.testing.assert_allclose(muon.newton_schulz(U, steps=0, eps_placement=placement), U / norm, rtol=1e-12)


def test_five_iterations_bring_singular_values_near_one() -> None:
    s = np.geomspace(0.01, 1, 400)
    for _ in range(5):
        s = A * s + B * s**3 + C * s**5
    assert s.min() > 0.68
    assert s.max() < 1.14


@settings(max_examples=40)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10**6), st.sampled_from(list(muon.DIALECTS)))
def test_turns_of_rows_and_columns_go_through(rows: int, columns: int, seed: int, dialect: str) -> None:
    there, back = turned(muon, (rows, columns), seed, **muon.DIALECTS[dialect])
    np.testing.assert_allclose(there, back, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_of_f_does_not_matter(scale: float) -> None:
    G = stream(MATRICES.n)
    want = points(muon, G, layout=MATRICES, eps=0.0)
    np.testing.assert_allclose(points(muon, scale * G, layout=MATRICES, eps=0.0), want, rtol=1e-10, atol=1e-13)


def test_the_first_step_is_near_shampoos() -> None:
    P, Q, s = orthogonal(5, 0), orthogonal(5, 1), np.linspace(0.3, 1, 5)
    G = (P * s @ Q).reshape(1, -1)
    layout = Layout({"W": (5, 5)})
    ours, theirs = points(muon, G, layout=layout, lr=1.0), points(shampoo, G, layout=layout, lr=1.0, eps=1e-13)
    values = np.linalg.svd(ours.reshape(5, 5))[1]
    assert np.max(np.abs(ours - theirs)) < np.max(np.abs(values - 1)) + 1e-9 < 0.35


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("bias_correction", [False, True])
@pytest.mark.parametrize("scale", ["original", "moonshot", "spectral"])
def test_the_path_by_hand(nesterov: bool, bias_correction: bool, scale: Any) -> None:
    hyper: dict[str, Any] = {"nesterov": nesterov, "bias_correction": bias_correction, "scale": scale}
    G, x = stream(MATRICES.n), stream(MATRICES.n, seed=1)[0]
    got = points(muon, G, x, layout=MATRICES, lr=0.1, momentum=0.9, weight_decay=0.2, **hyper)
    for t, g in enumerate(G, 1):
        u = sum(0.1 * 0.9 ** (t - i) * g_i for i, g_i in enumerate(G[:t], 1))
        if nesterov:
            c_B, c_G = (1 - 0.9 ** (t + 1), 1 - 0.9**t) if bias_correction else (1, 1)
            u = 0.9 * u / c_B + 0.1 * g / c_G
        new = []
        for w, U, (d_in, d_out) in zip(parts(x), parts(u), SHAPES, strict=True):
            factor = {"original": max(1, d_out / d_in) ** 0.5, "spectral": (d_out / d_in) ** 0.5}
            factor["moonshot"] = 0.2 * max(d_in, d_out) ** 0.5
            new.append((0.98 * w - 0.1 * factor[scale] * muon.newton_schulz(U)).ravel())
        x = np.concatenate(new)
        np.testing.assert_allclose(got[t - 1], x, atol=1e-6)  # eps meets U, whose bias correction is a factor


def test_every_backend_takes_the_same_steps(backend: Any) -> None:
    G = stream(MATRICES.n)
    x = replay(muon, [backend.array(g) for g in G], backend.array(0 * G[0]), layout=MATRICES)[-1][0]
    np.testing.assert_allclose(backend.numpy(x), points(muon, G, layout=MATRICES)[-1], rtol=1e-9)


def test_hidden_matrices_by_muon_and_the_rest_by_adamw() -> None:
    layout = Layout({"W1": (4, 3), "b1": (3,), "W2": (3, 2), "b2": (2,)})

    def hidden(name: str, shape: tuple[int, ...]) -> bool:
        return len(shape) >= 2 and name != "W2"

    def rest(name: str, shape: tuple[int, ...]) -> bool:
        return True

    for_hidden, for_rest = {"lr": 0.05, "weight_decay": 0.1}, {"lr": 0.01, "weight_decay": 0.2}
    method = groups(layout, {"hidden": (hidden, muon, for_hidden), "rest": (rest, adamw, for_rest)})
    G, x0 = stream(layout.n), stream(layout.n, seed=1)[0]
    path, inside = points(method, G, x0), slice(0, 12)
    alone = points(muon, G[:, inside], x0[inside], layout=Layout({"W1": (4, 3)}), **for_hidden)
    np.testing.assert_allclose(path[:, inside], alone, rtol=1e-12)
    np.testing.assert_allclose(path[:, 12:], points(adamw, G[:, 12:], x0[12:], **for_rest), rtol=1e-12)


def test_a_part_that_is_no_matrix_is_named() -> None:
    with pytest.raises(TypeError, match=r"not part 'b' of shape \(2,\): on_matrices\(muon, adamw\)"):
        points(muon, stream(6), layout=Layout({"W": (2, 2), "b": (2,)}))


def transposed(G: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return G.reshape(-1, *shape).transpose(0, 2, 1)


@pytest.mark.peers
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize(("adjust", "scale"), [("original", "original"), ("match_rms_adamw", "moonshot")])
@pytest.mark.parametrize("nesterov", [True, False])
def test_torch(
    shape: tuple[int, int], adjust: str, scale: Any, nesterov: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To rounding where torch iterates in double precision; to that of bfloat16 as it stands."""
    torch = pytest.importorskip("torch")
    G = stream(shape[0] * shape[1], steps=10)
    ours = points(
        muon, G, layout=Layout({"W": shape}), scale=scale, nesterov=nesterov, **{**muon.DIALECTS["torch"], "lr": 0.1}
    )

    def theirs() -> np.ndarray:
        w = torch.zeros(shape[1], shape[0], dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Muon([w], lr=0.1, adjust_lr_fn=adjust, nesterov=nesterov)
        path = []
        for g in transposed(G, shape):
            w.grad = torch.tensor(g.copy())
            optimizer.step()
            path.append(w.detach().numpy().T.ravel().copy())
        return np.array(path)

    np.testing.assert_allclose(ours, theirs(), atol=0.05 * np.abs(ours).max())
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda matrix: matrix.clone())
    np.testing.assert_allclose(ours, theirs(), atol=1e-10)


@pytest.mark.peers
@pytest.mark.parametrize("shape", [(3, 5), (5, 3)])
@pytest.mark.parametrize(("rms", "scale"), [(None, "original"), (0.2, "moonshot")])
@pytest.mark.parametrize("nesterov", [True, False])
def test_optax(shape: tuple[int, int], rms: float | None, scale: Any, nesterov: bool) -> None:
    jax, contrib = pytest.importorskip("jax"), pytest.importorskip("optax.contrib")
    G = stream(shape[0] * shape[1], steps=10)
    hyper = {**muon.DIALECTS["optax"], "weight_decay": 0.1}
    ours = points(muon, G, layout=Layout({"W": shape}), lr=0.1, scale=scale, nesterov=nesterov, **hyper)
    with jax.enable_x64(True):
        optimizer = contrib.muon(0.1, weight_decay=0.1, nesterov=nesterov, consistent_rms=rms)
        w = jax.numpy.zeros(shape, dtype="float64")
        state, path = optimizer.init(w), []
        for g in G:
            update, state = optimizer.update(jax.numpy.asarray(g.reshape(shape)), state, w)
            w = w + update
            path.append(np.asarray(w).ravel())
    np.testing.assert_allclose(ours, path, atol=1e-6)  # its bias corrections are of single precision


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"lr": -1.0}, "lr must be at least 0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\)"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"scale": "rms"}, "scale must be 'original', 'moonshot' or 'spectral', got 'rms'"),
        ({"ns_steps": -1}, "ns_steps must be at least 0"),
        ({"eps": -1.0}, "eps must be at least 0"),
        ({"eps_placement": "inside"}, "eps_placement must be 'added' or 'clamp'"),
        ({"layout": Layout({"W": (3, 1)})}, r"x must have shape \(3,\)"),
    ],
)
def test_bad_ranges_are_named(hyper: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        minimize(quadratic(np.eye(1)), muon, x0=np.ones(1), steps=1, **hyper)
