r"""Diagonal and subspace gradient regression together (Duda, 2022): dsOGR, and cdsOGR with corr="one".

Averages as in `ogr_diagonal` (m, mx, mg, dxx, dgx) and in `ogr_subspace` (V, Dxx, Dgx); then, inside the span of V, a
mean of the two predicted steps weighted by w, and outside it the diagonal's:

    delta = m / max(div |dgx / dxx|, cut)
    x     = x - delta + w (V^T V delta - V^T O diag(1 / max(div |lam|, cut)) O^T V m)

Source: J. Duda, arXiv:1901.11457 (version of December 2022; corr = 1: March 2023); the author's notebooks.
Cost: 1 gradient, about 4 d^2 n flops. Memory: d + 5 vectors.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from backends import random
from backends.arrays import Array, device, namespace
from refopt.curvature.gram_schmidt import turned
from refopt.curvature.trend import clipped_rates, diagonal_trend, means, moments, prediction, regressed
from refopt.method import Choice, Dialects, LogUniform, Spec, Uniform
from refopt.objective import Objective
from refopt.status import require


class State(NamedTuple):
    """The averages and the basis after k steps."""

    k: int
    m: Array  # (n,) momentum
    mx: Array  # (n,) mean position
    mg: Array  # (n,) mean gradient
    dxx: Array  # (n,)
    d: Array  # (n,) dgx, or dgg with corr="one"
    V: Array  # (rank, n) orthonormal rows
    Dxx: Array  # (rank, rank)
    D: Array  # (rank, rank) Dgx, or Dgg with corr="one"
    info: dict[str, Any] = {}


SPEC = Spec(
    title="dsOGR",
    source="Duda 2022, arXiv:1901.11457, and his notebooks",
    needs=("grad",),
    cost="1 gradient, 4 rank^2 n flops",
    gradient_equivalents=(1.0, 1.0),
    memory=7.0,
    memory_note="rank + 5 vectors",
    search={
        "beta": Uniform(0.2, 0.8),
        "gamma": LogUniform(0.05, 1.0),
        "div": Uniform(1.0, 4.0),
        "cut": LogUniform(1e-2, 1e2),
        "w": Uniform(0.2, 0.6),
        "rank": Choice((1, 2, 5, 10)),
    },
)

DIALECTS: Dialects = {
    "paper": {"rank": 10},
    "notebook": {"rank": 1, "beta": 0.6, "gamma": 0.7, "Gamma": 0.1, "div": 1.5, "cut": 6.0, "w": 0.3},
    "notebook corr=1": {
        "rank": 2,
        "corr": "one",
        "spread": 0.1,
        "beta": 0.7,
        "gamma": 0.7,
        "Gamma": 0.1,
        "div": 1.0,
        "cut": 1e-4,
        "w": 0.5,
    },
}


def init(
    x: Array, *, seed: int = 0, rank: int = 2, corr: Literal["measured", "one"] = "measured", spread: float = 1.0
) -> State:
    """Return the state before the first step. Raises ValueError unless 1 <= rank and spread > 0; rank is at most n."""
    require(rank >= 1, "rank must be at least 1", rank)
    require(corr in ("measured", "one"), "corr must be 'measured' or 'one'", corr)
    require(spread > 0, "spread must be positive", spread)
    xp = namespace(x)
    rank = min(rank, x.shape[0])
    zero, wide = xp.zeros_like(x), xp.full_like(x, spread)
    V = 1e-3 * random.uniform((rank, x.shape[0]), seed=seed, k=0, purpose="ogr basis", like=x)
    identity = spread * xp.eye(rank, dtype=x.dtype, device=device(x))
    if corr == "one":
        return State(0, zero, zero, zero, wide, wide, V, identity, identity)
    return State(0, zero, zero, zero, wide, zero, V, identity, xp.zeros_like(identity))


def step(
    objective: Objective,
    x: Array,
    state: State,
    *,
    beta: float = 0.6,
    gamma: float = 0.7,
    Gamma: float = 0.1,
    div: float = 1.5,
    cut: float = 6.0,
    w: float = 0.4,
    corr: Literal["measured", "one"] = "measured",
) -> tuple[Array, State]:
    """Take one step. Raises ValueError unless 0 < beta, gamma <= 1, 0 <= w <= 1, Gamma, cut >= 0 and div > 0."""
    require(0 < beta <= 1, "beta must be in (0, 1]", beta)
    require(0 < gamma <= 1, "gamma must be in (0, 1]", gamma)
    require(Gamma >= 0, "Gamma must be at least 0", Gamma)
    require(div > 0, "div must be positive", div)
    require(cut >= 0, "cut must be at least 0", cut)
    require(0 <= w <= 1, "w must be in [0, 1]", w)
    g = objective.grad(x)
    m, mx, mg, dx, dg = means(state.m, state.mx, state.mg, x, g, gamma, beta)
    dxx, d = moments(state.dxx, state.d, dx, dg, beta, corr)
    delta = clipped_rates(diagonal_trend(dxx, d, corr), div, cut) * m

    V, _, (Vm, Vmx, Vmg, Vdx, Vdg, Vdelta) = turned(state.V, g, Gamma, state.k, onto=(m, mx, mg, dx, dg, delta))
    Dxx, D, lam, O = regressed(Vdx, Vdg, state.Dxx, state.D, beta, corr)  # noqa: E741
    inside = Vdelta - O @ (clipped_rates(lam, div, cut) * (O.T @ Vm))
    info = prediction(lam, O, Vmx, Vmg, Vmx + Vdx) | {"V": V}
    return x - delta + w * (inside @ V), State(state.k + 1, m, mx, mg, dxx, d, V, Dxx, D, info=info)
