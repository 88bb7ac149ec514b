"""Whole solvers, `solver(fun, x0, jac=...) -> result`: is what the result says true?

Each solver runs on problems on which the truth is known:

    quadratic, rosenbrock   a minimum to be found
    saddle                  a start near a saddle of a function with minima
    linear                  no minimum: f falls for ever
    short                   rosenbrock, with options={"maxiter": 2} where the solver has options
    poisoned                quadratic, whose value and gradient are nan from the fourth evaluation on

and its result is read in scipy's names, or in those of optimistix and jaxopt:

    x | params | value      the point                    success | converged    or state.error, against state.tol
    fun, jac                f and its gradient there     nfev, njev             the number of evaluations

    returns      no exception; one on every problem is raised on
    point        x is finite and of x0's shape, unless it is said to be a failure, and x0 is as it was
    stationary   who claims success has max |g| <= STATIONARY max(1, max |g(x0)|)
    descent      who claims success has f(x) <= f(x0)
    fun, jac     equal f and its gradient at x
    nfev, njev   equal the numbers of evaluations made; joint evaluations count as both
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import problems
from backends.arrays import Array
from refopt.conformance.adapters.player import name_of, positional
from refopt.objective import Objective

STATIONARY = 1e-3
RTOL = 1e-10


class Check(NamedTuple):
    """One claim of a result beside the truth."""

    problem: str
    claim: str
    holds: bool
    finding: str


def is_solver(candidate: Any) -> bool:
    """Say whether `candidate` is a function of ``fun`` (or ``f``, ``fn``) and ``x0``."""
    return callable(candidate) and positional(candidate)[:2] in (["fun", "x0"], ["f", "x0"], ["fn", "x0"])


def check(solver: Callable[..., Any]) -> list[Check]:
    """Run `solver` on every problem and hold its results against the truth.

    Raises what the solver raises on the first problem, and ValueError for a result without a point there.
    """
    quadratic, rosenbrock = problems.get("quadratic", n=5, condition=10.0), problems.get("rosenbrock")
    saddle = problems.get("saddle", n=4)
    linear = Objective(value=lambda x: float(np.sum(x)), grad=np.ones_like)
    found = [
        *_run(solver, "quadratic", quadratic.objective, quadratic.x0),
        *_run(solver, "rosenbrock", rosenbrock.objective, rosenbrock.x0),
        *_run(solver, "saddle", saddle.objective, saddle.x0),
        *_run(solver, "linear", linear, np.zeros(3)),
        *_run(solver, "poisoned", quadratic.objective, quadratic.x0, sound=3),
    ]
    if "options" in positional(solver, keyword=True):
        found += _run(solver, "short", rosenbrock.objective, rosenbrock.x0, options={"maxiter": 2})
    return found


def _run(
    solver: Callable[..., Any], name: str, f: Objective, x0: Array, *, sound: float = np.inf, **more: Any
) -> list[Check]:
    """Check one result; evaluations after the first `sound` are nan."""
    known = positional(solver, keyword=True)
    calls = {"fun": 0, "jac": 0}

    def fun(x: Array) -> float:
        calls["fun"] += 1
        return float(f.value(np.asarray(x))) if calls["fun"] <= sound else np.nan

    def jac(x: Array) -> Array:
        calls["jac"] += 1
        return np.asarray(f.grad(np.asarray(x))) if calls["jac"] <= sound else np.full_like(x0, np.nan)

    def hess(x: Array) -> Array:
        return np.stack([f.hvp(np.asarray(x), e) for e in np.eye(len(x0))], axis=1)

    offered = {"jac": jac, "hess": hess if "hvp" in f.parts else (lambda x: np.zeros((len(x0), len(x0)))), **more}
    start = x0.copy()
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a derivative that it has no use for
        try:
            result = solver(fun, start, **{key: value for key, value in offered.items() if key in known})
            claims = _claims(_Result.of(result), f, x0, start, calls)
        except Exception as error:
            if name == "quadratic":
                error.add_note(f"{name_of(solver)} on {name!r}")
                raise
            claims = [("returns", False, f"{type(error).__name__}: {error}")]
    return [Check(name, *claim) for claim in claims]


class _Result(NamedTuple):
    """What a result says, by whatever names; None where it says nothing."""

    x: Any
    success: bool | None
    fun: Any
    jac: Any
    nfev: int | None
    njev: int | None

    @classmethod
    def of(cls, result: Any) -> _Result:
        def first(*names: str) -> Any:
            held = (getattr(result, name) for name in names if hasattr(result, name))
            return next(held, None)

        x = first("x", "params", "value")
        if x is None:
            raise ValueError(f"the result must have x, params or value, got {type(result).__name__}")
        success, state = first("success", "converged"), first("state")
        if success is None and hasattr(state, "error") and hasattr(state, "tol"):
            success = state.error <= state.tol
        return cls(
            np.asarray(x), None if success is None else bool(success), first("fun"), first("jac"), *map(first, _COUNTS)
        )


_COUNTS = ("nfev", "njev")


def _claims(
    result: _Result, f: Objective, x0: Array, start: Array, calls: dict[str, int]
) -> list[tuple[str, bool, str]]:
    """Return each claim that can be judged: its name, whether it holds, and what was found."""
    if result.x.shape != x0.shape or not np.isfinite(result.x).all() or (start != x0).any():
        lost = "x0 was written into" if (start != x0).any() else f"x is {result.x}"
        return [("point", (start == x0).all() and not result.success and result.x.shape == x0.shape, lost)]
    with np.errstate(all="ignore"):
        value, g = float(f.value(result.x)), np.asarray(f.grad(result.x))
        g0 = max(1.0, float(np.max(np.abs(f.grad(x0)))))
    size = float(np.max(np.abs(g)))
    claims = [("point", True, "")]
    if result.success:
        found = f"success, where max |g| = {size:.2g} and at the start {g0:.2g}"
        claims.append(("stationary", size <= STATIONARY * g0, found))
        claims.append(("descent", value <= float(f.value(x0)), f"success, where f = {value:.6g}"))
    for name, told, true in (("fun", result.fun, value), ("jac", result.jac, g)):
        told = None if told is None else np.asarray(told, dtype=float)
        if told is not None and np.isfinite(told).all() and told.shape == np.shape(true):
            apart, scale = float(np.max(np.abs(told - true))), float(np.max(np.abs(true)))
            claims.append((name, apart <= RTOL * max(1.0, scale), f"{apart:.2g} from the truth, of size {scale:.2g}"))
    for name, told, true in (("nfev", result.nfev, calls["fun"]), ("njev", result.njev, calls["jac"])):
        if told is not None:
            claims.append((name, int(told) == true, f"{int(told)}, truly {true}"))
    return claims
