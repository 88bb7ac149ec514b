r"""Hessian-free optimisation: truncated CG on a damped Gauss-Newton model (Martens, 2010).

    g = grad f_S(x)                            S this step's batch, or all examples
    A = G + lam I                              G the Gauss-Newton matrix of f_T; T = S, or a batch of its own
    M = (mean_i g_i .* g_i + lam)^exponent     g_i the gradients of T's examples
    p_0 = decay p_last                         or 0 where phi(p_0) > 0
    p_j: CG on A p = -g from p_0, preconditioned by M, until, with k = max(10, j / 10),
         j > k,  phi(p_j) < 0  and  phi(p_{j-k}) - phi(p_j) < k eps |phi(p_j)|,   or it has solved
    p: the last p_j of those at j = ceil(1.3^i), and on to the ones before it for as long as f_T(x + p_j) falls
    rho = (f_T(x + p) - f_T(x)) / phi(p)
    lam = 3/2 lam where rho < 1/4, 2/3 lam where rho > 3/4
    x = x + alpha p                            alpha = 1, 0.8, 0.64, ... by Armijo's rule on f_S

phi(p) = g^T p + 1/2 p^T A p is the model. A late p_j solves it better and may fit f worse, hence the way back. The
last p_j starts the next solve, as most of the solution stays; p_last is that one, not the p of the step. G is positive
semi-definite, so that phi(p) < 0 and p descends. With lam -> inf, p -> -g / lam; with lam = 0, which stays 0, and no
preconditioner this is `gauss_newton` solved by another rule. `model="undamped"` leaves lam out of the phi in rho.

The `preconditioner` "fisher" is the M above, by the examples' gradients, which take |T| vectors at once;
"gauss-newton" has diag G for their mean square, which takes one.
Source: J. Martens, ICML 2010; J. Martens, I. Sutskever, Neural Networks: Tricks of the Trade, 2nd ed., 2012, for
decay < 1; the diagonal of G, O. Chapelle, D. Erhan, NIPS workshop, 2011.
Cost: 1 gradient; 1 Gauss-Newton product a CG iteration, 1 for p_0, 1 gradient for M, all on T; 1/3 a value.
Memory: 1 vector between steps; 6, and one for each p_j kept (21 for 250 iterations), within CG.
Differs: Martens' code takes sums over the examples in M, and lam = 45 at first for its loss; f here is a mean.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from backends.arrays import Array, namespace, norm
from refopt.curvature import cg
from refopt.curvature.products import MatVec
from refopt.curvature.reduction_ratio import reduction_ratio
from refopt.line_search import armijo
from refopt.method import Choice, Dialects, LogUniform, Spec
from refopt.objective import Objective
from refopt.status import Status, require

KEPT = frozenset(math.ceil(1.3**i) for i in range(60))


class State(NamedTuple):
    """The damping after k steps, where the next solve starts, and the seed of the batches T."""

    k: int
    seed: int
    lam: float
    p: Array | None = None  # (n,) the last CG solution
    status: Status = Status.RUNNING
    info: dict[str, Any] = {}


SPEC = Spec(
    title="Hessian-free",
    source="Martens 2010; Martens, Sutskever 2012",
    needs=("value", "value_and_grad", "ggn"),
    cost="1 gradient, 1 Gauss-Newton product a CG iteration, 1/3 a value",
    gradient_equivalents=(2.0, math.inf),
    memory=1.0,
    search={"lam": LogUniform(1e-4, 1e2), "decay": Choice((0.0, 0.95)), "maxiter": Choice((30, 100, 250))},
)

DIALECTS: Dialects = {
    "paper": {"preconditioner": "fisher", "decay": 1.0},
    "martens-sutskever": {"preconditioner": "fisher", "decay": 0.95},
}


def init(x: Array, *, seed: int = 0, lam: float = 1.0) -> State:
    """Return the state before the first step, with the damping `lam` >= 0. Raises ValueError for another."""
    require(lam >= 0, "lam must be at least 0", lam)
    return State(0, seed, lam)


def step(
    objective: Objective,
    x: Array,
    state: State,
    *,
    preconditioner: Literal["none", "fisher", "gauss-newton"] = "none",
    exponent: float = 0.75,
    decay: float = 0.95,
    eps: float = 5e-4,
    maxiter: int = 250,
    model: Literal["damped", "undamped"] = "damped",
    curvature_batch: int | None = None,
    c1: float = 1e-2,
) -> tuple[Array, State]:
    """Take one step; `curvature_batch` is the size of T, drawn anew from all examples, or None for T = S.

    Ends as CONVERGED at a zero gradient of all examples, as BREAKDOWN where a product was not finite. Where nothing
    lower was found x stays, as the next batch may do better; LINE_SEARCH_FAILED says so if the batch is all there is.
    Raises ValueError for an unknown preconditioner or model, exponent or decay outside [0, 1], eps < 0, maxiter < 1, c1
    outside (0, 1) or a `curvature_batch` out of range; TypeError where the objective lacks what these need.
    """
    known = ("none", "fisher", "gauss-newton")
    require(preconditioner in known, "preconditioner must be 'none', 'fisher' or 'gauss-newton'", preconditioner)
    require(0 <= exponent <= 1, "exponent must be in [0, 1]", exponent)
    require(0 <= decay <= 1, "decay must be in [0, 1]", decay)
    require(eps >= 0, "eps must be at least 0", eps)
    require(maxiter >= 1, "maxiter must be at least 1", maxiter)
    require(model in ("damped", "undamped"), "model must be 'damped' or 'undamped'", model)
    k, seed, lam = state.k + 1, state.seed, state.lam
    whole = objective.indices is None
    value, g = objective.value_and_grad(x)
    if norm(g) == 0.0:
        return x, State(k, seed, lam, state.p, Status.CONVERGED if whole else Status.RUNNING)
    T = objective
    if curvature_batch is not None:
        T = objective.sample(curvature_batch, seed, state.k, "hessian-free curvature")
    value_T = T.value(x)
    M_inverse = _inverse(T, x, preconditioner, lam, exponent)
    G = T.ggn(x)
    start = None if state.p is None or decay == 0.0 else decay * state.p
    kept, solved = _truncated_cg(lambda v: G(v) + lam * v, -g, start, M_inverse, eps, maxiter)
    if solved.status is Status.BREAKDOWN:
        return x, State(k, seed, lam, None, Status.BREAKDOWN, {"cg": solved})

    def after(p: Array) -> float:
        f = float(T.value(x + p))
        return math.inf if math.isnan(f) else f

    (p, phi), *earlier = reversed(kept)
    last, f_p, back = p, after(p), 0
    for p_j, phi_j in earlier:
        f_j = after(p_j)
        if f_j >= f_p < math.inf:
            break
        p, phi, f_p, back = p_j, phi_j, f_j, back + 1
    promised = -phi if model == "damped" else -phi + 0.5 * lam * float(p @ p)
    rho = reduction_ratio(value_T, f_p, promised, like=x)
    new_lam = 1.5 * lam if rho < 0.25 else lam / 1.5 if rho > 0.75 else lam
    found = armijo.search(objective, x, p, value, g, c1=c1, shrink=0.8, maxiter=60)
    info = {"cg": solved, "lam": lam, "rho": rho, "phi": phi, "kept": len(kept), "back": back, "alpha": found.alpha}
    if found.status.failed and not found.value < float(value):
        return x, State(k, seed, new_lam, last, found.status if whole else Status.RUNNING, info)
    return found.x, State(k, seed, new_lam, last, info=info)


def _inverse(T: Objective, x: Array, preconditioner: str, lam: float, exponent: float) -> MatVec | None:
    """Return r -> M^-1 r, or None for M = I."""
    if preconditioner == "none":
        return None
    xp = namespace(x)
    D = xp.mean(T.per_example_grads(x) ** 2, axis=0) if preconditioner == "fisher" else T.ggn_diagonal(x)
    # A parameter that no example moves has D = 0, and lam may be as small.
    M = (D + lam + xp.finfo(x.dtype).eps * xp.max(D)) ** exponent
    return lambda r: r / M


def _truncated_cg(
    A: MatVec, b: Array, p_0: Array | None, M_inverse: MatVec | None, eps: float, maxiter: int
) -> tuple[list[tuple[Array, float]], Any]:
    """Return the (p_j, phi(p_j)) kept, last the solution, and what CG says of d = p - p_0."""
    r_0, phi_0 = b, 0.0
    if p_0 is not None:
        r_0 = b - A(p_0)
        phi_0 = -0.5 * float(p_0 @ (b + r_0))
        if phi_0 > 0.0:
            p_0, r_0, phi_0 = None, b, 0.0
    kept: list[tuple[Array, float]] = []
    phis = [phi_0]

    def watch(d: Array, r: Array) -> bool:
        phi = phi_0 - 0.5 * float(d @ (r_0 + r))
        phis.append(phi)
        j = len(phis) - 1
        if j in KEPT:
            kept.append((d, phi))
        k = max(10, j // 10)
        return j > k and phi < 0.0 and phis[-1 - k] - phi < k * eps * -phi

    rtol = math.sqrt(float(namespace(b).finfo(b.dtype).eps))
    solved = cg(A, r_0, rtol=rtol, maxiter=maxiter, preconditioner=M_inverse, callback=watch)
    if not kept or kept[-1][0] is not solved.x:
        kept.append((solved.x, phi_0 - solved.model_decrease))
    return [(d if p_0 is None else p_0 + d, phi) for d, phi in kept], solved
