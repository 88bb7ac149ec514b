from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refopt import Layout, minimize
from refopt.first_order import adam, adamw
from refopt.structured import soap
from tests.quadratic import quadratic
from tests.structured.streams import EVERY_ORDER, orthogonal, points, replay, stream, turned

# Statistics that the first gradient makes regular: the basis of a null space would be rounding's.
REGULAR = Layout({"scalar": (), "b": (3,), "W": (3, 3), "T": (2, 3, 2), "K": (2, 1, 3, 2)})


@pytest.mark.parametrize("eps_placement", ["outside", "hat"])
def test_without_a_basis_it_is_adam(eps_placement: Any) -> None:
    G, x0 = stream(EVERY_ORDER.n), stream(EVERY_ORDER.n, seed=1)[0]
    hyper: dict[str, Any] = {"lr": 0.03, "beta1": 0.9, "beta2": 0.99, "eps": 1e-3, "eps_placement": eps_placement}
    plain = points(soap, G, x0, layout=EVERY_ORDER, max_dim=0, skip_first=False, **hyper)
    np.testing.assert_allclose(plain, points(adam, G, x0, **hyper), rtol=1e-12, atol=1e-14)
    late = points(soap, G, x0, layout=EVERY_ORDER, max_dim=0, **hyper)
    np.testing.assert_array_equal(late[0], x0)
    np.testing.assert_allclose(late[1:], points(adam, G[1:], x0, **hyper), rtol=1e-12, atol=1e-14)


def test_vectors_take_adamws_steps_unless_asked() -> None:
    G, x0 = stream(5), stream(5, seed=1)[0]
    hyper: dict[str, Any] = {"lr": 0.03, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1}
    np.testing.assert_allclose(points(soap, G, x0, **hyper)[1:], points(adamw, G[1:], x0, **hyper), rtol=1e-12)
    turned_too = points(soap, G, x0, precondition_1d=True, **hyper)
    assert np.max(np.abs(turned_too - points(soap, G, x0, **hyper))) > 1e-3


@settings(max_examples=40)
@given(st.integers(1, 5), st.integers(0, 10**6), st.sampled_from(["qr", "eigh"]))
def test_turns_of_rows_and_columns_go_through(d: int, seed: int, basis: Any) -> None:
    """As far as eigenvectors of near eigenvalues are known."""
    there, back = turned(soap, (d, d), seed, basis=basis, interval=2, lr=0.1, eps=0.1)
    np.testing.assert_allclose(there, back, atol=1e-6)


@pytest.mark.parametrize("basis", ["qr", "eigh"])
@pytest.mark.parametrize("interval", [1, 3])
def test_the_authors_order_of_operations(basis: Any, interval: int) -> None:
    """M kept in the basis and rotated on when it changes, everything as one dense matrix on vec(W)."""
    G, x0 = stream(REGULAR.n, steps=9), stream(REGULAR.n, seed=1)[0]
    hyper: dict[str, Any] = {"lr": 0.1, "beta1": 0.8, "beta2": 0.9, "eps": 1e-3, "eps_placement": "hat"}
    options: dict[str, Any] = {"basis": basis, "interval": interval}
    got = points(soap, G, x0, layout=REGULAR, **hyper, **options)
    for name, shape in REGULAR.shapes.items():
        where = REGULAR.slices[name]
        w, gs = x0[where], G[:, where]
        plain = len(shape) < 2
        L = [np.zeros((d, d)) for d in shape]
        Q = [np.eye(d) for d in shape]
        m, v = np.zeros(w.size), np.zeros(w.size)
        for t, g in enumerate(gs):
            if t > 0:
                whole = functools.reduce(np.kron, Q, np.eye(1))
                rotated = whole.T @ g
                m, v = 0.8 * m + 0.2 * rotated, 0.9 * v + 0.1 * rotated**2
                w = w - 0.1 * np.sqrt(1 - 0.9**t) / (1 - 0.8**t) * whole @ (m / (np.sqrt(v) + 1e-3))
            for i, d in enumerate(shape):
                unfolded = np.moveaxis(g.reshape(shape), i, 0).reshape(d, -1)
                L[i] = 0.9 * L[i] + 0.1 * unfolded @ unfolded.T
            if t % interval == 0 and not plain:
                m = functools.reduce(np.kron, Q, np.eye(1)) @ m
                for i in range(len(shape)):
                    if t == 0 or basis == "eigh":
                        Q[i] = np.linalg.eigh(L[i])[1]
                        continue
                    order = np.argsort(-np.diag(Q[i].T @ L[i] @ Q[i]))
                    v = np.take(v.reshape(shape), order, axis=i).ravel()
                    Q[i] = np.linalg.qr(L[i] @ Q[i][:, order])[0]
                m = functools.reduce(np.kron, Q, np.eye(1)).T @ m
            np.testing.assert_allclose(got[t, where], w, rtol=1e-7, atol=1e-9)


def test_power_iterations_find_the_eigenvectors() -> None:
    P = orthogonal(5, 0)
    L, Q = P * np.array([1.0, 4.0, 0.25, 16.0, 64.0]) @ P.T, orthogonal(5, 1)
    V = np.arange(5.0)
    for _ in range(60):
        (Q,), V = soap.power_iteration((L,), (Q,), V)
    np.testing.assert_allclose(np.diag(Q.T @ L @ Q), [64, 16, 4, 1, 0.25], rtol=1e-9)
    assert sorted(V) == list(range(5))


def test_second_moments_go_with_their_columns() -> None:
    L, V = np.diag([1.0, 9.0, 4.0]), np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    (kept, Q), moved = soap.power_iteration((None, L), (None, np.eye(3)), V)
    assert kept is None
    np.testing.assert_allclose(np.abs(Q), np.eye(3)[:, [1, 2, 0]], atol=1e-12)
    np.testing.assert_array_equal(moved, V[:, [1, 2, 0]])


def test_every_order_runs_on_every_backend(backend: Any) -> None:
    G, x0 = stream(REGULAR.n), stream(REGULAR.n, seed=1)[0]
    hyper: dict[str, Any] = {"layout": REGULAR, "interval": 2, "eps": 1e-3}
    x = replay(soap, [backend.array(g) for g in G], backend.array(x0), **hyper)[-1][0]
    np.testing.assert_allclose(backend.numpy(x), points(soap, G, x0, **hyper)[-1], rtol=1e-7)


def test_an_axis_that_is_too_long_is_left_as_it_is() -> None:
    states = [s for _, s in replay(soap, stream(15), np.zeros(15), layout=Layout({"W": (3, 5)}), max_dim=3)]
    assert states[-1].Q["W"][0].shape == (3, 3)
    assert states[-1].Q["W"][1] is None


def test_statistics_that_are_not_finite_have_no_basis() -> None:
    assert np.all(np.isnan(soap.eigenvectors(np.full((2, 2), np.inf))))


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"lr": -1.0}, "lr must be at least 0"),
        ({"beta1": 1.0}, r"beta1 must be in \[0, 1\)"),
        ({"beta2": 1.0}, r"beta2 must be in \[0, 1\)"),
        ({"eps": -1.0}, "eps must be at least 0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"interval": 0}, "interval must be at least 1"),
        ({"basis": "svd"}, "basis must be 'qr' or 'eigh', got 'svd'"),
        ({"max_dim": -1}, "max_dim must be at least 0"),
        ({"eps_placement": "inside"}, "eps_placement must be 'outside' or 'hat'"),
        ({"layout": Layout({"W": (3,)})}, r"x must have shape \(3,\)"),
    ],
)
def test_bad_ranges_are_named(hyper: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        minimize(quadratic(np.eye(1)), soap, x0=np.ones(1), steps=1, **hyper)
