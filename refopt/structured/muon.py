r"""Muon: momentum orthogonalised by a Newton-Schulz iteration (Jordan et al., 2024).

For each matrix W (d_in, d_out) of x, of gradient G, t = 1, 2, ...:

    B = momentum B + (1 - momentum) G
    U = momentum B + (1 - momentum) G,   or B if not nesterov
    X = U / (|U|_F + eps)
    ns_steps times:   A = X X^T;   X = a X + (b A + c A^2) X           (a, b, c) = (3.4445, -4.7750, 2.0315)
    W = W - lr (scale X + weight_decay W)

    scale = sqrt(max(1, d_out / d_in))        scale="original"
    scale = 0.2 sqrt(max(d_in, d_out))        scale="moonshot"
    scale = sqrt(d_out / d_in)                scale="spectral"

The iteration moves every singular value s of U / |U|_F by a s + b s^3 + c s^5, fast towards 1 but not to it: after five
steps s in [0.01, 1] lies in [0.68, 1.14]. So X is near the polar factor P Q^T of U = P S Q^T: steepest descent in the
spectral norm, and the first step of Shampoo. The products are taken on the shorter side.
A kernel (..., d_in, d_out) of more axes is the matrix (... d_in, d_out); without a `layout` x is one column, and X its
direction. Vectors, scalars of shape (1, 1) too, embeddings and the output layer are not Muon's.
`wrappers.on_matrices(muon, adamw)` gives AdamW the vectors, `wrappers.groups` all three:

    hidden = lambda name, shape: sum(d > 1 for d in shape) >= 2 and name != "dense2.W"
    groups(layout, {"hidden": (hidden, muon, {"lr": 0.02}), "rest": (lambda *part: True, adamw, {"lr": 3e-4})})

Source: K. Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024, kellerjordan.github.io/posts/
muon; J. Liu et al., arXiv:2502.16982 (2025), for "moonshot" and the weight decay.
Cost: 1 gradient, and 2 ns_steps (2 n d + d^3) flops a matrix, d its shorter side. Memory: 1 vector.
As eps -> 0 no step depends on the scale of f.
Differs: torch iterates in bfloat16 whatever the dtype, 1e-2 away from here, and has max(|U|_F, eps),
`eps_placement="clamp"`. Its "original" and "spectral" take its weights for (d_out, d_in): the same. keras keeps B as
momentum B + G: with its eps = 1e-7 that is ours with (1 - momentum) eps. optax corrects both terms of U for their bias,
`bias_correction=True`, B with the factor of step t + 1 as NAdam does: another direction in early steps.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from backends.arrays import Array, namespace
from backends.elementwise import elementwise
from refopt.layout import Layout
from refopt.method import Dialects, LogUniform, Spec
from refopt.objective import MissingPart, Objective
from refopt.status import require

Scale = Literal["original", "moonshot", "spectral"]
EpsPlacement = Literal["added", "clamp"]
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class State(NamedTuple):
    """The momentum after k steps."""

    k: int
    B: Array  # (n,) running mean of g
    info: dict[str, Any] = {}


SPEC = Spec(
    title="Muon",
    source="Jordan et al. 2024; Liu et al. 2025, arXiv:2502.16982",
    needs=("grad",),
    cost="1 gradient, 15 products of a matrix's size",
    gradient_equivalents=(1.0, 1.0),
    memory=1.0,
    search={"lr": LogUniform(1e-4, 1e0)},
)

DIALECTS: Dialects = {
    "paper": {"lr": 0.02},
    "moonshot": {"scale": "moonshot", "weight_decay": 0.1},
    "torch": {"lr": 1e-3, "eps_placement": "clamp", "weight_decay": 0.1},
    "optax": {"eps": 1e-8, "bias_correction": True},
    "keras": {"lr": 1e-3, "eps": 5e-9, "scale": "moonshot", "weight_decay": 4e-3},
}


def init(x: Array) -> State:
    """Return the state before the first step: no momentum."""
    return State(k=0, B=namespace(x).zeros_like(x))


def step(
    objective: Objective,
    x: Array,
    state: State,
    *,
    layout: Layout | None = None,
    lr: float = 0.02,
    momentum: float = 0.95,
    nesterov: bool = True,
    weight_decay: float = 0.0,
    scale: Scale = "original",
    ns_steps: int = 5,
    eps: float = 1e-7,
    eps_placement: EpsPlacement = "added",
    bias_correction: bool = False,
) -> tuple[Array, State]:
    """Take one step, matrix by matrix of `layout`.

    Raises ValueError for lr, weight_decay, ns_steps or eps < 0, momentum outside [0, 1), and an unknown word;
    MissingPart, a TypeError, for a layout with a part that is no matrix.
    """
    require(lr >= 0, "lr must be at least 0", lr)
    require(0 <= momentum < 1, "momentum must be in [0, 1)", momentum)
    require(weight_decay >= 0, "weight_decay must be at least 0", weight_decay)
    require(scale in ("original", "moonshot", "spectral"), "scale must be 'original', 'moonshot' or 'spectral'", scale)
    require(ns_steps >= 0, "ns_steps must be at least 0", ns_steps)
    require(eps >= 0, "eps must be at least 0", eps)
    require(eps_placement in ("added", "clamp"), "eps_placement must be 'added' or 'clamp'", eps_placement)
    layout = layout or Layout({"x": (x.shape[0], 1)})
    for name, shape in layout.shapes.items():
        if len(shape) < 2:
            raise MissingPart(f"muon moves matrices, not part {name!r} of shape {shape}: on_matrices(muon, adamw)")
    xp = namespace(x)
    t = state.k + 1
    c_B, c_G = (1 - momentum ** (t + nesterov), 1 - momentum**t) if bias_correction else (1.0, 1.0)
    U, B = rule(state.B, objective.grad(x), momentum, c_B, c_G, nesterov)
    updates, flops = {}, 0.0
    for name, U_part in layout.split(U).items():
        d_in, d_out = math.prod(U_part.shape[:-1]), U_part.shape[-1]
        X = newton_schulz(xp.reshape(U_part, (d_in, d_out)), steps=ns_steps, eps=eps, eps_placement=eps_placement)
        updates[name] = xp.reshape(scale_of(scale, d_in, d_out) * X, U_part.shape)
        d = min(d_in, d_out)
        flops += 2.0 * ns_steps * (2.0 * d_in * d_out * d + d**3)
    return x - lr * (layout.join(updates) + weight_decay * x), State(t, B, info={"flops": flops})


@elementwise(updates=(None, "B"))
def rule(B: Array, g: Array, momentum: float, c_B: float, c_G: float, nesterov: bool) -> tuple[Array, Array]:
    """Move the momentum and return U with it; `c_B` and `c_G` correct the bias."""
    B = momentum * B + (1 - momentum) * g
    return (momentum * (B / c_B) + (1 - momentum) * (g / c_G) if nesterov else B / c_B), B


def newton_schulz(
    U: Array,
    *,
    coefficients: tuple[float, float, float] = COEFFICIENTS,
    steps: int = 5,
    eps: float = 1e-7,
    eps_placement: EpsPlacement = "added",
) -> Array:
    """Return about P Q^T, shape (d_in, d_out), of a matrix U = P S Q^T; 0 of 0."""
    xp = namespace(U)
    a, b, c = coefficients
    tall = U.shape[0] > U.shape[1]
    X = U.T if tall else U
    norm = xp.linalg.matrix_norm(X)
    norm = norm + eps if eps_placement == "added" else xp.clip(norm, eps, None)
    X = X / xp.where(norm == 0, xp.ones_like(norm), norm)
    for _ in range(steps):
        A = X @ X.T
        X = a * X + (b * A + c * (A @ A)) @ X
    return X.T if tall else X


def scale_of(scale: Scale, d_in: int, d_out: int) -> float:
    """Return the factor of a matrix (d_in, d_out) that a word stands for."""
    if scale == "moonshot":
        return 0.2 * math.sqrt(max(d_in, d_out))
    return math.sqrt(max(1.0, d_out / d_in) if scale == "original" else d_out / d_in)
