r"""Trust-region Newton with the model's global minimum in a Krylov space: GLTR (Gould et al., 1999).

    g = grad f(x)
    p: the minimum of  m(p) = g^T p + 1/2 p^T H(x) p  in |p| <= radius, over the Krylov space of H and g,
       grown by Lanczos steps until |(H + lam I) p + g| <= eta |g|
    rho = (f(x) - f(x + p)) / (m(0) - m(p))                   true over promised decrease
    radius = |p| / 4                       if rho < 1/4
    radius = min(2 radius, radius_max)     if rho > 3/4 and |p| = radius
    x = x + p                              if rho > accept, else again with the smaller radius

with eta = min(eta_max, sqrt(|g|)); the first radius is max(1, |x|). It follows curved ridges and valleys that
Steihaug's method, which ends where it first meets the boundary, cuts short. A second try at the same x needs no new
product unless it needs a larger space. 10 eps |f(x)| is added above and below in rho, for rounding near a minimum.
Source: N. I. M. Gould, S. Lucidi, M. Roma, Ph. L. Toint, SIAM J. Optim. 9, 1999; J. Nocedal, S. J. Wright, Numerical
Optimization, 2nd ed., Algorithm 4.1.
Cost: 1 gradient, 1 product a Lanczos vector, 1 value a try. Memory: nothing between steps; k vectors within.
Differs: scipy's trust-krylov (the authors' trlib) solves the model to a tighter tolerance of its own by default.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

from backends.arrays import Array, norm
from refopt.curvature.adaptive_step import adaptive_step, trust_radius
from refopt.curvature.krylov_model import Basis, KrylovMinimum, krylov_minimum
from refopt.curvature.more_sorensen import more_sorensen
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
    title="Trust region (Lanczos)",
    source="Gould, Lucidi, Roma, Toint 1999; Nocedal, Wright, Algorithm 4.1",
    needs=("value", "value_and_grad", "linearize"),
    cost="1 gradient, 1 Hessian product a Lanczos vector, 1 value",
    gradient_equivalents=(3.0, math.inf),
    memory=0.0,
    search={"radius": LogUniform(1e-2, 1e2), "maxiter": Choice((5, 10, 30, 100, 200))},
)

DIALECTS: Dialects = {"paper": {}}


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
    maxiter: int = 200,
) -> tuple[Array, State]:
    """Take one step; `maxiter` bounds the dimension of the Krylov space.

    The status is NEGATIVE_CURVATURE where H has a negative Ritz value, CONVERGED at a zero gradient, BREAKDOWN where
    a product was not finite, STAGNATED where no radius, however small, gave a decrease. Raises ValueError unless
    radius_max > 0, accept is in [0, 1/4), eta_max in (0, 1) and maxiter >= 1.
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
    basis: Basis | None = None

    def solve(radius: float) -> KrylovMinimum:
        nonlocal basis
        found = krylov_minimum(mv, g, partial(more_sorensen, radius=radius), rtol=eta, maxiter=maxiter, basis=basis)
        basis = found.basis
        return found

    resize = partial(trust_radius, radius_max=radius_max)
    new, radius, status, model, info = adaptive_step(
        objective.value, x, value, state.radius, solve, resize, accept=accept
    )
    if status is Status.RUNNING and not model.lowest > 0.0:
        status = Status.NEGATIVE_CURVATURE
    return new, State(k, radius, status, info)
