from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import problems
from refopt import Status, bind, minimize
from refopt.curvature import kronecker
from refopt.objective import Layer, Objective
from refopt.structured import ekfac
from tests.structured.streams import SHARED_WEIGHTS

HostArray = np.ndarray


def one_layer(layer: Layer, gradient: HostArray) -> Objective:
    """An objective with that gradient everywhere, and one layer."""
    return Objective(
        value_and_grad=lambda x: (float(gradient @ x), gradient),
        layers=lambda x, seed=None, k=0: {"dense": layer},
    )


def correlated(seed: int, shape: tuple[int, ...] = (20,), d_in: int = 4, d_out: int = 3) -> Layer:
    """A layer whose gradients depend on its inputs, so that the Fisher matrix is no Kronecker product."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(*shape, d_in))
    g = a @ rng.normal(size=(d_in, d_out)) * a[..., :1] + rng.normal(size=(*shape, d_out))
    return Layer(slice(0, d_in * d_out), a, g)


def fisher(layer: Layer) -> HostArray:
    """E[v v^T] of each example's own gradient v."""
    B = layer.inputs.shape[0]
    own = [(layer.inputs[i].reshape(-1, 4).T @ layer.output_grads[i].reshape(-1, 3)).reshape(-1) for i in range(B)]
    return np.mean([np.outer(v, v) for v in own], axis=0)


def dense(state: ekfac.State) -> HostArray:
    """U diag(s) U^T, U = U_A (x) U_G: what EKFAC holds for the Fisher matrix."""
    U = np.kron(state.U_A["dense"], state.U_G["dense"])
    return U @ np.diag(state.s["dense"].reshape(-1)) @ U.T


@pytest.mark.parametrize("shape", [(20,), (20, 5), (6, 2, 3)])
@pytest.mark.parametrize("shared", ["expand", "reduce"])
def test_it_is_nearer_to_the_fisher_matrix_than_kfac_and_the_best_in_its_basis(
    shape: tuple[int, ...], shared: kronecker.Shared
) -> None:
    layer = correlated(0, shape)
    F = fisher(layer)
    init, step = bind(ekfac, shared=shared)
    _, state = step(one_layer(layer, np.ones(12)), np.zeros(12), init(np.zeros(12)))
    factors = kronecker.moments(kronecker.sums({"dense": layer}, 12, shared=shared))
    ours = np.linalg.norm(F - dense(state))
    assert ours < np.linalg.norm(F - np.kron(factors.A["dense"], factors.G["dense"]))
    U = np.kron(state.U_A["dense"], state.U_G["dense"])
    np.testing.assert_allclose(np.diag(U.T @ F @ U), state.s["dense"].reshape(-1))


def test_the_step_is_that_of_the_dense_matrix() -> None:
    layer = correlated(1)
    grad = np.random.default_rng(2).normal(size=12)
    init, step = bind(ekfac, lr=0.3, damping=0.1, momentum=0.5)
    x1, state = step(one_layer(layer, grad), np.zeros(12), init(np.zeros(12)))
    np.testing.assert_allclose(x1, -0.3 * np.linalg.solve(dense(state) + 0.1 * np.eye(12), grad))
    x2, later = step(one_layer(layer, grad), x1, state)
    np.testing.assert_allclose(x2 - x1, -0.3 * np.linalg.solve(dense(later) + 0.1 * np.eye(12), grad) + 0.5 * x1)


def test_one_example_is_exact() -> None:
    layer = correlated(3, shape=(1,))
    init, step = bind(ekfac)
    _, state = step(one_layer(layer, np.ones(12)), np.zeros(12), init(np.zeros(12)))
    np.testing.assert_allclose(dense(state), fisher(layer), atol=1e-10)


def test_where_inputs_and_gradients_are_independent_it_is_kfac() -> None:
    rng = np.random.default_rng(4)
    a, g = rng.normal(size=(5, 4)), rng.normal(size=(6, 3))
    layer = Layer(slice(0, 12), np.repeat(a, 6, axis=0), np.tile(g, (5, 1)))
    init, step = bind(ekfac)
    _, state = step(one_layer(layer, np.ones(12)), np.zeros(12), init(np.zeros(12)))
    np.testing.assert_allclose(dense(state), np.kron(a.T @ a / 5, g.T @ g / 6), atol=1e-12)


def test_strong_damping_leaves_the_gradient() -> None:
    layer = correlated(5)
    grad = np.linspace(-1, 1, 12)
    result = minimize(one_layer(layer, grad), ekfac, x0=np.zeros(12), steps=1, lr=1e8, damping=1e8)
    np.testing.assert_allclose(result.x, -grad, rtol=1e-5)


def test_a_rotation_of_inputs_and_outputs_rotates_the_step() -> None:
    layer = correlated(6)
    rng = np.random.default_rng(7)
    P, Q = (np.linalg.qr(rng.normal(size=(d, d)))[0] for d in (4, 3))
    V = rng.normal(size=(4, 3))
    init, step = bind(ekfac, damping=0.1)
    turned = layer._replace(inputs=layer.inputs @ P, output_grads=layer.output_grads @ Q)
    x, _ = step(one_layer(layer, V.reshape(-1)), np.zeros(12), init(np.zeros(12)))
    y, _ = step(one_layer(turned, (P.T @ V @ Q).reshape(-1)), np.zeros(12), init(np.zeros(12)))
    np.testing.assert_allclose(y.reshape(4, 3), P.T @ x.reshape(4, 3) @ Q, atol=1e-12)


def test_the_basis_waits_for_its_turn_while_the_moments_follow() -> None:
    problem = problems.get("mlp_digits", hidden=(4,))
    seen = []
    minimize(problem, ekfac, steps=10, interval=4, callback=lambda step: seen.append(step.state))
    fresh = [k for k in range(1, 11) if seen[k].U_A is not seen[k - 1].U_A]
    assert fresh == [1, 2, 3, 4, 8]
    assert all(not np.array_equal(seen[k].s["dense1"], seen[k - 1].s["dense1"]) for k in range(2, 11))


def test_moments_move_with_the_papers_decay_from_what_kfac_has() -> None:
    layer = correlated(8)
    init, step = bind(ekfac)
    x, state = np.zeros(12), init(np.zeros(12))
    for _ in range(3):  # a new basis each time
        x, state = step(one_layer(layer, np.ones(12)), x, state)
    factors = kronecker.moments(kronecker.sums({"dense": layer}, 12))
    kfac = np.outer(np.linalg.eigvalsh(factors.A["dense"]), np.linalg.eigvalsh(factors.G["dense"]))
    measured = ekfac.sums_of_squares({"dense": layer}, state.U_A, state.U_G)["dense"] / 20
    np.testing.assert_allclose(state.s["dense"], 2 / 3 * kfac + 1 / 3 * measured)  # eps_3 = 1 - 1/3
    for k, eps_k in ((19, 18 / 19), (1001, 0.95)):  # at most 0.95
        _, later = step(one_layer(layer, np.ones(12)), x, state._replace(k=k - 1))
        np.testing.assert_allclose(later.s["dense"], eps_k * state.s["dense"] + (1 - eps_k) * measured)


def test_it_needs_fewer_steps_than_the_gradient_it_preconditions() -> None:
    problem = problems.get("mlp_digits", hidden=(10,))
    ours = minimize(problem, ekfac, steps=30, lr=0.1, damping=1e-2)
    for lr in (0.1, 0.3, 1.0):
        gradient = minimize(problem, ekfac, steps=30, lr=lr * 1e6, damping=1e6)
        assert ours.value < 0.5 * gradient.value


def test_draws_are_keyed_by_seed_and_step() -> None:
    problem = problems.get("mlp_digits", hidden=(4,))
    init, step = bind(ekfac)
    states = [step(problem.objective, problem.x0, init(problem.x0, seed=seed))[1] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(states[0].s["dense2"], states[1].s["dense2"])
    assert not np.allclose(states[0].s["dense2"], states[2].s["dense2"])


def test_the_empirical_fisher_matrix_is_of_the_datas_targets() -> None:
    problem = problems.get("mlp_digits", hidden=(4,))
    f, x = problem.objective, problem.x0
    for estimate, drawn in (("empirical", {}), ("sampled", {"seed": 0, "k": 0})):
        _, state = ekfac.step(f, x, ekfac.init(x), estimate=estimate)
        squares = ekfac.sums_of_squares(f.layers(x, **drawn), state.U_A, state.U_G)
        np.testing.assert_allclose(state.s["dense2"], squares["dense2"] / f.n_examples)


@pytest.mark.parametrize("shared", ["expand", "reduce"])
@pytest.mark.parametrize(("name", "size"), SHARED_WEIGHTS)
def test_weights_shared_over_positions_take_the_same_path_on_every_backend(
    name: str, size: dict[str, Any], shared: Any, backend: Any
) -> None:
    want = minimize(problems.get(name, **size), ekfac, steps=3, shared=shared)
    got = minimize(problems.get(name, like=backend.array([]), **size), ekfac, steps=3, shared=shared)
    np.testing.assert_allclose(backend.numpy(got.x), want.x, rtol=1e-7, atol=1e-10)


def test_a_step_that_is_not_finite_ends_the_run_at_the_last_point() -> None:
    layer = correlated(9)
    f = one_layer(layer, np.ones(12))
    before = minimize(f, ekfac, x0=np.zeros(12), steps=2)
    nan = layer._replace(output_grads=math.nan * layer.output_grads)
    f.layers = lambda x, seed=None, k=0: {"dense": layer if k < 2 else nan}
    result = minimize(f, ekfac, x0=np.zeros(12), steps=9)
    assert (result.status, result.steps) == (Status.BREAKDOWN, 3)
    np.testing.assert_array_equal(result.x, before.x)
    _, after = ekfac.step(one_layer(layer, np.ones(12)), result.x, result.state)  # whoever goes on can do so
    assert after.status is Status.RUNNING


def test_a_breakdown_in_the_first_steps_leaves_the_basis_to_the_next() -> None:
    layer = correlated(9)
    nan = layer._replace(output_grads=math.nan * layer.output_grads)
    x, state = np.zeros(12), ekfac.init(np.zeros(12))
    for now in (*[nan] * 4, layer):
        x, state = ekfac.step(one_layer(now, np.ones(12)), x, state)
    assert state.status is Status.RUNNING
    assert np.all(np.isfinite(dense(state)))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"lr": -1.0}, "lr must be at least 0, got -1.0"),
        ({"momentum": 1.2}, r"momentum must be in \[0, 1\), got 1.2"),
        ({"damping": 0.0}, "damping must be positive, got 0.0"),
        ({"decay": 1.0}, r"decay must be in \[0, 1\), got 1.0"),
        ({"estimate": "exact"}, "estimate must be 'sampled' or 'empirical', got 'exact'"),
        ({"shared": "sum"}, "shared must be 'expand' or 'reduce', got 'sum'"),
        ({"interval": 0}, "interval must be at least 1, got 0"),
    ],
)
def test_knobs_out_of_range_are_named(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        minimize(one_layer(correlated(0), np.ones(12)), ekfac, x0=np.zeros(12), steps=1, **options)


def test_layers_must_cover_the_parameters() -> None:
    with pytest.raises(ValueError, match="cover each of the 13 parameters once; 12:13 belongs to none"):
        minimize(one_layer(correlated(0), np.ones(13)), ekfac, x0=np.zeros(13), steps=1)
