r"""Nonlinear conjugate gradients, with five formulas for beta (Fletcher and Reeves, 1964; and after).

    p = -g + beta d             g = grad f(x);  d = p of the step before, beta = 0 at first
    x = x + alpha p             alpha satisfies the strong Wolfe conditions, or those of another `line_search`
    y = g+ - g,                 g+ = grad f(x + alpha p), and the next beta is, by `formula`,

    "FR"     |g+|^2 / |g|^2                                      Fletcher, Reeves, 1964
    "PR+"    max(0, g+^T y / |g|^2)                              Polak, Ribiere, 1969; Powell, 1984
    "HS"     g+^T y / p^T y                                      Hestenes, Stiefel, 1952
    "DY"     |g+|^2 / p^T y                                      Dai, Yuan, 1999
    "HZ"     max((y - 2 p |y|^2 / p^T y)^T g+ / p^T y,           Hager, Zhang, 2005
                 -1 / (|p| min(0.01, |g|)))

It is 0, a restart along -g, where p does not descend, and where successive gradients are far from orthogonal,
|g+^T g| >= restart |g+|^2 (Powell, 1977). FR and DY stall without that; the others forget a bad direction by
themselves. On a quadratic with exact search all five are the linear method. alpha is tried first where the slope
predicts the progress of the step before, alpha_{k-1} g_{k-1}^T p_{k-1} / g^T p; min(1, 1 / |g|) at first.
On a minibatch, both gradients of y are of the same batch.
Source: J. Nocedal, S. J. Wright, Numerical Optimization, 2nd ed., Algorithm 5.4 and sections 3.5 and 5.2;
W. W. Hager, H. Zhang, SIAM J. Optim. 16, 2005.
Cost: 1 value and gradient a trial step, two trials as a rule. Memory: 1 vector.
Differs: scipy has PR+ alone and no restarts.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, get_args

from backends.arrays import Array, namespace, norm
from refopt.line_search import hager_zhang, more_thuente, strong_wolfe
from refopt.method import Choice, Dialects, Spec
from refopt.objective import Objective
from refopt.status import Status, require

Formula = Literal["FR", "PR+", "HS", "DY", "HZ"]
Search = Literal["strong_wolfe", "more_thuente", "hager_zhang"]
SEARCHES = {"strong_wolfe": strong_wolfe.search, "more_thuente": more_thuente.search, "hager_zhang": hager_zhang.search}


class State(NamedTuple):
    """The last direction after k steps, and how much of it stays."""

    k: int
    d: Array  # (n,)
    beta: float = 0.0
    progress: float = 0.0  # alpha g^T p of the last step
    status: Status = Status.RUNNING
    info: dict[str, Any] = {}


SPEC = Spec(
    title="Nonlinear CG",
    source="Nocedal, Wright, Algorithm 5.4; Hager, Zhang 2005",
    needs=("value_and_grad",),
    cost="1 value and gradient a trial step",
    gradient_equivalents=(1.0, 22.0),
    memory=1.0,
    search={"formula": Choice(get_args(Formula)), "c2": Choice((0.01, 0.1, 0.4))},
)

DIALECTS: Dialects = {
    "paper": {"formula": "FR", "restart": math.inf},
    "scipy": {"formula": "PR+", "c2": 0.4, "restart": math.inf},
}


def init(x: Array) -> State:
    """Return the state before the first step, which is along -g."""
    return State(0, namespace(x).zeros_like(x))


def step(
    objective: Objective,
    x: Array,
    state: State,
    *,
    lr: float = 1.0,
    formula: Formula = "PR+",
    restart: float | None = None,
    c1: float = 1e-4,
    c2: float = 0.1,
    maxiter: int = 20,
    line_search: Search = "strong_wolfe",
) -> tuple[Array, State]:
    """Take one step; `lr` times the alpha above is the first trial. Raises ValueError unless 0 < c1 < c2 < 1.

    With `line_search` "hager_zhang" and the formula "HZ" this is CG_DESCENT. `restart` is 0.1 for FR and DY, and
    infinite for the others, unless given.
    Ends as CONVERGED at a zero gradient, as LINE_SEARCH_FAILED where not even -g leads down.
    """
    require(formula in get_args(Formula), f"formula must be one of {', '.join(get_args(Formula))}", formula)
    require(line_search in SEARCHES, f"line_search must be one of {', '.join(SEARCHES)}", line_search)
    if restart is None:
        restart = 0.1 if formula in ("FR", "DY") else math.inf
    require(restart > 0, "restart must be positive", restart)
    value, g = objective.value_and_grad(x)
    norm_g = norm(g)
    if norm_g == 0.0:
        return x, State(state.k + 1, state.d, status=Status.CONVERGED)
    p, beta = -g + state.beta * state.d, state.beta
    slope = float(g @ p)
    if not slope < 0.0:
        p, beta, slope = -g, 0.0, -norm_g * norm_g
    alpha = state.progress / slope if state.progress < 0.0 else min(1.0, 1.0 / norm_g)
    found = SEARCHES[line_search](objective, x, p, value, g, lr=lr * alpha, c1=c1, c2=c2, maxiter=maxiter)
    info = {"alpha": found.alpha, "evaluations": found.evaluations, "search": found.status}
    if found.status.failed and not found.value < float(value):
        status = found.status if beta == 0.0 else Status.RUNNING
        return x, State(state.k + 1, state.d, status=status, info=info)
    g_new: Array = found.grad
    orthogonal = abs(float(g_new @ g)) < restart * float(g_new @ g_new)
    beta = conjugacy(formula, p, g, g_new) if orthogonal else 0.0
    return found.x, State(state.k + 1, p, beta, found.alpha * slope, info=info)


def conjugacy(formula: Formula, p: Array, g: Array, g_new: Array) -> float:
    """Return beta for the step along `p` that led from the gradient `g` to `g_new`, all (n,); 0 without curvature."""
    y = g_new - g
    if formula == "FR":
        return float(g_new @ g_new) / float(g @ g)
    if formula == "PR+":
        return max(0.0, float(g_new @ y) / float(g @ g))
    py = float(p @ y)
    if not py > 0.0:
        return 0.0
    if formula == "HS":
        return float(g_new @ y) / py
    if formula == "DY":
        return float(g_new @ g_new) / py
    least = -1.0 / (norm(p) * min(0.01, norm(g)))
    return max(least, (float(g_new @ y) - 2.0 * float(y @ y) / py * float(g_new @ p)) / py)
