from __future__ import annotations

import numpy as np
import pytest

from refopt import bind, schedules
from refopt.first_order import schedule_free, sgd
from refopt.schedules import Schedule
from tests.quadratic import quadratic, symmetric


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("rates", [schedules.constant(0.2), schedules.warm_up(schedules.constant(0.2), 7)])
def test_the_papers_three_sequences_by_hand(rates: Schedule, weight_decay: float) -> None:
    """Equations (3) to (5) of the paper, in its letters: the gradient at y_t moves z_t, and z_t+1 enters the mean x."""
    A, beta, steps = symmetric(4, 0), 0.9, 30
    x, z = np.ones(4), np.ones(4)
    init, step = bind(schedule_free, lr=rates, momentum=beta, weight_decay=weight_decay)
    got, state = np.ones(4), init(np.ones(4))
    for t in range(steps):
        y = np.array([(1 - beta) * z[i] + beta * x[i] for i in range(4)])
        np.testing.assert_allclose(got, y, rtol=1e-12)
        gamma = rates(t)
        z = np.array([z[i] - gamma * (sum(A[i, j] * y[j] for j in range(4)) + weight_decay * y[i]) for i in range(4)])
        c = gamma**2 / sum(rates(i) ** 2 for i in range(t + 1))
        x = np.array([(1 - c) * x[i] + c * z[i] for i in range(4)])
        got, state = step(quadratic(A), got, state)
        np.testing.assert_allclose(schedule_free.solution(got, state), x, rtol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_its_ends_are_polyaks_average_and_primal_averaging(momentum: float) -> None:
    """With beta = 0 the gradient is at z, which is sgd, and x its mean; with beta = 1 it is at the mean itself."""
    f, x, z = quadratic(symmetric(4, 0)), np.ones(4), np.ones(4)
    init, step = bind(schedule_free, lr=0.2, momentum=momentum)
    state, zs = init(x), []
    for _ in range(20):
        z, _ = sgd.step(f, z, sgd.init(z), lr=0.2) if momentum == 0.0 else (z - 0.2 * f.grad(x), None)
        zs.append(z)
        x, state = step(f, x, state)
        np.testing.assert_allclose(state.z, z, rtol=1e-12)
        np.testing.assert_allclose(schedule_free.solution(x, state), np.mean(zs, axis=0), rtol=1e-12)


@pytest.mark.parametrize("hyper", [{"lr": 0.0}, {"momentum": 1.1}, {"momentum": -0.1}, {"weight_decay": -1.0}])
def test_bad_ranges_are_named(hyper: dict[str, float]) -> None:
    (name,) = hyper
    with pytest.raises(ValueError, match=name):
        schedule_free.step(quadratic(np.eye(2)), np.ones(2), schedule_free.init(np.ones(2)), **hyper)
