"""Adam and its kin, wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.conformance.mutants.mutant import Mutant, Update


def adam(
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    place: str = "outside",
    l2: float = 0.0,
    decoupled: float = 0.0,
    decay_times_lr: bool = True,
    decay_after: bool = False,
    t_of: Callable[[int], int] = lambda t: t,
    correct: tuple[bool, bool] = (True, True),
    lag: bool = False,
    stale: tuple[bool, bool] = (False, False),
    maximum: str = "",
    root: bool = True,
    sign: float = 1.0,
    in_place: bool = False,
    dtype: Any = None,
    surprise: str = "",
) -> Update:
    """Algorithm 1 of the paper, line by line, with room for mistakes."""

    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        k, m, v, v_max, waiting = state or (0, *[0 * x] * 4)
        k, m_old, v_old = k + 1, m, v
        t = t_of(k)
        if in_place:
            g += l2 * x
        else:
            g = sign * g + l2 * x
        m = beta1 * m + (1 - beta1) * g
        squared = {"": g, "new m": g - m, "old m": g - m_old}[surprise]
        v = beta2 * v + (1 - beta2) * squared * squared
        if dtype is not None:
            m, v = (a.astype(dtype).astype(x.dtype) for a in (m, v))
        c1 = np.float64(1 - beta1**t) if correct[0] else 1.0
        c2 = np.float64(1 - beta2**t) if correct[1] else 1.0
        v_used = v_old if stale[1] else v
        if maximum == "raw":
            v_used = v_max = np.maximum(v_max, v)
        v_hat = v_used / c2
        if maximum == "corrected":
            v_hat = v_max = np.maximum(v_max, v_hat)
        m_hat = (m_old if stale[0] else m) / c1
        if place == "inside":
            d = m_hat / np.sqrt(v_hat + eps)
        elif place == "hat":
            d = np.sqrt(c2) * m_hat / (np.sqrt(v_used) + eps)
        elif place == "correction outside":
            d = m_hat / (np.sqrt(v_used) / c2 + eps)
        else:
            d = m_hat / ((np.sqrt(v_hat) if root else v_hat) + eps)
        now, waiting = (waiting, lr * d) if lag else (lr * d, waiting)
        decay = decoupled * (lr if decay_times_lr else 1.0)
        x = (x - now) * (1 - decay) if decay_after else x * (1 - decay) - now
        return x, (k, m, v, v_max, waiting)

    return update


class Keeping:
    """Adam that keeps its state in itself, and so from run to run."""

    def __init__(self, **switches: Any) -> None:
        self.state: Any = None
        self.update = adam(**switches)

    def __call__(self, x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        x, self.state = self.update(x, g, self.state, lr=lr)
        return x, None


def adamax(
    eps: float = 1e-8, outside: bool = False, corrected: bool = True, beta2: float = 0.999, sums: bool = False
) -> Update:
    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        t, m, u = state or (0, 0 * x, 0 * x)
        t, m = t + 1, 0.9 * m + (1 - 0.9) * g
        u = np.maximum(beta2 * u, abs(g) + (0.0 if outside else eps))
        if sums:
            u = beta2 * u + (1 - beta2) * abs(g)
        m_hat = m / (1 - 0.9**t) if corrected else m
        return x - lr * m_hat / (u + (eps if outside else 0.0)), (t, m, u)

    return update


def nadam(psi: float = 4e-3, beta2: float = 0.999, eps: float = 1e-8, corrected: bool = True) -> Update:
    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        t, m, v, product = state or (0, 0 * x, 0 * x, 1.0)
        t += 1
        mu, mu_next = (0.9 * (1 - 0.5 * 0.96 ** (i * psi)) for i in (t, t + 1))
        m, v, product = 0.9 * m + (1 - 0.9) * g, beta2 * v + (1 - beta2) * g * g, product * mu
        m_bar = mu_next * m / (1 - product * mu_next) + (1 - mu) * g / (1 - product)
        v_hat = v / (1 - beta2**t) if corrected else v
        return x - lr * m_bar / (np.sqrt(v_hat) + eps), (t, m, v, product)

    return update


def radam(threshold: float = 5.0, hat: bool = False, waits: bool = False, rectified: bool = True) -> Update:
    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        t, m, v = state or (0, 0 * x, 0 * x)
        t, m, v = t + 1, 0.9 * m + (1 - 0.9) * g, 0.999 * v + (1 - 0.999) * g * g
        m_hat, c2 = m / (1 - 0.9**t), 1 - 0.999**t
        rho_inf = 2 / (1 - 0.999) - 1
        rho = rho_inf - 2 * t * 0.999**t / c2
        if rho <= threshold:
            return (x if waits else x - lr * m_hat), (t, m, v)
        r = np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)) if rectified else 1.0
        root = (np.sqrt(v) + 1e-8) / np.sqrt(c2) if hat else np.sqrt(v / c2) + 1e-8
        return x - lr * r * m_hat / root, (t, m, v)

    return update


L2 = {"weight_decay": 0.1}
DECAY = {"weight_decay": 0.1}
KERAS = {"dialect": "keras"}
TORCH = {"dialect": "torch"}
OPTAX = {"dialect": "optax"}

MUTANTS = {
    "Adam: eps 1e-7": Mutant(adam(eps=1e-7), "adam", ("eps=1e-07",)),
    "Adam: eps 1e-6": Mutant(adam(eps=1e-6), "adam", ("eps=1e-06",)),
    "Adam: eps 1.1e-8": Mutant(adam(eps=1.1e-8), "adam", ("eps=1.1e-08",)),
    "Adam: no eps": Mutant(adam(eps=1e-16), "adam", ("eps=1e-16",)),
    "Adam: eps hat": Mutant(adam(place="hat"), "adam", ("eps_placement='hat'",)),
    "Adam: eps inside": Mutant(adam(place="inside"), "adam", ("eps inside the root",)),
    "Adam: keras for torch": Mutant(adam(eps=1e-7, place="hat"), "adam", ("dialect='keras'",), TORCH),
    "Adam: eps not hat": Mutant(adam(eps=1e-7), "adam", ("eps_placement='outside'",), KERAS),
    "Adam: beta2 0.99": Mutant(adam(beta2=0.99), "adam", ("beta2=0.99",)),
    "Adam: beta2 0.9991": Mutant(adam(beta2=0.9991), "adam", ("beta2=0.9991",)),
    "Adam: beta1 0.95": Mutant(adam(beta1=0.95), "adam", ("beta1=0.95",)),
    "Adam: betas swapped": Mutant(adam(0.999, 0.9), "adam", ("beta1 and beta2 swapped",)),
    "Adam: beta for 1 - beta": Mutant(adam(1 - 0.9, 1 - 0.999), "adam", ("1 - beta in place of every beta",)),
    "Adam: uncorrected": Mutant(adam(correct=(False, False)), "adam", ("bias correction missing",)),
    "Adam: m uncorrected": Mutant(
        adam(correct=(False, True)), "adam", ("bias correction of the first moment missing",)
    ),
    "Adam: v uncorrected": Mutant(
        adam(correct=(True, False)), "adam", ("bias correction of the second moment missing",)
    ),
    "Adam: correction outside the root": Mutant(
        adam(place="correction outside"), "adam", ("bias correction of the second moment outside its root",)
    ),
    "Adam: t from 2": Mutant(adam(t_of=lambda t: t + 1), "adam", ("t starting at 2",)),
    "Adam: t from 0": Mutant(adam(t_of=lambda t: t - 1), "adam", ("t starting at 0",)),
    "Adam: t late": Mutant(adam(t_of=lambda t: max(t - 1, 1)), "adam", ("t lagging one step",)),
    "Adam: t twice": Mutant(adam(t_of=lambda t: 2 * t), "adam", ("t counted twice a step",)),
    "Adam: t stays": Mutant(adam(t_of=lambda t: 1), "adam", ("t staying at 1",)),
    "Adam: lags": Mutant(adam(lag=True), "adam", ("the update lagging one step",)),
    "Adam: old m": Mutant(adam(stale=(True, False)), "adam", ("the first moment of the step before",)),
    "Adam: old v": Mutant(adam(stale=(False, True)), "adam", ("the second moment of the step before",)),
    "Adam: no root": Mutant(adam(root=False), "adam", ("no square root",)),
    "Adam: ascends": Mutant(adam(sign=-1.0), "adam", ("the gradient's sign turned",)),
    "Adam: decoupled for L2": Mutant(adam(decoupled=0.1), "adam", ("decoupled decay",), L2),
    "Adam: decay forgotten": Mutant(adam(), "adam", ("weight_decay=0.0",), L2),
    "Adam: decay twice": Mutant(adam(l2=0.2), "adam", ("weight_decay=0.2",), L2),
    "Adam: decays": Mutant(adam(l2=0.01), "adam", ("weight_decay=0.01",)),
    "Adam: AMSGrad": Mutant(adam(maximum="raw"), "adam", ("the rule of amsgrad",)),
    "Adam: AMSGrad of v_hat": Mutant(adam(maximum="corrected"), "adam", ("the rule of amsgrad", "correction='before'")),
    "Adam: AdaBelief's v": Mutant(adam(surprise="new m"), "adam", ("the rule of adabelief", "eps_root=0.0")),
    "Adam: float32 moments": Mutant(adam(dtype=np.float32), "adam", ("float32 accumulation",)),
    "Adam: writes g": Mutant(adam(l2=0.1, in_place=True), "adam", ("the gradient changed in place",), L2),
    "Adam: writes g, eps 1e-7": Mutant(
        adam(l2=0.1, in_place=True, eps=1e-7), "adam", ("the gradient changed in place", "eps=1e-07"), L2
    ),
    "Adam: float32 moments, eps 1e-7": Mutant(
        adam(dtype=np.float32, eps=1e-7), "adam", ("float32 accumulation", "eps=1e-07")
    ),
    "Adam: float32 moments, eps inside": Mutant(
        adam(dtype=np.float32, place="inside"), "adam", ("float32 accumulation", "eps inside the root")
    ),
    "Adam: eps inside, v uncorrected": Mutant(
        adam(place="inside", correct=(True, False)),
        "adam",
        ("eps inside the root", "bias correction of the second moment missing"),
    ),
    "Adam: lags, eps inside": Mutant(
        adam(lag=True, place="inside"), "adam", ("eps inside the root", "the update lagging one step")
    ),
    "Adam: keeps its state": Mutant(Keeping(), "adam", ("state not reset between runs",)),
    "Adam: keeps its state, eps 1e-7": Mutant(Keeping(eps=1e-7), "adam", ("state not reset between runs", "eps=1e-07")),
    "Adam: keeps its state, beta2 0.99, eps hat": Mutant(
        Keeping(beta2=0.99, place="hat"),
        "adam",
        ("state not reset between runs", "eps_placement='hat'", "beta2=0.99"),
    ),
    "Adam: beta2 0.99, eps 1e-6": Mutant(adam(beta2=0.99, eps=1e-6), "adam", ("eps=1e-06", "beta2=0.99")),
    "Adam: t from 2, eps hat": Mutant(
        adam(t_of=lambda t: t + 1, place="hat"), "adam", ("eps_placement='hat'", "t starting at 2")
    ),
    "Adam: lags, uncorrected": Mutant(
        adam(lag=True, correct=(False, False)), "adam", ("the update lagging one step", "bias correction missing")
    ),
    "AdamW: L2": Mutant(adam(l2=0.1), "adamw", ("L2 in place of the decay",), DECAY),
    "AdamW: decay not times lr": Mutant(
        adam(decoupled=0.1, decay_times_lr=False), "adamw", ("decay_times_lr=False",), DECAY
    ),
    "AdamW: decay times lr": Mutant(
        adam(decoupled=0.1), "adamw", ("decay_times_lr=True",), {**DECAY, "dialect": "paper"}
    ),
    "AdamW: decays the new x": Mutant(adam(decoupled=0.1, decay_after=True), "adamw", ("decay of the new x",), DECAY),
    "AdamW: decay forgotten": Mutant(adam(), "adamw", ("weight_decay=0.0",), DECAY),
    "AdamW: decay of optax": Mutant(adam(decoupled=1e-4), "adamw", ("weight_decay=0.0001",), TORCH),
    "AdamW: uncorrected": Mutant(
        adam(decoupled=0.1, correct=(False, False)), "adamw", ("bias correction missing",), DECAY
    ),
    "AdamW: v uncorrected": Mutant(
        adam(decoupled=0.1, correct=(True, False)), "adamw", ("bias correction of the second moment missing",), DECAY
    ),
    "AdamW: L2, eps 1e-7": Mutant(adam(l2=0.1, eps=1e-7), "adamw", ("L2 in place of the decay", "eps=1e-07"), DECAY),
    "AMSGrad: maximum of v_hat": Mutant(adam(maximum="corrected"), "amsgrad", ("correction='before'",), TORCH),
    "AMSGrad: maximum of v": Mutant(adam(maximum="raw"), "amsgrad", ("correction='after'",), OPTAX),
    "AMSGrad: no maximum": Mutant(adam(), "amsgrad", ("v_max not kept between steps",), TORCH),
    "AMSGrad: uncorrected": Mutant(
        adam(maximum="raw", correct=(False, False)), "amsgrad", ("correction='none'",), TORCH
    ),
    "AdaMax: eps outside": Mutant(adamax(outside=True), "adamax", ("eps_placement='outside'",), TORCH),
    "AdaMax: uncorrected": Mutant(adamax(corrected=False), "adamax", ("bias correction missing",), TORCH),
    "AdaMax: beta2 0.99": Mutant(adamax(beta2=0.99), "adamax", ("beta2=0.99",), TORCH),
    "AdaMax: eps 1e-7 outside": Mutant(adamax(1e-7, outside=True), "adamax", ("dialect='keras'",), TORCH),
    "AdaMax: mean": Mutant(adamax(sums=True), "adamax", (), TORCH),
    "Nadam: psi 1": Mutant(nadam(1.0), "nadam", ("psi=1.0",), TORCH),
    "Nadam: constant mu": Mutant(nadam(np.inf), "nadam", ("psi=inf",), TORCH),
    "Nadam: Adam": Mutant(adam(), "nadam", ("the rule of adam",), TORCH),
    "Nadam: beta2 0.9": Mutant(nadam(beta2=0.9), "nadam", ("beta2=0.9",), TORCH),
    "RAdam: threshold 4": Mutant(radam(4.0), "radam", ("threshold=4.0",), OPTAX),
    "RAdam: eps hat": Mutant(radam(hat=True), "radam", ("eps_placement='hat'",), OPTAX),
    "RAdam: never rectified": Mutant(adam(), "radam", ("the rule of adam",), OPTAX),
    "AdaBelief: m of before": Mutant(
        adam(surprise="old m"), "adabelief", ("m of the step before in s",), {"eps_root": 0.0}
    ),
    "AdaBelief: Adam": Mutant(adam(), "adabelief", ("the rule of adam",), {"eps_root": 0.0}),
    "AdaBelief: eps 1e-7": Mutant(adam(surprise="new m", eps=1e-7), "adabelief", ("eps=1e-07",), {"eps_root": 0.0}),
    "AdaBelief: v uncorrected": Mutant(
        adam(surprise="new m", correct=(True, False)),
        "adabelief",
        ("bias correction of the second moment missing",),
        {"eps_root": 0.0},
    ),
}
