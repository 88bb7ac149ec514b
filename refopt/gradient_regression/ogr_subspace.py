r"""Online gradient regression in an evolving subspace (Duda, 2019): sOGR, and csOGR with corr="one".

d directions out of n, the rows of V, are nudged by each gradient and re-orthonormalised; curvature is regressed in them
as in `ogr_full`, and the rest follows the momentum:

    m  = m + gamma (g - m)                                    g = grad f(x)
    mx = mx + beta (x - mx),    mg = mg + beta (g - mg)
    V  = GramSchmidt(v_i + Gamma g)                           basis="nudge": every row by the same Gamma g
    V  = GramSchmidt(v_i + Gamma (g . v_i) g)                 basis="oja": online principal components of g
    dx = V (x - mx),    dg = V (g - mg)
    Dxx = Dxx + beta (dx dx^T - Dxx),    Dgx = Dgx + beta (dg dx^T - Dgx)
    H:   H Dxx + Dxx H = Dgx + Dgx^T,   H symmetric,  = O diag(lam) O^T        all (d, d)
    x  = x - alpha (m - V^T V m) - V^T O diag(1 / max(div |lam|, cut)) O^T V m

corr="one" as in `ogr_full`. The averages are indexed by the slot in the basis; averages="keep" leaves them when V
turns, as the notebooks do, averages="rotate" takes D to R D R^T with R = V_new V_old^T, which loses what leaves the
span. Where rows become dependent, Gram-Schmidt leaves a zero row, which a later gradient fills.
`info` has lam, the basis V, the predicted stationary point p in it and its distance there.
Source: J. Duda, arXiv:1901.11457; the author's notebooks (github.com/JarekDuda/SGD-OGR-Hessian-estimator), whose V
starts uniform on [0, 0.001], as here. The defaults are those that did best untuned on minibatches of two networks.
Cost: 1 gradient, about 4 d^2 n flops. Memory: d + 3 vectors.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from backends import random
from backends.arrays import Array, device, namespace
from backends.elementwise import elementwise
from refopt.curvature.gram_schmidt import turned
from refopt.curvature.trend import clipped_rates, means, prediction, regressed
from refopt.method import Choice, Dialects, LogUniform, Spec, Uniform
from refopt.objective import Objective
from refopt.status import require


class State(NamedTuple):
    """The averages and the basis after k steps."""

    k: int
    m: Array  # (n,) momentum
    mx: Array  # (n,) mean position
    mg: Array  # (n,) mean gradient
    V: Array  # (d, n) orthonormal rows
    Dxx: Array  # (d, d)
    D: Array  # (d, d) Dgx, or Dgg with corr="one"
    info: dict[str, Any] = {}


SPEC = Spec(
    title="sOGR",
    source="Duda 2019, arXiv:1901.11457, and his notebooks",
    needs=("grad",),
    cost="1 gradient, 4 d^2 n flops",
    gradient_equivalents=(1.0, 1.0),
    memory=13.0,
    memory_note="d + 3 vectors",
    search={
        "beta": Uniform(0.2, 0.8),
        "gamma": LogUniform(0.05, 1.0),
        "div": Uniform(1.0, 4.0),
        "cut": LogUniform(1e-2, 1e2),
        "alpha": LogUniform(1e-4, 1e0),
        "d": Choice((1, 2, 5, 10)),
    },
)

DIALECTS: Dialects = {
    "paper": {},
    "notebook": {
        "d": 1,
        "beta": 0.6,
        "gamma": 0.7,
        "Gamma": 0.1,
        "div": 1.5,
        "cut": 15.0,
        "alpha": 1e-3,
    },
    "notebook corr=1": {
        "d": 2,
        "corr": "one",
        "spread": 0.1,
        "beta": 0.7,
        "gamma": 0.7,
        "Gamma": 0.2,
        "div": 1.0,
        "cut": 5.0,
        "alpha": 1e-3,
    },
}


def init(
    x: Array, *, seed: int = 0, d: int = 10, corr: Literal["measured", "one"] = "measured", spread: float = 1.0
) -> State:
    """Return the state before the first step. Raises ValueError unless 1 <= d and spread > 0; d is at most n."""
    require(d >= 1, "d must be at least 1", d)
    require(corr in ("measured", "one"), "corr must be 'measured' or 'one'", corr)
    require(spread > 0, "spread must be positive", spread)
    xp = namespace(x)
    d = min(d, x.shape[0])
    zero = xp.zeros_like(x)
    V = 1e-3 * random.uniform((d, x.shape[0]), seed=seed, k=0, purpose="ogr basis", like=x)
    identity = spread * xp.eye(d, dtype=x.dtype, device=device(x))
    return State(0, zero, zero, zero, V, identity, identity if corr == "one" else xp.zeros_like(identity))


def step(
    objective: Objective,
    x: Array,
    state: State,
    *,
    beta: float = 0.6,
    gamma: float = 0.2,
    Gamma: float = 0.1,
    div: float = 1.5,
    cut: float = 1.0,
    alpha: float = 0.1,
    corr: Literal["measured", "one"] = "measured",
    basis: Literal["nudge", "oja"] = "nudge",
    averages: Literal["keep", "rotate"] = "keep",
) -> tuple[Array, State]:
    """Take one step. Raises ValueError unless 0 < beta, gamma <= 1, Gamma, alpha, cut >= 0 and div > 0."""
    require(0 < beta <= 1, "beta must be in (0, 1]", beta)
    require(0 < gamma <= 1, "gamma must be in (0, 1]", gamma)
    require(Gamma >= 0, "Gamma must be at least 0", Gamma)
    require(div > 0, "div must be positive", div)
    require(cut >= 0, "cut must be at least 0", cut)
    require(alpha >= 0, "alpha must be at least 0", alpha)
    require(basis in ("nudge", "oja"), "basis must be 'nudge' or 'oja'", basis)
    require(averages in ("keep", "rotate"), "averages must be 'keep' or 'rotate'", averages)
    g = objective.grad(x)
    m, mx, mg, dx, dg = means(state.m, state.mx, state.mg, x, g, gamma, beta)
    V, R, (Vm, Vmx, Vmg, Vdx, Vdg) = turned(state.V, g, Gamma, state.k, onto=(m, mx, mg, dx, dg), oja=basis == "oja")
    Dxx, D = state.Dxx, state.D
    if averages == "rotate":
        Dxx, D = R @ Dxx @ R.T, R @ D @ R.T
    Dxx, D, lam, O = regressed(Vdx, Vdg, Dxx, D, beta, corr)  # noqa: E741
    inside = O @ (clipped_rates(lam, div, cut) * (O.T @ Vm))
    info = prediction(lam, O, Vmx, Vmg, Vmx + Vdx) | {"V": V}
    return moved(x, m, (inside - alpha * Vm) @ V, alpha), State(state.k + 1, m, mx, mg, V, Dxx, D, info=info)


@elementwise(updates=("x",))
def moved(x: Array, m: Array, inside: Array, alpha: float) -> Array:
    """Return x after the step along the momentum and that inside the span."""
    return x - alpha * m - inside
