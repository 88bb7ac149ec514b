from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import random
from refopt import bind, minimize, schedules
from refopt.first_order import adam, sgd
from refopt.objective import Objective
from refopt.wrappers import ema, gradient_noise, polyak_ruppert, suffix
from tests.quadratic import quadratic, symmetric


def average(method: Any, steps: int, decay: float, lr: float = 1.0, x0: float = 1.0) -> float:
    """The average of x_k = decay^k x0, which is what SGD does on (1 - decay) / 2 x^2."""
    f = quadratic(np.array([[(1 - decay) / lr]]))
    return float(minimize(f, method, x0=np.array([x0]), steps=steps, lr=lr).x[0])


@given(st.integers(1, 60), st.integers(0, 30), st.floats(-0.9, 0.95))
def test_polyak_ruppert_on_a_linear_recursion(steps: int, start: int, rho: float) -> None:
    m = steps - start
    want = rho ** (start + 1) * (1 - rho**m) / ((1 - rho) * m) if m > 0 else rho**steps
    assert average(polyak_ruppert(sgd, start), steps, rho) == pytest.approx(want, rel=1e-9, abs=1e-12)


@given(st.integers(1, 60), st.floats(0.01, 1.0), st.floats(-0.9, 0.95))
def test_suffix_is_the_mean_of_the_last_iterates(steps: int, fraction: float, rho: float) -> None:
    last = rho ** np.arange(1, steps + 1)[-math.ceil(fraction * steps) :]
    assert average(suffix(sgd, steps, fraction), steps, rho) == pytest.approx(last.mean(), rel=1e-9, abs=1e-12)


def test_the_suffix_forgets_the_noise_of_early_steps() -> None:
    """With lr 1 / k on x^2 / 2 the variance is sum_jk 1 / max(j, k) / m^2 over m iterates: 2 / T or 1.2 / T of half."""
    T, lr = 60, schedules.robbins_monro(1.0)

    def variance(method: Any) -> float:
        def reached(j: int) -> float:
            calls = iter(range(T))
            f = Objective(grad=lambda x: x + (1.0 if next(calls) == j else 0.0))
            init, step = bind(method, lr=lr)
            x = np.zeros(1)
            state = init(x)
            for _ in range(T):
                x, state = step(f, x, state)
            return float(method.solution(x, state)[0])

        return sum(reached(j) ** 2 for j in range(T))

    for method, m in ((polyak_ruppert(sgd), T), (suffix(sgd, T), T // 2)):
        k = np.arange(T - m + 1, T + 1)
        want = (1.0 / np.maximum.outer(k, k)).sum() / m**2
        assert variance(method) == pytest.approx(want, rel=1e-12)
    assert variance(suffix(sgd, T)) < 0.65 * variance(polyak_ruppert(sgd))


@pytest.mark.parametrize(("steps", "fraction"), [(0, 0.5), (10, 0.0), (10, 1.5)])
def test_a_suffix_out_of_range(steps: int, fraction: float) -> None:
    with pytest.raises(ValueError, match=r"steps must be|fraction must be in \(0, 1\]"):
        suffix(sgd, steps, fraction)


@given(st.integers(1, 60), st.floats(0.0, 0.999), st.floats(-0.9, 0.95))
def test_ema_on_a_linear_recursion(steps: int, decay: float, rho: float) -> None:
    weights = (1 - decay) * decay ** np.arange(steps - 1, -1, -1) / (1 - decay**steps)
    assert weights.sum() == pytest.approx(1)
    want = weights @ rho ** np.arange(1, steps + 1)
    assert average(ema(sgd, decay), steps, rho) == pytest.approx(want, rel=1e-9, abs=1e-12)


def test_the_path_itself_is_left_alone() -> None:
    f, x = quadratic(symmetric(4, 0)), np.ones(4)
    (init, step), (init_plain, step_plain) = bind(ema(adam, 0.9), lr=0.1), bind(adam, lr=0.1)
    state, plain, at = init(x), init_plain(x), x
    for _ in range(5):
        x, state = step(f, x, state)
        at, plain = step_plain(f, at, plain)
    np.testing.assert_array_equal(x, at)


def test_at_a_constant_rate_the_average_tells_the_mean_of_the_noise() -> None:
    """Summing the steps x - lr (H x + xi): H mean(x_0..x_{k-1}) = (x_0 - x_k) / (lr k) - mean(xi), exactly."""
    H, lr, k, x0 = symmetric(3, 1), 0.5, 50, np.ones(3)
    result = minimize(quadratic(H), polyak_ruppert(gradient_noise(sgd, eta=0.04, gamma=0.0)), x0=x0, steps=k, lr=lr)
    xi = [0.2 * random.normal(3, seed=0, k=j, purpose="gradient noise", like=x0) for j in range(k)]
    x = x0
    for noise in xi:
        x = x - lr * (H @ x + noise)
    mean = result.x - (x - x0) / k  # from x_1..x_k to x_0..x_{k-1}
    np.testing.assert_allclose(H @ mean, (x0 - x) / (lr * k) - np.mean(xi, axis=0), rtol=1e-10, atol=1e-13)


def test_averaged_sgd_has_the_best_covariance() -> None:
    """sqrt(k) (a_k - x*) tends to Normal(0, H^-1 S H^-1); 4000 copies of one problem in one vector."""
    copies, steps, H, sigma2 = 4000, 1000, np.array([[1.0, 0.3], [0.3, 0.8]]), 0.5

    def grad(x: np.ndarray) -> np.ndarray:
        return (x.reshape(copies, 2) @ H).ravel()

    lr = schedules.robbins_monro(0.9, power=0.55, offset=30.0)
    method = polyak_ruppert(gradient_noise(sgd, eta=sigma2, gamma=0.0))
    init, step = bind(method, lr=lr)
    x = np.zeros(2 * copies)
    state = init(x, seed=1)
    for _ in range(steps):
        x, state = step(Objective(grad=grad), x, state)
    scaled = math.sqrt(steps) * state.a.reshape(copies, 2)
    best = sigma2 * np.linalg.inv(H @ H)
    found = np.cov(scaled.T)
    error = np.sqrt((best**2 + np.outer(np.diag(best), np.diag(best))) / copies)  # of a covariance of normals
    assert np.all(np.abs(found - best) < 4.5 * error)
    # What is iterated itself is far from that: its variance falls like lr only.
    assert np.all(steps * np.var(x.reshape(copies, 2), axis=0) > 20 * np.diag(best))


def test_bad_ranges_are_named() -> None:
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\), got 1.0"):
        ema(sgd, 1.0)
    with pytest.raises(ValueError, match="start must be at least 0, got -1"):
        polyak_ruppert(sgd, -1)
