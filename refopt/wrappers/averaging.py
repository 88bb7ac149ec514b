r"""Averages of the iterates: the point to report is calmer than the point iterated.

    polyak_ruppert:   a_k = (x_{start+1} + ... + x_k) / (k - start)          uniform, from `start` on
    suffix:           polyak_ruppert with start = (1 - fraction) steps       the last part of a run of known length
    ema:              a_k = decay a_{k-1} + (1 - decay) x_k,  divided by 1 - decay^k      exponential

Sources: B. T. Polyak, A. B. Juditsky, SIAM J. Control Optim. 30(4), 1992; D. Ruppert, 1988. With lr_k ~ k^-a,
1/2 < a < 1, sqrt(k) (a_k - x*) tends to Normal(0, H^-1 S H^-1), S being the covariance of the gradient noise: no
method that reads as many gradients does better. A. Rakhlin, O. Shamir, K. Sridharan, ICML 2012, for the suffix: on
strongly convex f without smoothness it reaches 1 / steps, which the mean of all iterates misses by a logarithm.
Cost: none beyond the wrapped method's. Memory: 1 vector more.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any, NamedTuple

from backends.arrays import Array, namespace
from refopt.method import Method, Wrapped, name_of
from refopt.objective import Objective
from refopt.status import Status, require


class State(NamedTuple):
    """The wrapped method's state and the average."""

    k: int
    inner: Any
    a: Array  # (n,)

    @property
    def status(self) -> Status:
        """The wrapped method's status."""
        return getattr(self.inner, "status", Status.RUNNING)

    @property
    def info(self) -> dict[str, Any]:
        """The wrapped method's intermediates."""
        return getattr(self.inner, "info", {})


def polyak_ruppert(method: Method, start: int = 0) -> Wrapped:
    """Return `method` reporting the mean of its iterates after step `start`. Raises ValueError for start < 0."""
    require(start >= 0, "start must be at least 0", start)

    def weight(k: int) -> float:
        return 1.0 / (k - start) if k > start else 1.0  # before the start the average is x itself

    return _averaged(method, f"polyak_ruppert({name_of(method)}, {start})", weight)


def suffix(method: Method, steps: int, fraction: float = 0.5) -> Wrapped:
    """Return `method` reporting the mean of the last `fraction` of its iterates in a run of `steps` steps.

    Before that part it reports x itself. Raises ValueError for steps < 1 and fraction outside (0, 1].
    """
    require(steps >= 1, "steps must be at least 1", steps)
    require(0 < fraction <= 1, "fraction must be in (0, 1]", fraction)
    averaged = polyak_ruppert(method, steps - math.ceil(fraction * steps))
    return replace(averaged, name=f"suffix({name_of(method)}, {steps}, {fraction})")


def ema(method: Method, decay: float = 0.999) -> Wrapped:
    """Return `method` reporting the exponential moving average of its iterates, corrected for its start.

    Raises ValueError for decay outside [0, 1).
    """
    require(0 <= decay < 1, "decay must be in [0, 1)", decay)

    def weight(k: int) -> float:
        return (1.0 - decay) / (1.0 - decay**k)

    return _averaged(method, f"ema({name_of(method)}, {decay})", weight)


def _averaged(method: Method, name: str, weight: Any) -> Wrapped:
    """Average by a_k = a_{k-1} + weight(k) (x_k - a_{k-1}); both averages have this form."""
    report = getattr(method, "solution", None) or (lambda x, state: x)

    @functools.wraps(method.init)
    def init(x: Array, **options: Any) -> State:
        return State(0, method.init(x, **options), namespace(x).asarray(x, copy=True))

    @functools.wraps(method.step)
    def step(objective: Objective, x: Array, state: State, **hyper: Any) -> tuple[Array, State]:
        x, inner = method.step(objective, x, state.inner, **hyper)
        k = state.k + 1
        a = state.a + weight(k) * (report(x, inner) - state.a)
        return x, State(k, inner, a)

    memory = None if method.SPEC.memory is None else method.SPEC.memory + 1
    spec = method.SPEC._replace(title=f"{method.SPEC.title}, averaged", memory=memory)
    return Wrapped(name, spec, method.DIALECTS, init, step, solution=lambda x, state: state.a)
