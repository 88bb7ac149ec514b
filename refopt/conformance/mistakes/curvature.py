"""Mistakes in methods that ask for more than gradients: in probes, products and batches, and when they are renewed.

Draws are changed where methods take them from, `backends.random`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeAlias
from unittest import mock

import numpy as np

from backends import random
from backends.arrays import Array
from refopt.conformance.mistakes.call import NEVER, Call, Rule
from refopt.objective import MatVec, Objective

Draw: TypeAlias = Callable[..., Array]
NORMAL, SIGNS = random.normal, random.rademacher


# --------------------------------------------------------------------------------------------------------------- probes


@contextmanager
def drawing(change: Callable[..., Array]) -> Iterator[None]:
    """Let change(draw, shape, seed=, k=, purpose=, like=) stand in for each draw of probes."""
    normal, signs = (partial(change, draw) for draw in (random.normal, random.rademacher))
    with mock.patch.multiple(random, normal=normal, rademacher=signs):
        yield


def probes(change: Callable[..., Array]) -> Rule:
    """Return the rule that draws otherwise."""

    def rule(call: Call) -> tuple[Array, Any]:
        with drawing(change):
            return call()

    return rule


def of_norm_1(draw: Draw, shape: Any, **keys: Any) -> Array:
    """Divide a probe by its norm."""
    z = draw(shape, **keys)
    return z / np.sqrt(np.sum(z * z))


PROBES: dict[str, Rule] = {
    "probes without variance: ones": probes(lambda draw, shape, **keys: np.ones_like(draw(shape, **keys))),
    "the first probe throughout": probes(lambda draw, shape, **keys: draw(shape, **{**keys, "k": 0})),
    "normal probes in place of signs": probes(lambda draw, shape, **keys: NORMAL(shape, **keys)),
    "signs in place of normal probes": probes(lambda draw, shape, **keys: SIGNS(shape, **keys)),
    "probes of variance 1/3: uniform in [-1, 1)": probes(
        lambda draw, shape, **keys: 2 * random.uniform(shape, **keys) - 1
    ),
    "probes of variance 1/12: uniform in [0, 1)": probes(lambda draw, shape, **keys: random.uniform(shape, **keys)),
    "probes of variance 1/4: 0 and 1 in place of signs": probes(
        lambda draw, shape, **keys: (draw(shape, **keys) + 1) / 2
    ),
    "probes of norm 1": probes(of_norm_1),
}

# ------------------------------------------------------------------------------------------------------------- products


def products(change: Callable[[Array, Array], Array]) -> Rule:
    """Return the rule whose curvature products H v are change(v, H v)."""

    def changed(f: Objective) -> Objective:
        parts: dict[str, Any] = {part: getattr(f, part) for part in f.parts}

        def through(mv: MatVec) -> MatVec:
            return lambda v: change(v, mv(v))

        if "hvp" in parts:
            parts["hvp"] = lambda x, v: change(v, f.hvp(x, v))
        if "linearize" in parts:
            parts["linearize"] = lambda x: (*f.linearize(x)[:2], through(f.linearize(x)[2]))
        for part in {"ggn", "fisher"} & set(parts):
            parts[part] = lambda x, of=parts[part], **keys: through(of(x, **keys))
        if f.n_examples is None or f.indices is not None:
            return Objective(**parts)
        parts |= {"n_examples": f.n_examples, "restrict": lambda indices: changed(f.minibatch(indices))}
        return Objective(**parts)

    def rule(call: Call) -> tuple[Array, Any]:
        whole = changed(call.objective.full)
        indices = call.objective.indices
        return call(objective=whole if indices is None else whole.minibatch(indices))

    return rule


PRODUCTS: dict[str, Rule] = {
    "the curvature's sign turned": products(lambda v, Hv: -Hv),
    "the curvature doubled": products(lambda v, Hv: 2 * Hv),
    "the curvature halved": products(lambda v, Hv: Hv / 2),
}
HUTCHINSON: dict[str, Rule] = {
    "H z in place of z H z": products(lambda z, Hz: Hz / z),
    "|z H z| in place of z H z": products(lambda z, Hz: np.abs(Hz) * np.sign(z)),
    "(z H z)^2 in place of z H z": products(lambda z, Hz: z * Hz * Hz),
}
SQUARED: dict[str, Rule] = {
    "the absolute value in place of the square": products(lambda z, Hz: np.sqrt(np.abs(Hz)) * np.sign(z)),
}

# ----------------------------------------------------------------------------------------------------- batches, periods


def all_examples(call: Call) -> tuple[Array, Any]:
    """Take the whole sum for the batch."""
    return call(objective=call.objective.full)


def batch_alone(call: Call) -> tuple[Array, Any]:
    """Take the batch for the whole sum."""
    f = call.objective
    return call(objective=Objective(**{part: getattr(f, part) for part in f.parts}))


BATCHES: dict[str, Rule] = {
    "all examples in place of the batch": all_examples,
    "the batch in place of all examples": batch_alone,
}

PERIODS = ("refresh", "m", "interval")
"""The hyperparameters that say every how many steps something is made anew."""


def shifted(period: str, by: int) -> Rule:
    """Return the rule that makes anew at k = 0 and whenever k + `by` is a multiple of the period."""

    def rule(call: Call) -> tuple[Array, Any]:
        due: Any = 1 if (call.state.k + by) % call.hyper[period] == 0 else NEVER
        return call(**{period: due})

    return rule


def stopped(period: str) -> Rule:
    """Return the rule that makes anew at k = 0 alone."""
    never: Any = NEVER
    return lambda call: call(**{period: never})


def renewals(hyper: Mapping[str, Any]) -> dict[str, Rule]:
    """Return the mistakes in the period of a method, if it has one."""
    rules: dict[str, Rule] = {}
    for period in PERIODS:
        if hyper.get(period, 1) > 1:
            rules[f"{period} a step early"] = shifted(period, 1)
            rules[f"{period} a step late"] = shifted(period, -1)
            rules[f"{period} never due again"] = stopped(period)
    return rules


# --------------------------------------------------------------------------------------------------------- ESGD, Sophia


def esgd(direction: Callable[[Array, Array, int, float], Array]) -> Rule:
    """Return the rule whose last line is x = x - lr direction(g, S, t, eps)."""

    def rule(call: Call) -> tuple[Array, Any]:
        _, state = call()
        g = call.objective.grad(call.x)
        return call.x - call.hyper["lr"] * direction(g, state.S, state.t, call.hyper["eps"]), state

    return rule


ESGD: dict[str, Rule] = {
    "eps inside the root": esgd(lambda g, S, t, eps: g / np.sqrt(S / t + eps)),
    "the sum of squares in place of their mean": esgd(lambda g, S, t, eps: g / (np.sqrt(S) + eps)),
    "no square root": esgd(lambda g, S, t, eps: g / (S / t + eps)),
    "z H z in place of H z": products(lambda z, Hz: z * Hz),
}


class Clipped(NamedTuple):
    """The parts of x = x - lr (clip(m / max(gamma h, eps), -1, 1) + decay), and h before the step."""

    m: Array
    h: Array
    h_last: Array
    gamma: float
    eps: float
    c1: float  # 1 - beta1^t

    def ratio(self, bottom: Array) -> Array:
        """Return m divided by `bottom`, which is at least eps."""
        return self.m / np.maximum(bottom, self.eps)


def sophia(direction: Callable[[Clipped], Array]) -> Rule:
    """Return the rule that moves along `direction`, and by the decay."""

    def rule(call: Call) -> tuple[Array, Any]:
        _, state = call()
        c1 = 1 - call.hyper["beta1"] ** (call.state.k + 1)
        q = Clipped(state.m, state.h, call.state.h, call.hyper["gamma"], call.hyper["eps"], c1)
        return call.x - call.hyper["lr"] * (direction(q) + call.decay), state

    return rule


def clip(ratio: Array) -> Array:
    """Return the ratio within [-1, 1]."""
    return np.clip(ratio, -1.0, 1.0)


SOPHIA: dict[str, Rule] = {
    "no clipping": sophia(lambda q: q.ratio(q.gamma * q.h)),
    "the curvature of the step before": sophia(lambda q: clip(q.ratio(q.gamma * q.h_last))),
    "|h| in place of h": sophia(lambda q: clip(q.ratio(q.gamma * np.abs(q.h)))),
    "eps added to the curvature": sophia(lambda q: clip(q.m / (q.gamma * q.h + q.eps))),
    "eps before gamma": sophia(lambda q: clip(q.m / (q.gamma * np.maximum(q.h, q.eps)))),
    "the square root of the curvature": sophia(lambda q: clip(q.ratio(q.gamma * np.sqrt(np.maximum(q.h, 0.0))))),
    "bias correction of m added": sophia(lambda q: clip(q.ratio(q.gamma * q.h) / q.c1)),
    "the sign of m alone": sophia(lambda q: np.sign(q.m)),
}

# ----------------------------------------------------------------------------------------------------------------- SVRG


def svrg(direction: Callable[[Array, Array, Array], Array]) -> Rule:
    """Return the rule x = x - lr direction(grad f_B(x), grad f_B(s), mu)."""

    def rule(call: Call) -> tuple[Array, Any]:
        _, state = call()
        g, g_s = (call.objective.grad(point) for point in (call.x, state.s))
        return call.x - call.hyper["lr"] * direction(g, g_s, state.mu), state

    return rule


def mu_stays(call: Call) -> tuple[Array, Any]:
    """Renew the snapshot, but not its full gradient."""
    x, state = call()
    mu = call.recall(state.mu)
    call.keep(mu)
    return x - call.hyper["lr"] * (mu - state.mu), state


SVRG: dict[str, Rule] = {
    "the full gradient not renewed with the snapshot": mu_stays,
    "the correction's sign turned": svrg(lambda g, g_s, mu: g + g_s - mu),
    "the full gradient missing": svrg(lambda g, g_s, mu: g - g_s),
    "the full gradient's sign turned": svrg(lambda g, g_s, mu: g - g_s - mu),
    "the snapshot's batch gradient missing": svrg(lambda g, g_s, mu: g + mu),
    "no correction": svrg(lambda g, g_s, mu: g),
    "the full gradient alone": svrg(lambda g, g_s, mu: mu),
}
