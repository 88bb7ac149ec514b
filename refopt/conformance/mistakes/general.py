"""Mistakes that can be made in every method, or in all that have some hyperparameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from backends.arrays import Array
from refopt.conformance.mistakes.call import NEVER, Call, Rule
from refopt.conformance.mistakes.curvature import drawing
from refopt.conformance.streams import LAYOUT
from refopt.method import Method, bind, keywords

# ---------------------------------------------------------------------------------------------- the count of steps t


def counted(k: Callable[[int], int]) -> Rule:
    """Return the rule that takes step k as if it were another one: t, which the method reads, is one more.

    Probes are drawn for the step that it is.
    """

    def rule(call: Call) -> tuple[Array, Any]:
        late = call.state.k - k(call.state.k)
        try:
            with drawing(lambda draw, shape, **keys: draw(shape, **{**keys, "k": keys["k"] + late})):
                x, state = call(state=call.state._replace(k=call.state.k - late))
        except ZeroDivisionError:  # which is nan in arrays
            x, state = call.x * np.nan, call.state
        return x, state._replace(k=call.state.k + 1)

    return rule


# ------------------------------------------------------------------------------------------------ one step too late


def update_lags(call: Call) -> tuple[Array, Any]:
    """Move x by the change of the step before."""
    x, state = call()
    call.keep(x - call.x)
    return call.x + call.recall(0.0), state


def gradient_lags(call: Call) -> tuple[Array, Any]:
    """Take the gradient of the step before, 0 at the first."""

    def late(g: Array) -> Array:
        call.keep(g)
        return call.recall(0.0 * g)

    return call(gradient=late)


def lr_lags(call: Call) -> tuple[Array, Any]:
    """Take the lr of the step before."""
    call.keep(call.hyper["lr"])
    return call(lr=call.recall(call.hyper["lr"]))


def lr_stays(call: Call) -> tuple[Array, Any]:
    """Take the lr of the first step."""
    lr = call.recall(call.hyper["lr"])
    call.keep(lr)
    return call(lr=lr)


# ------------------------------------------------------------------------------------------------------- lr and decay


def lr_inside(call: Call) -> tuple[Array, Any]:
    """Let the buffers hold lr g."""
    return call(lr=1.0, gradient=lambda g: call.hyper["lr"] * g)


def lr_outside(call: Call) -> tuple[Array, Any]:
    """Let the buffers hold g, and multiply what comes out of them by lr."""
    x, state = call(lr=1.0)
    return call.x + call.hyper["lr"] * (x - call.x), state


def decay_in_gradient(call: Call) -> tuple[Array, Any]:
    """Add weight_decay x to the gradient: L2."""
    return call(weight_decay=0.0, gradient=lambda g: g + call.decay)


def decay_decoupled(call: Call) -> tuple[Array, Any]:
    """Subtract lr weight_decay x beside the step."""
    x, state = call(weight_decay=0.0)
    return x - call.hyper["lr"] * call.decay, state


def decay_not_times_lr(call: Call) -> tuple[Array, Any]:
    """Subtract weight_decay x beside the step."""
    x, state = call(weight_decay=0.0)
    return x - call.decay, state


def decay_of_new_x(call: Call) -> tuple[Array, Any]:
    """Subtract lr weight_decay x of the x after the step."""
    x, state = call(weight_decay=0.0)
    return x - call.hyper["lr"] * call.hyper["weight_decay"] * x, state


# --------------------------------------------------------------------------------------------------------- the state


def starting(field: str, value: Callable[[Array], Array]) -> Rule:
    """Return the rule that starts a field of the state at a function of the first gradient."""

    def rule(call: Call) -> tuple[Array, Any]:
        if call.recall(True):
            g = call.objective.grad(call.x)
            state = call.state._replace(**{field: value(g)})
        else:
            state = call.state
        call.keep(False)
        return call(state=state)

    return rule


def forgotten(field: str) -> Rule:
    """Return the rule that starts every step from the first value of a field of the state."""

    def rule(call: Call) -> tuple[Array, Any]:
        first = call.recall(getattr(call.state, field))
        call.keep(first)
        return call(state=call.state._replace(**{field: first}))

    return rule


def fields(method: Method, hyper: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the names of the vectors in a method's state, and of the numbers that are no counts."""
    x = np.zeros(LAYOUT.n)
    options = {key: value for key, value in hyper.items() if key in keywords(method.init)}
    state = bind(method, **options).init(x)._asdict()
    vectors = [f for f, value in state.items() if isinstance(value, np.ndarray) and value.shape == x.shape]
    return vectors, [f for f, value in state.items() if isinstance(value, float)]


# ------------------------------------------------------------------------------------------------------ the catalogue

ANY: dict[str, Rule] = {
    "the update lagging one step": update_lags,
    "the gradient of the step before": gradient_lags,
    "the gradient's sign turned": lambda call: call(gradient=lambda g: -g),
    "the gradient doubled": lambda call: call(gradient=lambda g: 2 * g),
    "the gradient halved": lambda call: call(gradient=lambda g: 0.5 * g),
    "the gradient taken at x": lambda call: call(gradient=lambda g: call.objective.grad(call.x)),
    "the gradient clipped to norm 1": lambda call: call(gradient=lambda g: g / max(1.0, float(np.sqrt(g @ g)))),
    "bias correction missing": counted(lambda k: NEVER),
    "t starting at 2": counted(lambda k: k + 1),
    "t starting at 0": counted(lambda k: k - 1),
    "t lagging one step": counted(lambda k: max(k - 1, 0)),
    "t starting at 0, the first step uncorrected": counted(lambda k: k - 1 if k else NEVER),
    "t counted twice a step": counted(lambda k: 2 * k + 1),
    "t staying at 1": counted(lambda k: 0),
}

WITH: dict[str, dict[str, Rule]] = {
    "lr": {
        "lr lagging one step": lr_lags,
        "the lr of the first step throughout": lr_stays,
        "lr inside the buffer": lr_inside,
        "lr outside the buffer": lr_outside,
    },
    "momentum": {
        "momentum as a running mean": lambda call: call(gradient=lambda g: (1 - call.hyper["momentum"]) * g),
        "momentum as a sum": lambda call: call(gradient=lambda g: g / (1 - call.hyper["momentum"])),
    },
    "weight_decay": {
        "L2 in place of the decay": decay_in_gradient,
        "decoupled decay": decay_decoupled,
        "decay not times lr": decay_not_times_lr,
        "decay of the new x": decay_of_new_x,
    },
}
"""Those that need a hyperparameter."""

SWITCHES = {
    "lr inside the buffer": "lr_placement='inside'",
    "lr outside the buffer": "lr_placement='outside'",
    "decay not times lr": "decay_times_lr=False",
    "eps inside the root": "eps_placement='inside'",
    "eps beside the uncorrected root": "eps_placement='hat'",
}
"""Those that are no mistake, but a switch, where a method has it."""
