"""Methods that ask for more than gradients, wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from backends import random
from refopt.first_order import nesterov
from refopt.method import Wrapped
from tests.conformance.mutants.mutant import Mutant, Update

Probe = Callable[[int, Any, str], Any]


def signs(k: int, x: Any, purpose: str) -> Any:
    return random.rademacher(len(x), seed=0, k=k, purpose=purpose, like=x)


def normal(k: int, x: Any, purpose: str) -> Any:
    return random.normal(len(x), seed=0, k=k, purpose=purpose, like=x)


def ones(k: int, x: Any, purpose: str) -> Any:
    return np.ones(len(x))


def adahessian(
    probe: Probe = signs,
    beta2: float = 0.999,
    eps: float = 1e-4,
    power: float = 1.0,
    inside: bool = False,
    unsquared: bool = False,
    corrected: tuple[bool, bool] = (True, True),
    stale: bool = False,
) -> Update:
    def update(x: Any, f: Any, state: Any, lr: float) -> tuple[Any, Any]:
        t, m, v = state or (0, 0 * x, 0 * x)
        z, v_old = probe(t, x, "adahessian probe"), v
        D = f.hvp(x, z) * z
        t, m = t + 1, 0.9 * m + 0.1 * f.grad(x)
        v = beta2 * v + (1 - beta2) * (abs(D) if unsquared else D * D)
        m_hat = m / (1 - 0.9**t) if corrected[0] else m
        v_hat = (v_old if stale else v) / (1 - beta2**t if corrected[1] else 1.0)
        d = m_hat / np.sqrt(v_hat + eps) if inside else m_hat / (v_hat ** (power / 2) + eps)
        return x - lr * d, (t, m, v)

    return update


def sophia(
    probe: Probe = normal,
    gamma: float = 0.01,
    beta2: float = 0.99,
    due: Callable[[int], bool] = lambda k: k % 10 == 0,
    absolute: bool = False,
    clipped: bool = True,
    before: bool = False,
) -> Update:
    def update(x: Any, f: Any, state: Any, lr: float) -> tuple[Any, Any]:
        k, m, h = state or (0, 0 * x, 0 * x)
        m, used = 0.96 * m + 0.04 * f.grad(x), h
        if due(k):
            z = probe(k, x, "sophia probe")
            D = z * f.hvp(x, z)
            h = beta2 * h + (1 - beta2) * (abs(D) if absolute else D)
        ratio = m / np.maximum(gamma * (used if before else h), 1e-12)
        return x - lr * (np.clip(ratio, -1, 1) if clipped else ratio), (k + 1, m, h)

    return update


def esgd(
    probe: Probe = normal,
    due: Callable[[int], bool] = lambda k: k % 20 == 0,
    unsquared: bool = False,
    mean: bool = True,
    inside: bool = False,
    first: int = 10,
) -> Update:
    def update(x: Any, f: Any, state: Any, lr: float) -> tuple[Any, Any]:
        k, S, t = state or (0, 0 * x, 0)
        if due(k):
            for _ in range(first if k == 0 else 1):
                Hz = f.hvp(x, probe(t, x, "esgd probe"))
                S, t = S + (abs(Hz) if unsquared else Hz * Hz), t + 1
        D = S / t if mean else S
        return x - lr * f.grad(x) / (np.sqrt(D + 1e-4) if inside else np.sqrt(D) + 1e-4), (k + 1, S, t)

    return update


def svrg(
    sign: float = 1.0, m: int = 100, renew: tuple[bool, bool] = (True, True), full: bool = True, batch: bool = False
) -> Update:
    def update(x: Any, f: Any, state: Any, lr: float) -> tuple[Any, Any]:
        k, s, mu = state or (0, x, 0 * x)
        if k == 0 or (k % m == 0 and renew[0]):
            s = x
        if k == 0 or (k % m == 0 and renew[1]):
            mu = (f if batch else f.full).grad(x)
        x = x - lr * (f.grad(x) - sign * (f.grad(s) - (mu if full else 0.0)))
        return x, (k + 1, s, mu)

    return update


def sag(x: Any, f: Any, y: Any, lr: float) -> tuple[Any, Any]:
    """Take the mean of the newest gradients of all examples seen."""
    y = {**(y or {}), **dict(zip(f.indices.tolist(), f.per_example_grads(x), strict=True))}
    return x - lr * sum(y.values()) / len(y), y


def newton(turned: bool = False, halved: bool = False) -> Update:
    def update(x: Any, f: Any, state: Any) -> tuple[Any, Any]:
        H = np.stack([f.hvp(x, e) for e in np.eye(len(x))])
        step = np.linalg.solve(H, f.grad(x))
        return x + (step if turned else -0.5 * step if halved else -step), None

    return update


class At(NamedTuple):
    k: int
    v: Any


def at_x(f: Any, x: Any, state: At, *, lr: float = 1e-3) -> tuple[Any, At]:
    """Take Nesterov's step with the gradient at x."""
    v = 0.9 * state.v + f.grad(x)
    return x - lr * v, At(state.k + 1, v)


HEAVY = Wrapped("mine", nesterov.SPEC, {}, lambda x: At(0, 0 * x), at_x)

RIGHT = {
    "adahessian": (adahessian(), {}),
    "sophia": (sophia(), {}),
    "esgd": (esgd(), {}),
    "svrg": (svrg(), {}),
    "svrg with another period": (svrg(m=7), {"m": 7}),
    "newton": (newton(), {"dialect": "pure"}),
    "sag": (sag, {}),
}

PURE = {"dialect": "pure"}
SEVEN = {"m": 7}

MUTANTS = {
    "AdaHessian: probe of ones": Mutant(adahessian(ones), "adahessian", ("probes without variance: ones",)),
    "AdaHessian: 0 and 1": Mutant(
        adahessian(lambda k, x, purpose: (signs(k, x, purpose) + 1) / 2),
        "adahessian",
        ("probes of variance 1/4: 0 and 1 in place of signs",),
    ),
    "AdaHessian: normal": Mutant(adahessian(normal), "adahessian", ("normal probes in place of signs",)),
    "AdaHessian: one probe": Mutant(
        adahessian(lambda k, x, purpose: signs(0, x, purpose)), "adahessian", ("the first probe throughout",)
    ),
    "AdaHessian: power 1/2": Mutant(adahessian(power=0.5), "adahessian", ("power=0.5",)),
    "AdaHessian: no root": Mutant(adahessian(power=2.0), "adahessian", ("no square root",)),
    "AdaHessian: |D|": Mutant(adahessian(unsquared=True), "adahessian", ("the absolute value in place of the square",)),
    "AdaHessian: eps inside": Mutant(adahessian(inside=True), "adahessian", ("eps inside the root",)),
    "AdaHessian: eps 1e-8": Mutant(adahessian(eps=1e-8), "adahessian", ("eps=1e-08",)),
    "AdaHessian: beta2 0.99": Mutant(adahessian(beta2=0.99), "adahessian", ("beta2=0.99",)),
    "AdaHessian: uncorrected": Mutant(
        adahessian(corrected=(True, False)), "adahessian", ("bias correction of the second moment missing",)
    ),
    "AdaHessian: m uncorrected": Mutant(
        adahessian(corrected=(False, True)), "adahessian", ("bias correction of the first moment missing",)
    ),
    "AdaHessian: eps 1e-8, beta2 0.99": Mutant(
        adahessian(eps=1e-8, beta2=0.99), "adahessian", ("beta2=0.99", "eps=1e-08")
    ),
    "AdaHessian: ones, eps 1e-8": Mutant(
        adahessian(ones, eps=1e-8), "adahessian", ("eps=1e-08", "probes without variance: ones")
    ),
    "Sophia: signs": Mutant(sophia(signs), "sophia", ("signs in place of normal probes",)),
    "Sophia: uniform": Mutant(
        sophia(lambda k, x, purpose: 2 * random.uniform(len(x), seed=0, k=k, purpose=purpose, like=x) - 1),
        "sophia",
        ("probes of variance 1/3: uniform in [-1, 1)",),
    ),
    "Sophia: |D|": Mutant(sophia(absolute=True), "sophia", ("|z H z| in place of z H z",)),
    "Sophia: gamma 1": Mutant(sophia(gamma=1.0), "sophia", ("gamma=1.0",)),
    "Sophia: no clip": Mutant(sophia(clipped=False), "sophia", ("no clipping",)),
    "Sophia: every 9": Mutant(sophia(due=lambda k: k % 9 == 0), "sophia", ("refresh=9",)),
    "Sophia: a step early": Mutant(sophia(due=lambda k: k == 0 or k % 10 == 9), "sophia", ("refresh a step early",)),
    "Sophia: old curvature": Mutant(sophia(before=True), "sophia", ("the curvature of the step before",)),
    "ESGD: ones": Mutant(esgd(ones), "esgd", ("probes without variance: ones",)),
    "ESGD: |Hz|": Mutant(esgd(unsquared=True), "esgd", ("the absolute value in place of the square",)),
    "ESGD: sum": Mutant(esgd(mean=False), "esgd", ("the sum of squares in place of their mean",)),
    "ESGD: eps inside": Mutant(esgd(inside=True), "esgd", ("eps inside the root",)),
    "ESGD: one product": Mutant(esgd(first=1), "esgd", ("first=1",)),
    "ESGD: a step late": Mutant(esgd(due=lambda k: k == 0 or k % 20 == 1), "esgd", ("refresh a step late",)),
    "SVRG: sign": Mutant(svrg(sign=-1.0), "svrg", ("the correction's sign turned",)),
    "SVRG: stale mu": Mutant(
        svrg(m=7, renew=(True, False)), "svrg", ("the full gradient not renewed with the snapshot",), SEVEN
    ),
    "SVRG: stale mu, m = 100": Mutant(
        svrg(renew=(True, False)), "svrg", ("the full gradient not renewed with the snapshot",)
    ),
    "SVRG: one snapshot": Mutant(svrg(renew=(False, False)), "svrg", ("m never due again",)),
    "SVRG: no mu": Mutant(svrg(full=False), "svrg", ("the full gradient missing",)),
    "SVRG: mu of a batch": Mutant(svrg(m=7, batch=True), "svrg", ("the batch in place of all examples",), SEVEN),
    "SVRG: m = 8": Mutant(svrg(m=8), "svrg", ("m=8",), SEVEN),
    "SAGA: the mean after the step": Mutant(sag, "saga", ("the rule of sag",)),
    "Newton: uphill": Mutant(newton(turned=True), "newton", ("the gradient's sign turned",), PURE),
    "Newton: half a step": Mutant(newton(halved=True), "newton", ("the gradient halved",), PURE),
    "Nesterov: gradient at x": Mutant(HEAVY, "nesterov", ("the gradient taken at x",)),
}
