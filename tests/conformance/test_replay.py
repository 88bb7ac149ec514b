"""The replay passes right optimizers, whatever their order of operations, and finds the step where wrong ones part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from refopt.conformance import compare
from refopt.conformance.streams import NAMES

Update = Callable[..., tuple[Any, Any]]


def make_adam(
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    l2: float = 0.0,
    decoupled: float = 0.0,
    first_t: int = 1,
    correct_m: bool = True,
    correct_v: bool = True,
    hat: bool = False,
    inside: bool = False,
    swapped: bool = False,
    lag: bool = False,
    largest_v: str = "",
    in_place: bool = False,
    accumulator: Any = None,
    momentum_of_update: bool = False,
) -> Update:
    """Adam by the lines of its Algorithm 1 (refopt orders it otherwise), with room for every usual mistake."""

    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        t, m, v, v_max, waiting = state or (first_t - 1, 0 * x, 0 * x, 0 * x, 0 * x)
        t += 1
        if in_place:
            g += l2 * x
        else:
            g = g + l2 * x
        kept1, kept2 = (1 - beta1, 1 - beta2) if swapped else (beta1, beta2)
        m = m + (1 - kept1) * (g - m)
        v = v + (1 - kept2) * (g * g - v)
        if accumulator is not None:
            m, v = (a.astype(accumulator).astype(x.dtype) for a in (m, v))
        m_hat = m / (1 - kept1**t) if correct_m else m
        v_hat = v / (1 - kept2**t) if correct_v and not hat else v
        if largest_v == "corrected":
            v_hat = v_max = np.maximum(v_max, v_hat)
        if hat:
            d = lr * np.sqrt(1 - kept2**t) * m_hat / (np.sqrt(v) + eps)
        elif inside:
            d = lr * m_hat / np.sqrt(v_hat + eps)
        else:
            d = lr * (m_hat / (np.sqrt(v_hat) + eps))
        now, waiting = (waiting, d) if lag else (d, waiting)
        x = x * (1 - lr * decoupled) - now
        return x, (t, m, v, v_max, waiting)

    return update


def make_heavy_ball(nesterov: bool = False, inside: bool = False, ema: bool = False, dampening: float = 0.0) -> Update:
    def update(x: Any, g: Any, v: Any, lr: float) -> tuple[Any, Any]:
        new = (lr if inside else 1.0) * (0.1 if ema else 1.0) * g
        v = new if v is None else 0.9 * v + (1 - dampening) * new
        d = 0.9 * v + new if nesterov else v
        return x - (1.0 if inside else lr) * d, v

    return update


def make_rmsprop(
    inside: bool = False,
    lr_inside: bool = False,
    momentum: float = 0.0,
    centered: bool = False,
    first_v: float = 0.0,
    summed: bool = False,
    stale: bool = False,
) -> Update:
    """RMSprop with torch's constants, and with `summed` Adagrad."""
    rho, eps = 0.99, 1e-8

    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        v, m, buffer = state or (0 * x + first_v, 0 * x, 0 * x)
        old = v
        v = v + g * g if summed else rho * v + (1 - rho) * g * g
        m = rho * m + (1 - rho) * g
        v_now = old if stale else v
        spread = v_now - m * m if centered else v_now
        d = g / np.sqrt(spread + eps) if inside else g / (np.sqrt(spread) + eps)
        buffer = momentum * buffer + (lr if lr_inside else 1.0) * d
        return x - (1.0 if lr_inside else lr) * buffer, (v, m, buffer)

    return update


def make_lion(late: bool = False, after: bool = False) -> Update:
    def update(x: Any, g: Any, m: Any, lr: float) -> tuple[Any, Any]:
        m = 0 * x if m is None else m
        new = 0.99 * m + 0.01 * g
        x = x - lr * np.sign(0.9 * (new if late else m) + 0.1 * g)
        return x - (lr * 0.1 * x if after else 0.0), new

    return update


def make_rprop(lag: bool = False, forgets: bool = True) -> Update:
    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        delta, last, waiting = state or (0 * x + lr, 0 * x, 0 * x)
        turn = g * last
        delta = np.clip(np.where(turn > 0, 1.2 * delta, np.where(turn < 0, 0.5 * delta, delta)), 1e-6, 50.0)
        g = np.where((turn < 0) & forgets, 0.0, g)
        d = np.sign(g) * delta
        now, waiting = (waiting, d) if lag else (d, waiting)
        return x - now, (delta, g, waiting)

    return update


@pytest.mark.parametrize(
    ("candidate", "method", "options"),
    [
        (make_adam(), "adam", {}),
        (make_adam(hat=True, eps=1e-7), "adam", {"dialect": "keras"}),
        (make_adam(l2=0.1), "adam", {"weight_decay": 0.1}),
        (make_adam(beta1=0.0, beta2=0.5, eps=0.0), "adam", {"beta1": 0.0, "beta2": 0.5, "eps": 0.0}),
        (make_adam(decoupled=0.1), "adamw", {"weight_decay": 0.1}),
        (make_adam(largest_v="corrected"), "amsgrad", {"dialect": "optax"}),
        (make_rmsprop(), "rmsprop", {"dialect": "torch"}),
        (make_rmsprop(centered=True, momentum=0.9), "rmsprop", {"dialect": "torch", "centered": True, "momentum": 0.9}),
        (make_rmsprop(summed=True), "adagrad", {"eps": 1e-8}),
        (make_lion(), "lion", {}),
        (make_rprop(), "rprop", {}),
        (make_heavy_ball(), "heavy_ball", {}),
        (make_heavy_ball(inside=True), "heavy_ball", {"dialect": "keras"}),
        (make_heavy_ball(dampening=0.5), "heavy_ball", {"dampening": 0.5}),
        (make_heavy_ball(nesterov=True), "nesterov", {"dialect": "torch"}),
        (lambda x, g, state, lr: (x + g * -lr, None), "sgd", {}),
    ],
)
def test_a_right_optimizer_in_another_order_raises_no_false_alarm(candidate: Update, method: str, options: Any) -> None:
    comparison = compare(candidate, method, **options)
    assert comparison.agrees, str(comparison)
    assert {d.stream for d in comparison.streams} >= set(NAMES) - {"schedule"}
    assert comparison.largest.relative < 1e-12


def test_the_tolerance_is_of_the_order_of_rounding() -> None:
    for d in compare(make_adam(), "adam").streams:
        assert d.tolerance < (1e-3 if d.stream.endswith("float32") else 2e-12)
    for d in compare(make_heavy_ball(), "heavy_ball").streams:
        assert d.tolerance < (1e-4 if d.stream.endswith("float32") else 2e-13)


class Mutant(NamedTuple):
    """A wrong optimizer, what it should have been, and the step at which it must be found."""

    candidate: Update
    method: str
    step: int
    options: dict[str, Any] = {}


SHOWS_UNDER_A_SCHEDULE = 2  # whose lr changes at the second step

MUTANTS = {
    "eps 1e-7": Mutant(make_adam(eps=1e-7), "adam", 1),
    "eps 1.01e-8": Mutant(make_adam(eps=1.01e-8), "adam", 1),
    "eps hat": Mutant(make_adam(hat=True), "adam", 1),
    "eps inside": Mutant(make_adam(inside=True), "adam", 1),
    "no eps": Mutant(make_adam(eps=0.0), "adam", 1),
    "beta2 .99": Mutant(make_adam(beta2=0.99), "adam", 2),
    "beta2 .9991": Mutant(make_adam(beta2=0.9991), "adam", 2),
    "beta1 .9001": Mutant(make_adam(beta1=0.9001), "adam", 2),
    "betas swapped for their complements": Mutant(make_adam(swapped=True), "adam", 2),
    "no correction": Mutant(make_adam(correct_m=False, correct_v=False), "adam", 1),
    "only m corrected": Mutant(make_adam(correct_v=False), "adam", 1),
    "only v corrected": Mutant(make_adam(correct_m=False), "adam", 1),
    "t one ahead": Mutant(make_adam(first_t=2), "adam", 1),
    "t from 0": Mutant(make_adam(first_t=0), "adam", 1),
    "lag": Mutant(make_adam(lag=True), "adam", 1),
    "v_max": Mutant(make_adam(largest_v="corrected"), "adam", 2),
    "float32 moments": Mutant(make_adam(accumulator=np.float32), "adam", 1),
    "decoupled for L2": Mutant(make_adam(decoupled=0.1), "adam", 1, {"weight_decay": 0.1}),
    "decay forgotten": Mutant(make_adam(), "adam", 1, {"weight_decay": 1e-4}),
    "gradient changed in place": Mutant(make_adam(l2=0.1, in_place=True), "adam", 1, {"weight_decay": 0.1}),
    "lr inside": Mutant(make_heavy_ball(inside=True), "heavy_ball", SHOWS_UNDER_A_SCHEDULE),
    "lr outside": Mutant(make_heavy_ball(), "heavy_ball", SHOWS_UNDER_A_SCHEDULE, {"dialect": "keras"}),
    "Nesterov": Mutant(make_heavy_ball(nesterov=True), "heavy_ball", 1),
    "no Nesterov": Mutant(make_heavy_ball(), "nesterov", 1, {"dialect": "torch"}),
    "average": Mutant(make_heavy_ball(ema=True), "heavy_ball", 1),
    "L2 for decoupled": Mutant(make_adam(l2=0.1), "adamw", 1, {"weight_decay": 0.1}),
    "decay without lr": Mutant(make_adam(decoupled=0.1), "adamw", 1, {"weight_decay": 0.1, "decay_times_lr": False}),
    "maximum of the raw v": Mutant(make_adam(largest_v="corrected"), "amsgrad", 2, {"dialect": "torch"}),
    "root over eps": Mutant(make_rmsprop(inside=True), "rmsprop", 1, {"dialect": "torch"}),
    "v from 1": Mutant(make_rmsprop(first_v=1.0), "rmsprop", 1, {"dialect": "torch"}),
    "v of the step before": Mutant(make_rmsprop(stale=True), "rmsprop", 1, {"dialect": "torch"}),
    "not centred": Mutant(make_rmsprop(), "rmsprop", 1, {"dialect": "torch", "centered": True}),
    "lr inside the buffer": Mutant(
        make_rmsprop(lr_inside=True, momentum=0.9),
        "rmsprop",
        SHOWS_UNDER_A_SCHEDULE,
        {"dialect": "torch", "momentum": 0.9},
    ),
    "sum from 0.1": Mutant(make_rmsprop(summed=True, first_v=0.1), "adagrad", 1, {"eps": 1e-8}),
    "m before the sign": Mutant(make_lion(late=True), "lion", 3),
    "decay of the new x": Mutant(make_lion(after=True), "lion", 1, {"weight_decay": 0.1}),
    "Rprop lags": Mutant(make_rprop(lag=True), "rprop", 1),
    "Rprop remembers": Mutant(make_rprop(forgets=False), "rprop", 2),
    "dampening": Mutant(make_heavy_ball(dampening=0.1), "heavy_ball", 2),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_optimizer_is_found_at_the_step_where_it_parts(name: str) -> None:
    mutant = MUTANTS[name]
    comparison = compare(mutant.candidate, mutant.method, steps=50, **mutant.options)
    assert not comparison.agrees
    assert comparison.first is not None
    assert comparison.first.step == mutant.step


def test_the_spread_is_measured_at_the_lower_end_of_a_range_too() -> None:
    """RAdam's threshold must be at least 4, so that it cannot be lowered."""
    comparison = compare(make_adam(), "radam", dialect="torch", steps=10, streams=("scales",))
    assert not comparison.agrees
