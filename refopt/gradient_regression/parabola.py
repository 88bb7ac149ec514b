r"""Momentum with a parabola in its direction (Duda, 2019): the distance to the extremum from the gradients' own trend.

    m   = m + gamma (g - m),    v = m / |m|                   g = grad f(x); v is the direction of momentum
    mx  = mx + beta (x - mx),    mg = mg + beta (g - mg)
    dxx = dxx + beta ((v . (x - mx))^2 - dxx)
    dgx = dgx + beta ((v . (g - mg)) (v . (x - mx)) - dgx)
    lam = dgx / dxx                                           the parabola's curvature along v
    p   = v . mx - v . mg / lam                               its extremum: a minimum for lam > 0, a maximum for lam < 0
    x   = x + alpha sign(lam) (p - v . x) v - lr (g - (v . g) v)

so it goes towards a minimum, away from a maximum, and down the gradient in all other directions. Where |lam| < cut, cut
stands in its place: the step along v is -alpha (v . mg + lam v . (x - mx)) / max(|lam|, cut).

The averages of the paper are four numbers along v: of x, g, x^2 and x g; centred, as here, they are the two means and
the two moments dxx and dgx. (With momentum's own mean of g for one of them, three more: the count of the forum post.)
v turns, and its averages must follow. The means mx and mg, kept as vectors, are right for any v; as for the moments,
    follow="project"   keeps them as they are;
    follow="cos"       weakens both by (v_new . v_old)^2: what was seen along the old v counts as far as it lies along
                       the new;
    follow="frozen"    holds v for `hold` steps, then starts the averages afresh along the new one.
rate="deviation" takes lam = sqrt(dgg / dxx), i.e. 1 / rate = sigma_g / sigma_x: the paper's approximation for corr = 1.
With noise in the gradients lam is biased, often to below zero: v leans to the noise of g, and x has just moved against
v. |lam| and cut then only bound the step; docs/gradient_regression.md measures it. The defaults are those that did best
untuned on minibatches of two networks.
`info` has v, lam and the predicted distance p - v . x.
Source: J. Duda, arXiv:1907.07063, whose text leaves open how the averages follow v: the three ways are ours.
Cost: 1 gradient. Memory: 3 vectors; 4 where v is held.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from backends.arrays import Array, namespace, norm
from refopt.method import Choice, Dialects, LogUniform, Spec, Uniform
from refopt.objective import Objective
from refopt.status import require


class State(NamedTuple):
    """The averages after k steps."""

    k: int
    m: Array  # (n,) momentum
    mx: Array  # (n,) mean position
    mg: Array  # (n,) mean gradient
    v: Array  # (n,) the direction last used
    dxx: float = 0.0
    d: float = 0.0  # dgx, or dgg with rate="deviation"
    info: dict[str, Any] = {}


SPEC = Spec(
    title="Parabola",
    source="Duda 2019, arXiv:1907.07063",
    needs=("grad",),
    cost="1 gradient",
    gradient_equivalents=(1.0, 1.0),
    memory=4.0,
    search={
        "lr": LogUniform(1e-4, 1e1),
        "alpha": Uniform(0.1, 1.0),
        "gamma": Uniform(0.05, 0.9),
        "beta": Uniform(0.05, 0.9),
        "follow": Choice(("project", "cos", "frozen")),
    },
)

DIALECTS: Dialects = {"paper": {}}


def init(x: Array) -> State:
    """Return the state before the first step; the first sample becomes the means."""
    zero = namespace(x).zeros_like(x)
    return State(0, zero, zero, zero, zero)


def step(
    objective: Objective,
    x: Array,
    state: State,
    *,
    lr: float = 1e-2,
    alpha: float = 1.0,
    beta: float = 0.3,
    gamma: float = 0.1,
    cut: float = 1.0,
    follow: Literal["project", "cos", "frozen"] = "project",
    hold: int = 10,
    rate: Literal["trend", "deviation"] = "trend",
) -> tuple[Array, State]:
    """Take one step. Raises ValueError unless lr >= 0, 0 < alpha, beta, gamma <= 1, cut > 0 and hold >= 2."""
    require(lr >= 0, "lr must be at least 0", lr)
    require(0 < alpha <= 1, "alpha must be in (0, 1]", alpha)
    require(0 < beta <= 1, "beta must be in (0, 1]", beta)
    require(0 < gamma <= 1, "gamma must be in (0, 1]", gamma)
    require(cut > 0, "cut must be positive", cut)
    require(follow in ("project", "cos", "frozen"), "follow must be 'project', 'cos' or 'frozen'", follow)
    require(hold >= 2, "hold must be at least 2", hold)
    require(rate in ("trend", "deviation"), "rate must be 'trend' or 'deviation'", rate)
    k = state.k + 1
    g = objective.grad(x)
    m, mx, mg = (g, x, g) if state.k == 0 else (state.m, state.mx, state.mg)
    dxx, d = state.dxx, state.d
    m = m + gamma * (g - m)
    length = norm(m)
    if length == 0.0:
        return x, state._replace(k=k)
    v = m / length
    if follow == "frozen" and state.k % hold:
        v = state.v
    elif follow == "frozen":
        mx, mg, dxx, d = x, g, 0.0, 0.0
    elif follow == "cos":
        cos2 = float(v @ state.v) ** 2
        dxx, d = cos2 * dxx, cos2 * d

    mx = mx + beta * (x - mx)
    mg = mg + beta * (g - mg)
    dx, dg = float(v @ (x - mx)), float(v @ (g - mg))
    dxx = dxx + beta * (dx * dx - dxx)
    d = d + beta * (dg * (dg if rate == "deviation" else dx) - d)
    lam = d / dxx if dxx > 0.0 else 0.0
    if rate == "deviation":
        lam = lam**0.5
    along, mean = float(v @ g), float(v @ mg)
    modelled = mean + lam * dx  # the parabola's slope at x
    new = x - (alpha * modelled / max(abs(lam), cut)) * v - lr * (g - along * v)
    info = {"v": v, "lam": lam, "distance": -modelled / lam if lam else None}
    return new, State(k, m, mx, mg, v, dxx, d, info)
