r"""Newton-MR for any f: least residuals until one shows negative curvature, then along it (Liu and Roosta, 2022).

    g = grad f(x)
    MINRES on H(x) p = -g from p = 0 until |H p + g| <= eta |g|,    eta = min(eta_max, sqrt(|g|)),
        or until a residual r = -g - H p has r^T H r <= 0:  p = r |g^T r| / |r^T H r|,  no longer than max(1, |x|)
    x = x + alpha p        alpha = 1 first, shortened by Armijo's rule; by the strong Wolfe search where p = r

While the residuals' curvature is positive p descends, g^T p < -p^T H p; and so does r always, g^T r = -|r|^2. So f
falls at every step, where `newton_mr` makes |g| fall and goes to saddles.
Source: Y. Liu, F. Roosta, arXiv:2208.07095 (2022); the detection, the same, SIAM J. Optim. 32, 2022.
Cost: 1 gradient, 1 product a MINRES iteration, 1/3 gradient a trial step (1 where the curvature was negative).
Memory: nothing between steps; 8 vectors within MINRES.
Differs: the authors lengthen r from 1 while Armijo's rule holds; here its curvature gives the first length.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from backends.arrays import Array, norm
from refopt.curvature import minres
from refopt.line_search import armijo, strong_wolfe
from refopt.method import Choice, Dialects, LogUniform, Spec
from refopt.objective import Objective
from refopt.status import Status, require


class State(NamedTuple):
    """Nothing but the count of steps and how the last one went."""

    k: int
    status: Status = Status.RUNNING
    info: dict[str, Any] = {}


SPEC = Spec(
    title="Newton-MR with negative curvature",
    source="Liu, Roosta 2022, arXiv:2208.07095",
    needs=("value", "value_and_grad", "linearize"),
    cost="1 gradient, 1 Hessian product a MINRES iteration, 1/3 a trial step",
    gradient_equivalents=(1.0, math.inf),
    memory=0.0,
    search={"maxiter": Choice((5, 10, 30, 100)), "eta_max": LogUniform(1e-2, 0.5)},
)

DIALECTS: Dialects = {"paper": {}}


def init(x: Array) -> State:
    """Return the state before the first step."""
    return State(0)


def step(
    objective: Objective,
    x: Array,
    state: State,
    *,
    eta_max: float = 0.5,
    maxiter: int | None = None,
    c1: float = 1e-4,
) -> tuple[Array, State]:
    """Take one step; `maxiter` bounds MINRES' iterations, n by default. Raises ValueError unless 0 < eta_max < 1.

    The status is NEGATIVE_CURVATURE where MINRES met it, CONVERGED at a zero gradient, LINE_SEARCH_FAILED or
    NOT_A_DESCENT_DIRECTION where rounding leaves nothing lower, BREAKDOWN where a product was not finite.
    """
    require(0 < eta_max < 1, "eta_max must be in (0, 1)", eta_max)
    k = state.k + 1
    value, g, mv = objective.linearize(x)
    norm_g = norm(g)
    if norm_g == 0.0:
        return x, State(k, Status.CONVERGED)
    eta = min(eta_max, math.sqrt(norm_g))
    solved = minres(mv, -g, rtol=eta, maxiter=x.shape[0] if maxiter is None else maxiter, until_negative=True)
    info: dict[str, Any] = {"minres": solved, "eta": eta}
    if solved.status is Status.BREAKDOWN:
        return x, State(k, Status.BREAKDOWN, info)
    if solved.direction is not None and solved.curvature is not None:
        r, longest = solved.direction, max(1.0, norm(x))
        norm_r, curvature = norm(r), abs(solved.curvature)
        length = norm_r / curvature if norm_r < longest * curvature else longest
        found = strong_wolfe.search(objective, x, (length / norm_r) * r, value, g, c1=c1)
        status = Status.NEGATIVE_CURVATURE
    else:
        found = armijo.search(objective, x, solved.x, value, g, c1=c1)
        status = Status.RUNNING
    if found.status.failed and not found.value < float(value):
        return x, State(k, found.status, info)
    return found.x, State(k, status, {**info, "alpha": found.alpha, "evaluations": found.evaluations})
