r"""Trust-region Newton: a step as long as the quadratic model has earned (Steihaug, 1983).

    g = grad f(x)
    p: Steihaug's CG on  m(p) = g^T p + 1/2 p^T H(x) p  in |p| <= radius,  until |H p + g| <= eta |g|
    rho = (f(x) - f(x + p)) / (m(0) - m(p))                   true over promised decrease
    radius = |p| / 4                       if rho < 1/4
    radius = min(2 radius, radius_max)     if rho > 3/4 and |p| = radius
    x = x + p                              if rho > accept, else again with the smaller radius

with eta = min(eta_max, sqrt(|g|)); the first radius is max(1, |x|). Negative curvature leads to the boundary: no
saddle holds it whose falling directions g has any part in. Near a minimum f(x) - f(x + p) drowns in rounding, so
10 eps |f(x)| is added above and below in rho, which then tends to 1 (Conn, Gould and Toint).
Source: J. Nocedal, S. J. Wright, Numerical Optimization, 2nd ed., Algorithms 4.1 and 7.2; T. Steihaug, SIAM J. Numer.
Anal. 20, 1983; A. R. Conn, N. I. M. Gould, Ph. L. Toint, Trust-Region Methods, 2000, section 17.4.
Cost: 1 gradient, 1 product a CG iteration, 1 value. Memory: nothing between steps; 4 vectors within CG.
Differs: scipy's trust-ncg accepts from rho = 0.15 on, bounds the radius by 1000, and computes H(x) p afresh each time.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

from backends.arrays import Array, norm
from refopt.curvature import steihaug
from refopt.curvature.adaptive_step import adaptive_step, trust_radius
from refopt.curvature.steihaug import Steihaug
from refopt.method import Choice, Dialects, LogUniform, Spec
from refopt.objective import Objective
from refopt.status import Status, require


class State(NamedTuple):
    """The radius after k steps."""

    k: int
    radius: float
    status: Status = Status.RUNNING
    info: dict[str, Any] = {}


SPEC = Spec(
    title="Trust region (Steihaug)",
    source="Nocedal, Wright, Algorithms 4.1, 7.2; Steihaug 1983",
    needs=("value", "value_and_grad", "linearize"),
    cost="1 gradient, 1 Hessian product a CG iteration, 1 value",
    gradient_equivalents=(2.0, math.inf),
    memory=0.0,
    search={"radius": LogUniform(1e-2, 1e2), "maxiter": Choice((5, 10, 30, 100))},
)

DIALECTS: Dialects = {"paper": {}, "scipy": {"radius": 1.0, "radius_max": 1000.0, "accept": 0.15}}


def init(x: Array, *, radius: float | None = None) -> State:
    """Return the state before the first step; `radius`, max(1, |x|) by default, must be positive, else ValueError."""
    radius = max(1.0, norm(x)) if radius is None else radius
    require(0 < radius < math.inf, "radius must be positive and finite", radius)
    return State(0, radius)


def step(
    objective: Objective,
    x: Array,
    state: State,
    *,
    radius_max: float = 1e10,
    accept: float = 1e-4,
    eta_max: float = 0.5,
    maxiter: int | None = None,
) -> tuple[Array, State]:
    """Take one step; `maxiter` bounds CG's iterations, n by default.

    The status is NEGATIVE_CURVATURE where CG met it, CONVERGED at a zero gradient, BREAKDOWN where a product was not
    finite, STAGNATED where no radius, however small, gave a decrease. Raises ValueError unless radius_max > 0,
    accept is in [0, 1/4) and eta_max in (0, 1).
    """
    require(radius_max > 0, "radius_max must be positive", radius_max)
    require(0 <= accept < 0.25, "accept must be in [0, 1/4)", accept)
    require(0 < eta_max < 1, "eta_max must be in (0, 1)", eta_max)
    k = state.k + 1
    value, g, mv = objective.linearize(x)
    norm_g = norm(g)
    if norm_g == 0.0:
        return x, State(k, state.radius, Status.CONVERGED)
    eta = min(eta_max, math.sqrt(norm_g))

    def solve(radius: float) -> Steihaug:
        return steihaug(mv, g, radius, rtol=eta, maxiter=x.shape[0] if maxiter is None else maxiter)

    resize = partial(trust_radius, radius_max=radius_max)
    new, radius, status, model, info = adaptive_step(
        objective.value, x, value, state.radius, solve, resize, accept=accept
    )
    if status is Status.RUNNING and model.curvature is not None:
        status = Status.NEGATIVE_CURVATURE
    return new, State(k, radius, status, info)
