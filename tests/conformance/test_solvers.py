"""A solver that tells the truth is believed; each untruth is found."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from refopt.conformance.check import check
from refopt.conformance.solvers import is_solver


def descend(fun: Any, x0: Any, jac: Any, hess: Any, options: Any = None) -> SimpleNamespace:
    """Newton's method, damped by halving: honest about everything."""
    x, nit, counts = np.array(x0), 0, {"nfev": 0, "njev": 0}

    def f(x: Any) -> Any:
        counts["nfev"] += 1
        return fun(x)

    def g(x: Any) -> Any:
        counts["njev"] += 1
        return jac(x)

    value, slope = f(x), g(x)
    while np.max(np.abs(slope)) > 1e-8 and nit < (options or {}).get("maxiter", 100) and np.isfinite(value):
        w, V = np.linalg.eigh(hess(x) + 1e-12 * np.eye(len(x)))
        p = -V @ ((V.T @ slope) / np.abs(w))
        alpha = 1.0
        while not f(x + alpha * p) < value and alpha > 1e-10:
            alpha /= 2
        if alpha <= 1e-10:
            break
        x, nit = x + alpha * p, nit + 1
        value, slope = f(x), g(x)
    good = bool(np.max(np.abs(slope)) <= 1e-8)
    return SimpleNamespace(x=x, success=good, fun=value, jac=slope, **counts)


def test_an_honest_solver_is_believed() -> None:
    found = check(descend, None)
    assert (found.outcome, found.mode) == ("agrees", "solver"), str(found)
    assert {claim["problem"] for claim in found.claims} >= {"quadratic", "rosenbrock", "saddle", "linear", "short"}
    assert {"stationary", "descent", "fun", "jac", "nfev", "njev"} <= {claim["claim"] for claim in found.claims}


LIES: dict[str, tuple[Any, str, str]] = {
    "success": (lambda r, x0: r.__dict__.update(success=True), "short", "stationary"),
    "value": (lambda r, x0: r.__dict__.update(fun=r.fun + 1e-6), "quadratic", "fun"),
    "gradient": (lambda r, x0: r.__dict__.update(jac=r.jac + 1e-6), "quadratic", "jac"),
    "one call less": (lambda r, x0: r.__dict__.update(nfev=r.nfev - 1), "quadratic", "nfev"),
    "gradients uncounted": (lambda r, x0: r.__dict__.update(njev=0), "quadratic", "njev"),
    "start written": (lambda r, x0: x0.fill(0.5), "quadratic", "point"),
    "nan": (lambda r, x0: r.__dict__.update(x=r.x * np.nan, success=True), "quadratic", "point"),
    "shape": (lambda r, x0: r.__dict__.update(x=r.x[:-1]), "quadratic", "point"),
}


@pytest.mark.parametrize("name", LIES)
def test_each_untruth_is_found(name: str) -> None:
    lie, problem, claim = LIES[name]

    def liar(fun: Any, x0: Any, jac: Any, hess: Any, options: Any = None) -> SimpleNamespace:
        result = descend(fun, x0, jac, hess, options)
        lie(result, x0)
        return result

    found = check(liar, None)
    assert found.outcome == "differs"
    assert (problem, claim) in {(c["problem"], c["claim"]) for c in found.claims if not c["holds"]}


def test_other_names_of_a_result_are_read() -> None:
    def jaxopt_like(fun: Any, x0: Any, jac: Any, hess: Any) -> Any:
        result = descend(fun, x0, jac, hess)
        state = SimpleNamespace(error=0.0 if result.success else 1.0, tol=1e-3)
        return SimpleNamespace(params=result.x, state=state)

    def optimistix_like(fun: Any, x0: Any, jac: Any, hess: Any) -> Any:
        return SimpleNamespace(value=descend(fun, x0, jac, hess).x)

    for solver in (jaxopt_like, optimistix_like):
        assert check(solver, None).outcome == "agrees"


def test_a_solver_that_raises() -> None:
    def always(fun: Any, x0: Any) -> Any:
        raise ZeroDivisionError("here")

    def sometimes(fun: Any, x0: Any, jac: Any, hess: Any) -> Any:
        if len(x0) == 3:
            raise ZeroDivisionError("there")
        return descend(fun, x0, jac, hess)

    found = check(always, None)
    assert (found.outcome, found.error) == (
        "could not run",
        "ZeroDivisionError: here (always on 'quadratic')".replace("always on", f"{always.__qualname__} on"),
    )
    found = check(sometimes, None)
    assert [c["finding"] for c in found.claims if not c["holds"]] == ["ZeroDivisionError: there"]


def test_update_rules_are_no_solvers() -> None:
    assert is_solver(descend)
    assert not is_solver(lambda x, g, state: (x, state))
    assert not is_solver(3)


@pytest.mark.peers
@pytest.mark.parametrize("name", ["BFGS", "CG", "L-BFGS-B", "Nelder-Mead", "trust-exact", "Newton-CG"])
def test_scipy(name: str) -> None:
    """Newton-CG's result has the gradient of the point before, and calls itself a success where f has no minimum."""
    minimize = pytest.importorskip("scipy.optimize").minimize
    untrue = {c["claim"] for c in check(partial(minimize, method=name), None).claims if not c["holds"]}
    assert untrue == ({"jac", "stationary"} if name == "Newton-CG" else set())
