from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import problems
from refopt import minimize
from refopt.newton import hessian_free
from refopt.objective import NETWORK_PRICES, MissingPart, Objective


def quartic(x: Any, xp: Any) -> Any:
    return xp.sum(x**4) + xp.sum(x[:-1] * x[1:])


def quartic_grad(x: np.ndarray) -> np.ndarray:
    g = 4 * x**3
    g[:-1] += x[1:]
    g[1:] += x[:-1]
    return g


def quartic_hessian(x: np.ndarray) -> np.ndarray:
    n = len(x)
    return np.diag(12 * x**2) + np.eye(n, k=1) + np.eye(n, k=-1)


X = np.array([0.3, -1.2, 0.7, 2.0])
V = np.array([1.0, -0.5, 0.25, 2.0])


def test_from_function_on_every_backend(backend: Any) -> None:
    f = Objective.from_function(quartic)
    x, v = backend.array(X), backend.array(V)
    value, g = f.value_and_grad(x)
    at_value, at_g, mv = f.linearize(x)
    H = quartic_hessian(X)
    for got in (value, at_value, f.value(x)):
        assert float(got) == pytest.approx(np.sum(X**4) + np.sum(X[:-1] * X[1:]))
    for got in (g, at_g, f.grad(x)):
        np.testing.assert_allclose(backend.numpy(got), quartic_grad(X), rtol=1e-13)
    for got in (mv(v), f.hvp(x, v)):
        np.testing.assert_allclose(backend.numpy(got), H @ V, rtol=1e-13)


def test_the_two_engines_agree() -> None:
    import autograd.numpy as anp

    ours = Objective.from_function(quartic)
    hips = Objective.from_autograd(lambda x: quartic(x, anp))
    np.testing.assert_allclose(hips.grad(X), ours.grad(X), rtol=1e-14)
    np.testing.assert_allclose(hips.hvp(X, V), ours.hvp(X, V), rtol=1e-13)
    value, g, mv = hips.linearize(X)
    np.testing.assert_allclose(g, quartic_grad(X), rtol=1e-14)
    np.testing.assert_allclose(mv(V), quartic_hessian(X) @ V, rtol=1e-13)
    assert value == pytest.approx(float(ours.value(X)))


def test_the_users_own_callables_are_completed() -> None:
    f = Objective(value=lambda x: x @ x, grad=lambda x: 2 * x, hvp=lambda x, v: 2 * v)
    assert f.parts == ("value", "grad", "value_and_grad", "hvp", "linearize")
    value, g, mv = f.linearize(X)
    np.testing.assert_array_equal(mv(V), 2 * V)
    np.testing.assert_array_equal(g, 2 * X)
    assert value == X @ X
    assert f.prices.product == NETWORK_PRICES.hvp  # nothing is kept between such products
    assert not f.joint
    only = Objective(value_and_grad=lambda x: (x @ x, 2 * x))
    assert only.parts == ("value", "grad", "value_and_grad")
    assert only.joint


def test_an_absent_part_says_so() -> None:
    f = Objective(value=lambda x: x @ x)
    assert not hasattr(f, "grad")
    with pytest.raises(TypeError, match="this objective has no hvp; it has value"):
        f.hvp(X, V)
    with pytest.raises(AttributeError, match="has no attribute 'hessian'"):
        f.hessian
    with pytest.raises(TypeError, match="needs value, grad or value_and_grad"):
        Objective(hvp=lambda x, v: v)
    with pytest.raises(MissingPart, match="no finite sum"):
        f.minibatch(np.array([0]))
    with pytest.raises(MissingPart, match="cannot be sampled"):
        f.sample(1, seed=0, k=0)


def test_a_run_on_one_minibatch_has_no_examples_to_draw_from_and_says_why() -> None:
    problem = problems.get("least_squares")
    batch = problem.objective.minibatch(np.arange(30))
    for options in ({"batch_size": 10}, {"curvature_batch": 10}):
        with pytest.raises(MissingPart, match="one minibatch of it was given for the whole, so it cannot be sampled"):
            minimize(batch, hessian_free, x0=problem.x0, steps=1, **options)


def test_residuals_give_gauss_newton(backend: Any) -> None:
    A = np.random.default_rng(0).normal(size=(5, 4))

    def r(x: Any, xp: Any) -> Any:
        return xp.tanh(xp.asarray(A, device=getattr(backend, "device", None)) @ x) - 0.5

    if backend.name == "array_api_strict":
        M = backend.array(A)

        def r(x: Any, xp: Any) -> Any:
            return xp.tanh(M @ x) - 0.5

    f = Objective.from_residuals(r)
    x, v = backend.array(X), backend.array(V)
    t = np.tanh(A @ X)
    J = (1 - t**2)[:, None] * A
    np.testing.assert_allclose(backend.numpy(f.residuals(x)), t - 0.5, rtol=1e-14)
    np.testing.assert_allclose(backend.numpy(f.grad(x)), J.T @ (t - 0.5), rtol=1e-12)
    np.testing.assert_allclose(backend.numpy(f.ggn(x)(v)), J.T @ (J @ V), rtol=1e-12)
    S = A.T @ np.diag((t - 0.5) * (-2 * t * (1 - t**2))) @ A
    np.testing.assert_allclose(backend.numpy(f.hvp(x, v)), (J.T @ J + S) @ V, rtol=1e-11)


def logistic(x: Any, inputs: Any, xp: Any) -> Any:
    return xp.reshape(inputs @ x, (-1, 1))


def logistic_loss(z: Any, targets: Any, xp: Any) -> Any:
    return xp.mean(xp.logaddexp(xp.zeros_like(z), -targets * z))


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(12, 4)), np.sign(rng.normal(size=(12, 1)))


def test_a_model_gives_minibatches_examples_and_gauss_newton(backend: Any, data: Any) -> None:
    inputs, targets = (backend.array(d) for d in data)
    f = Objective.from_model(logistic, logistic_loss, inputs, targets)
    x, v = backend.array(X), backend.array(V)
    per_example = backend.numpy(f.per_example_grads(x))
    assert per_example.shape == (12, 4)
    np.testing.assert_allclose(per_example.mean(axis=0), backend.numpy(f.grad(x)), rtol=1e-12)
    half = f.minibatch(np.arange(6))
    np.testing.assert_allclose(backend.numpy(half.grad(x)), per_example[:6].mean(axis=0), rtol=1e-12)
    assert (half.fraction, half.batch_size, half.full) == (0.5, 6, f)
    # The model is linear in x, so Gauss-Newton is the Hessian.
    np.testing.assert_allclose(backend.numpy(f.ggn(x)(v)), backend.numpy(f.hvp(x, v)), rtol=1e-11)


def test_samples_are_keyed_and_without_replacement(data: Any) -> None:
    f = Objective.from_model(logistic, logistic_loss, *data)
    one, same, other = (f.sample(5, seed=0, k=k, purpose=p) for k, p in ((3, "batch"), (3, "batch"), (3, "hessian")))
    assert one.indices is not None
    np.testing.assert_array_equal(one.indices, same.indices)
    assert not np.array_equal(one.indices, other.indices)
    assert len(set(one.indices.tolist())) == 5
    assert one.sample(5, seed=0, k=3).indices.tolist() == one.indices.tolist()  # drawn from all examples
    counts = np.zeros(12)
    for k in range(600):
        counts[f.sample(4, seed=1, k=k).indices] += 1
    assert np.all(np.abs(counts / 600 - 1 / 3) < 4 * np.sqrt(2 / 9 / 600))


def test_the_sampled_fisher_is_unbiased(data: Any) -> None:
    from backends import random

    inputs, targets = data

    def sample_targets(z: Any, seed: int, k: int) -> Any:
        u = random.uniform(z.shape, seed=seed, k=k, purpose="labels", like=z)
        return np.where(u < 1 / (1 + np.exp(-z)), 1.0, -1.0)

    f = Objective.from_model(logistic, logistic_loss, inputs, targets, sample_targets=sample_targets)
    with pytest.raises(TypeError, match="give a seed"):
        f.fisher(X)
    draws = np.array([f.fisher(X, seed=0, k=k)(V) for k in range(400)])
    error = draws.std(axis=0) / np.sqrt(len(draws))
    assert np.all(np.abs(draws.mean(axis=0) - f.ggn(X)(V)) < 4.5 * error)


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        ([], ValueError, "non-empty"),
        ([12], ValueError, r"must be in \[0, 12\)"),
        ([-1], ValueError, r"must be in \[0, 12\)"),
        ([0.5], TypeError, "must be integers"),
        ([[0]], ValueError, "vector"),
    ],
)
def test_bad_indices(data: Any, indices: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Objective.from_model(logistic, logistic_loss, *data).minibatch(np.array(indices))


def test_bad_data(data: Any) -> None:
    with pytest.raises(ValueError, match="inputs must have 12 rows"):
        Objective.from_model(logistic, logistic_loss, data[0][:5], data[1])
    with pytest.raises(ValueError, match=r"batch size must be in \[1, 12\], got 13"):
        Objective.from_model(logistic, logistic_loss, *data).sample(13, seed=0, k=0)


def test_map_grad_changes_gradients_only(data: Any) -> None:
    f = Objective.from_model(logistic, logistic_loss, *data)
    doubled = f.map_grad(lambda g: 2 * g)
    np.testing.assert_array_equal(doubled.grad(X), 2 * f.grad(X))
    np.testing.assert_array_equal(doubled.linearize(X)[1], 2 * f.grad(X))
    np.testing.assert_array_equal(doubled.hvp(X, V), f.hvp(X, V))
    batch = doubled.sample(4, seed=0, k=0)
    np.testing.assert_array_equal(batch.grad(X), 2 * f.sample(4, seed=0, k=0).grad(X))
    np.testing.assert_array_equal(batch.full.grad(X), 2 * f.grad(X))
