r"""Online gradient regression, coordinate by coordinate (Duda, 2022): dOGR, and cdOGR with corr="one".

    m   = m + gamma (g - m)                                   g = grad f(x)
    mx  = mx + beta (x - mx),    mg = mg + beta (g - mg)
    dxx = dxx + beta ((x - mx)^2 - dxx)
    dgx = dgx + beta ((g - mg) (x - mx) - dgx)
    lam = dgx / dxx                                           the slope of g over x, in each coordinate
    x   = x - m / max(div |lam|, cut)

corr="one" averages dgg = (g - mg)^2 in place of dgx, and takes lam = sqrt(dgg / dxx): never below |dgx| / dxx, so
its steps are never longer, and it needs no sign. start="notebook" has means 0, dxx = spread and dgx = 0 (dgg =
spread), which keeps the first steps short; start="first" takes the means from the first sample and d = 0, and
its first step, when nothing is known, is at most of length 1 (see `ogr_full`). Where a coordinate has not moved,
lam = 0.
`info` has lam and the predicted stationary point p = mx - mg / lam.
Source: J. Duda, arXiv:1901.11457 (version of December 2022; corr = 1: March 2023); the author's notebooks.
Cost: 1 gradient. Memory: 5 vectors.
Differs: the notebooks' cdOGR is x = x - eta sqrt(dxx / dgg) m, which is div = 1 / eta.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from backends.arrays import Array, namespace, norm
from backends.elementwise import elementwise
from refopt.curvature.trend import clipped_rates, diagonal_trend, means, moments, quotient
from refopt.method import Dialects, LogUniform, Spec, Uniform
from refopt.objective import Objective
from refopt.status import require


class State(NamedTuple):
    """The averages after k steps."""

    k: int
    m: Array  # (n,) momentum
    mx: Array  # (n,) mean position
    mg: Array  # (n,) mean gradient
    dxx: Array  # (n,)
    d: Array  # (n,) dgx, or dgg with corr="one"
    info: dict[str, Any] = {}


SPEC = Spec(
    title="dOGR",
    source="Duda 2022, arXiv:1901.11457, and his notebooks",
    needs=("grad",),
    cost="1 gradient",
    gradient_equivalents=(1.0, 1.0),
    memory=5.0,
    search={
        "beta": Uniform(0.2, 0.8),
        "gamma": LogUniform(0.05, 1.0),
        "div": Uniform(1.0, 4.0),
        "cut": LogUniform(1e-2, 1e2),
    },
)

DIALECTS: Dialects = {
    "paper": {},
    "notebook": {"start": "notebook", "beta": 0.6, "gamma": 0.7, "div": 1.4, "cut": 5.0},
    "notebook corr=1": {
        "start": "notebook",
        "corr": "one",
        "spread": 0.1,
        "beta": 0.4,
        "gamma": 0.5,
        "div": 1 / 0.6,
        "cut": 0.0,
    },
}


def init(
    x: Array,
    *,
    start: Literal["notebook", "first"] = "notebook",
    corr: Literal["measured", "one"] = "measured",
    spread: float = 1.0,
) -> State:
    """Return the state before the first step. Raises ValueError for an unknown start or corr, or spread <= 0."""
    require(start in ("notebook", "first"), "start must be 'notebook' or 'first'", start)
    require(corr in ("measured", "one"), "corr must be 'measured' or 'one'", corr)
    require(spread > 0, "spread must be positive", spread)
    xp = namespace(x)

    def filled(value: float) -> Array:
        return xp.full_like(x, value)

    wide = spread if start == "notebook" else 0.0
    return State(0, filled(0.0), filled(0.0), filled(0.0), filled(wide), filled(wide if corr == "one" else 0.0))


def step(
    objective: Objective,
    x: Array,
    state: State,
    *,
    beta: float = 0.6,
    gamma: float = 0.7,
    div: float = 1.4,
    cut: float = 5.0,
    start: Literal["notebook", "first"] = "notebook",
    corr: Literal["measured", "one"] = "measured",
) -> tuple[Array, State]:
    """Take one step. Raises ValueError unless 0 < beta, gamma <= 1, div > 0 and cut >= 0."""
    require(0 < beta <= 1, "beta must be in (0, 1]", beta)
    require(0 < gamma <= 1, "gamma must be in (0, 1]", gamma)
    require(div > 0, "div must be positive", div)
    require(cut >= 0, "cut must be at least 0", cut)
    g = objective.grad(x)
    # The averages begin at the first sample: it enters them with its whole weight.
    fresh = start == "first" and state.k == 0
    b, c = (1.0, 1.0) if fresh else (beta, gamma)
    m, mx, mg, dxx, d = averages(state.m, state.mx, state.mg, state.dxx, state.d, x, g, c, b, beta, corr)
    lam = diagonal_trend(dxx, d, corr)
    info = {"lam": lam, "p": mx - quotient(mg, lam, lam != 0)}
    s = clipped_rates(lam, div, cut) * m
    if fresh:
        s = s / max(1.0, norm(s))
    return x - s, State(state.k + 1, m, mx, mg, dxx, d, info)


@elementwise(updates=("m", "mx", "mg", "dxx", "d"))
def averages(
    m: Array,
    mx: Array,
    mg: Array,
    dxx: Array,
    d: Array,
    x: Array,
    g: Array,
    c: float,
    b: float,
    beta: float,
    corr: str,
) -> tuple[Array, Array, Array, Array, Array]:
    """Move the means by c and b, then the second moments by beta, in one pass."""
    m, mx, mg, dx, dg = means(m, mx, mg, x, g, c, b)
    return m, mx, mg, *moments(dxx, d, dx, dg, beta, corr)
