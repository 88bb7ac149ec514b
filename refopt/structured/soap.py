r"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., 2025).

For each part W of x, of gradient G and order k (a matrix has k = 2), t = 1, 2, ...; ' is the rotation into the basis,
G' = G x_1 Q_1^T ... x_k Q_k^T, of a matrix Q_1^T G Q_2:

    M = beta1 M + (1 - beta1) G
    V = beta2 V + (1 - beta2) G'^2
    N' = M'_hat / (sqrt(V_hat) + eps),           M'_hat = M' / (1 - beta1^t),  V_hat = V / (1 - beta2^t)
    W = W - lr (N + weight_decay W)              N = N' x_1 Q_1 ... x_k Q_k
    L_i = beta2 L_i + (1 - beta2) G_(i) G_(i)^T
    every `interval` steps:   Q_i = qr(L_i Q_i).Q               one power iteration

The columns of Q_i, and V with them, are first put in the order of falling diag(Q_i^T L_i Q_i). The first gradient makes
L_i and Q_i = eigenvectors of L_i, and no update, so that no gradient is seen in a basis of its own; `skip_first=False`
uses it. While L_i is singular, as after one gradient of low rank, rounding chooses the basis of its null space.
Axes longer than `max_dim`, and vectors unless `precondition_1d`, keep Q_i = I; without a `layout` x is one vector. With
all Q_i = I this is Adam (AdamW).
Source: N. Vyas et al., ICLR 2025, arXiv:2409.11321.
Cost: 1 gradient, 8 n d flops for each axis of length d of a part of n entries; at an interval 5 d^3 by QR, 9 d^3 by
eigendecomposition, `basis="eigh"`. Memory: 2 vectors and 2 d^2 an axis.
Differs: the authors' code has eps beside the uncorrected root, `eps_placement="hat"`, and applies the weight decay to W
after the step, O(lr^2) away. Its later versions keep M rotated and rotate it on when Q_i changes: the same. Ports that
forget to permute V with the columns, or to rotate M, part from it at the first interval.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, TypeAlias

from backends.arrays import Array, device, namespace
from backends.elementwise import elementwise
from refopt.curvature.modes import gram, mode_products
from refopt.layout import Layout
from refopt.method import Dialects, LogUniform, Spec
from refopt.objective import Objective
from refopt.status import require

Modes: TypeAlias = dict[str, tuple[Array | None, ...]]
"""For each part one matrix (d, d) an axis of length d; None for an axis that is not rotated."""

Basis = Literal["qr", "eigh"]


class State(NamedTuple):
    """The moments, statistics and bases after k steps."""

    k: int
    M: Array  # (n,) running mean of g
    V: Array  # (n,) running mean of g'^2, in the basis
    L: Modes
    Q: Modes
    info: dict[str, Any] = {}


SPEC = Spec(
    title="SOAP",
    source="Vyas et al. 2025, arXiv:2409.11321",
    needs=("grad",),
    cost="1 gradient, 4 products with a matrix for each axis; QR every 10 steps",
    gradient_equivalents=(0.0, 1.0),  # 0 in the second step, at the x of the first
    memory=2.0,
    search={"lr": LogUniform(1e-5, 1e0)},
    memory_note="2 vectors, and 2 d^2 numbers for each axis of length d of a layout",
)

DIALECTS: Dialects = {
    "paper": {"lr": 3e-3, "skip_first": False},
    "official": {"lr": 3e-3, "weight_decay": 0.01, "eps_placement": "hat"},
}


def init(x: Array, *, layout: Layout | None = None, max_dim: int = 10_000, precondition_1d: bool = False) -> State:
    """Return the state before the first step: moments and statistics zero. Raises ValueError for max_dim < 0."""
    require(max_dim >= 0, "max_dim must be at least 0", max_dim)
    xp = namespace(x)
    L, Q = {}, {}
    for name, shape in (layout or Layout({"x": x.shape})).shapes.items():
        turns = [d <= max_dim and (len(shape) > 1 or precondition_1d) for d in shape]
        like = {"dtype": x.dtype, "device": device(x)}
        L[name] = tuple(xp.zeros((d, d), **like) if turn else None for d, turn in zip(shape, turns, strict=True))
        Q[name] = tuple(xp.eye(d, **like) if turn else None for d, turn in zip(shape, turns, strict=True))
    return State(0, xp.zeros_like(x), xp.zeros_like(x), L, Q)


def step(
    objective: Objective,
    x: Array,
    state: State,
    *,
    layout: Layout | None = None,
    lr: float = 3e-3,
    beta1: float = 0.95,
    beta2: float = 0.95,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    interval: int = 10,
    basis: Basis = "qr",
    skip_first: bool = True,
    eps_placement: Literal["outside", "hat"] = "outside",
) -> tuple[Array, State]:
    """Take one step, with the `layout` given to `init`.

    Raises ValueError for lr, eps or weight_decay < 0, beta1 or beta2 outside [0, 1), interval < 1 or an unknown word.
    """
    require(lr >= 0, "lr must be at least 0", lr)
    require(0 <= beta1 < 1, "beta1 must be in [0, 1)", beta1)
    require(0 <= beta2 < 1, "beta2 must be in [0, 1)", beta2)
    require(eps >= 0, "eps must be at least 0", eps)
    require(weight_decay >= 0, "weight_decay must be at least 0", weight_decay)
    require(interval >= 1, "interval must be at least 1", interval)
    require(basis in ("qr", "eigh"), "basis must be 'qr' or 'eigh'", basis)
    require(eps_placement in ("outside", "hat"), "eps_placement must be 'outside' or 'hat'", eps_placement)
    layout = layout or Layout({"x": x.shape})
    g = objective.grad(x)
    L, Q = {}, state.Q
    flops = 0.0
    for name, G in layout.split(g).items():
        pairs = enumerate(state.L[name])
        L[name] = tuple(None if L_i is None else beta2 * L_i + (1 - beta2) * gram(G, i) for i, L_i in pairs)
        flops += sum(8.0 * math.prod(G.shape) * L_i.shape[0] for L_i in L[name] if L_i is not None)
    if state.k == 0:
        Q = {name: tuple(None if L_i is None else eigenvectors(L_i) for L_i in L[name]) for name in L}
        flops += _cubes(L, 9.0)
        if skip_first:
            return x, State(1, state.M, state.V, L, Q, info={"flops": flops})

    t = state.k + 1 - skip_first
    correction = math.sqrt(1 - beta2**t)
    eps_t = eps * correction if eps_placement == "outside" else eps
    M = beta1 * state.M + (1 - beta1) * g
    N, V = adam(state.V, rotated(M, Q, layout), rotated(g, Q, layout), beta2, eps_t)
    N = rotated(N, {name: tuple(None if Q_i is None else Q_i.T for Q_i in Q[name]) for name in Q}, layout)
    x = x - lr * (correction / (1 - beta1**t) * N + weight_decay * x)

    if t % interval == 0:
        flops += _cubes(L, 9.0 if basis == "eigh" else 2.0 + 10.0 / 3.0)
        if basis == "eigh":
            Q = {name: tuple(None if L_i is None else eigenvectors(L_i) for L_i in L[name]) for name in L}
        else:
            Vs = layout.split(V)
            turned = {name: power_iteration(L[name], Q[name], Vs[name]) for name in L}
            Q, V = {name: turned[name][0] for name in L}, layout.join({name: turned[name][1] for name in L})
    return x, State(state.k + 1, M, V, L, Q, info={"flops": flops})


@elementwise(updates=(None, "V"))
def adam(V: Array, M: Array, G: Array, beta2: float, eps_t: float) -> tuple[Array, Array]:
    """Move the second moment and return M / (sqrt(V) + eps_t) with it, all in the basis."""
    V = beta2 * V + (1 - beta2) * (G * G)
    return M / (namespace(V).sqrt(V) + eps_t), V


def rotated(v: Array, Q: Modes, layout: Layout) -> Array:
    """Return the vector (n,) whose parts are those of `v` times Q_i^T along each axis i."""
    return layout.join({name: mode_products(part, Q[name]) for name, part in layout.split(v).items()})


def eigenvectors(L_i: Array) -> Array:
    """Return the eigenvectors (d, d) of L_i, one a column; all nan if L_i is not finite."""
    xp = namespace(L_i)
    try:
        return xp.linalg.eigh(L_i)[1]
    except ValueError:  # LinAlgError: NumPy refuses what CuPy fills with nan
        return xp.full_like(L_i, math.nan)


def power_iteration(
    L: tuple[Array | None, ...], Q: tuple[Array | None, ...], V: Array
) -> tuple[tuple[Array | None, ...], Array]:
    """Return the bases of a part after one power iteration, and V with its entries in the order of the columns."""
    xp = namespace(V)
    new = list(Q)
    for i, (L_i, Q_i) in enumerate(zip(L, Q, strict=True)):
        if Q_i is not None:
            LQ = L_i @ Q_i
            order = xp.argsort(-xp.sum(Q_i * LQ, axis=0))
            new[i] = xp.linalg.qr(xp.take(LQ, order, axis=1))[0]
            V = xp.take(V, order, axis=i)
    return tuple(new), V


def _cubes(L: Modes, factor: float) -> float:
    return factor * sum(int(L_i.shape[0]) ** 3 for factors in L.values() for L_i in factors if L_i is not None)
