"""Vaswani et al. 2019: where the data can be fitted exactly, SGD with the search converges linearly, untuned."""

from __future__ import annotations

import math

import numpy as np
import pytest

from refopt.line_search import stochastic_armijo
from refopt.objective import Objective

EXAMPLES, N, BATCH = 60, 10, 6
RNG = np.random.default_rng(0)
A = RNG.normal(size=(EXAMPLES, N)) * np.logspace(0, -0.5, N)
BEST = RNG.normal(size=N)


def logistic() -> Objective:
    """Return the mean logistic loss of labels that a plane separates."""
    signs = np.where(A @ BEST > 0, 1.0, -1.0)
    return Objective.from_model(
        lambda x, inputs, xp: inputs @ x, lambda z, y, xp: xp.mean(xp.logaddexp(0.0 * z, -y * z)), A, signs
    )


def least_squares(noise: float = 0.0) -> Objective:
    """Return the mean square of residuals that BEST makes 0, but for `noise`."""
    b = A @ BEST + noise * np.random.default_rng(1).normal(size=EXAMPLES)
    return Objective.from_model(lambda x, inputs, xp: inputs @ x, lambda z, y, xp: xp.mean((z - y) ** 2) / 2, A, b)


def run(f: Objective, steps: int, lr: float) -> list[float]:
    """Return the values over all examples, step by step."""
    x, values = np.zeros(N), [float(f.value(np.zeros(N)))]
    for k in range(steps):
        batch = f.sample(BATCH, seed=0, k=k)
        value, g = batch.value_and_grad(x)
        if (g == 0).all():
            break
        found = stochastic_armijo.search(batch, x, -g, value, g, lr=lr)
        x, lr = found.x, found.alpha or lr
        values.append(float(f.value(x)))
    return values


@pytest.mark.parametrize("lr", [1e-3, 1.0, 1e3])
def test_the_rate_is_linear_from_any_first_step(lr: float) -> None:
    values = run(least_squares(), 1200, lr)
    assert values[-1] < 1e-12 * values[0]
    at = [next(k for k, value in enumerate(values) if value < 10.0**-d * values[0]) for d in (3, 6, 9, 12)]
    gaps = np.diff(at)
    assert gaps.max() < 2.0 * gaps.min(), "as many steps for every three digits"


def test_it_goes_down_for_ever_on_separable_data_and_stalls_where_nothing_fits() -> None:
    values = run(logistic(), 1500, lr=1.0)
    assert values[-1] < 0.02 * math.log(2.0)
    assert values[-1] < 0.5 * values[len(values) // 3]
    noisy = run(least_squares(noise=0.5), 1200, lr=1.0)
    assert min(noisy[600:]) > 0.5 * min(noisy[:600]), "its condition holds on minibatches, which disagree"
