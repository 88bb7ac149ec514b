r"""SR1: the symmetric rank-one update in a trust region (N&W, Algorithm 6.2).

    g = grad f(x)
    s minimises  g^T s + 1/2 s^T B s  over |s| <= radius,  by truncated conjugate gradients, roughly:
                                  until |g + B s| <= min(rtol, sqrt |g|) |g|
    rho = (f(x) - f(x + s)) / (-g^T s - 1/2 s^T B s)
    r = y - B s,   y = grad f(x + s) - g
    B = B + r r^T / r^T s             unless |r^T s| < skip |r| |s|, or r = 0
    radius = 2 radius if rho > 3/4 and |s| > 0.8 radius;   radius / 2 if rho < 1/10
    x = x + s  if rho > eta,  else once more from the line of s

B = I at first. It need not be positive definite, so it can follow an indefinite Hessian: on a quadratic it is the
Hessian after n independent steps, however long they were. B is updated at rejected points too. On a minibatch, all
trials of a step are of the same batch.
Source: J. Nocedal, S. J. Wright, Numerical Optimization, 2nd ed., Algorithm 6.2; the inner solver, T. Steihaug,
SIAM J. Numer. Anal. 20, 1983.
Cost: 1 value and gradient a trial step, as a rule one trial; 2 n^2 flops a conjugate gradient step.
Memory: n vectors, the matrix B.
Differs: differences of f within rounding, 10 eps |f|, count as agreement with the model; else no step could pass in low
precision near a minimum.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

from backends.arrays import Array, device, namespace, norm
from refopt.curvature import steihaug
from refopt.curvature.reduction_ratio import reduction_ratio
from refopt.method import Dialects, LogUniform, Spec
from refopt.objective import Objective
from refopt.status import Status, require


class State(NamedTuple):
    """The model after k steps."""

    k: int
    B: Array  # (n, n) approximate Hessian
    radius: float  # of the trust region
    status: Status = Status.RUNNING
    info: dict[str, Any] = {}


SPEC = Spec(
    title="SR1, trust region",
    source="Nocedal, Wright, Algorithm 6.2",
    needs=("value_and_grad",),
    cost="1 value and gradient a trial step",
    gradient_equivalents=(1.0, 31.0),
    memory=None,
    memory_note="n vectors: the matrix B",
    search={"radius": LogUniform(1e-2, 1e1)},
)

DIALECTS: Dialects = {"paper": {}}


def init(x: Array, *, radius: float = 1.0) -> State:
    """Return the state before the first step: B = I. Raises ValueError unless radius > 0."""
    require(radius > 0, "radius must be positive", radius)
    return State(0, namespace(x).eye(x.shape[0], dtype=x.dtype, device=device(x)), radius)


def step(
    objective: Objective,
    x: Array,
    state: State,
    *,
    eta: float = 1e-4,
    skip: float = 1e-8,
    rtol: float = 0.1,
    maxiter: int = 30,
) -> tuple[Array, State]:
    """Take one step, after at most `maxiter` trials.

    Ends as CONVERGED at a zero gradient, as STAGNATED where no trial was accepted, as BREAKDOWN where the gradient is
    not finite. Raises ValueError for eta outside (0, 1e-3), skip or rtol outside (0, 1).
    """
    require(0 < eta < 1e-3, "eta must be in (0, 1e-3)", eta)
    require(0 < rtol < 1, "rtol must be in (0, 1)", rtol)
    require(0 < skip < 1, "skip must be in (0, 1)", skip)
    value, g = objective.value_and_grad(x)
    norm_g = norm(g)
    if norm_g == 0.0:
        return x, State(state.k + 1, state.B, state.radius, Status.CONVERGED)
    B, radius = state.B, state.radius
    for trials in range(1, maxiter + 1):
        solved = steihaug(partial(namespace(x).matmul, B), g, radius, rtol=min(rtol, math.sqrt(norm_g)))
        if solved.status is Status.BREAKDOWN:
            return x, State(state.k + 1, B, radius, Status.BREAKDOWN)
        s = solved.x
        new = x + s
        new_value, new_g = objective.value_and_grad(new)
        rho = reduction_ratio(value, new_value, solved.model_decrease, like=x)
        B = updated(B, s, new_g - g, skip)
        if rho > 0.75 and norm(s) > 0.8 * radius:
            radius = 2.0 * radius
        elif not rho >= 0.1:
            radius = 0.5 * radius
        if rho > eta:
            info = {"rho": rho, "trials": trials, "steihaug": solved}
            return new, State(state.k + 1, B, radius, info=info)
    return x, State(state.k + 1, B, radius, Status.STAGNATED)


def updated(B: Array, s: Array, y: Array, skip: float = 1e-8) -> Array:
    """Return B + r r^T / r^T s with r = y - B s, (n,); B itself where the denominator is too small, or not finite."""
    r = y - B @ s
    rs = float(r @ s)
    if rs == 0.0 or not skip * norm(r) * norm(s) <= abs(rs) < math.inf:
        return B
    u = r / math.sqrt(abs(rs))
    return B + math.copysign(1.0, rs) * namespace(B).reshape(u, (-1, 1)) * u
