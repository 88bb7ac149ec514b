r"""A step that is taken back until the model keeps its word: the loop of trust regions and of cubic regularisation.

    s = solve(size)          the model's minimum for this size: a radius, or a penalty
    rho = (f(x) - f(x + s)) / promised                       true over promised decrease, see `reduction_ratio`
    size = resize(size, rho, |s|)
    x = x + s                if rho > accept, else again with the new size

    trust region    radius = |s| / 4                         if rho < 1/4
                    radius = min(2 radius, radius_max)       if rho > 3/4 and |s| = radius
    ARC             sigma = 2 sigma                          if rho <= eta1
                    sigma = max(sigma / 2, eps)              if rho > eta2

Source: J. Nocedal, S. J. Wright, Numerical Optimization, 2nd ed., Algorithm 4.1; C. Cartis, N. I. M. Gould, Ph. L.
Toint, Math. Program. 127, 2011, Algorithm 2.1.
Cost: 1 value a try, beside what solving takes.
Differs: the book's radius after a failure is radius / 4: the same where s is as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from backends.arrays import Array, namespace, norm
from refopt.curvature.reduction_ratio import reduction_ratio
from refopt.status import Status

MAX_TRIALS = 60


class Minimum(Protocol):
    """The minimum of a model, as `steihaug`, `more_sorensen`, `cubic_minimum` and `krylov_minimum` return it."""

    @property
    def x(self) -> Array: ...  # noqa: D102
    @property
    def model_decrease(self) -> float: ...  # noqa: D102
    @property
    def status(self) -> Status: ...  # noqa: D102


class AdaptiveStep(NamedTuple):
    """Where the last try led; see `adaptive_step`."""

    x: Array  # (n,)
    size: float
    status: Status
    model: Any  # the last minimum found
    info: dict[str, Any]


def adaptive_step(
    value_at: Callable[[Array], Any],
    x: Array,
    value: Any,
    size: float,
    solve: Callable[[float], Minimum],
    resize: Callable[[float, float, float], float],
    *,
    accept: float,
    penalty: Callable[[float, float], float] = lambda size, length: 0.0,
) -> AdaptiveStep:
    """Step from `x` of shape (n,), with `value` = f(x), by ``solve(size).x`` for the first size that does.

    `penalty(size, |s|)` is the part of the model that `model_decrease` leaves out. Ends as RUNNING after a step; with x
    itself as CONVERGED where the model promises nothing, BREAKDOWN where it could not be solved, or STAGNATED where no
    size gave a decrease, down to steps that x does not see.
    """
    eps = float(namespace(x).finfo(x.dtype).eps)
    info: dict[str, Any] = {}
    for trials in range(1, MAX_TRIALS + 1):
        model = solve(size)
        info = {**info, "model": model, "trials": trials}
        if model.status is Status.BREAKDOWN:
            return AdaptiveStep(x, size, Status.BREAKDOWN, model, info)
        if model.model_decrease == 0.0:
            return AdaptiveStep(x, size, Status.CONVERGED, model, info)
        length = norm(model.x)
        if trials > 1 and length <= eps * norm(x):
            break
        new = x + model.x
        promised = model.model_decrease - penalty(size, length)
        rho = info["rho"] = reduction_ratio(value, value_at(new), promised, like=x)
        size = resize(size, rho, length)
        if rho > accept:
            return AdaptiveStep(new, size, Status.RUNNING, model, info)
    return AdaptiveStep(x, size, Status.STAGNATED, model, info)


def trust_radius(radius: float, rho: float, length: float, *, radius_max: float) -> float:
    """Return the radius after a step of this length and reduction ratio."""
    if not rho >= 0.25:
        return 0.25 * length
    return min(2.0 * radius, radius_max) if rho > 0.75 and length >= 0.99 * radius else radius


def cubic_penalty(
    sigma: float, rho: float, length: float, *, eta1: float, eta2: float, ceiling: float | None, least: float
) -> float:
    """Return the penalty after a step of this reduction ratio: halved where the model is good, or cut to `ceiling`."""
    if not rho > eta1:
        return 2.0 * sigma
    if not rho > eta2:
        return sigma
    return max(0.5 * sigma if ceiling is None else min(sigma, ceiling), least)
