"""Mistakes in Adafactor, Shampoo, SOAP and Muon, whose updates are written again from what the method computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from backends.arrays import Array
from refopt.conformance.mistakes.call import Call, Rule
from refopt.curvature.modes import mode_products

# ------------------------------------------------------------------------------------------------------------ Adafactor


def factored(row: Array, col: Array) -> Array:
    """Return the second moment of a matrix, as it should be."""
    v: Array = row / np.mean(row, axis=-2, keepdims=True) * col
    return v


def adafactor(v: Callable[[Array, Array], Array] = factored, *, in_proportion: bool = True) -> Rule:
    """Return the rule with v(row, col) for a matrix, and with steps of rho u where they are not in proportion to w."""

    def rule(call: Call) -> tuple[Array, Any]:
        layout, hyper, rms = call.hyper["layout"], call.hyper, call.method.rms
        _, state = call()
        moved, g = {}, layout.split(call.objective.grad(call.x))
        for name, w in layout.split(call.x).items():
            u = g[name] / np.sqrt(v(state.row[name], state.col[name]) if name in state.row else state.v[name])
            u = u / max(1.0, rms(u) / hyper["clip"])
            rho = min(hyper["lr"], state.k**-0.5) if hyper["relative_step"] else hyper["lr"]
            size = max(hyper["eps2"], rms(w)) if in_proportion else 1.0
            moved[name] = (1 - hyper["lr"] * hyper["weight_decay"]) * w - rho * size * u
        return layout.join(moved), state

    return rule


def beta2_stays(beta2: float) -> Rule:
    """Return the rule in which 1 - t^-power is `beta2` throughout."""

    def rule(call: Call) -> tuple[Array, Any]:
        x, state = call(state=call.state._replace(k=1), power=-math.log2(1 - beta2))
        return x, state._replace(k=call.state.k + 1)

    return rule


ADAFACTOR: dict[str, Rule] = {
    "steps not in proportion to w": adafactor(in_proportion=False),
    "row col not divided by its mean": adafactor(lambda row, col: row * col),
    "the geometric mean of row and col": adafactor(lambda row, col: np.sqrt(row * col)),
    **{f"beta2 = {beta2} throughout": beta2_stays(beta2) for beta2 in (0.9, 0.99, 0.999)},
}

# -------------------------------------------------------------------------------------------------------------- Shampoo


def exponents(p: int) -> Rule:
    """Return the rule that takes the same roots for parts of every order."""
    return lambda call: call(p=p)


def shampoo_half_p(call: Call) -> tuple[Array, Any]:
    """Take the roots of p = k, the order of the part, in place of 2 k."""
    layout = call.hyper["layout"]
    of_order = {k: call(p=k) for k in {len(shape) for shape in layout.shapes.values()}}
    of_part = {name: of_order[len(shape)] for name, shape in layout.shapes.items()}
    x = layout.join({name: layout.split(x)[name] for name, (x, _) in of_part.items()})
    m = layout.join({name: layout.split(state.m)[name] for name, (_, state) in of_part.items()})
    _, state = next(iter(of_order.values()))
    P = {key: of_part[key.split("/")[0]][1].P[key] for key in state.P}
    return x, state._replace(m=m, P=P)


def axis_alone(axis: int) -> Rule:
    """Return the rule that multiplies a matrix by the root of one of its axes only."""

    def rule(call: Call) -> tuple[Array, Any]:
        layout = call.hyper["layout"]
        _, state = call()
        U = {}
        for name, G in layout.split(call.objective.grad(call.x)).items():
            P = state.P[f"{name}/0"]
            U[name] = mode_products(G, [P_i if i == axis or len(P) == 1 else None for i, P_i in enumerate(P)])
        m = call.hyper["momentum"] * call.state.m + layout.join(U)
        return call.x - call.hyper["lr"] * (m + call.decay), state._replace(m=m)

    return rule


SHAMPOO: dict[str, Rule] = {
    "exponents -1 / k in place of -1 / (2 k)": shampoo_half_p,
    **{f"exponents -1 / {p} for every part": exponents(p) for p in (1, 2, 3, 4)},
    "the root of the first axis alone": axis_alone(0),
    "the root of the last axis alone": axis_alone(1),
}

# ----------------------------------------------------------------------------------------------------------------- SOAP


def mean_left_behind(call: Call) -> tuple[Array, Any]:
    """Keep M rotated, and do not rotate it on when the basis changes."""
    layout = call.hyper["layout"]
    x, state = call()
    if call.state.k == 0 or state.Q is call.state.Q:
        return x, state
    M = layout.split(state.M)
    for name, Q in call.state.Q.items():
        pairs = zip(Q, state.Q[name], strict=True)
        M[name] = mode_products(M[name], [None if old is None else old @ new.T for old, new in pairs])
    return x, state._replace(M=layout.join(M))


SOAP: dict[str, Rule] = {"M not rotated on with the basis": mean_left_behind}

# ----------------------------------------------------------------------------------------------------------------- Muon


def orthogonalised(direction: Callable[[Call, Array], Array]) -> Rule:
    """Return the rule that moves each matrix along direction(call, U)."""

    def rule(call: Call) -> tuple[Array, Any]:
        layout, beta, t = call.hyper["layout"], call.hyper["momentum"], call.state.k + 1
        nesterov = call.hyper["nesterov"]
        c_B, c_G = (1 - beta ** (t + nesterov), 1 - beta**t) if call.hyper["bias_correction"] else (1.0, 1.0)
        _, state = call()
        U, _ = call.method.rule(call.state.B, call.objective.grad(call.x), beta, c_B, c_G, nesterov)
        parts = {name: direction(call, part) for name, part in layout.split(U).items()}
        return call.x - call.hyper["lr"] * (layout.join(parts) + call.decay), state

    return rule


def polynomial(
    coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
    scale: Callable[[Call, int, int], float] = lambda call, d_in, d_out: call.method.scale_of(
        call.hyper["scale"], d_in, d_out
    ),
    norm: Callable[[Array], Any] = np.linalg.norm,
    turned: bool = False,
) -> Rule:
    """Return the rule with other coefficients, scale or norm, or that leaves a tall matrix transposed."""
    a, b, c = coefficients

    def direction(call: Call, U: Array) -> Array:
        eps = call.hyper["eps"]
        X = U / (norm(U) + eps if call.hyper["eps_placement"] == "added" else max(norm(U), eps))
        for _ in range(call.hyper["ns_steps"]):
            A = X @ X.T
            X = a * X + (b * A + c * (A @ A)) @ X
        if turned and U.shape[0] > U.shape[1]:
            X = X.T.reshape(U.shape)
        return scale(call, *U.shape) * X

    return orthogonalised(direction)


MUON: dict[str, Rule] = {
    "coefficients (1.5, -0.5, 0)": polynomial((1.5, -0.5, 0.0)),
    "coefficients (2, -1.5, 0.5)": polynomial((2.0, -1.5, 0.5)),
    "coefficients (15/8, -5/4, 3/8)": polynomial((15 / 8, -5 / 4, 3 / 8)),
    "coefficients b and c swapped": polynomial((3.4445, 2.0315, -4.7750)),
    "no scale": polynomial(scale=lambda call, d_in, d_out: 1.0),
    "the scale of the transposed matrix": polynomial(
        scale=lambda call, d_in, d_out: call.method.scale_of(call.hyper["scale"], d_out, d_in)
    ),
    "the scale not under its root": polynomial(
        scale=lambda call, d_in, d_out: call.method.scale_of(call.hyper["scale"], d_in, d_out) ** 2
    ),
    "the spectral norm in place of Frobenius'": polynomial(norm=lambda U: np.linalg.norm(U, 2)),
    "no division by the norm": polynomial(norm=lambda U: 1.0),
    "tall matrices not transposed back": polynomial(turned=True),
}
