r"""ARC in Krylov spaces: adaptive regularisation by cubics, by products alone (Cartis, Gould and Toint, 2011).

    g = grad f(x)
    s: the minimum of  m(s) = f(x) + g^T s + 1/2 s^T H(x) s + 1/3 sigma |s|^3  over the Krylov space of H and g,
       grown by Lanczos steps until |(H + sigma |s| I) s + g| <= eta |g|
    rho = (f(x) - f(x + s)) / (f(x) - m(s))       true over promised decrease
    x = x + s                                     if rho > eta1, else again with sigma = 2 sigma
    sigma = max(sigma / 2, eps)                   if rho > eta2

with eta = min(eta_max, sqrt(|g|)). A second try at the same x needs no new product unless it needs a larger space.
Saddles are left unless g has no part at all in the directions that fall. 10 eps |f(x)| is added above and below in
rho, for rounding near a minimum.
Source: C. Cartis, N. I. M. Gould, Ph. L. Toint, Math. Program. 127, 2011, Algorithm 2.1 and section 6.
Cost: 1 gradient, 1 product a Lanczos vector, 1 value a try. Memory: nothing between steps; k vectors within.
Differs: the paper's sigma after rho > eta2 is max(min(sigma, |g|), eps), `schedule="gradient"`; its eta is
kappa min(1, |s|) or kappa min(1, sqrt(|g|)).
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal, NamedTuple

from backends.arrays import Array, namespace, norm
from refopt.curvature.adaptive_step import adaptive_step, cubic_penalty
from refopt.curvature.krylov_model import Basis, KrylovMinimum, krylov_minimum
from refopt.curvature.more_sorensen import cubic_minimum
from refopt.method import Choice, Dialects, LogUniform, Spec
from refopt.objective import Objective
from refopt.status import Status, require


class State(NamedTuple):
    """The penalty after k steps."""

    k: int
    sigma: float
    status: Status = Status.RUNNING
    info: dict[str, Any] = {}


SPEC = Spec(
    title="Cubic regularisation (ARC, Lanczos)",
    source="Cartis, Gould, Toint 2011, Algorithm 2.1, section 6",
    needs=("value", "value_and_grad", "linearize"),
    cost="1 gradient, 1 Hessian product a Lanczos vector, 1 value",
    gradient_equivalents=(3.0, math.inf),
    memory=0.0,
    search={"sigma": LogUniform(1e-3, 1e2), "maxiter": Choice((5, 10, 30, 100, 200))},
)

DIALECTS: Dialects = {"paper": {"sigma": 1.0, "schedule": "gradient"}}


def init(x: Array, *, sigma: float = 1.0) -> State:
    """Return the state before the first step, with its penalty. Raises ValueError unless sigma > 0."""
    require(0 < sigma < math.inf, "sigma must be positive and finite", sigma)
    return State(0, sigma)


def step(
    objective: Objective,
    x: Array,
    state: State,
    *,
    eta1: float = 0.1,
    eta2: float = 0.9,
    schedule: Literal["halve", "gradient"] = "halve",
    eta_max: float = 0.5,
    maxiter: int = 200,
) -> tuple[Array, State]:
    """Take one step; `maxiter` bounds the dimension of the Krylov space.

    The status is NEGATIVE_CURVATURE where H has a negative Ritz value, CONVERGED at a zero gradient, BREAKDOWN where
    a product was not finite, STAGNATED where no sigma, however large, gave a decrease. Raises ValueError unless
    0 < eta1 <= eta2 < 1, eta_max is in (0, 1) and maxiter >= 1, or for an unknown schedule.
    """
    require(0 < eta1 <= eta2 < 1, "eta1 and eta2 must satisfy 0 < eta1 <= eta2 < 1", (eta1, eta2))
    require(schedule in ("halve", "gradient"), "schedule must be 'halve' or 'gradient'", schedule)
    require(0 < eta_max < 1, "eta_max must be in (0, 1)", eta_max)
    eps = float(namespace(x).finfo(x.dtype).eps)
    k = state.k + 1
    value, g, mv = objective.linearize(x)
    norm_g = norm(g)
    if norm_g == 0.0:
        return x, State(k, state.sigma, Status.CONVERGED)
    eta = min(eta_max, math.sqrt(norm_g))
    basis: Basis | None = None

    def solve(sigma: float) -> KrylovMinimum:
        nonlocal basis
        found = krylov_minimum(mv, g, partial(cubic_minimum, sigma=sigma), rtol=eta, maxiter=maxiter, basis=basis)
        basis = found.basis
        return found

    new, sigma, status, model, info = adaptive_step(
        objective.value,
        x,
        value,
        state.sigma,
        solve,
        partial(cubic_penalty, eta1=eta1, eta2=eta2, ceiling=None if schedule == "halve" else norm_g, least=eps),
        accept=eta1,
        penalty=lambda sigma, length: sigma / 3.0 * length**3,
    )
    if status is Status.RUNNING and model.lowest < 0.0:
        status = Status.NEGATIVE_CURVATURE
    return new, State(k, sigma, status, info)
