"""Mistakes in x = x - lr m_hat / (sqrt(v_hat) + eps), for every method that has such a quotient somewhere.

A method's `Form` reads the parts of its quotient from the moments that it computed itself, and says what becomes of x
once the quotient is known: LAMB multiplies it by the trust ratio, NovoGrad averages it. A mistake changes a part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from backends.arrays import Array
from refopt.conformance.mistakes.call import Call, Rule
from refopt.conformance.mistakes.general import counted
from refopt.layout import Layout
from refopt.method import name_of


class Term(NamedTuple):
    """One of the numerator: weight moment / correction."""

    weight: float
    moment: Array
    last: Array  # the moment before the step
    correction: float = 1.0  # 1 where the method does not correct
    bias: float = 1.0  # 1 - beta1^t


class Quotient(NamedTuple):
    """The sum of the terms over the root, after the moments have moved."""

    terms: tuple[Term, ...]
    v: Array
    v_last: Array
    correction: float  # v_hat = v / correction
    bias: float  # 1 - beta2^t
    eps: float
    place: str = "outside"
    added: Array | float = 0.0  # to v_hat, under the root
    root: Callable[[Array], Array] = np.sqrt
    divides: bool = True

    @property
    def value(self) -> Array:
        """The quotient (n,)."""
        top: Array = sum(term.weight / term.correction * term.moment for term in self.terms)
        if not self.divides:
            return top
        v_hat = self.v / self.correction + self.added
        if self.place == "inside":
            return top / self.root(v_hat + self.eps)
        if self.place == "hat":
            return top * float(self.root(np.asarray(self.correction))) / (self.root(self.v) + self.eps)
        return top / (self.root(v_hat) + self.eps)

    def of_terms(self, change: Callable[[Term], Term]) -> Quotient:
        """Return the quotient with its terms changed."""
        return self._replace(terms=tuple(change(term) for term in self.terms))


class Form(NamedTuple):
    """Where a method's last line has its quotient."""

    parts: Callable[[Call, Any], Quotient]  # of the step that is about to be taken, and the state after it
    land: Callable[[Call, Any, Array], tuple[Array, Any]]  # from the quotient to x and the state
    v: str = "v"  # the field of the second moment


# ---------------------------------------------------------------------------------------------------------- the parts


def moments(call: Call, state: Any, m: str = "m", v: str = "v", late: int = 0) -> Quotient:
    """Return the quotient of Adam, from the fields of its moments."""
    hyper, t = call.hyper, call.state.k + 1 - late
    corrects = hyper.get("bias_correction", True)
    c1, c2 = 1 - hyper["beta1"] ** t, 1 - hyper["beta2"] ** t
    term = Term(1.0, getattr(state, m), getattr(call.state, m), c1 if corrects else 1.0, c1)
    moment = getattr(state, v), getattr(call.state, v)
    return Quotient((term,), *moment, c2 if corrects else 1.0, c2, hyper["eps"], hyper.get("eps_placement", "outside"))


def gradient(call: Call, state: Any, v: str) -> Quotient:
    """Return that of RMSprop: g itself, and a second moment that is not corrected."""
    g, hyper = call.objective.grad(call.x), call.hyper
    bias = 1 - hyper.get("rho", 0.0) ** (call.state.k + 1)
    v_now, v_last = getattr(state, v), getattr(call.state, v)
    return Quotient((Term(1.0, g, g),), v_now, v_last, 1.0, bias, hyper["eps"], hyper["eps_placement"])


def amsgrad(call: Call, state: Any) -> Quotient:
    """Correct v_max after the maximum, if at all."""
    q = moments(call, state, v="v_max")
    if call.hyper["correction"] == "none":
        q = q.of_terms(lambda term: term._replace(correction=1.0))
    return q if call.hyper["correction"] == "after" else q._replace(correction=1.0)


def adabelief(call: Call, state: Any) -> Quotient:
    """Pad s, which may hold eps_root already."""
    q, hyper = moments(call, state, v="s"), call.hyper
    pad = 0.0 if hyper["store_eps_root"] else hyper["eps_root"]
    return q._replace(v=q.v + pad, v_last=q.v_last + pad)


def radam(call: Call, state: Any) -> Quotient:
    """Rectify, or do not divide at all."""
    r = state.info["r"]
    return moments(call, state).of_terms(lambda term: term._replace(weight=r or 1.0))._replace(divides=r > 0)


def adahessian(call: Call, state: Any) -> Quotient:
    """Count the products for the correction, and take another power than the root."""
    bias, power = 1 - call.hyper["beta2"] ** state.refreshed, call.hyper["power"] / 2
    return moments(call, state)._replace(correction=bias, bias=bias, root=lambda v: v**power)


def nadam(call: Call, state: Any) -> Quotient:
    """Look ahead."""
    q, hyper, g = moments(call, state), call.hyper, call.objective.grad(call.x)
    t = call.state.k + 1
    mu, mu_next = (hyper["beta1"] * (1 - 0.5 * 0.96 ** (hyper["psi"] * i)) for i in (t, t + 1))
    of_m, of_g = 1 - state.mu_product * mu_next, 1 - state.mu_product
    (term,) = q.terms
    return q._replace(terms=(term._replace(weight=mu_next, correction=of_m), Term(1 - mu, g, g, of_g, of_g)))


def qhadam(call: Call, state: Any) -> Quotient:
    """Mix both moments with those of g alone."""
    q, g = moments(call, state), call.objective.grad(call.x)
    nu1, nu2 = call.hyper["nu1"], call.hyper["nu2"]
    q = q.of_terms(lambda term: term._replace(weight=nu1))
    q = q._replace(terms=(*q.terms, Term(1 - nu1, g, g)))
    return q if nu2 == 1 else q._replace(v=nu2 * q.v, v_last=nu2 * q.v_last, added=(1 - nu2) * (g * g))


def adan(call: Call, state: Any) -> Quotient:
    """Add the mean difference to m; n has beta3."""
    q, hyper, t = moments(call, state, v="n"), call.hyper, call.state.k + 1
    weight = hyper["beta2"] if hyper["difference_weight"] == "beta2" else 1 - hyper["beta2"]
    c2, c3 = 1 - hyper["beta2"] ** t, 1 - hyper["beta3"] ** t
    corrects = hyper["bias_correction"]
    ahead = Term(weight, state.v, call.state.v, c2 if corrects else 1.0, c2)
    correction = c3 if corrects else 1.0
    return q._replace(terms=(*q.terms, ahead), correction=correction, bias=c3, added=hyper["eps_root"])


def adamax(call: Call, state: Any) -> Quotient:
    """Divide by u, which may hold eps already."""
    q = moments(call, state, v="u")._replace(correction=1.0, root=lambda u: u, place="outside")
    return q._replace(eps=0.0) if call.hyper["eps_placement"] == "inside" else q


def novograd(call: Call, state: Any) -> Quotient:
    """Divide each tensor by a number of its own."""
    g, hyper = call.objective.grad(call.x), call.hyper
    v, v_last = (spread(call, moment) for moment in (state.v, call.state.v))
    return Quotient((Term(1.0, g, g),), v, v_last, 1.0, 1 - hyper["beta2"] ** (call.state.k + 1), hyper["eps"])


def schedule_free(call: Call, state: Any) -> Quotient:
    """Divide g, with the bias of v in lr or in v."""
    g, hyper = call.objective.grad(call.x), call.hyper
    bias = 1 - hyper["beta2"] ** (call.state.k + 1)
    correction = bias if hyper["correction"] == "v" else 1.0
    return Quotient((Term(1.0, g, g),), state.v, call.state.v, correction, bias, hyper["eps"])


def soap(call: Call, state: Any) -> Quotient:
    """Divide in the basis; a new one, and V in its order, come after the step."""
    hyper, first = call.hyper, call.state.k == 0
    Q = state.Q if first else call.state.Q
    q = moments(call, state, "M", "V", late=hyper["skip_first"] and not first)
    M, M_last, g = (
        call.method.rotated(v, Q, layout(call)) for v in (state.M, call.state.M, call.objective.grad(call.x))
    )
    V = hyper["beta2"] * call.state.V + (1 - hyper["beta2"]) * (g * g)
    return q.of_terms(lambda term: term._replace(moment=M, last=M_last))._replace(v=V)


# ------------------------------------------------------------------------------------------------- what becomes of x


def layout(call: Call) -> Layout:
    """Return the tensors that the method sees."""
    return call.hyper["layout"] or Layout({"x": call.x.shape})


def spread(call: Call, of_tensors: Mapping[str, Any]) -> Array:
    """Return the vector (n,) with the number of each tensor in all its entries."""
    shapes = layout(call).shapes
    return layout(call).join({name: np.full(shapes[name], number) for name, number in of_tensors.items()})


def straight(call: Call, state: Any, d: Array) -> tuple[Array, Any]:
    """X = x - lr d."""
    return call.x - call.hyper["lr"] * d, state


def decayed(call: Call, state: Any, d: Array) -> tuple[Array, Any]:
    """X = x - lr (d + weight_decay x), or with a decay that lr does not multiply."""
    lr, eta = call.hyper["lr"], call.hyper.get("eta", 1.0)
    return call.x - eta * (lr * d + (lr if call.hyper.get("decay_times_lr", True) else 1.0) * call.decay), state


def heavy(call: Call, state: Any, d: Array) -> tuple[Array, Any]:
    """B = momentum b + d; x = x - lr b."""
    if not call.hyper["momentum"]:
        return straight(call, state, d)
    inner, outer = (call.hyper["lr"], 1.0)[:: 1 if call.hyper["lr_placement"] == "inside" else -1]
    b = call.hyper["momentum"] * (0.0 if call.state.b is None else call.state.b) + inner * d
    return call.x - outer * b, state._replace(b=b)


def trusted(call: Call, state: Any, d: Array, trust: Callable[[Any], Any] = lambda ratio: ratio) -> tuple[Array, Any]:
    """X = x - lr trust u, u = d + weight_decay x, tensor by tensor."""
    U = layout(call).split(d + call.decay)
    moved = {}
    for name, w in layout(call).split(call.x).items():
        moved[name] = trust(call.method.trust_ratio(w, U[name], call.hyper["max_norm"])) * U[name]
    return call.x - call.hyper["lr"] * layout(call).join(moved), state


def proximal(call: Call, state: Any, d: Array, times_lr: bool = True) -> tuple[Array, Any]:
    """X = (x - lr d) / (1 + lr weight_decay), or x = x - lr (d + weight_decay x)."""
    lr = call.hyper["lr"]
    rate = lr if times_lr else 1.0
    if call.hyper["decay"] == "decoupled":
        return call.x - lr * d - rate * call.decay, state
    return (call.x - lr * d) / (1 + rate * call.hyper["weight_decay"]), state


def summed(call: Call, state: Any, d: Array) -> tuple[Array, Any]:
    """M = beta1 m + d + weight_decay x; x = x - lr m."""
    m = call.hyper["beta1"] * call.state.m + d + call.decay
    return call.x - call.hyper["lr"] * m, state._replace(m=m)


def averaged(call: Call, state: Any, d: Array) -> tuple[Array, Any]:
    """Z = z - lr_t (d + weight_decay y), then the mean of z and the point in between."""
    return between(call, state, call.state.z - rate(call) * (d + call.decay), rate(call) ** 2 / state.weight_sum)


def rate(call: Call) -> float:
    """Return lr_t of a schedule-free method."""
    hyper = call.hyper
    bias = 1 - hyper["beta2"] ** (call.state.k + 1) if hyper.get("correction") == "lr" else 1.0
    return float(hyper["lr"] * bias**0.5)


def between(call: Call, state: Any, z: Array, c: float, of_mean: Array | None = None) -> tuple[Array, Any]:
    """Return y and the state from z, which weighs c in its mean; `of_mean` enters that in its place."""
    a = call.state.a + c * ((z if of_mean is None else of_mean) - call.state.a)
    momentum = call.hyper.get("momentum", call.hyper.get("beta1"))
    return z + momentum * (a - z), state._replace(z=z, a=a)


def turned_back(call: Call, state: Any, d: Array) -> tuple[Array, Any]:
    """X = x - lr (d + weight_decay x) with d turned back from the basis; the first gradient may make that alone."""
    if call.state.k == 0 and call.hyper["skip_first"]:
        return call.x, state
    Q = state.Q if call.state.k == 0 else call.state.Q
    back = {name: tuple(None if Q_i is None else Q_i.T for Q_i in Q[name]) for name in Q}
    return decayed(call, state, call.method.rotated(d, back, layout(call)))


FORMS = {
    "adam": Form(moments, straight),
    "adamw": Form(moments, decayed),
    "amsgrad": Form(amsgrad, straight, "v_max"),
    "adabelief": Form(adabelief, straight, "s"),
    "radam": Form(radam, straight),
    "nadam": Form(nadam, straight),
    "qhadam": Form(qhadam, straight),
    "yogi": Form(moments, straight),
    "adan": Form(adan, proximal, "n"),
    "lamb": Form(moments, trusted),
    "novograd": Form(novograd, summed),
    "schedule_free_adamw": Form(schedule_free, averaged),
    "rmsprop": Form(lambda call, state: gradient(call, state, "v"), heavy),
    "adagrad": Form(lambda call, state: gradient(call, state, "s"), straight, "s"),
    "adamax": Form(adamax, straight, "u"),
    "adahessian": Form(adahessian, decayed),
    "soap": Form(soap, turned_back, "V"),
}

# --------------------------------------------------------------------------------------------------------- the rules


@dataclass(frozen=True)
class LastLine:
    """The rule that has a part of the quotient changed, or the second moment, or what becomes of x."""

    change: Callable[[Quotient], Quotient] = lambda q: q
    v: Callable[[Call, Any], Any] | None = None  # of the state after the step; call.state is the one before
    land: Callable[[Call, Any, Array], tuple[Array, Any]] | None = None

    def __call__(self, call: Call) -> tuple[Array, Any]:
        """Take the step, and its last line again."""
        _, state = call()
        form = FORMS[name_of(call.method)]
        if self.v is not None:
            state = state._replace(**{form.v: self.v(call, state)})
        return (self.land or form.land)(call, state, self.change(form.parts(call, state)).value)

    def and_too(self, other: LastLine) -> LastLine:
        """Return the rule with what `other` changes changed as well."""
        return LastLine(lambda q: other.change(self.change(q)), self.v or other.v, self.land or other.land)


def yogi_from_0(call: Call, state: Any) -> Array:
    """Return v as it is after a first step from 0."""
    v: Array = state.v if call.state.k else (1 - call.hyper["beta2"]) * call.objective.grad(call.x) ** 2
    return v


def yogi_turned(call: Call, state: Any) -> Array:
    """Return v moved the other way, unless it is the first g^2."""
    v: Array = state.v if call.state.k == 0 and call.hyper["v0"] is None else 2 * call.state.v - state.v
    return v


def novograd_of_means(call: Call, state: Any) -> dict[str, Any]:
    """Return v of the mean of g^2 of each tensor."""
    beta2 = call.hyper["beta2"] if call.state.k else 0.0
    G = layout(call).split(call.objective.grad(call.x))
    return {name: beta2 * call.state.v[name] + (1 - beta2) * np.mean(g * g) for name, g in G.items()}


def adan_without_looking(call: Call, state: Any) -> Array:
    """Return n of g alone."""
    beta3, g = call.hyper["beta3"], call.objective.grad(call.x)
    from_g = call.state.k == 0 and not call.hyper["bias_correction"]
    return g * g if from_g else beta3 * call.state.n + (1 - beta3) * (g * g)


def adan_from_0(call: Call) -> tuple[Array, Any]:
    """Let d be g at the first step."""
    if call.state.k:
        return call()
    _, state = call()
    g, beta2, beta3 = call.objective.grad(call.x), call.hyper["beta2"], call.hyper["beta3"]
    ahead = g + (beta2 if call.hyper["difference_weight"] == "beta2" else 1 - beta2) * g
    weight = 1 - beta3 if call.hyper["bias_correction"] else 1.0
    state = state._replace(v=(1 - beta2) * g, n=weight * ahead * ahead)
    return proximal(call, state, adan(call, state).value)


def adabelief_of_last(call: Call, state: Any) -> Array:
    """Return s of (g - m)^2, m being that of the step before."""
    hyper, surprise = call.hyper, call.objective.grad(call.x) - call.state.m
    pad = hyper["eps_root"] if hyper["store_eps_root"] else 0.0
    s: Array = hyper["beta2"] * call.state.s + (1 - hyper["beta2"]) * surprise * surprise + pad
    return s


QUOTIENT: dict[str, Rule] = {
    "eps inside the root": LastLine(lambda q: q._replace(place="inside")),
    "eps beside the uncorrected root": LastLine(lambda q: q._replace(place="hat")),
    "bias correction of the first moment missing": LastLine(
        lambda q: q.of_terms(lambda term: term._replace(correction=1.0))
    ),
    "bias correction of the first moment added": LastLine(
        lambda q: q.of_terms(lambda term: term._replace(correction=term.bias))
    ),
    "bias correction of the second moment missing": LastLine(lambda q: q._replace(correction=1.0)),
    "bias correction of the second moment added": LastLine(lambda q: q._replace(correction=q.bias)),
    "bias correction of the second moment outside its root": LastLine(lambda q: q._replace(correction=q.correction**2)),
    "the first moment of the step before": LastLine(lambda q: q.of_terms(lambda term: term._replace(moment=term.last))),
    "the second moment of the step before": LastLine(lambda q: q._replace(v=q.v_last)),
    "no square root": LastLine(lambda q: q._replace(root=lambda v: v)),
}
"""Those that can be made in every quotient; some leave one as it is."""

LAMB: dict[str, Rule] = {
    "no trust ratio": LastLine(land=partial(trusted, trust=lambda ratio: 1.0)),
    "the trust ratio upside down": LastLine(land=partial(trusted, trust=lambda ratio: 1 / ratio)),
}
NOVOGRAD: dict[str, Rule] = {
    "the first moment of the step before": lambda call: (call.x - call.hyper["lr"] * call.state.m, call()[1]),
    "m as a running mean": lambda call: call(lr=call.hyper["lr"] * (1 - call.hyper["beta1"])),
    "v starting at 0": counted(lambda k: k + 1),
    "the mean of g^2 in place of |g|^2": LastLine(v=novograd_of_means),
}
YOGI: dict[str, Rule] = {
    "v starting at 0": LastLine(v=yogi_from_0),
    "the sign of v - g^2 turned": LastLine(v=yogi_turned),
}
ADAN: dict[str, Rule] = {
    "g^2 in place of (g + beta2 d)^2": LastLine(v=adan_without_looking),
    "the first difference taken from 0": adan_from_0,
    "decay not times lr": LastLine(land=partial(proximal, times_lr=False)),
}
ADABELIEF: dict[str, Rule] = {"m of the step before in s": LastLine(v=adabelief_of_last)}
ADAMAX: dict[str, Rule] = {
    "a running mean in place of the maximum": LastLine(
        v=lambda call, state: (
            call.hyper["beta2"] * call.state.u + (1 - call.hyper["beta2"]) * np.abs(call.objective.grad(call.x))
        )
    ),
}
ADAHESSIAN: dict[str, Rule] = {
    "bias correction missing": LastLine(
        lambda q: q.of_terms(lambda term: term._replace(correction=1.0))._replace(correction=1.0)
    )
}
