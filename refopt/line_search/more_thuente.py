r"""Line search for the strong Wolfe conditions with guaranteed sufficient decrease (More and Thuente, 1994).

    phi(a) = f(x + a p),    phi'(a) = grad f(x + a p)^T p
    psi(a) = phi(a) - phi(0) - c1 a phi'(0)
    accept t  if  psi(t) <= 0  and  |phi'(t)| <= c2 |phi'(0)|

`lo` is the best trial so far and `hi` the other end of an interval that holds such steps. With f for psi until a trial
has psi(t) <= 0 <= psi'(t), and for phi from then on,

    f(t) > f(lo)                           hi = t
    f(t) <= f(lo),  f'(t) (lo - t) > 0     lo = t
    f(t) <= f(lo),  f'(t) (lo - t) < 0     hi = lo,  lo = t

and the next trial is, c being the minimiser of the cubic through lo and t, q that of the parabola through f(lo),
f'(lo), f(t), and s the zero of the secant of f'(lo), f'(t):

    f(t) > f(lo)                           c if nearer to lo than q, else (c + q) / 2
    else f'(t) f'(lo) < 0                  c or s, the one further from t
    else |f'(t)| <= |f'(lo)|               c or s, the nearer one to t if there is a hi, else the further one;
                                           no further than 0.66 of the way from t to hi
    else                                   the minimiser of the cubic through t and hi; as far as allowed without hi

While there is no hi, it goes 1.1 to 4 times the last step further. Where two trials have not shrunk the interval to
0.66 of its width, the middle is next. psi makes sure of the decrease: minimising phi alone can lead the interval
astray from it.

Source: J. J. More, D. J. Thuente, ACM TOMS 20 (1994) 286-307.
Cost: 1 value and gradient a trial.
Differs: MINPACK-2's code uses psi only where a trial is lower and has not decreased enough; a trial that is not finite
counts as higher, and the middle is next. There is no allowance for rounding: `hager_zhang` has one.
"""

from __future__ import annotations

import math
from typing import Any

from backends.arrays import Array
from refopt.line_search.outcome import LineSearch
from refopt.line_search.trial import Trial, along, cubic, secant
from refopt.status import Status, require


def search(
    objective: Any,
    x: Array,
    p: Array,
    value: Any,
    grad: Array,
    *,
    lr: float = 1.0,
    c1: float = 1e-4,
    c2: float = 0.9,
    maxiter: int = 20,
) -> LineSearch:
    """Find a step along `p` from `x` that satisfies the strong Wolfe conditions; `lr` is tried first.

    Arguments, outcomes and errors are those of `strong_wolfe.search`; where it fails, the point is the best end of the
    interval, no higher than the start.
    """
    require(0 < c1 < c2 < 1, "c1 and c2 must satisfy 0 < c1 < c2 < 1", (c1, c2))
    require(lr > 0, "lr must be positive", lr)
    require(maxiter >= 1, "maxiter must be at least 1", maxiter)
    phi_0, slope_0 = float(value), float(grad @ p)
    if not -math.inf < slope_0 < 0.0:
        return LineSearch(x, 0.0, phi_0, grad, Status.NOT_A_DESCENT_DIRECTION, 0)
    attempt = along(objective, x, p)
    lo, hi = Trial(0.0, x, phi_0, slope_0, grad), None
    tilt = c1 * slope_0  # psi = phi - tilt a; later 0
    a, width, width_before = lr, math.inf, math.inf
    for evaluations in range(1, maxiter + 1):
        trial = attempt(a)
        decreases = trial.finite and trial.phi <= phi_0 + c1 * a * slope_0
        if decreases and abs(trial.slope) <= -c2 * slope_0:
            return LineSearch(trial.x, a, trial.phi, trial.grad, Status.CONVERGED, evaluations)
        if decreases and trial.slope >= c1 * slope_0:
            tilt = 0.0
        best, t = _tilted(lo, tilt), _tilted(trial, tilt)
        a, last_step = _next(best, t, None if hi is None else _tilted(hi, tilt)), t.a - lo.a
        if not (t.finite and t.phi <= best.phi):
            hi = trial
        else:
            if t.slope * (lo.a - t.a) < 0.0:
                hi = lo
            lo = trial
        if hi is None:
            a = lo.a + min(max(a - lo.a, 1.1 * last_step), 4.0 * last_step)
            continue
        width_before, width, shrunk = width, abs(hi.a - lo.a), abs(hi.a - lo.a) < 0.66 * width_before
        if not (shrunk and min(lo.a, hi.a) < a < max(lo.a, hi.a)):
            a = 0.5 * (lo.a + hi.a)
        if a in (lo.a, hi.a):
            break  # no number is left between them
    return LineSearch(lo.x, lo.a, lo.phi, lo.grad, Status.LINE_SEARCH_FAILED, evaluations)


def _tilted(t: Trial, tilt: float) -> Trial:
    return t._replace(phi=t.phi - tilt * t.a, slope=t.slope - tilt)


def _next(lo: Trial, t: Trial, hi: Trial | None) -> float:
    """Return the next trial, nan where a value that is not finite leaves none, inf for as far as allowed."""
    if not t.finite:
        return math.nan
    c = cubic(lo, t)
    if t.phi > lo.phi:
        q = lo.a + 0.5 * (t.a - lo.a) / (1.0 - (t.phi - lo.phi) / ((t.a - lo.a) * lo.slope))
        return c if abs(c - lo.a) < abs(q - lo.a) else 0.5 * (c + q)
    s = secant(lo, t)
    if t.slope * lo.slope < 0.0:
        return c if abs(c - t.a) >= abs(s - t.a) else s
    if abs(t.slope) > abs(lo.slope):
        return math.inf if hi is None else cubic(t, hi)
    ahead = [a if (a - t.a) * (t.a - lo.a) > 0.0 else math.copysign(math.inf, t.a - lo.a) for a in (c, s)]
    if hi is None:
        return max(ahead)
    nearer = min(ahead, key=lambda a: abs(a - t.a))
    limit = t.a + 0.66 * (hi.a - t.a)
    return min(nearer, limit) if hi.a > t.a else max(nearer, limit)
