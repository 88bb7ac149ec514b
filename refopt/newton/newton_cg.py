r"""Newton-CG with a line search: Newton's equations solved as far as it pays, by curvature products alone.

    g = grad f(x)
    p: CG on H(x) p = -g from p = 0 until |H p + g| <= eta |g|,    eta = min(eta_max, sqrt(|g|))
       at a direction d of negative curvature it stops: p = p - (g^T d / |d^T H d|) d, no longer than max(1, |x|)
    x = x + alpha p

The forcing term eta makes convergence superlinear; eta_max = 0.22 asked for the fewest values and products on the
problems of benchmarks/newton.py. A minibatch's model is not worth that: a step that solves it closely fits the examples
at hand, and training ends higher, so eta_max = 1/2 there. Where CG solved a convex model, alpha = 1 is tried first and
shortened by Armijo's rule; where it met negative curvature, 1 has no meaning as a step length, and the strong Wolfe
search, which also lengthens, leaves the saddle. After a step that was shortened the first trial is
min(1, 2.02 (f_before - f) / -g^T p): along a curved valley that saves half of the trials, and it tends to 1. The next
minibatch is another function and begins with 1.
All products are at one point, so the objective is linearised once: the gradient's tape is kept, or recorded.
Source: J. Nocedal, S. J. Wright, Numerical Optimization, 2nd ed., Algorithm 7.1, section 3.5; the products, B. A.
Pearlmutter, Neural Computation 6, 1994; the forcing term, R. S. Dembo, S. C. Eisenstat, T. Steihaug, SIAM J. Numer.
Anal. 19, 1982.
Cost: 1 gradient, 1 product a CG iteration, 1/3 gradient a trial step (1 where the curvature was negative).
Memory: nothing between steps; 4 vectors within CG.
Differs: the book and scipy stop at d with the p they have, and take -g, a slow way off a saddle, where that is 0;
scipy recomputes H(x) p afresh at each product, bounds eta by 1/2 and tests curvature absolutely.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from backends.arrays import Array, norm
from refopt.curvature import cg
from refopt.line_search import armijo, strong_wolfe
from refopt.method import Choice, Dialects, LogUniform, Spec
from refopt.objective import Objective
from refopt.status import Status, require


class State(NamedTuple):
    """How the last of k steps went."""

    k: int
    decrease: float | None = None  # of f, where the step was shortened
    status: Status = Status.RUNNING
    info: dict[str, Any] = {}


SPEC = Spec(
    title="Newton-CG",
    source="Nocedal, Wright, Algorithm 7.1; Pearlmutter 1994",
    needs=("value", "value_and_grad", "linearize"),
    cost="1 gradient, 1 Hessian product a CG iteration, 1/3 a trial step",
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
    eta_max: float | None = None,
    maxiter: int | None = None,
    c1: float = 1e-4,
) -> tuple[Array, State]:
    """Take one step; `eta_max` is 0.22 by default, 1/2 on a minibatch; `maxiter` bounds CG's iterations, n by default.

    The status is NEGATIVE_CURVATURE where CG met it, CONVERGED at a zero gradient, LINE_SEARCH_FAILED where nothing
    lower was found, BREAKDOWN where a product was not finite. Raises ValueError unless 0 < eta_max < 1.
    """
    whole = objective.indices is None
    if eta_max is None:
        eta_max = 0.22 if whole else 0.5
    require(0 < eta_max < 1, "eta_max must be in (0, 1)", eta_max)
    k = state.k + 1
    value, g, mv = objective.linearize(x)
    norm_g = norm(g)
    if norm_g == 0.0:
        return x, State(k, status=Status.CONVERGED)
    eta = min(eta_max, math.sqrt(norm_g))
    solved = cg(mv, -g, rtol=eta, maxiter=x.shape[0] if maxiter is None else maxiter)
    status = Status.NEGATIVE_CURVATURE if solved.status is Status.NEGATIVE_CURVATURE else Status.RUNNING
    if solved.status is Status.BREAKDOWN:
        return x, State(k, None, Status.BREAKDOWN, {"cg": solved})
    p = solved.x
    if solved.direction is not None and solved.curvature is not None:
        d, curvature = solved.direction, abs(solved.curvature)
        slope, norm_d = float(g @ d), norm(d)  # slope < 0, as d^T H p = 0
        length, longest = abs(slope) / norm_d, max(1.0, norm(x))
        length = length / curvature if length < longest * curvature else longest
        p = p - math.copysign(length / norm_d, slope) * d
    slope, lr = float(g @ p), 1.0
    if state.decrease is not None and slope < 0.0:
        lr = min(1.0, 2.02 * state.decrease / -slope)
    search = strong_wolfe.search if status is Status.NEGATIVE_CURVATURE else armijo.search
    found = search(objective, x, p, value, g, lr=lr, c1=c1)
    decrease = float(value) - found.value
    if found.status.failed and not decrease > 0.0:
        return x, State(k, None, found.status, {"cg": solved})
    info = {"cg": solved, "eta": eta, "alpha": found.alpha, "evaluations": found.evaluations}
    shortened = whole and found.alpha < 1.0 and decrease > 0.0
    return found.x, State(k, decrease if shortened else None, status, info)
