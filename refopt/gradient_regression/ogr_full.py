r"""Online gradient regression in all directions (Duda, 2019): fOGR, and cfOGR with corr="one".

The trend of the gradients seen is a model grad f(x) = H (x - p), fitted by exponentially weighted least squares:

    m   = m + gamma (g - m)                                   g = grad f(x)
    mx  = mx + beta (x - mx),    mg = mg + beta (g - mg)
    Dxx = Dxx + beta ((x - mx) (x - mx)^T - Dxx)
    Dgx = Dgx + beta ((g - mg) (x - mx)^T - Dgx)
    H:    H Dxx + Dxx H = Dgx + Dgx^T,    H symmetric,  = O diag(lam) O^T
    x   = x - O diag(1 / max(div |lam|, cut)) O^T m

Downhill along negative curvature too, as in saddle-free Newton. beta and gamma weigh the new sample; div >= 1 distrusts
the model, 1 / cut is the largest rate. corr="one" takes gradients and positions to be fully correlated, which needs no
sign and is robust: with Dgg of the gradients, sx = Dxx^(1/2) and sg = Dgg^(1/2),

    H:    H Dxx + Dxx H = sx sg + sg sx

start="notebook" has means 0, Dxx = spread I and Dgx = 0 (Dgg = spread I): a model biased towards a stationary point at
the origin, which decays like (1 - beta)^k and keeps the first steps short. start="first" takes the means from the first
sample and D = 0: n + 1 independent samples of a quadratic then give its H and its stationary point exactly, whatever
the signs; until they are there, steps are gradients times 1 / cut, the first of them at most of length 1.
`info` has lam, the predicted stationary point p = mx - H^+ mg and its distance.
Source: J. Duda, arXiv:1901.11457; the author's notebooks (github.com/JarekDuda/SGD-OGR-Hessian-estimator).
Cost: 1 gradient, two eigendecompositions of n x n (four with corr="one"). Memory: 3 + 2 n vectors.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from backends.arrays import Array, device, namespace, norm
from refopt.curvature.trend import clipped_rates, means, prediction, regressed
from refopt.method import Dialects, LogUniform, Spec, Uniform
from refopt.objective import Objective
from refopt.status import require


class State(NamedTuple):
    """The averages after k steps."""

    k: int
    m: Array  # (n,) momentum
    mx: Array  # (n,) mean position
    mg: Array  # (n,) mean gradient
    Dxx: Array  # (n, n)
    D: Array  # (n, n) Dgx, or Dgg with corr="one"
    info: dict[str, Any] = {}


SPEC = Spec(
    title="fOGR",
    source="Duda 2019, arXiv:1901.11457, and his notebooks",
    needs=("grad",),
    cost="1 gradient, two eigendecompositions of n x n",
    gradient_equivalents=(1.0, 1.0),
    memory=None,
    memory_note="3 + 2 n vectors",
    search={
        "beta": Uniform(0.2, 0.8),
        "gamma": LogUniform(0.05, 1.0),
        "div": Uniform(1.0, 4.0),
        "cut": LogUniform(1e-2, 1e2),
    },
)

DIALECTS: Dialects = {
    "paper": {},
    "notebook": {"start": "notebook", "beta": 0.5, "gamma": 0.9, "div": 1.5, "cut": 10.0},
    "notebook corr=1": {
        "start": "notebook",
        "corr": "one",
        "spread": 0.1,
        "beta": 0.7,
        "gamma": 0.7,
        "div": 1.0,
        "cut": 5.0,
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
    zero = xp.zeros_like(x)
    identity = spread * xp.eye(x.shape[0], dtype=x.dtype, device=device(x))
    nothing = xp.zeros_like(identity)
    if start == "first":
        return State(0, zero, zero, zero, nothing, nothing)
    return State(0, zero, zero, zero, identity, identity if corr == "one" else nothing)


def step(
    objective: Objective,
    x: Array,
    state: State,
    *,
    beta: float = 0.5,
    gamma: float = 0.9,
    div: float = 1.5,
    cut: float = 10.0,
    start: Literal["notebook", "first"] = "notebook",
    corr: Literal["measured", "one"] = "measured",
) -> tuple[Array, State]:
    """Take one step. Raises ValueError unless 0 < beta, gamma <= 1, div > 0 and cut >= 0."""
    require(0 < beta <= 1, "beta must be in (0, 1]", beta)
    require(0 < gamma <= 1, "gamma must be in (0, 1]", gamma)
    require(div > 0, "div must be positive", div)
    require(cut >= 0, "cut must be at least 0", cut)
    g = objective.grad(x)
    fresh = start == "first" and state.k == 0
    m, mx, mg = (g, x, g) if fresh else (state.m, state.mx, state.mg)
    m, mx, mg, dx, dg = means(m, mx, mg, x, g, gamma, beta)
    Dxx, D, lam, O = regressed(dx, dg, state.Dxx, state.D, beta, corr)  # noqa: E741
    s = O @ (clipped_rates(lam, div, cut) * (O.T @ m))
    if fresh:  # nothing is known yet
        s = s / max(1.0, norm(s))
    return x - s, State(state.k + 1, m, mx, mg, Dxx, D, info=prediction(lam, O, mx, mg, x))
