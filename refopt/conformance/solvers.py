"""Whole solvers, `solver(fun, x0, jac=...) -> result`: is what the result says true?

Each solver runs on problems on which the truth is known:

    quadratic, rosenbrock   a minimum to be found
    saddle                  a start near a saddle of a function with minima
    linear                  no minimum: f falls for ever
    short                   rosenbrock, with options={"maxiter": 2} where the solver has options
    poisoned                quadratic, whose value and gradient are nan from the fourth evaluation on

and its result is read in scipy's names, or in those of optimistix and jaxopt:

    scipy        x, success, fun, jac, nfev, njev, nhev, nit
    jaxopt       params, state.value, .grad, .num_fun_eval, .num_grad_eval, .iter_num, .error, .failed_linesearch
    optimistix   value, result, stats["num_steps"]

jaxopt says nothing of success: its state.error at most STATIONARY is taken for it, unless state.failed_linesearch is
true. Who says nothing at all is taken to claim success on the first three problems, which have a minimum to be found.

    returns      no exception; one on every problem is raised on
    point        x is finite and of x0's shape, unless it is said to be a failure, and x0 is as it was
    stationary   who claims success has max |g| <= STATIONARY max(1, max |g(x0)|)
    descent      who claims success has f(x) <= f(x0)
    fun, jac     equal f and its gradient at x; to DIFFERENCES where the solver has not been handed jac
    nfev, ...    njev, nhev: equal the numbers of evaluations made, of what the solver has been handed; joint
                 evaluations count as both
    nit          is at most the number of all evaluations
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

import problems
from backends.arrays import Array
from refopt.conformance.adapters.player import name_of, positional
from refopt.objective import Objective

STATIONARY = 1e-3
RTOL = 1e-10
DIFFERENCES = 1e-5
FINDABLE = ("quadratic", "rosenbrock", "saddle")
"""The problems with a minimum that is to be found."""


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
    calls = {"fun": 0, "jac": 0, "hess": 0}

    def fun(x: Array) -> float:
        calls["fun"] += 1
        return float(f.value(np.asarray(x))) if calls["fun"] <= sound else np.nan

    def jac(x: Array) -> Array:
        calls["jac"] += 1
        return np.asarray(f.grad(np.asarray(x))) if calls["jac"] <= sound else np.full_like(x0, np.nan)

    def hess(x: Array) -> Array:
        calls["hess"] += 1
        if "hvp" not in f.parts:  # a linear one
            return np.zeros((len(x0), len(x0)))
        return np.stack([f.hvp(np.asarray(x), e) for e in np.eye(len(x0))], axis=1)

    offered = {"jac": jac, "hess": hess, **more}
    handed = {key: value for key, value in offered.items() if key in known}
    start = x0.copy()
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a derivative that it has no use for
        try:
            result = _Result.of(solver(fun, start, **handed))
            if result.success is None and name in FINDABLE:
                result = result._replace(success=True, words="nothing is said of failure")
            claims = _claims(result, f, x0, start, {part: n for part, n in calls.items() if part in ("fun", *handed)})
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
    counts: dict[str, Any]  # by the part that they are of
    nit: Any
    words: str = "success"

    @classmethod
    def of(cls, result: Any) -> _Result:
        def first(*paths: str) -> Any:
            return next((held for path in paths if (held := reduce(_held, path.split("."), result)) is not None), None)

        x = first("x", "params", "value")
        if x is None:
            raise ValueError(f"the result must have x, params or value, got {type(result).__name__}")
        success, error, how = first("success", "converged", "state.success"), first("state.error"), first("result")
        if success is None and how is not None:
            success = str(how).endswith(("<>", "successful"))  # equinox' enumerations: the message is empty
        if success is None and error is not None:
            success = error <= STATIONARY and not first("state.failed_linesearch")
        counts = {
            "fun": first("nfev", "state.num_fun_eval"),
            "jac": first("njev", "state.num_grad_eval"),
            "hess": first("nhev"),
        }
        return cls(
            np.asarray(x),
            None if success is None else bool(success),
            first("fun", "state.value", "state.fun_val"),
            first("jac", "state.grad"),
            counts,
            first("nit", "state.iter_num", "stats.num_steps"),
        )


def _held(node: Any, name: str) -> Any:
    return node.get(name) if isinstance(node, Mapping) else getattr(node, name, None)


_COUNTED = {"fun": "nfev", "jac": "njev", "hess": "nhev"}


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
        found = f"{result.words}, where max |g| = {size:.2g} and at the start {g0:.2g}"
        claims.append(("stationary", size <= STATIONARY * g0, found))
        claims.append(("descent", value <= float(f.value(x0)), f"{result.words}, where f = {value:.6g}"))
    for name, told, true in (("fun", result.fun, value), ("jac", result.jac, g)):
        told = None if told is None else np.asarray(told, dtype=float)
        if told is not None and np.isfinite(told).all() and told.shape == np.shape(true):
            apart, scale = float(np.max(np.abs(told - true))), float(np.max(np.abs(true)))
            rtol = DIFFERENCES if name == "jac" and "jac" not in calls else RTOL
            claims.append((name, apart <= rtol * max(1.0, scale), f"{apart:.2g} from the truth, of size {scale:.2g}"))
    for part, made in calls.items():
        if (told := result.counts[part]) is not None:
            claims.append((_COUNTED[part], int(told) == made, f"{int(told)}, truly {made}"))
    if result.nit is not None:
        made = sum(calls.values())
        claims.append(("nit", 0 <= int(result.nit) <= made, f"{int(result.nit)}, with {made} evaluations"))
    return claims
