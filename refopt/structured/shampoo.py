r"""Shampoo: a preconditioner for every axis of every tensor (Gupta, Koren and Singer, 2018).

For each part W of x, of gradient G and order k (a matrix has k = 2, with L_1 = L and L_2 = R), t = 1, 2, ...:

    L_i = L_i + G_(i) G_(i)^T                                     beta2 = 1: the sum; else the running mean,
    L_i = beta2 L_i + (1 - beta2) G_(i) G_(i)^T                   divided by 1 - beta2^t where it is used
    P_i = (L_i + eps I)^{-1/p},         p = 2 k                   every `interval` steps
    U = G x_1 P_1 ... x_k P_k                                     of a matrix P_1 G P_2
    U = |S| U / |U|                                               S the step of the graft, if there is one
    m = momentum m + U
    W = W - lr (m + weight_decay W)                               nesterov: momentum m + U for m

G_(i) (d_i, n / d_i) is G unfolded along axis i. An axis longer than `block` is cut, and each block of W has statistics
of its own. Before step `start`, U = S (without a graft U = G), while the statistics gather. Without a `layout` x is one
vector, for which this is full-matrix Adagrad, in blocks. `p` may be given; `ridge` adds ridge lambda_max I to L_i.
P_i is found by eigendecomposition or, `roots="newton"`, by the coupled Newton iteration; where that fails (to 0.1), by
eigendecomposition too.

The graft gives each part the step length of a first-order method: its name, its module, or what `bind` returned. It is
run at lr = 1 (a bound one at its own) from x = 0, so its own weight decay does nothing.

Source: V. Gupta, T. Koren, Y. Singer, ICML 2018, arXiv:1802.09568; grafting, intervals, blocks and `newton` are of
R. Anil, V. Gupta, T. Koren, K. Regan, Y. Singer, Scalable second order optimization for deep learning,
arXiv:2002.09018 (2020).
Cost: 1 gradient, 4 n d flops for each axis of length d of a part of n entries; at an interval 9 d^3. Memory: 1 vector,
2 d^2 an axis, and the graft's.
As eps -> 0 the first step without a graft is -lr P Q^T, G = P S Q^T: Muon's. G -> O_1 G O_2 with orthogonal matrices
takes the step with it.
Differs: ports have had p = k for 2 k. Libraries with a moving average refresh every 10 to 1000 steps, in blocks of 128
to 8192, and average G before it is preconditioned in place of the momentum after it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, Literal, NamedTuple, TypeAlias

from backends.arrays import Array, device, namespace
from refopt.curvature.inverse_roots import coupled_newton, inverse_pth_root
from refopt.curvature.modes import gram, mode_products
from refopt.layout import Layout
from refopt.method import Bound, Dialects, LogUniform, Method, Spec, bind, get
from refopt.objective import Objective
from refopt.status import require

Graft: TypeAlias = str | Method | Bound
Where: TypeAlias = tuple[slice, ...]
Modes: TypeAlias = dict[str, tuple[Array, ...]]
"""For each block one matrix (d, d) an axis of length d."""

Roots = Literal["eigh", "newton"]


class State(NamedTuple):
    """The statistics after k steps, the roots in use, the momentum and the graft's state."""

    k: int
    m: Array  # (n,) momentum
    L: Modes
    P: Modes = {}
    graft: Any = None
    info: dict[str, Any] = {}


SPEC = Spec(
    title="Shampoo",
    source="Gupta, Koren, Singer 2018, arXiv:1802.09568; Anil et al. 2020, arXiv:2002.09018",
    needs=("grad",),
    cost="1 gradient, 2 products with a matrix for each axis; an inverse root each at intervals",
    gradient_equivalents=(1.0, 1.0),
    memory=None,
    search={"lr": LogUniform(1e-4, 1e1)},
    memory_note="1 vector, 2 d^2 numbers for each axis of length d of each block, and the graft's",
)

DIALECTS: Dialects = {
    "paper": {"eps": 1e-4},
    "practical": {
        "beta2": 0.999,
        "eps": 0.0,
        "ridge": 1e-6,
        "interval": 20,
        "graft": "adagrad",
        "momentum": 0.9,
        "roots": "newton",
    },
}


def init(x: Array, *, layout: Layout | None = None, block: int = 1024, graft: Graft | None = None) -> State:
    """Return the state before the first step: statistics and momentum zero. Raises ValueError for block < 1."""
    require(block >= 1, "block must be at least 1", block)
    xp = namespace(x)
    L = {}
    for name, shape in (layout or Layout({"x": x.shape})).shapes.items():
        for key, where in blocks(name, shape, block):
            sides = [s.stop - s.start for s in where]
            L[key] = tuple(xp.zeros((d, d), dtype=x.dtype, device=device(x)) for d in sides)
    inner = None if graft is None else bound(graft).init(x)
    return State(0, xp.zeros_like(x), L, graft=inner)


def step(
    objective: Objective,
    x: Array,
    state: State,
    *,
    layout: Layout | None = None,
    block: int = 1024,
    graft: Graft | None = None,
    lr: float = 0.1,
    beta2: float = 1.0,
    eps: float = 1e-4,
    ridge: float = 0.0,
    p: int | None = None,
    roots: Roots = "eigh",
    interval: int = 1,
    start: int = 1,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> tuple[Array, State]:
    """Take one step, with the `layout`, `block` and `graft` given to `init`.

    Raises ValueError for lr, eps, ridge or weight_decay < 0, beta2 outside (0, 1], momentum outside [0, 1), p, interval
    or start < 1 or an unknown word.
    """
    require(lr >= 0, "lr must be at least 0", lr)
    require(0 < beta2 <= 1, "beta2 must be in (0, 1]", beta2)
    require(eps >= 0, "eps must be at least 0", eps)
    require(ridge >= 0, "ridge must be at least 0", ridge)
    require(p is None or p >= 1, "p must be None or at least 1", p)
    require(roots in ("eigh", "newton"), "roots must be 'eigh' or 'newton'", roots)
    require(interval >= 1, "interval must be at least 1", interval)
    require(start >= 1, "start must be at least 1", start)
    require(0 <= momentum < 1, "momentum must be in [0, 1)", momentum)
    require(weight_decay >= 0, "weight_decay must be at least 0", weight_decay)
    xp = namespace(x)
    layout = layout or Layout({"x": x.shape})
    t = state.k + 1
    g = objective.grad(x)
    S, inner = (g, None) if graft is None else step_of(bound(graft), g, state.graft)
    new, total = (1.0, 1.0) if beta2 == 1 else (1 - beta2, 1 - beta2**t)
    refresh = t >= start and (not state.P or (t - start) % interval == 0)
    L, P, U, flops = {}, dict(state.P), {}, 0.0
    for name, G in layout.split(g).items():
        U_part = xp.empty_like(G)
        for key, where in blocks(name, G.shape, block):
            G_block = G[where]
            L[key] = tuple(beta2 * L_i + new * gram(G_block, i) for i, L_i in enumerate(state.L[key]))
            if refresh:
                made = [inverse_root(L_i / total, p or 2 * max(1, G.ndim), eps, ridge, roots) for L_i in L[key]]
                P[key] = tuple(P_i for P_i, _ in made)
                flops += sum(spent for _, spent in made)
            if t >= start:
                U_part[where] = mode_products(G_block, P[key])
            flops += sum(4.0 * math.prod(G_block.shape) * d for d in G_block.shape)
        U[name] = U_part
    u = S if t < start else layout.join(U if graft is None else grafted(U, layout.split(S)))
    m = momentum * state.m + u
    x = x - lr * ((momentum * m + u if nesterov else m) + weight_decay * x)
    return x, State(t, m, L, P, inner, info={"flops": flops})


def blocks(name: str, shape: tuple[int, ...], block: int) -> Iterator[tuple[str, Where]]:
    """Yield a name and the slices of each block of a part: axes longer than `block` are cut into pieces of it."""
    cuts = [[slice(i, min(i + block, d)) for i in range(0, d, block)] for d in shape]
    for number, where in enumerate(product(*cuts)):
        yield f"{name}/{number}", where


def inverse_root(L_i: Array, p: int, eps: float, ridge: float, roots: Roots) -> tuple[Array, float]:
    """Return (L_i + (eps + ridge lambda_max) I)^{-1/p} and the flops it took."""
    d, flops = L_i.shape[0], 0.0
    if roots == "newton":
        found = coupled_newton(L_i, p, damping=eps, ridge=ridge)
        flops = 2.0 * found.iterations * (2.0 + math.log2(p)) * d**3
        if found.error < 0.1:
            return found.x, flops
    return inverse_pth_root(L_i, p, damping=eps, ridge=ridge), flops + 9.0 * d**3


def bound(graft: Graft) -> Bound:
    """Return the graft as a bound method: at lr = 1 if it was a name or a module. Raises TypeError for neither."""
    if isinstance(graft, Bound):
        return graft
    method = get(graft) if isinstance(graft, str) else graft
    if not isinstance(method, Method):
        raise TypeError(f"graft must be the name of a method, a method or what bind returned, got {graft!r}")
    return bind(method, lr=1.0)


def step_of(graft: Bound, g: Array, state: Any) -> tuple[Array, Any]:
    """Return the graft's step (n,), downhill being positive, and its state: from 0, where no digit of it is lost."""
    x, state = graft.step(Objective(grad=lambda _: g), namespace(g).zeros_like(g), state)
    return -x, state


def grafted(U: dict[str, Array], S: dict[str, Array]) -> dict[str, Array]:
    """Return |S| U / |U| part by part; 0 where U is 0."""
    xp = namespace(*U.values())
    scaled = {}
    for name, U_part in U.items():
        S_norm, U_norm = (xp.sqrt(xp.sum(A * A)) for A in (S[name], U_part))
        scaled[name] = S_norm / xp.where(U_norm == 0, xp.ones_like(U_norm), U_norm) * U_part
    return scaled
