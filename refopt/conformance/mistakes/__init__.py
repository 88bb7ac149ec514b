"""Typical mistakes in optimizers, each a rule that takes one step of a method wrongly.

A rule sees the step that is about to be taken, a `Call`, and takes it with something changed: `call(gradient=...)`
alters the gradient on its way in, `call(lr=1.0)` a hyperparameter, `call(state=...)` the state; then x and the state
can be altered on their way out. So most mistakes are a line that holds for every method. Only those inside a formula
(which moment is bias-corrected, where eps stands) write the last line of the method again, from the moments that the
method itself computed. `make` puts rules around a method and gives a method again, wrong in these ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

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
from refopt.conformance.mistakes.general import ANY, SWITCHES, WITH, array_fields, forgotten, starting
from refopt.conformance.mistakes.matrices import MUON, SHAMPOO, SOAP
from refopt.conformance.mistakes.quotients import ADAHESSIAN, ANY_QUOTIENT, CORRECTED, PLAIN, QUOTIENTS, UNCORRECTED
from refopt.conformance.mistakes.signs import LION, RPROP
from refopt.method import Method, keywords, name_of

__all__ = ["ANY", "Call", "Rule", "catalogue", "make"]

OWN: dict[str, dict[str, Rule]] = {
    "lion": LION,
    "rprop": RPROP,
    "shampoo": SHAMPOO,
    "soap": SOAP,
    "muon": MUON,
    "adahessian": {**HUTCHINSON, **SQUARED, **ADAHESSIAN},
    "esgd": {**ESGD, **SQUARED},
    "sophia": {**HUTCHINSON, **SOPHIA},
    "svrg": SVRG,
}
"""Those of one method alone."""


def catalogue(method: Method, hyper: Mapping[str, Any]) -> dict[str, Rule]:
    """Return every mistake that can be made in `method`, by its name."""
    name, needs = name_of(method), set(method.SPEC.needs)
    known = {**keywords(method.init), **keywords(method.step)}
    values = {**known, **hyper}
    rules = dict(ANY)
    for needed, those in WITH.items():
        if needed in keywords(method.step):
            rules |= those
    for field in array_fields(method, hyper):
        rules |= {
            f"{field} starting at 1": starting(field, np.ones_like),
            f"{field} starting at 0.1": starting(field, lambda g: np.full_like(g, 0.1)),
            f"{field} starting at g": starting(field, lambda g: g),
            f"{field} starting at g^2": starting(field, lambda g: g * g),
            f"{field} not kept between steps": forgotten(field),
        }
    if name in QUOTIENTS and all(values.get(knob, usual) == usual for knob, usual in PLAIN.items()):
        rules |= ANY_QUOTIENT | (CORRECTED if QUOTIENTS[name][0] else UNCORRECTED)
    rules |= OWN.get(name, {}) | renewals(values)
    if needs & {"hvp", "linearize", "ggn", "fisher"}:
        rules |= PRODUCTS | (PROBES if "seed" in known else {})
    if needs & {"minibatch", "full"}:
        rules |= BATCHES
    return {rule: made for rule, made in rules.items() if SWITCHES.get(rule) not in keywords(method.step)}
