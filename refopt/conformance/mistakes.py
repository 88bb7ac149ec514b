r"""Typical mistakes in optimizers, each a rule that takes one step of a method wrongly.

A rule sees the step that is about to be taken, a `Call`, and takes it with something changed: `call(gradient=...)`
alters the gradient on its way in, `call(lr=1.0)` a hyperparameter, `call(state=...)` the state; then x and the state
can be altered on their way out. So most mistakes are a line that holds for every method. Only those inside a formula
(which moment is bias-corrected, where eps stands) write the last line of the method again, from the moments that the
method itself computed. `make` puts rules around a method and gives a method again, wrong in these ways.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from backends.arrays import Array
from refopt.conformance.streams import LAYOUT
from refopt.method import Dialects, Method, Spec, bind, keywords, name_of
from refopt.objective import Objective

NEVER = 10**9  # a t at which beta^t is 0


@dataclass(frozen=True)
class Call:
    """One step of a method, about to be taken within the rules that are left."""

    method: Any
    objective: Objective
    x: Array
    state: Any
    hyper: Mapping[str, Any]  # all of them, defaults too
    rules: tuple[Rule, ...]
    last: Mapping[str, Any]  # what the rules kept at the step before
    kept: dict[str, Any]

    def __call__(
        self, *, state: Any = None, gradient: Callable[[Array], Array] | None = None, **hyper: Any
    ) -> tuple[Array, Any]:
        """Take the step, with the state, the gradient or hyperparameters changed."""
        objective = self.objective.map_grad(gradient) if gradient else self.objective
        state = self.state if state is None else state
        if not self.rules:
            return self.method.step(objective, self.x, state, **{**self.hyper, **hyper})  # type: ignore[no-any-return]
        inner = replace(self, objective=objective, state=state, hyper={**self.hyper, **hyper}, rules=self.rules[1:])
        return self.rules[0](inner)

    def recall(self, otherwise: Any) -> Any:
        """Return what the rule kept at the step before, and `otherwise` at the first."""
        return self.last.get(str(len(self.rules)), otherwise)

    def keep(self, value: Any) -> None:
        """Keep a value until the next step."""
        self.kept[str(len(self.rules))] = value

    @property
    def decay(self) -> Array:
        """The decay of x that is due, before lr."""
        return self.hyper["weight_decay"] * self.x


Rule: TypeAlias = Callable[[Call], tuple[Array, Any]]


class State(NamedTuple):
    """The state of a method made wrong."""

    k: int
    inner: Any
    kept: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Wrong:
    """A method made wrong: it has a method module's attributes."""

    name: str
    SPEC: Spec
    DIALECTS: Dialects
    init: Callable[..., Any]
    step: Callable[..., tuple[Array, Any]]


def make(method: Method, rules: Sequence[Rule]) -> Method:
    """Return `method` with each of `rules` around its step, the first outermost."""
    defaults = _defaults(method.step)

    @functools.wraps(method.init)
    def init(x: Array, **options: Any) -> State:
        return State(0, method.init(x, **options), {})

    @functools.wraps(method.step)
    def step(objective: Objective, x: Array, state: State, **hyper: Any) -> tuple[Array, State]:
        kept: dict[str, Any] = {}
        outside = Call(method, objective, x, state.inner, {**defaults, **hyper}, tuple(rules), state.kept, kept)
        x, inner = outside()
        return x, State(state.k + 1, inner, kept)

    made: tuple[tuple[Any, Any], ...] = (init, method.init), (step, method.step)
    for function, original in made:
        function.__signature__ = _signature(original)  # read once: thousands are made
    return Wrong(name_of(method), method.SPEC, method.DIALECTS, init, step)


_signature = cache(inspect.signature)
_defaults = cache(keywords)


# ---------------------------------------------------------------------------------------------- the count of steps t


def counted(k: Callable[[int], int]) -> Rule:
    """Return the rule that takes step k as if it were another one: t, which the method reads, is one more."""

    def rule(call: Call) -> tuple[Array, Any]:
        try:
            x, state = call(state=call.state._replace(k=k(call.state.k)))
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


def array_fields(method: Method, hyper: Mapping[str, Any]) -> list[str]:
    """Return the names of the vectors in a method's state."""
    x = np.zeros(LAYOUT.n)
    options = {key: value for key, value in hyper.items() if key in keywords(method.init)}
    state = bind(method, **options).init(x)
    return [
        f for f in state._fields if isinstance(getattr(state, f), np.ndarray) and getattr(state, f).shape == x.shape
    ]


# ------------------------------------------------------------------------------------------------------ the quotients


class Quotient(NamedTuple):
    """The parts of x = x - lr m_hat / (sqrt(v_hat) + eps) after the moments have moved, and the moments before."""

    g: Array
    m: Array
    v: Array
    c1: float  # m_hat = m / c1; 1 where the method does not correct
    c2: float
    bias: float  # 1 - beta2^t
    eps: float
    m_last: Array
    v_last: Array


QUOTIENTS = {
    "adam": ("m", "v"),
    "adamw": ("m", "v"),
    "amsgrad": ("m", "v_max"),
    "adabelief": ("m", "s"),
    "radam": ("m", "v"),
    "rmsprop": (None, "v"),
    "adagrad": (None, "s"),
}
"""The fields of m and v; without m it is g itself."""


def quotient(direction: Callable[[Quotient], Array]) -> Rule:
    """Return the rule whose last line is x = x - lr direction [- the decoupled decay]."""

    def rule(call: Call) -> tuple[Array, Any]:
        x, state = call()
        of_m, of_v = QUOTIENTS[name_of(call.method)]
        lr, t = call.hyper["lr"], call.state.k + 1
        bias = 1 - call.hyper.get("beta2", call.hyper.get("rho", 0.0)) ** t
        g = call.objective.grad(call.x)
        q = Quotient(
            g,
            getattr(state, of_m) if of_m else g,
            getattr(state, of_v),
            1 - call.hyper["beta1"] ** t if of_m else 1.0,
            bias if of_m else 1.0,
            bias,
            call.hyper["eps"],
            getattr(call.state, of_m) if of_m else g,
            getattr(call.state, of_v),
        )
        x = call.x - lr * direction(q)
        if name_of(call.method) == "adamw":
            x = x - (lr if call.hyper["decay_times_lr"] else 1.0) * call.decay
        return x, state

    return rule


def root(v: Array) -> Array:
    """Return sqrt(v)."""
    return np.sqrt(v)


ANY_QUOTIENT: dict[str, Rule] = {
    "the second moment of the step before": quotient(lambda q: q.m / q.c1 / (root(q.v_last / q.c2) + q.eps)),
    "no square root": quotient(lambda q: q.m / q.c1 / (q.v / q.c2 + q.eps)),
}
CORRECTED: dict[str, Rule] = {
    "eps inside the root": quotient(lambda q: q.m / q.c1 / root(q.v / q.c2 + q.eps)),
    "eps beside the uncorrected root": quotient(lambda q: q.m / q.c1 * root(q.c2) / (root(q.v) + q.eps)),
    "bias correction of the first moment missing": quotient(lambda q: q.m / (root(q.v / q.c2) + q.eps)),
    "bias correction of the second moment missing": quotient(lambda q: q.m / q.c1 / (root(q.v) + q.eps)),
    "bias correction of the second moment outside its root": quotient(
        lambda q: q.m / q.c1 / (root(q.v) / q.c2 + q.eps)
    ),
    "the first moment of the step before": quotient(lambda q: q.m_last / q.c1 / (root(q.v / q.c2) + q.eps)),
}
UNCORRECTED: dict[str, Rule] = {
    "bias correction added": quotient(lambda q: q.g / (root(q.v / q.bias) + q.eps)),
}


# ----------------------------------------------------------------------------------------------------- single methods


def lion_mean_first(call: Call) -> tuple[Array, Any]:
    """Take the sign of beta1 m + (1 - beta1) g with the new m: the weight of the old one is beta1 beta2."""
    x, _ = call(beta1=call.hyper["beta1"] * call.hyper["beta2"])
    _, state = call()
    return x, state


def rprop_forgives_nothing(call: Call) -> tuple[Array, Any]:
    """Where the sign turned, step by the smaller delta, and remember g."""
    g = call.objective.grad(call.x)
    _, state = call()
    return call.x - state.delta * np.sign(g), state._replace(p=g)


def exponents(p: int) -> Rule:
    """Return the rule that takes the same roots for parts of every order."""
    return lambda call: call(p=p)


def shampoo_half_p(call: Call) -> tuple[Array, Any]:
    """Take the roots of p = k, the order of the part, in place of 2 k."""
    layout = call.hyper["layout"]
    of_order = {k: call(p=k) for k in {len(shape) for shape in layout.shapes.values()}}
    of_part = {name: of_order[len(shape)] for name, shape in layout.shapes.items()}
    x = layout.join({name: layout.split(x)[name] for name, (x, _) in of_part.items()})
    m = layout.join({name: layout.split(state.m)[name] for name, (_, state) in of_part.items()})
    _, state = next(iter(of_order.values()))
    P = {key: of_part[key.split("/")[0]][1].P[key] for key in state.P}
    return x, state._replace(m=m, P=P)


OWN: dict[str, dict[str, Rule]] = {
    "lion": {"the mean updated before the sign": lion_mean_first},
    "rprop": {"the step taken where the sign turned": rprop_forgives_nothing},
    "shampoo": {
        "exponents -1 / k in place of -1 / (2 k)": shampoo_half_p,
        **{f"exponents -1 / {p} for every part": exponents(p) for p in (1, 2, 3, 4)},
    },
}


# ------------------------------------------------------------------------------------------------------ the catalogue

ANY: dict[str, Rule] = {
    "the update lagging one step": update_lags,
    "the gradient of the step before": gradient_lags,
    "the gradient's sign turned": lambda call: call(gradient=lambda g: -g),
    "the gradient doubled": lambda call: call(gradient=lambda g: 2 * g),
    "the gradient halved": lambda call: call(gradient=lambda g: 0.5 * g),
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
        "decoupled decay in place of L2": decay_decoupled,
        "decay not times lr": decay_not_times_lr,
        "decay of the new x": decay_of_new_x,
    },
}
"""Those that need a hyperparameter."""

SWITCHES = {
    "lr inside the buffer": "lr_placement",
    "lr outside the buffer": "lr_placement",
    "decay not times lr": "decay_times_lr",
    "eps beside the uncorrected root": "eps_placement",
}
"""Those that are no mistake, but a switch, where a method has it."""


def catalogue(method: Method, hyper: Mapping[str, Any]) -> dict[str, Rule]:
    """Return every mistake that can be made in `method`, by its name."""
    name, known = name_of(method), keywords(method.step)
    rules = dict(ANY)
    for needed, those in WITH.items():
        if needed in known:
            rules |= those
    for field in array_fields(method, hyper):
        rules |= {
            f"{field} starting at 1": starting(field, np.ones_like),
            f"{field} starting at 0.1": starting(field, lambda g: np.full_like(g, 0.1)),
            f"{field} starting at g": starting(field, lambda g: g),
            f"{field} starting at g^2": starting(field, lambda g: g * g),
            f"{field} not kept between steps": forgotten(field),
        }
    if name in QUOTIENTS and not hyper.get("momentum") and not hyper.get("centered"):
        rules |= ANY_QUOTIENT | (CORRECTED if QUOTIENTS[name][0] else UNCORRECTED)
    rules |= OWN.get(name, {})
    return {rule: made for rule, made in rules.items() if SWITCHES.get(rule) not in known}
