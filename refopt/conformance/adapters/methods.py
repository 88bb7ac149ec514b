"""Methods in refopt's own shape: a module, or what `bind` returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from backends.arrays import Array
from refopt.conformance.adapters.player import Advance, Grad, Player, Rate
from refopt.conformance.streams import LAYOUT, MATRICES
from refopt.layout import Layout
from refopt.method import Bound, Method, bind, keywords, name_of
from refopt.objective import MissingPart, Objective


def is_module(candidate: Any) -> bool:
    """Say whether `candidate` has functions `init` and `step`; what else a method has, a candidate need not have."""
    return all(callable(getattr(candidate, name, None)) for name in ("init", "step"))


def player(method: Method, *, touch: Callable[[Any], Any] = lambda node: node, **hyper: Any) -> Player:
    """Return the player of `method` with the hyperparameters `hyper`.

    `touch` is applied to every gradient, and to x and the state after init and after every step.
    """
    known = {**keywords(method.init), **keywords(method.step)}
    if "layout" in known:
        hyper = {"layout": layout_for(method), **hyper}

    def start(x0: Array, lr: Rate) -> Advance:
        rate = {"lr": lr} if "lr" in known else {}
        return _started(bind(method, **{**hyper, **rate}), x0, touch)

    return Player(name_of(method), start, takes_lr="lr" in known)


def layout_for(method: Method) -> Layout:
    """Return the tensors of the streams as `method` takes them."""
    if "layout" not in {**keywords(method.init), **keywords(method.step)}:
        return LAYOUT
    init, step = bind(method, layout=LAYOUT)
    x = np.ones(LAYOUT.n)
    try:
        with np.errstate(all="ignore"):  # a wrong method may do anything
            step(Objective(grad=np.ones_like), x, init(x))
    except MissingPart:
        return MATRICES
    return LAYOUT


def bound(method: Bound) -> Player:
    """Return the player of a bound method, whose lr is chosen already."""
    return Player("bound method", lambda x0, lr: _started(method, x0, lambda node: node), takes_lr=False)


def _started(method: Bound, x0: Array, touch: Callable[[Any], Any]) -> Advance:
    x, state = x0, touch(method.init(x0))
    answer: Grad
    objective = Objective(grad=lambda x: touch(answer(x)))

    def advance(k: int, grad: Grad) -> Array:
        nonlocal x, state, answer
        answer = grad
        x, state = touch(method.step(objective, x, state))
        return x

    return advance
