"""Typical mistakes in optimizers, each a rule that takes one step of a method wrongly.

A rule sees the step that is about to be taken, a `Call`, and takes it with something changed: `call(gradient=...)`
alters the gradient on its way in, `call(lr=1.0)` a hyperparameter, `call(state=...)` the state; then x and the state
can be altered on their way out. So most mistakes are a line that holds for every method. Only those inside a formula
(which moment is bias-corrected, where eps stands) write the last line of the method again, from the moments that the
method itself computed. `make` puts rules around a method and gives a method again, wrong in these ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from refopt.conformance.mistakes.averages import ASGD, SCHEDULE_FREE
from refopt.conformance.mistakes.call import Call, Rule, make
from refopt.conformance.mistakes.curvature import (
    BATCHES,
    ESGD,
    HUTCHINSON,
    PROBES,
    PRODUCTS,
    SOPHIA,
    SQUARED,
    SVRG,
    renewals,
)
from refopt.conformance.mistakes.general import ANY, SWITCHES, WITH, fields, forgotten, starting
from refopt.conformance.mistakes.matrices import ADAFACTOR, MUON, SHAMPOO, SOAP
from refopt.conformance.mistakes.quotients import (
    ADABELIEF,
    ADAHESSIAN,
    ADAMAX,
    ADAN,
    FORMS,
    LAMB,
    NOVOGRAD,
    QUOTIENT,
    YOGI,
    LastLine,
)
from refopt.conformance.mistakes.searches import BFGS, LBFGS, NONLINEAR_CG
from refopt.conformance.mistakes.signs import LION, RPROP
from refopt.method import Method, keywords, name_of

__all__ = ["ANY", "SWITCHES", "Call", "Rule", "arranged", "catalogue", "make"]

OWN: dict[str, dict[str, Rule]] = {
    "adabelief": ADABELIEF,
    "adafactor": ADAFACTOR,
    "adamax": ADAMAX,
    "adan": ADAN,
    "asgd": ASGD,
    "bfgs": BFGS,
    "lamb": LAMB,
    "lbfgs": LBFGS,
    "lion": LION,
    "nonlinear_cg": NONLINEAR_CG,
    "novograd": NOVOGRAD,
    "rprop": RPROP,
    "schedule_free": SCHEDULE_FREE,
    "schedule_free_adamw": SCHEDULE_FREE,
    "shampoo": SHAMPOO,
    "soap": SOAP,
    "muon": MUON,
    "adahessian": {**HUTCHINSON, **SQUARED, **ADAHESSIAN},
    "esgd": {**ESGD, **SQUARED},
    "sophia": {**HUTCHINSON, **SOPHIA},
    "svrg": SVRG,
    "yogi": YOGI,
}
"""Those of one method alone."""

_LINES = frozenset(rule for rules in (QUOTIENT, *OWN.values()) for rule in rules.values())
"""Those that may take a line of the method again: what is changed on the way in must stand around them."""


def arranged(rules: Sequence[Rule]) -> list[Rule]:
    """Return rules in the order in which all of them have their effect, changes of one last line as one."""
    lines = [rule for rule in rules if isinstance(rule, LastLine)]
    others = sorted((rule for rule in rules if not isinstance(rule, LastLine)), key=_LINES.__contains__)
    return [*others, *([reduce(LastLine.and_too, lines)] if lines else [])]


def catalogue(method: Method, hyper: Mapping[str, Any]) -> dict[str, Rule]:
    """Return every mistake that can be made in `method`, by its name."""
    name, needs = name_of(method), set(method.SPEC.needs)
    known = {**keywords(method.init), **keywords(method.step)}
    values = {**known, **hyper}
    own = (QUOTIENT if name in FORMS else {}) | OWN.get(name, {})
    rules = renewals(values) | ANY
    for needed, those in WITH.items():
        if needed in keywords(method.step):
            rules |= those
    vectors, numbers = fields(method, hyper)
    for field in vectors:
        rules |= {
            f"{field} starting at 1": starting(field, np.ones_like),
            f"{field} starting at 0.1": starting(field, lambda g: np.full_like(g, 0.1)),
            f"{field} starting at g": starting(field, lambda g: g),
            f"{field} starting at g^2": starting(field, lambda g: g * g),
            f"{field} not kept between steps": forgotten(field),
        }
    rules |= {f"{field} not kept between steps": forgotten(field) for field in numbers}
    if needs & {"hvp", "linearize", "ggn", "fisher"}:
        rules |= PRODUCTS | (PROBES if "seed" in known else {})
    if needs & {"minibatch", "full"}:
        rules |= BATCHES
    return own | {rule: made for rule, made in rules.items() if rule not in own}
