r"""ARC: adaptive regularisation by cubics, with the model's exact minimum (Cartis, Gould and Toint, 2011).

    g = grad f(x),  H = Hessian f(x)
    s: the global minimum of  m(s) = f(x) + g^T s + 1/2 s^T H s + 1/3 sigma |s|^3,
       so that (H + sigma |s| I) s = -g  with  H + sigma |s| I  positive semi-definite
    rho = (f(x) - f(x + s)) / (f(x) - m(s))       true over promised decrease
    x = x + s                                     if rho > eta1, else again with sigma = 2 sigma
    sigma = max(sigma / 2, eps)                   if rho > eta2

At most O(e^(-3/2)) steps reach |g| <= e, where steepest descent and trust regions may take O(e^(-2)); with sigma =
M / 2, M a Lipschitz constant of H, a step lowers f by at least M / 12 |s|^3 (Nesterov and Polyak). Every strict saddle
is left, even where g has no part in the directions that fall, or is 0. 10 eps |f(x)| is added above and below in rho,
for rounding near a minimum.
Source: C. Cartis, N. I. M. Gould, Ph. L. Toint, Math. Program. 127, 2011, Algorithm 2.1; Yu. Nesterov, B. T. Polyak,
Math. Program. 108, 2006.
Cost: 1 gradient, n products, 9 n^3 flops and a value a try. Memory: nothing between steps; 2 n vectors within.
Differs: the paper's sigma after rho > eta2 is max(min(sigma, |g|), eps), `schedule="gradient"`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal, NamedTuple

from backends.arrays import Array, namespace, norm
from refopt.curvature.adaptive_step import adaptive_step, cubic_penalty
from refopt.curvature.more_sorensen import cubic_minimum
from refopt.curvature.products import dense
from refopt.method import Dialects, LogUniform, Spec
from refopt.objective import Objective
from refopt.status import Status, require


class State(NamedTuple):
    """The penalty after k steps."""

    k: int
    sigma: float
    status: Status = Status.RUNNING
    info: dict[str, Any] = {}


SPEC = Spec(
    title="Cubic regularisation (ARC)",
    source="Cartis, Gould, Toint 2011, Algorithm 2.1; Nesterov, Polyak 2006",
    needs=("value", "value_and_grad", "linearize"),
    cost="1 gradient, n Hessian products, 1 value, 9 n^3 flops",
    gradient_equivalents=(3.0, math.inf),
    memory=None,
    memory_note="nothing between steps; 2 n x n within one",
    search={"sigma": LogUniform(1e-3, 1e2)},
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
) -> tuple[Array, State]:
    """Take one step.

    The status is NEGATIVE_CURVATURE where H has a negative eigenvalue, CONVERGED where g = 0 and H is positive
    semi-definite, BREAKDOWN where H was not finite, STAGNATED where no sigma, however large, gave a decrease.
    Raises ValueError unless 0 < eta1 <= eta2 < 1, or for an unknown schedule.
    """
    require(0 < eta1 <= eta2 < 1, "eta1 and eta2 must satisfy 0 < eta1 <= eta2 < 1", (eta1, eta2))
    require(schedule in ("halve", "gradient"), "schedule must be 'halve' or 'gradient'", schedule)
    eps = float(namespace(x).finfo(x.dtype).eps)
    value, g, mv = objective.linearize(x)
    H = dense(mv, x)
    new, sigma, status, model, info = adaptive_step(
        objective.value,
        x,
        value,
        state.sigma,
        partial(cubic_minimum, H, g),
        partial(cubic_penalty, eta1=eta1, eta2=eta2, ceiling=None if schedule == "halve" else norm(g), least=eps),
        accept=eta1,
        penalty=lambda sigma, length: sigma / 3.0 * length**3,
    )
    if status is Status.RUNNING and model.lowest < 0.0:
        status = Status.NEGATIVE_CURVATURE
    info = {**info, "flops": 9.0 * info["trials"] * x.shape[0] ** 3}
    return new, State(state.k + 1, sigma, status, info)
