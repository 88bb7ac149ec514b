"""The ways in which a reference can be changed: values of its hyperparameters, dialects, typical mistakes."""

from __future__ import annotations

import itertools
import math
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from refopt.conformance import mistakes
from refopt.conformance.streams import LAYOUT
from refopt.layout import Layout
from refopt.method import Choice, Method, keywords

EPS = (0.0, 1e-16, 1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
BETAS = (0.0, 0.5, 0.8, 0.85, 0.9, 0.92, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999)
DECAYS = (1e-4, 1e-3, 4e-3, 1e-2, 1e-1)
GIVEN = ("objective", "seed", "layout")  # keywords that are no hyperparameters
COUNTS = (1, 2, 5, 10, 20, 50, 100)
USUAL = {"alpha": (0.0, 0.5, 1.0), "power": (0.0, 0.5, 1.0), "clip": (math.inf,)}
"""What some hyperparameters are where they are left out, or simplified."""
LAYOUTS = {
    "all tensors taken as one": Layout({"x": (LAYOUT.n,)}),
    "every tensor taken as a vector": Layout({name: (math.prod(shape),) for name, shape in LAYOUT.shapes.items()}),
    "each coordinate taken as a tensor": Layout({str(i): (1,) for i in range(LAYOUT.n)}),
}
"""What may be taken for the tensors that x is made of."""
FACTORS = (0.1, 10.0, 0.5, 2.0, 0.01, 100.0, 0.001, 1000.0)


class Change(NamedTuple):
    """One way to depart from the reference."""

    name: str  # as it stands after "refopt's with"
    turns: frozenset[str]  # the hyperparameters that it sets: two changes of one do not go together
    hyper: Mapping[str, Any] = {}
    rules: tuple[mistakes.Rule, ...] = ()
    method: Method | None = None  # another one


def changes(method: Any, hyper: Mapping[str, Any]) -> list[Change]:
    """Return every change of `method` at `hyper`, the likelier first."""
    known = {**keywords(method.init), **keywords(method.step)}
    values = {key: hyper.get(key, value) for key, value in known.items() if key not in GIVEN}
    literals = _literals(method)
    switches = {
        key: literals.get(key, (False, True) if isinstance(value, bool) else ()) for key, value in values.items()
    }
    found = [setting(key, option) for key in values for option in switches[key] if option != values[key]]
    offered = {setting(key, option).name for key, options in switches.items() for option in options}
    rules = {
        name: rule
        for name, rule in mistakes.catalogue(method, hyper).items()
        if mistakes.SWITCHES.get(name) not in offered
    }
    found += [Change(name, frozenset(), {}, (rule,)) for name, rule in rules.items() if name not in mistakes.ANY]
    for key, value in values.items():
        of_dialects = [options[key] for options in method.DIALECTS.values() if key in options and key != "lr"]
        axis = method.SPEC.search.get(key)
        searched = axis.options if isinstance(axis, Choice) and not isinstance(value, str) else ()
        slips = dict.fromkeys([*of_dialects, *searched, *_slips(key, value, values)])
        found += [setting(key, slip) for slip in slips if slip != value and key not in literals]
    found += list(_betas(values))
    if "layout" in known:
        found += [Change(name, frozenset({"layout"}), {"layout": tensors}) for name, tensors in LAYOUTS.items()]
    found += [Change(name, frozenset(), {}, (rule,)) for name, rule in rules.items() if name in mistakes.ANY]
    for dialect, options in method.DIALECTS.items():
        options = {key: value for key, value in options.items() if key != "lr"}
        if any(values[key] != value for key, value in options.items()):
            found.append(Change(f"dialect={dialect!r}", frozenset(options), options))
    return list({change.name: change for change in reversed(found)}.values())[::-1]


def setting(key: str, value: Any) -> Change:
    """Return the change that gives a hyperparameter another value."""
    return Change(f"{key}={value!r}", frozenset({key}), {key: value})


def _literals(method: Any) -> dict[str, tuple[Any, ...]]:
    """Return the options of each switch."""
    hints = {**typing.get_type_hints(method.init), **typing.get_type_hints(method.step)}
    return {key: typing.get_args(hint) for key, hint in hints.items() if typing.get_origin(hint) is Literal}


def _slips(key: str, value: Any, values: Mapping[str, Any]) -> list[float]:
    """Return the values that a hyperparameter is given by mistake."""
    if isinstance(value, bool) or not isinstance(value, float | int):
        return []
    if isinstance(value, int):
        return [slip for slip in dict.fromkeys((value - 1, value + 1, 2 * value, *COUNTS)) if slip != value]
    if key.startswith("eps"):
        slips: list[float] = list(EPS)
    elif _is_beta(key, value):
        slips = [*BETAS, round(1 - value, 12)]
    elif key == "weight_decay":
        slips = [0.0, *DECAYS, *(f * value for f in FACTORS), value * values.get("lr", 1.0)]
    elif math.isfinite(value):
        slips = [*USUAL.get(key, ()), *([f * value for f in FACTORS] if value else (*DECAYS, 1.0))]
    else:
        slips = [0.0, 1.0]
    return [slip for slip in dict.fromkeys(float(f"{slip:.12g}") for slip in slips) if slip != value]


def _is_beta(key: str, value: Any) -> bool:
    named = key.startswith("beta") or key in ("rho", "momentum", "nu", "nu1", "nu2", "dampening")
    return named and isinstance(value, float) and 0 <= value <= 1


def _betas(values: Mapping[str, Any]) -> Iterator[Change]:
    """Yield the confusions of several betas."""
    betas = {key: value for key, value in values.items() if _is_beta(key, value) and value}
    if len(betas) > 1:
        complements = {key: round(1 - value, 12) for key, value in betas.items()}
        yield Change("1 - beta in place of every beta", frozenset(betas), complements)
    for a, b in itertools.combinations(betas, 2):
        if betas[a] != betas[b]:
            yield Change(f"{a} and {b} swapped", frozenset({a, b}), {a: betas[b], b: betas[a]})
