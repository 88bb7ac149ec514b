from __future__ import annotations

import numpy as np
import pytest

import problems
from refopt import bind, minimize
from refopt.first_order import sgd
from refopt.objective import Layer, Objective
from refopt.structured import kfac


def test_it_needs_far_fewer_steps_than_gradient_descent() -> None:
    problem = problems.get("mlp_digits", hidden=(10,))
    target = {"value": 0.1}
    ours = minimize(problem, kfac, steps=200, stop=target, lam=1.0)
    plain = minimize(problem, sgd, steps=200, stop=target, lr=0.5)
    assert ours.value <= 0.1 < plain.value
    assert 3 * ours.steps < plain.steps


def linear_network(batch: int, d_in: int, d_out: int, seed: int) -> tuple[Objective, Layer, np.ndarray]:
    """Linear regression with unit Gaussian noise: its Fisher matrix is E[a a^T] (x) I, which K-FAC has exactly."""
    rng = np.random.default_rng(seed)
    a, t = rng.normal(size=(batch, d_in)), rng.normal(size=(batch, d_out))

    def value_and_grad(x: np.ndarray) -> tuple[float, np.ndarray]:
        r = a @ x.reshape(d_in, d_out) - t
        return 0.5 * float(np.sum(r * r)) / batch, (a.T @ r / batch).reshape(-1)

    fisher = np.kron(a.T @ a / batch, np.eye(d_out))
    # Model-sampled output gradients of this loss are standard normal: give a batch of covariance exactly I.
    gs = np.linalg.qr(rng.normal(size=(batch, d_out)))[0] * np.sqrt(batch)
    layer = Layer(slice(0, d_in * d_out), a, gs)
    f = Objective(
        value_and_grad=value_and_grad,
        fisher=lambda x, seed=None, k=0: lambda v: fisher @ v,
        layers=lambda x, seed=None, k=0: {"dense": layer},
    )
    return f, layer, fisher


def test_one_linear_layer_is_solved_in_one_step() -> None:
    f, layer, _ = linear_network(40, 5, 3, seed=0)
    result = minimize(f, kfac, x0=np.ones(15), steps=1, lam=1e-12)
    targets_gradient = f.grad(result.x)
    np.testing.assert_allclose(targets_gradient, 0.0, atol=1e-5)  # gamma = sqrt(lam) = 1e-6
    assert layer.inputs.shape == (40, 5)


def test_factors_are_means_over_the_batch_with_the_papers_decay() -> None:
    f, layer, _ = linear_network(40, 5, 3, seed=0)
    init, step = bind(kfac)
    x = np.ones(15)
    x, state = step(f, x, init(x))
    np.testing.assert_allclose(state.factors.A["dense"], layer.inputs.T @ layer.inputs / 40)
    np.testing.assert_allclose(state.factors.G["dense"], np.eye(3), atol=1e-12)
    other = layer._replace(inputs=2.0 * layer.inputs)
    f.layers = lambda x, seed=None, k=0: {"dense": other}
    _, second = step(f, x, state)
    # eps_2 = min(1 - 1/2, 0.95)
    np.testing.assert_allclose(second.factors.A["dense"], 2.5 * state.factors.A["dense"], rtol=1e-12)


def test_the_update_minimises_the_model_over_its_plane() -> None:
    rng = np.random.default_rng(1)
    M = rng.normal(size=(6, 6))
    F = M @ M.T
    g, Delta, delta_0 = rng.normal(size=(3, 6))
    model, delta = kfac.model_minimum(g, Delta, F @ Delta, delta_0, F @ delta_0, 0.3)

    def value(d: np.ndarray) -> float:
        return 0.5 * float(d @ (F + 0.3 * np.eye(6)) @ d) + float(g @ d)

    assert model == pytest.approx(value(delta))
    for step in rng.normal(size=(50, 2)) * 1e-3:
        assert value(delta + step[0] * Delta + step[1] * delta_0) >= model


def test_large_damping_gives_a_small_gradient_step() -> None:
    f, _, _ = linear_network(40, 5, 3, seed=0)
    x0 = np.ones(15)
    result = minimize(f, kfac, x0=x0, steps=1, lam=1e8)
    step = result.x - x0
    np.testing.assert_allclose(step, -f.grad(x0) / 1e8, rtol=1e-3)


def test_layers_must_cover_the_parameters() -> None:
    f, _, _ = linear_network(40, 5, 3, seed=0)
    f.layers = lambda x, seed=None, k=0: {}
    with pytest.raises(ValueError, match="cover each of the 15 parameters once; 0:15 belongs to none"):
        minimize(f, kfac, x0=np.ones(15), steps=1)


def test_damping_follows_the_reduction_ratio() -> None:
    f, _, _ = linear_network(40, 5, 3, seed=0)
    seen = []
    minimize(f, kfac, x0=np.ones(15), steps=5, lam=10.0, callback=lambda step: seen.append(step.state))
    # The model is exact up to its damping, so it is trusted: rho > 3/4, and lam falls at k = 5.
    assert [state.lam for state in seen[:5]] == [10.0] * 5
    assert seen[5].lam == pytest.approx(10.0 * (19 / 20) ** 5)
