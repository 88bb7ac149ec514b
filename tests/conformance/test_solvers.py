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
    "steps beyond number": (lambda r, x0: r.__dict__.update(nit=10**6), "quadratic", "nit"),
    "one Hessian less": (lambda r, x0: r.__dict__.update(nhev=-1), "quadratic", "nhev"),
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
    for solver in (jaxopt_like, optimistix_like):
        found = check(solver, None)
        assert found.outcome == "agrees", str(found)
        claims = {claim["claim"] for claim in found.claims}
        assert claims >= {"stationary", "nit", *(("fun", "jac", "nfev", "njev") if solver is jaxopt_like else ())}


def jaxopt_like(fun: Any, x0: Any, jac: Any, hess: Any, **untrue: Any) -> Any:
    """Return the fields of jaxopt 0.8.5: OptStep(params, state)."""
    r = descend(fun, x0, jac, hess)
    counts = {"num_fun_eval": r.nfev, "num_grad_eval": r.njev, "iter_num": 3}
    state = {"value": r.fun, "grad": r.jac, "error": float(np.linalg.norm(r.jac)), "failed_linesearch": False}
    return SimpleNamespace(params=r.x, state=SimpleNamespace(**{**state, **counts, **untrue}))


class Enumerated:
    """A member of an enumeration of equinox 0.13, as optimistix 0.1.0 has them in its results."""

    def __init__(self, message: str) -> None:
        self.message = message

    def __repr__(self) -> str:
        return f"optimistix._solution.RESULTS<{self.message}>"


def optimistix_like(fun: Any, x0: Any, jac: Any, hess: Any, steps: int = 3, message: str | None = None) -> Any:
    """Return the fields of optimistix 0.1.0: Solution(value, result, stats)."""
    r = descend(fun, x0, jac, hess)
    why = ("" if r.success else "Nonlinear solve diverged.") if message is None else message
    return SimpleNamespace(value=r.x, result=Enumerated(why), stats={"num_steps": steps, "max_steps": 256})


def silent(fun: Any, x0: Any) -> Any:
    return SimpleNamespace(x=7.0 * x0)


@pytest.mark.parametrize(
    ("solver", "claim"),
    [
        (partial(jaxopt_like, error=0.0), "stationary"),  # where f has no minimum
        (partial(jaxopt_like, num_fun_eval=999), "nfev"),
        (partial(jaxopt_like, num_grad_eval=999), "njev"),
        (partial(jaxopt_like, iter_num=10**6), "nit"),
        (partial(optimistix_like, steps=10**6), "nit"),
        (partial(optimistix_like, message=""), "stationary"),
        (silent, "stationary"),
        (silent, "descent"),
        (lambda fun, x0: SimpleNamespace(x=x0 * np.nan), "point"),
    ],
)
def test_untruths_by_other_names_are_found(solver: Any, claim: str) -> None:
    found = check(solver, None)
    assert found.outcome == "differs"
    assert claim in {c["claim"] for c in found.claims if not c["holds"]}, str(found)


def test_who_says_nothing_is_not_believed_but_who_says_failure_is() -> None:
    found = check(lambda fun, x0: SimpleNamespace(x=x0), None)
    assert "quadratic, stationary: nothing is said of failure, where max |g| = " in str(found)
    assert {c["problem"] for c in found.claims if not c["holds"]} == {"quadratic", "rosenbrock", "saddle"}
    pessimist = check(lambda fun, x0: SimpleNamespace(x=x0, success=False), None)
    assert (pessimist.outcome, pessimist.notes) == ("agrees", ["it claims success on no problem"])


def test_a_solver_that_is_handed_no_gradient_is_not_asked_for_its_digits_nor_its_count() -> None:
    def differences(fun: Any, x0: Any) -> Any:
        calls = [0]

        def f(x: Any) -> Any:
            calls[0] += 1
            return fun(x)

        def g(x: Any) -> Any:
            return np.array([(f(x + 1e-6 * e) - f(x - 1e-6 * e)) / 2e-6 for e in np.eye(len(x))])

        r = descend(f, x0, g, lambda x: np.stack([(g(x + 1e-4 * e) - g(x)) / 1e-4 for e in np.eye(len(x))]))
        slope = g(r.x)
        good = bool(np.max(np.abs(r.x)) < 100 and np.max(np.abs(slope)) < 1e-4)  # else differences end in rounding
        return SimpleNamespace(x=r.x, success=good, jac=slope if good else None, nfev=calls[0], njev=17)

    found = check(differences, None)
    assert found.outcome == "agrees", str(found)
    assert "njev" not in {claim["claim"] for claim in found.claims}


def test_a_reference_for_a_solver_is_said_to_be_idle() -> None:
    assert check(descend, "adam").notes == ["the reference was not used: a whole solver is held against the truth"]


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
