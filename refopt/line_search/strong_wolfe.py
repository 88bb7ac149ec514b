r"""Line search for the strong Wolfe conditions, by bracketing and zoom with safeguarded cubic interpolation.

    phi(a) = f(x + a p),    phi'(a) = grad f(x + a p)^T p
    sufficient decrease     phi(a) <= phi(0) + c1 a phi'(0)
    curvature               |phi'(a)| <= c2 |phi'(0)|

`lo` is the best trial with sufficient decrease, `hi` the other end of the bracket, at infinity to begin with:

    trial is worse than lo, or lacks sufficient decrease    hi = trial
    trial satisfies both conditions                         accept
    else                                                    hi = lo if phi'(trial) (hi - lo) >= 0;  lo = trial

so that phi'(lo) (hi - lo) < 0 always and the bracket holds acceptable points. The next trial is the minimiser
of the cubic through both ends, kept off them by a tenth of the bracket, or its middle if the last trial
shrank the bracket by less than a third; while hi is infinite, 1.1 to 4 times the last step further: 4 where
the cubic sees no minimum ahead.

In low precision phi(a) - phi(0) drowns in rounding before phi' does. Values within `noise` = 10 eps |phi(0)|
count as equal, and there sufficient decrease is read off the slope, phi'(a) <= (2 c1 - 1) phi'(0), the same
condition for a quadratic, as in `hager_zhang`.

Source: J. Nocedal and S. J. Wright, Numerical Optimization, 2nd ed. (2006), algorithms 3.5 and 3.6;
extrapolation factors of J. J. More and D. J. Thuente, ACM TOMS 20 (1994) 286-307; W. W. Hager and H. Zhang,
SIAM J. Optim. 16 (2005) 170-192.
Cost: 1 value and gradient a trial, 1-3 trials as a rule.
Differs: one loop where the book has two algorithms; values that are not finite count as worse.
"""

from __future__ import annotations

import math
from typing import Any

from backends.arrays import Array, namespace
from refopt.line_search.outcome import LineSearch
from refopt.line_search.trial import Trial, along, cubic
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

    `value` = f(x) and `grad` = grad f(x), (n,), are those of the start. `objective.value_and_grad` is called
    at most `maxiter` times, and last at the point accepted. Ends as CONVERGED, as NOT_A_DESCENT_DIRECTION
    unless grad^T p < 0, or as LINE_SEARCH_FAILED with the best point of sufficient decrease (the start if
    there was none). Raises ValueError unless 0 < c1 < c2 < 1, lr > 0 and maxiter >= 1.
    """
    require(0 < c1 < c2 < 1, "c1 and c2 must satisfy 0 < c1 < c2 < 1", (c1, c2))
    require(lr > 0, "lr must be positive", lr)
    require(maxiter >= 1, "maxiter must be at least 1", maxiter)
    phi_0, slope_0 = float(value), float(grad @ p)
    if not -math.inf < slope_0 < 0.0:
        return LineSearch(x, 0.0, phi_0, grad, Status.NOT_A_DESCENT_DIRECTION, 0)
    attempt = along(objective, x, p)
    noise = 10.0 * float(namespace(x).finfo(x.dtype).eps) * abs(phi_0)

    def decreases(t: Trial) -> bool:
        return t.phi <= phi_0 + c1 * t.a * slope_0 or (
            abs(t.phi - phi_0) <= noise and t.slope <= (2.0 * c1 - 1.0) * slope_0
        )

    lo, hi = Trial(0.0, x, phi_0, slope_0, grad), None
    a, width = lr, math.inf
    for evaluations in range(1, maxiter + 1):
        trial = attempt(a)
        if not (trial.finite and decreases(trial) and trial.phi <= lo.phi + noise):
            hi = trial
        elif abs(trial.slope) <= -c2 * slope_0:
            return LineSearch(trial.x, trial.a, trial.phi, trial.grad, Status.CONVERGED, evaluations)
        elif hi is None and trial.slope < 0.0:
            span = trial.a - lo.a
            ahead = (cubic(lo, trial) - trial.a) / span
            a = trial.a + span * (_clip(ahead, 1.1, 4.0) if ahead > 0.0 else 4.0)
            lo = trial
            continue
        else:
            if hi is None or trial.slope * (hi.a - lo.a) >= 0.0:
                hi = lo
            lo = trial
        span = hi.a - lo.a
        if abs(span) > 0.66 * width:
            a = lo.a + 0.5 * span
        else:
            a = lo.a + span * _clip((cubic(lo, hi) - lo.a) / span, 0.1, 0.9)
        if a in (lo.a, hi.a):
            break  # no number is left between them
        width = abs(span)
    return LineSearch(lo.x, lo.a, lo.phi, lo.grad, Status.LINE_SEARCH_FAILED, evaluations)


def _clip(t: float, low: float, high: float) -> float:
    return min(t, high) if t > low else low  # nan, where there is no cubic, gives low
