r"""Line search for the Wolfe conditions or, where values drown in rounding, for slopes alone (Hager and Zhang, 2005).

    phi(a) = f(x + a p),    phi'(a) = grad f(x + a p)^T p
    Wolfe           phi(a) - phi(0) <= c1 a phi'(0)                and    phi'(a) >= c2 phi'(0)
    approximate     (2 c1 - 1) phi'(0) >= phi'(a) >= c2 phi'(0)    and    phi(a) <= phi(0) + eps |phi(0)|

For a quadratic the first and the last line on the left say the same; but phi(a) - phi(0) cannot be computed to better
than the rounding of phi, which hides a minimiser to sqrt(rounding), where phi' shows it to rounding itself.

[lo, hi] brackets: phi'(lo) < 0 and phi(lo) <= phi(0) + eps |phi(0)|, phi'(hi) >= 0. It is found by steps five times as
long, and each round

    c = secant(lo, hi);  update with c;  secant of the old and the new end that c has become;  update with that
    c = (lo + hi) / 2;   update with c       if that left 0.66 of the interval or more

update: c becomes `lo` or `hi`, whatever it is fit for; else, being fit for neither, phi(c) being too high, [lo, c] is
halved until the upper end rises. The order of the double secant is 1 + sqrt 2.

Source: W. W. Hager and H. Zhang, SIAM J. Optim. 16 (2005) 170-192; ACM TOMS 32 (2006) 113-137 (CG_DESCENT).
Cost: 1 value and gradient a trial.
Differs: the bracket starts from the last step that was short, where the paper's goes back to 0; a trial that is not
finite counts as too high; the slack is eps |f(x)|, without the average over past values of 2006.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from typing import Any, NamedTuple

from backends.arrays import Array
from refopt.line_search.outcome import LineSearch
from refopt.line_search.trial import Trial, along, secant
from refopt.status import Status, require


class _Interval(NamedTuple):
    lo: Trial
    hi: Trial


_Narrowing = Generator[Trial, None, _Interval]  # yields what it tries


def search(
    objective: Any,
    x: Array,
    p: Array,
    value: Any,
    grad: Array,
    *,
    lr: float = 1.0,
    c1: float = 0.1,
    c2: float = 0.9,
    eps: float = 1e-6,
    maxiter: int = 30,
) -> LineSearch:
    """Find a step along `p` from `x` that satisfies the (approximate) Wolfe conditions; `lr` is tried first.

    `eps` bounds how much an accepted value may be above the first, relatively. The other arguments and the outcomes
    are those of `strong_wolfe.search`; where it fails, the point is the lowest that was seen. Raises ValueError unless
    0 < c1 < 1/2, c1 < c2 < 1, eps >= 0, lr > 0 and maxiter >= 1.
    """
    require(0 < c1 < 0.5, "c1 must be in (0, 1/2)", c1)
    require(c1 < c2 < 1, "c2 must be in (c1, 1)", c2)
    require(eps >= 0, "eps must be at least 0", eps)
    require(lr > 0, "lr must be positive", lr)
    require(maxiter >= 1, "maxiter must be at least 1", maxiter)
    phi_0, slope_0 = float(value), float(grad @ p)
    if not -math.inf < slope_0 < 0.0:
        return LineSearch(x, 0.0, phi_0, grad, Status.NOT_A_DESCENT_DIRECTION, 0)
    best = start = Trial(0.0, x, phi_0, slope_0, grad)
    highest = phi_0 + eps * abs(phi_0)
    evaluations = 0
    for trial in islice(_Search(along(objective, x, p), highest).trials(start, lr), maxiter):
        evaluations += 1
        wolfe = trial.phi <= phi_0 + c1 * trial.a * slope_0
        approximate = trial.phi <= highest and trial.slope <= (2.0 * c1 - 1.0) * slope_0
        if trial.finite and trial.slope >= c2 * slope_0 and (wolfe or approximate):
            return LineSearch(trial.x, trial.a, trial.phi, trial.grad, Status.CONVERGED, evaluations)
        if trial.finite and trial.phi < best.phi:
            best = trial
    return LineSearch(best.x, best.a, best.phi, best.grad, Status.LINE_SEARCH_FAILED, evaluations)


class _Search(NamedTuple):
    attempt: Callable[[float], Trial]
    highest: float

    def short(self, t: Trial) -> bool:
        """Whether t can be a lower end: f still falls, and is not too high."""
        return t.slope < 0.0 and -math.inf < t.phi <= self.highest

    def trials(self, start: Trial, lr: float) -> Iterator[Trial]:
        """Yield one trial after the other, until no number is left between the ends."""
        lo, t = start, self.attempt(lr)
        yield t
        while self.short(t):
            lo, t = t, self.attempt(5.0 * t.a)
            yield t
        lo, hi = yield from self.halved(lo, t)
        while True:
            width = hi.a - lo.a
            lo, hi = yield from self.double_secant(lo, hi)
            if hi.a - lo.a >= 0.66 * width:
                middle = 0.5 * (lo.a + hi.a)
                if middle in (lo.a, hi.a):
                    return
                lo, hi = yield from self.update(lo, hi, middle)

    def double_secant(self, lo: Trial, hi: Trial) -> _Narrowing:
        c = secant(lo, hi)
        new = yield from self.update(lo, hi, c)
        if new.hi.a == c:
            return (yield from self.update(*new, secant(hi, new.hi)))
        if new.lo.a == c:
            return (yield from self.update(*new, secant(lo, new.lo)))
        return new

    def update(self, lo: Trial, hi: Trial, c: float) -> _Narrowing:
        if not lo.a < c < hi.a:
            return _Interval(lo, hi)
        t = self.attempt(c)
        yield t
        return _Interval(t, hi) if self.short(t) else (yield from self.halved(lo, t))

    def halved(self, lo: Trial, hi: Trial) -> _Narrowing:
        """Halve until f rises at the upper end, which it does at once where f was not too high."""
        while not hi.slope >= 0.0 and (middle := 0.5 * (lo.a + hi.a)) not in (lo.a, hi.a):
            t = self.attempt(middle)
            yield t
            lo, hi = (t, hi) if self.short(t) else (lo, t)
        return _Interval(lo, hi)
