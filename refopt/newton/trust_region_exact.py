r"""Trust-region Newton with the model's exact minimum, for few parameters (More and Sorensen, 1983).

    g = grad f(x),  H = Hessian f(x)
    p: the global minimum of  m(p) = g^T p + 1/2 p^T H p  in |p| <= radius
    rho = (f(x) - f(x + p)) / (m(0) - m(p))                   true over promised decrease
    radius = |p| / 4                       if rho < 1/4
    radius = min(2 radius, radius_max)     if rho > 3/4 and |p| = radius
    x = x + p                              if rho > accept, else again with the smaller radius

The only trust-region step that leaves a saddle even where g has no part in the directions that fall (the hard case),
or is 0, and that takes the fastest of them. Its limit points are stationary with H positive semi-definite.
10 eps |f(x)| is added above and below in rho, for rounding near a minimum; the first radius is max(1, |x|).
Source: J. J. More, D. C. Sorensen, SIAM J. Sci. Stat. Comput. 4, 1983; J. Nocedal, S. J. Wright, Numerical
Optimization, 2nd ed., Algorithm 4.1 and section 4.3.
Cost: 1 gradient, n products, 9 n^3 flops and a value a try. Memory: nothing between steps; 2 n vectors within.
Differs: the authors and scipy's trust-exact factor H + lam I by Cholesky a few times; here H is diagonalised.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

from backends.arrays import Array, norm
from refopt.curvature.adaptive_step import adaptive_step, trust_radius
from refopt.curvature.more_sorensen import more_sorensen
from refopt.curvature.products import dense
from refopt.method import Dialects, LogUniform, Spec
from refopt.objective import Objective
from refopt.status import Status, require


class State(NamedTuple):
    """The radius after k steps."""

    k: int
    radius: float
    status: Status = Status.RUNNING
    info: dict[str, Any] = {}


SPEC = Spec(
    title="Trust region (exact)",
    source="More, Sorensen 1983; Nocedal, Wright, Algorithm 4.1",
    needs=("value", "value_and_grad", "linearize"),
    cost="1 gradient, n Hessian products, 1 value, 9 n^3 flops",
    gradient_equivalents=(3.0, math.inf),
    memory=None,
    memory_note="nothing between steps; 2 n x n within one",
    search={"radius": LogUniform(1e-2, 1e2)},
)

DIALECTS: Dialects = {"paper": {}}


def init(x: Array, *, radius: float | None = None) -> State:
    """Return the state before the first step; `radius`, max(1, |x|) by default, must be positive, else ValueError."""
    radius = max(1.0, norm(x)) if radius is None else radius
    require(0 < radius < math.inf, "radius must be positive and finite", radius)
    return State(0, radius)


def step(
    objective: Objective, x: Array, state: State, *, radius_max: float = 1e10, accept: float = 1e-4
) -> tuple[Array, State]:
    """Take one step.

    The status is NEGATIVE_CURVATURE where H has a negative eigenvalue, CONVERGED where g = 0 and H is positive
    semi-definite, BREAKDOWN where H was not finite, STAGNATED where no radius, however small, gave a decrease. Raises
    ValueError unless radius_max > 0 and accept is in [0, 1/4).
    """
    require(radius_max > 0, "radius_max must be positive", radius_max)
    require(0 <= accept < 0.25, "accept must be in [0, 1/4)", accept)
    value, g, mv = objective.linearize(x)
    H = dense(mv, x)
    solve, resize = partial(more_sorensen, H, g), partial(trust_radius, radius_max=radius_max)
    new, radius, status, model, info = adaptive_step(
        objective.value, x, value, state.radius, solve, resize, accept=accept
    )
    if status is Status.RUNNING and model.lowest < 0.0:
        status = Status.NEGATIVE_CURVATURE
    info = {**info, "flops": 9.0 * info["trials"] * x.shape[0] ** 3}
    return new, State(state.k + 1, radius, status, info)
