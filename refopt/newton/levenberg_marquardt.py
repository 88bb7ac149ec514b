r"""Levenberg-Marquardt: Gauss-Newton damped between its own step and the gradient's (Levenberg, 1944; Marquardt, 1963).

    g = grad f(x) = J^T r,  G = J^T J                          f = 1/2 |r(x)|^2, J the Jacobian of r
    p = -(G + lam D)^{-1} g,        D = I or diag G
    rho = (f(x) - f(x + p)) / (1/2 p^T (lam D p - g))          true over promised decrease
    x = x + p  if rho > 0, else again with the larger lam

    "tenfold"   lam = lam / 10 if rho > 0, else 10 lam
    "nielsen"   lam = lam max(1/3, 1 - (2 rho - 1)^3), nu = 2 if rho > 0, else lam = nu lam, nu = 2 nu

With D = diag G the steps do not depend on the units of each parameter; the first lam is `tau` then, and tau max G_ii
with D = I. Any loss with a generalised Gauss-Newton matrix (Schraudolph, 2002) will do for r: G comes from its
products.
Source: K. Levenberg, Quart. Appl. Math. 2, 1944; D. W. Marquardt, J. SIAM 11, 1963; H. B. Nielsen, IMM-REP-1999-05,
Technical University of Denmark, 1999.
Cost: 1 gradient, n Gauss-Newton products, 2/3 n^3 flops and a value a try. Memory: nothing between steps; 2 matrices
of n x n within.
Differs: scipy's "lm" is MINPACK's, a trust region that finds lam from a radius in the norm of running column norms.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from backends.arrays import Array, all_finite, device, namespace, norm
from refopt.curvature.products import dense
from refopt.curvature.reduction_ratio import reduction_ratio
from refopt.method import Choice, Dialects, LogUniform, Spec
from refopt.objective import Objective
from refopt.status import Status, require


class State(NamedTuple):
    """The damping after k steps; None before the first."""

    k: int
    lam: float | None = None
    nu: float = 2.0
    status: Status = Status.RUNNING
    info: dict[str, Any] = {}


SPEC = Spec(
    title="Levenberg-Marquardt",
    source="Levenberg 1944; Marquardt 1963; Nielsen 1999",
    needs=("value", "value_and_grad", "ggn"),
    cost="1 gradient, n Gauss-Newton products, 1 value, n^3 flops",
    gradient_equivalents=(2.0, math.inf),
    memory=None,
    memory_note="nothing between steps; 2 n x n within one",
    search={"tau": LogUniform(1e-6, 1e0), "scaling": Choice(("identity", "diagonal"))},
)

DIALECTS: Dialects = {
    "paper": {"scaling": "identity", "schedule": "nielsen"},
    "levenberg": {"scaling": "identity", "schedule": "tenfold"},
    "marquardt": {"scaling": "diagonal", "schedule": "tenfold"},
}


def init(x: Array) -> State:
    """Return the state before the first step; the first step chooses the damping."""
    return State(0)


def step(
    objective: Objective,
    x: Array,
    state: State,
    *,
    tau: float = 1e-3,
    scaling: Literal["identity", "diagonal"] = "identity",
    schedule: Literal["tenfold", "nielsen"] = "nielsen",
) -> tuple[Array, State]:
    """Take one step. Raises ValueError for tau <= 0 or an unknown scaling or schedule.

    Ends as CONVERGED at a zero gradient, as BREAKDOWN where G was not finite, as STAGNATED where no damping, however
    large, gave a lower value.
    """
    require(tau > 0, "tau must be positive", tau)
    require(scaling in ("identity", "diagonal"), "scaling must be 'identity' or 'diagonal'", scaling)
    require(schedule in ("tenfold", "nielsen"), "schedule must be 'tenfold' or 'nielsen'", schedule)
    xp = namespace(x)
    k, lam, nu = state.k + 1, state.lam, state.nu
    value, g = objective.value_and_grad(x)
    if norm(g) == 0.0:
        return x, State(k, lam, nu, Status.CONVERGED)
    G = dense(objective.ggn(x), x)
    if not (all_finite(G) and all_finite(g)):
        return x, State(k, lam, nu, Status.BREAKDOWN)
    eps = float(xp.finfo(x.dtype).eps)
    diagonal = xp.linalg.diagonal(G)
    largest = float(xp.max(diagonal)) or 1.0
    # A parameter on which r does not depend has G_ii = 0; it is kept where it is.
    D = xp.ones_like(x) if scaling == "identity" else xp.maximum(diagonal, eps * largest * xp.ones_like(x))
    if lam is None:
        lam = tau * largest if scaling == "identity" else tau
    for trials in range(1, 31):
        try:
            p = -xp.linalg.solve(G + lam * D * xp.eye(x.shape[0], dtype=x.dtype, device=device(x)), g)
        except ValueError:  # LinAlgError: NumPy refuses what CuPy fills with nan
            p = math.nan * g
        if trials > 1 and norm(p) <= eps * norm(x):
            break
        promised = 0.5 * float(p @ (lam * D * p - g))
        new = x + p
        rho = reduction_ratio(value, objective.value(new), promised, like=x)
        info = {"lam": lam, "rho": rho, "trials": trials, "flops": 2 / 3 * trials * x.shape[0] ** 3}
        if schedule == "tenfold":
            lam = 0.1 * lam if rho > 0.0 else 10.0 * lam
        elif rho > 0.0:
            lam, nu = lam * max(1 / 3, 1.0 - (2.0 * rho - 1.0) ** 3), 2.0
        else:
            lam, nu = lam * nu, 2.0 * nu
        if rho > 0.0:
            return new, State(k, lam, nu, info=info)
    return x, State(k, lam, nu, Status.STAGNATED, info)
