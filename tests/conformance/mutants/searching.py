"""BFGS, L-BFGS and nonlinear conjugate gradients, wrong; their line search is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from refopt.line_search import strong_wolfe
from tests.conformance.mutants.mutant import Mutant, Update


def search(f: Any, x: Any, p: Any, alpha: float, c1: float = 1e-4, c2: float = 0.9) -> tuple[Any, float, Any, Any]:
    """Return x after the search, alpha, and the gradients before and after it."""
    value, g = f.value_and_grad(x)
    found = strong_wolfe.search(f, x, p, value, g, lr=alpha, c1=c1, c2=c2, maxiter=20)
    return found.x, found.alpha, g, found.grad


def two_loops(pairs: list[Any], g: Any, gamma: float, first: bool = True, ordered: bool = True) -> Any:
    q, alphas = g, []
    for s, y in reversed(pairs) if ordered else pairs:
        alphas.append((s @ q) / (s @ y))
        q = q - alphas[-1] * y
    r = gamma * q
    for s, y in pairs if ordered else reversed(pairs):
        r = r + ((alphas.pop() if first else 0.0) - (y @ r) / (s @ y)) * s
    return r


def lbfgs(
    memory: int = 10,
    gamma: Callable[[list[Any]], float] = lambda pairs: (pairs[-1][0] @ pairs[-1][1]) / (pairs[-1][1] @ pairs[-1][1]),
    first: bool = True,
    ordered: bool = True,
    c2: float = 0.9,
    old_y: bool = False,
    unit: bool = False,
) -> Update:
    def update(x: Any, f: Any, pairs: Any, lr: float) -> tuple[Any, Any]:
        pairs = pairs or []
        g = f.grad(x)
        if not g.any():
            return x, pairs
        alpha = lr if pairs else lr * (1.0 if unit else min(1.0, 1.0 / float(np.sqrt(g @ g))))
        p = -two_loops(pairs, g, gamma(pairs) if pairs else 1.0, first, ordered)
        new, _, g, g_new = search(f, x, p, alpha, c2=c2)
        s, y = new - x, (g - g_new if old_y else g_new - g)
        return new, ([*pairs, (s, y)] if s @ y > 0 else pairs)[-memory:]

    return update


def bfgs(
    start: str = "raised", dfp: bool = False, guess: bool = True, c2: float = 0.9, forgets: bool = False
) -> Update:
    def update(x: Any, f: Any, state: Any, lr: float) -> tuple[Any, Any]:
        H, fell = state or (None, 0.0)
        value, g = f.value_and_grad(x)
        if not g.any():
            return x, state
        p = -g if H is None else -H @ g
        alpha = min(1.0, 1.0 / float(np.sqrt(g @ g))) if H is None else 1.0
        if H is not None and fell > 0 and guess:
            alpha = min(1.0, 2.02 * fell / abs(float(g @ p)))
        new, _, _, g_new = search(f, x, p, lr * alpha, c2=c2)
        s, y = new - x, g_new - g
        if s @ y > 0:
            if H is None or forgets:
                gamma = {"raised": max(1.0, (s @ y) / (y @ y)), "scaled": (s @ y) / (y @ y), "identity": 1.0}[start]
                H = gamma * np.eye(len(x))
            if dfp:
                Hy = H @ y
                H = H + np.outer(s, s) / (s @ y) - np.outer(Hy, Hy) / (y @ Hy)
            else:
                V = np.eye(len(x)) - np.outer(s, y) / (s @ y)
                H = V @ H @ V.T + np.outer(s, s) / (s @ y)
        return new, (H, float(value) - float(f.value(new)))

    return update


def nonlinear_cg(
    beta: Callable[[Any, Any, Any], Any] = lambda p, g, new: max(0.0, new @ (new - g) / (g @ g)),
    c2: float = 0.1,
    guess: bool = True,
) -> Update:
    def update(x: Any, f: Any, state: Any, lr: float) -> tuple[Any, Any]:
        d, b, progress = state or (0 * x, 0.0, 0.0)
        g = f.grad(x)
        if not g.any():
            return x, state
        p = -g + b * d
        if not g @ p < 0:
            p = -g
        slope = float(g @ p)
        alpha = progress / slope if progress < 0 and guess else min(1.0, 1.0 / float(np.sqrt(g @ g)))
        new, alpha, g, g_new = search(f, x, p, lr * alpha, c2=c2)
        return new, (p, float(beta(p, g, g_new)), alpha * slope)

    return update


def uncut(p: Any, g: Any, new: Any) -> Any:
    return new @ (new - g) / (g @ g)


RIGHT: dict[str, tuple[Update, dict[str, Any]]] = {
    "lbfgs": (lbfgs(), {}),
    "bfgs": (bfgs(), {}),
    "nonlinear_cg": (nonlinear_cg(), {}),
}

MUTANTS = {
    "L-BFGS: H0 = I": Mutant(lbfgs(gamma=lambda pairs: 1.0), "lbfgs", ("H_0 = I",)),
    "L-BFGS: H0 upside down": Mutant(
        lbfgs(gamma=lambda pairs: (pairs[-1][1] @ pairs[-1][1]) / (pairs[-1][0] @ pairs[-1][1])),
        "lbfgs",
        ("gamma = y^T y / s^T y",),
    ),
    "L-BFGS: gamma s^T s / s^T y": Mutant(
        lbfgs(gamma=lambda pairs: (pairs[-1][0] @ pairs[-1][0]) / (pairs[-1][0] @ pairs[-1][1])),
        "lbfgs",
        ("gamma = s^T s / s^T y",),
    ),
    "L-BFGS: gamma of the oldest": Mutant(
        lbfgs(gamma=lambda pairs: (pairs[0][0] @ pairs[0][1]) / (pairs[0][1] @ pairs[0][1])),
        "lbfgs",
        ("gamma of the oldest pair",),
    ),
    "L-BFGS: memory 1": Mutant(lbfgs(memory=1), "lbfgs", ("memory=1",)),
    "L-BFGS: pairs in the wrong order": Mutant(lbfgs(ordered=False), "lbfgs", ("the loops in the opposite order",)),
    "L-BFGS: no alpha in the second loop": Mutant(lbfgs(first=False), "lbfgs", ()),
    "L-BFGS: c2 0.1": Mutant(lbfgs(c2=0.1), "lbfgs", ("c2=0.1",)),
    "L-BFGS: memory 5": Mutant(lbfgs(memory=5), "lbfgs", ("memory=5",)),
    "L-BFGS: H0 = I, memory 1": Mutant(lbfgs(memory=1, gamma=lambda pairs: 1.0), "lbfgs", ("H_0 = I", "memory=1")),
    "L-BFGS: first step 1": Mutant(lbfgs(unit=True), "lbfgs", ()),
    "BFGS: c2 0.1": Mutant(bfgs(c2=0.1), "bfgs", ("c2=0.1",)),
    "BFGS: DFP, H0 = I": Mutant(bfgs("identity", dfp=True), "bfgs", ("DFP's update", "start='identity'")),
    "BFGS: H0 = I": Mutant(bfgs("identity"), "bfgs", ("start='identity'",)),
    "BFGS: H0 scaled": Mutant(bfgs("scaled"), "bfgs", ("start='scaled'",)),
    "BFGS: DFP": Mutant(bfgs(dfp=True), "bfgs", ("DFP's update",)),
    "BFGS: forgets": Mutant(bfgs(forgets=True), "bfgs", ("H made anew at each step",)),
    "BFGS: tries 1 first": Mutant(bfgs(guess=False), "bfgs", ("fell not kept between steps",)),
    "Nonlinear CG: FR": Mutant(
        nonlinear_cg(lambda p, g, new: new @ new / (g @ g)), "nonlinear_cg", ("dialect='paper'",)
    ),
    "Nonlinear CG: HS": Mutant(
        nonlinear_cg(lambda p, g, new: new @ (new - g) / (p @ (new - g))), "nonlinear_cg", ("formula='HS'",)
    ),
    "Nonlinear CG: DY": Mutant(
        nonlinear_cg(lambda p, g, new: new @ new / (p @ (new - g))), "nonlinear_cg", ("formula='DY'", "restart=inf")
    ),
    "Nonlinear CG: PR, c2 0.4": Mutant(nonlinear_cg(uncut, c2=0.4), "nonlinear_cg", ()),
    "Nonlinear CG: beta halved": Mutant(
        nonlinear_cg(lambda p, g, new: max(0.0, new @ (new - g) / (g @ g)) / 2), "nonlinear_cg", ()
    ),
    "Nonlinear CG: PR": Mutant(nonlinear_cg(uncut), "nonlinear_cg", ("PR without the 0",)),
    "Nonlinear CG: over the new gradient": Mutant(
        nonlinear_cg(lambda p, g, new: max(0.0, new @ (new - g) / (new @ new))),
        "nonlinear_cg",
        ("beta over the new gradient",),
    ),
    "Nonlinear CG: beta 0": Mutant(nonlinear_cg(lambda p, g, new: 0.0), "nonlinear_cg", ("d not kept between steps",)),
    "Nonlinear CG: c2 0.4": Mutant(nonlinear_cg(c2=0.4), "nonlinear_cg", ("c2=0.4",)),
    "Nonlinear CG: first trial": Mutant(
        nonlinear_cg(guess=False), "nonlinear_cg", ("progress not kept between steps",)
    ),
}
