"""Adan, QHAdam, Yogi, and the bias and eps of Nadam and AdaMax, wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.conformance.mutants.adam import adam
from tests.conformance.mutants.mutant import Mutant, Update


def nadam(
    inside: bool = False, hat: bool = False, corrected: tuple[bool, bool] = (True, True), same_mu: bool = False
) -> Update:
    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        t, m, v, product = state or (0, 0 * x, 0 * x, 1.0)
        t += 1
        mu, mu_next = (0.9 * (1 - 0.5 * 0.96 ** (i * 4e-3)) for i in (t, t + 1))
        m, v, product = 0.9 * m + (1 - 0.9) * g, 0.999 * v + (1 - 0.999) * g * g, product * mu
        c_m, c_g = (1 - product * mu_next, 1 - product) if corrected[0] else (1.0, 1.0)
        if same_mu:
            mu_next, c_m = mu, 1 - product
        m_bar = mu_next * m / c_m + (1 - mu) * g / c_g
        c2 = np.float64(1 - 0.999**t) if corrected[1] else 1.0
        if hat:
            return x - lr * m_bar / (np.sqrt(v) + 1e-8) * np.sqrt(c2), (t, m, v, product)
        root = np.sqrt(v / c2 + 1e-8) if inside else np.sqrt(v / c2) + 1e-8
        return x - lr * m_bar / root, (t, m, v, product)

    return update


def adamax(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
    """Correct u as if it were a mean."""
    t, m, u = state or (0, 0 * x, 0 * x)
    t, m, u = t + 1, 0.9 * m + (1 - 0.9) * g, np.maximum(0.999 * u, abs(g) + 1e-8)
    return x - lr * m / (1 - 0.9**t) / (u / (1 - 0.999**t)), (t, m, u)


def qhadam(
    nu1: float = 0.7,
    inside: bool = False,
    hat: bool = False,
    corrected: tuple[bool, bool] = (True, True),
    stale: bool = False,
    beta1: float = 0.995,
    eps: float = 1e-8,
    lag: bool = False,
) -> Update:
    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        t, m, v, waiting = state or (0, 0 * x, 0 * x, 0 * x)
        t, old = t + 1, m
        m, v = beta1 * m + (1 - beta1) * g, 0.999 * v + (1 - 0.999) * g * g
        m_hat = (old if stale else m) / (1 - beta1**t if corrected[0] else 1.0)
        c2 = np.float64(1 - 0.999**t) if corrected[1] else 1.0
        d = np.sqrt(v / c2 + eps) if inside else np.sqrt(v / c2) + (eps / np.sqrt(c2) if hat else eps)
        now = lr * ((1 - nu1) * g + nu1 * m_hat) / d
        return x - (waiting if lag else now), (t, m, v, now)

    return update


def yogi(
    inside: bool = False,
    start: float | None = None,
    sign: float = 1.0,
    corrected: tuple[bool, bool] = (False, False),
    stale: bool = False,
    root: bool = True,
    eps: float = 1e-3,
    beta1: float = 0.9,
) -> Update:
    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        t, m, v = state or (0, 0 * x + (start or 0.0), 0 * x + (start or 0.0))
        t, m, old = t + 1, beta1 * m + (1 - beta1) * g, v
        v = g * g if t == 1 and start is None else v - sign * (1 - 0.999) * np.sign(v - g * g) * g * g
        m_hat = m / (1 - beta1**t) if corrected[0] else m
        v_hat = (old if stale else v) / (1 - 0.999**t if corrected[1] else 1.0)
        d = np.sqrt(v_hat + eps) if inside else (np.sqrt(v_hat) if root else v_hat) + eps
        return x - lr * m_hat / d, (t, m, v)

    return update


def adan(
    betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
    weight: float | None = None,
    inside: bool = False,
    ahead: bool = True,
    from_0: bool = False,
    corrected: tuple[bool, bool, bool] | None = None,
    l2: float = 0.0,
    decoupled: float = 0.0,
    times_lr: bool = True,
    eps: float = 1e-8,
    stale: bool = False,
    of_v: bool = True,
) -> Update:
    beta1, beta2, beta3 = betas
    weight = beta2 if weight is None else weight

    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        g = g + l2 * x
        t, m, v, n, last = state or (0, 0 * x, 0 * x, 0 * x, 0 * g if from_0 else g)
        t, d, old = t + 1, g - last, n
        squared = (g + weight * d if ahead else g) ** 2
        if t == 1 and corrected is None:
            m, n = g, squared
        else:
            m, n = beta1 * m + (1 - beta1) * g, beta3 * n + (1 - beta3) * squared
        v = beta2 * v + (1 - beta2) * d
        c = [1 - b**t if on else 1.0 for b, on in zip(betas, corrected or (False,) * 3, strict=True)]
        used = (old if stale else n) / c[2]
        u = (m / c[0] + (weight * v / c[1] if of_v else 0.0)) / (np.sqrt(used + eps) if inside else np.sqrt(used) + eps)
        return (x - lr * u) / (1 + (lr if times_lr else 1.0) * decoupled), (t, m, v, n, g)

    return update


TORCH = {"dialect": "torch"}
OPTAX = {"dialect": "optax"}
DECAY = {"weight_decay": 0.1}
CORRECTED = {"bias_correction": True}
ALL = (True, True, True)

RIGHT: dict[str, tuple[Update, dict[str, Any]]] = {
    "nadam": (nadam(), TORCH),
    "qhadam": (qhadam(), {}),
    "yogi": (yogi(), {}),
    "yogi of optax": (yogi(start=1e-6, corrected=(True, True)), OPTAX),
    "adan": (adan(), {}),
    "adan corrected": (adan(corrected=ALL), CORRECTED),
    "adan with decay": (adan(decoupled=0.1), DECAY),
}

MUTANTS = {
    "Nadam: eps inside": Mutant(nadam(inside=True), "nadam", ("eps inside the root",), TORCH),
    "Nadam: eps hat": Mutant(nadam(hat=True), "nadam", ("eps beside the uncorrected root",), TORCH),
    "Nadam: v uncorrected": Mutant(
        nadam(corrected=(True, False)), "nadam", ("bias correction of the second moment missing",), TORCH
    ),
    "Nadam: m uncorrected": Mutant(
        nadam(corrected=(False, True)), "nadam", ("bias correction of the first moment missing",), TORCH
    ),
    "AdaMax: u corrected": Mutant(adamax, "adamax", ("bias correction of the second moment added",), TORCH),
    "QHAdam: eps inside": Mutant(qhadam(inside=True), "qhadam", ("eps inside the root",)),
    "QHAdam: eps hat": Mutant(qhadam(hat=True), "qhadam", ("eps beside the uncorrected root",)),
    "QHAdam: v uncorrected": Mutant(
        qhadam(corrected=(True, False)), "qhadam", ("bias correction of the second moment missing",)
    ),
    "QHAdam: m uncorrected": Mutant(
        qhadam(corrected=(False, True)), "qhadam", ("bias correction of the first moment missing",)
    ),
    "QHAdam: nu1 for 1 - nu1": Mutant(qhadam(0.3), "qhadam", ("nu1=0.3",)),
    "QHAdam: old m": Mutant(qhadam(stale=True), "qhadam", ("the first moment of the step before",)),
    "QHAdam: beta1 0.9, eps inside": Mutant(
        qhadam(beta1=0.9, inside=True), "qhadam", ("eps inside the root", "beta1=0.9")
    ),
    "Yogi: eps inside": Mutant(yogi(inside=True), "yogi", ("eps inside the root",)),
    "Yogi: sign": Mutant(yogi(sign=-1.0), "yogi", ("the sign of v - g^2 turned",)),
    "Yogi: Adam's v": Mutant(adam(eps=1e-3), "yogi", ("the rule of adam",), {**OPTAX, "m0": 0.0, "v0": 0.0}),
    "Yogi: corrected": Mutant(yogi(corrected=(True, True)), "yogi", ("bias_correction=True",)),
    "Yogi: m uncorrected": Mutant(
        yogi(start=1e-6, corrected=(False, True)), "yogi", ("bias correction of the first moment missing",), OPTAX
    ),
    "Yogi: old v": Mutant(
        yogi(start=1e-6, corrected=(True, True), stale=True), "yogi", ("the second moment of the step before",), OPTAX
    ),
    "Yogi: no root": Mutant(yogi(root=False), "yogi", ("no square root",)),
    "Adan: eps inside": Mutant(adan(inside=True), "adan", ("eps inside the root",)),
    "Adan: n of g": Mutant(adan(ahead=False), "adan", ("g^2 in place of (g + beta2 d)^2",)),
    "Adan: optax' weight": Mutant(adan(weight=1 - 0.92), "adan", ("difference_weight='1 - beta2'",)),
    "Adan: the paper's betas": Mutant(
        adan((1 - 0.98, 1 - 0.92, 1 - 0.99)), "adan", ("1 - beta in place of every beta",)
    ),
    "Adan: first difference": Mutant(adan(from_0=True), "adan", ("the first difference taken from 0",)),
    "Adan: n uncorrected": Mutant(
        adan(corrected=(True, True, False)), "adan", ("bias correction of the second moment missing",), CORRECTED
    ),
    "Adan: m and v uncorrected": Mutant(
        adan(corrected=(False, False, True)), "adan", ("bias correction of the first moment missing",), CORRECTED
    ),
    "Adan: L2": Mutant(adan(l2=0.1), "adan", ("L2 in place of the decay",), DECAY),
    "Adan: eps 1e-6": Mutant(adan(eps=1e-6), "adan", ("eps=1e-06",)),
    "Adan: old n": Mutant(
        adan(corrected=ALL, stale=True), "adan", ("the second moment of the step before",), CORRECTED
    ),
    "Adan: m alone": Mutant(adan(of_v=False), "adan", ()),
    "Adan: corrected": Mutant(adan(corrected=ALL), "adan", ("bias_correction=True",)),
    "Adan: eps inside, corrected": Mutant(
        adan(inside=True, corrected=ALL), "adan", ("eps inside the root", "bias_correction=True")
    ),
    "Nadam: one mu": Mutant(nadam(same_mu=True), "nadam", (), TORCH),
    "QHAdam: eps 1e-6": Mutant(qhadam(eps=1e-6), "qhadam", ("eps=1e-06",)),
    "QHAdam: lags": Mutant(qhadam(lag=True), "qhadam", ("the update lagging one step",)),
    "QHAdam: Adam": Mutant(qhadam(1.0), "qhadam", ("nu1=1.0",)),
    "QHAdam: eps inside, v uncorrected": Mutant(
        qhadam(inside=True, corrected=(True, False)),
        "qhadam",
        ("eps inside the root", "bias correction of the second moment missing"),
    ),
    "QHAdam: lags, eps inside": Mutant(
        qhadam(lag=True, inside=True), "qhadam", ("the update lagging one step", "eps inside the root")
    ),
    "Yogi: v from 0": Mutant(yogi(start=0.0), "yogi", ("v starting at 0",)),
    "Yogi: eps 1e-8": Mutant(yogi(eps=1e-8), "yogi", ("eps=1e-08",)),
    "Yogi: v corrected": Mutant(yogi(corrected=(False, True)), "yogi", ("bias correction of the second moment added",)),
    "Yogi: m corrected": Mutant(yogi(corrected=(True, False)), "yogi", ("bias correction of the first moment added",)),
    "Yogi: eps inside, beta1 0.95": Mutant(
        yogi(inside=True, beta1=0.95), "yogi", ("eps inside the root", "beta1=0.95")
    ),
    "Adan: decay not times lr": Mutant(adan(decoupled=0.1, times_lr=False), "adan", ("decay not times lr",), DECAY),
}
