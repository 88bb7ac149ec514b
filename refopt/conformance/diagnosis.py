"""Why a candidate differs: the smallest set of switches and typical mistakes that turns the reference into it.

The space searched is made from the method itself. Each of its hyperparameters gives the changes that people make: the
other values of a switch, eps by decades, a beta among the usual ones or as 1 - beta, lr by factors; each dialect is one
change; `mistakes` gives its rules; and another method of the folder may have been taken for it. They are tried alone,
then in pairs. An explanation is first held against the first steps of each stream, loosely, which nearly none
survives; what is left must meet the tolerance of `compare` on every step of every stream.
"""

from __future__ import annotations

import itertools
import math
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from backends.arrays import Array
from refopt import method as methods_
from refopt.conformance import mistakes
from refopt.conformance import streams as catalogue
from refopt.conformance.adapters import adapt, methods
from refopt.conformance.recording import Path, Recording, play
from refopt.conformance.reference import Reference, distance, unit_roundoff
from refopt.conformance.replay import Comparison, Difference, Trace, compare, default_lr, preset, summary, trace
from refopt.conformance.streams import FLOAT32, Stream
from refopt.method import Method, folder_of, get, keywords, name_of

IN_PLACE = "the gradient changed in place"
NOT_RESET = "state not reset between runs"
IN_FLOAT32 = "float32 accumulation"

EARLY = 4  # steps of every stream that an explanation is first held against,
COARSE = 1e-6  # within this part of the way moved
EPS = (0.0, 1e-16, 1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
BETAS = (0.0, 0.5, 0.8, 0.85, 0.9, 0.92, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999)
DECAYS = (1e-4, 1e-3, 4e-3, 1e-2, 1e-1)
SECANTS = 12
FACTORS = (0.1, 10.0, 0.5, 2.0, 0.01, 100.0, 0.001, 1000.0)


class Change(NamedTuple):
    """One way to depart from the reference."""

    name: str  # as it stands after "refopt's with"
    turns: frozenset[str]  # the hyperparameters that it sets: two changes of one do not go together
    hyper: Mapping[str, Any] = {}
    rules: tuple[mistakes.Rule, ...] = ()
    method: Method | None = None  # another one


class Diagnosis(NamedTuple):
    """What was found. `causes` is empty where the candidate is right, and where nothing explains it."""

    method: str  # its title
    causes: tuple[str, ...]
    explains: bool  # the reference with these causes is the candidate, to tolerance
    comparison: Comparison  # with that, or with the reference itself where nothing explains
    ties: tuple[tuple[str, ...], ...] = ()  # other explanations, as small, that are the same on these streams
    tried: int = 0

    def __str__(self) -> str:
        if self.explains:
            causes = f" with {' and '.join(self.causes)}" if self.causes else ""
            ties = f" (or, the same here: {'; '.join(map(' and '.join, self.ties))})" if self.ties else ""
            return f"your {self.method} is refopt's{causes}{ties}"
        found = f"your {self.method} has {' and '.join(self.causes)}; beyond that " if self.causes else ""
        return f"{found}none of the {self.tried} explanations tried, alone or in pairs, gives this candidate"


def diagnose(
    candidate: Any,
    method: str | Method,
    *,
    dialect: str | None = None,
    streams: Sequence[str | Stream] = catalogue.NAMES,
    steps: int = 200,
    rtol: float = 0.0,
    **hyper: Any,
) -> Diagnosis:
    """Explain how `candidate` differs from `method`; the arguments and errors are those of `compare`.

    Costs one replay of the candidate, some hundred short replays of the reference, and some thousand where no single
    change explains: seconds.

    >>> def mine(x, g, v, lr):
    ...     v = g if v is None else 0.9 * v + 0.1 * g
    ...     return x - lr * v, v
    >>> print(diagnose(mine, "heavy_ball", steps=20))
    your Heavy ball is refopt's with dampening=0.9
    """
    module: Any = get(method) if isinstance(method, str) else method
    hyper = {**preset(module, dialect), **hyper}
    hyper = {"lr": default_lr(module), **hyper}
    chosen = [catalogue.get(s) if isinstance(s, str) else s for s in streams]
    paths, lifecycle = _observed(candidate, chosen, steps, hyper["lr"])
    recording = Recording({name: path._replace(write=None) for name, path in paths.items()}, {})
    comparison = compare(recording, module, streams=chosen, steps=steps, rtol=rtol, **hyper)
    if comparison.first is None:
        return Diagnosis(module.SPEC.title, lifecycle, True, comparison)
    if NOT_RESET in lifecycle:
        first = compare(recording, module, streams=chosen[:1], steps=steps, rtol=rtol, **hyper)
        return Diagnosis(module.SPEC.title, lifecycle, first.agrees, comparison)
    replayed = {d.stream for d in comparison.streams}
    replayable = [s for s in chosen if s.name in replayed]
    search = _Search(module, hyper, replayable, recording.paths, steps, rtol, comparison.first)
    tried = 0
    for explanations in search.levels():
        found: list[tuple[tuple[str, ...], Comparison]] = []
        for changes in explanations:
            tried += 1
            if agreement := search.explained(changes):
                found.append((tuple(change.name for change in changes), agreement))
        if found:
            (causes, agreement), *others = found
            ties = tuple(lifecycle + names for names, _ in others)
            return Diagnosis(module.SPEC.title, lifecycle + causes, True, agreement, ties, tried)
    return Diagnosis(module.SPEC.title, lifecycle, False, comparison, (), tried)


def _observed(
    candidate: Any, streams: Sequence[Stream], steps: int, lr: float
) -> tuple[Mapping[str, Path], tuple[str, ...]]:
    """Play the candidate, and tell what can be seen without a reference."""
    if isinstance(candidate, Recording):
        paths = dict(candidate.paths)
        again = None
    else:
        player = adapt(candidate)
        playable = [s for s in streams if s.lr is None or player.takes_lr]
        paths = {s.name: play(player, s, steps, lr) for s in playable}
        again = play(player, playable[0], steps, lr).x
    causes = []
    if any(path.write for path in paths.values()):
        causes.append(IN_PLACE)
    if again is not None and again.tobytes() != next(iter(paths.values())).x.tobytes():
        causes.append(NOT_RESET)
    return paths, tuple(causes)


@dataclass
class _Search:
    """The reference, the candidate's paths, and what is tried to bring them together."""

    method: Any
    hyper: Mapping[str, Any]  # with lr
    streams: Sequence[Stream]
    paths: Mapping[str, Path]
    steps: int
    rtol: float
    first: Difference  # between the two as they are

    def levels(self) -> Iterator[Iterable[tuple[Change, ...]]]:
        """Yield what is tried, the likelier first; of one level all that explain are ties."""
        alone = changes(self.method, self.hyper)
        yield [(change,) for change in alone]
        yield ((change,) for key in self._numbers for change in self._fits(key))
        yield [(Change(IN_FLOAT32, frozenset()),)]
        others = list(self._other_methods())
        yield [(other,) for other in others]
        effective = [change for change in alone if not self._idle(change)]
        yield (pair for pair in itertools.combinations(effective, 2) if not pair[0].turns & pair[1].turns)
        yield (
            (other, change)
            for other in others
            for change in changes(other.method, {**other.hyper})
            if change.method is None
        )

    def explained(self, changes: tuple[Change, ...]) -> Comparison | None:
        """Return the comparison with the reference so changed, if it agrees."""
        if changes[0].name == IN_FLOAT32:
            found = [self._trace(self.method, self.hyper, s, loosely=s.name not in FLOAT32) for s in self.streams]
            return None if any(t.first for t in found) else summary(found)
        method, hyper = self._changed(changes)
        try:
            if not all(self._near(self._play(method, hyper, *probe), *probe) for probe in self._probes):
                return None
            found = []
            for stream in self.streams:
                found.append(self._trace(method, hyper, stream))
                if found[-1].first:
                    return None
        except (ValueError, TypeError, ArithmeticError):  # what the method refuses
            return None
        return summary(found)

    def _changed(self, changes: Sequence[Change]) -> tuple[Method, dict[str, Any]]:
        method, hyper = self.method, dict(self.hyper)
        rules: list[mistakes.Rule] = []
        for change in changes:
            if change.method is not None:
                method, hyper = change.method, {}
            hyper |= change.hyper
            rules += change.rules
        return mistakes.make(method, rules), hyper

    def _trace(self, method: Any, hyper: Mapping[str, Any], stream: Stream, loosely: bool = False) -> Trace:
        options = dict(hyper)
        reference = Reference(method, options, options.pop("lr"), stream, self.steps)
        rtol = self.rtol
        if loosely:
            sizes = np.maximum.accumulate(np.abs(reference.x))
            ulps = np.nanmax(reference.rounding[sizes > 0] / sizes[sizes > 0], initial=0.0)
            rtol += float(ulps) * unit_roundoff(np.float32) / unit_roundoff(reference.x.dtype)
        return trace(self.paths[stream.name], reference, rtol)

    # ------------------------------------------------------------------------------------ a hyperparameter, fitted

    @cached_property
    def _numbers(self) -> dict[str, float]:
        """The hyperparameters that are numbers."""
        values = {**keywords(self.method.init), **keywords(self.method.step), **self.hyper}
        return {key: value for key, value in values.items() if isinstance(value, float) and math.isfinite(value)}

    def _fits(self, key: str) -> Iterator[Change]:
        """Yield the values of a hyperparameter that meet the candidate where the two part, rounded less and less.

        One coordinate tells each: where a step is all but a sign, others cannot.
        """
        roots = (self._root(key, i) for i in range(len(self._parts.x0)))
        texts = (f"{root:.{digits}g}" for root in roots if math.isfinite(root) for digits in (2, 3, 4, 6))
        yield from (_set(key, float(text)) for text in dict.fromkeys(texts))

    def _root(self, key: str, i: int) -> float:
        """Return the zero of reference - candidate in a hyperparameter, by secants; nan if there is none."""
        path, step = self.paths[self._parts.name], self.first.step
        target = float(path.x[path.steps == step][0, i])

        def apart(value: float) -> float:
            return float(self._play(self.method, {**self.hyper, key: value}, self._parts, step)[-1, i]) - target

        a = self._numbers[key]
        b = a * (1.001 if 0 < a < 0.9 or a > 1 else 0.999) if a else 1e-6
        try:
            of_a, of_b = apart(a), apart(b)
            for _ in range(SECANTS):
                if of_b in (0.0, of_a):
                    break
                a, b, of_a = b, b - of_b * (b - a) / (of_b - of_a), of_b
                of_b = apart(b)
        except (ValueError, ArithmeticError):
            return math.nan
        return b

    # --------------------------------------------------------------------------------------------- the loose look

    @property
    def _parts(self) -> Stream:
        """The stream on which the two part first."""
        return next(s for s in self.streams if s.name == self.first.stream)

    @cached_property
    def _probes(self) -> list[tuple[Stream, int]]:
        """Where an explanation is held first: where the reference itself parts, and early on every float64 stream."""
        stream, early = self._parts, min(EARLY, self.steps)
        probes = [
            (stream, self.first.step),
            (stream, min(self.first.step + 2, self.steps)),
            *((s, early) for s in self.streams if s.name not in FLOAT32 and s is not stream),
        ]
        return sorted(probes, key=lambda probe: probe[1])

    def _play(self, method: Any, hyper: Mapping[str, Any], stream: Stream, steps: int) -> Array:
        options = dict(hyper)
        lr = options.pop("lr")
        return play(methods.player(method, **options), stream, steps, lr).x

    def _near(self, x: Array, stream: Stream, steps: int) -> bool:
        path = self.paths[stream.name]
        kept = path.steps[path.steps <= steps]
        return _close(x[kept - 1], path.x[: len(kept)], stream.x0)

    def _idle(self, change: Change) -> bool:
        """Say whether a change leaves the early steps as they are: no pair needs it."""
        method, hyper = self._changed([change])
        try:
            return all(_close(self._play(method, hyper, *p), x, p[0].x0) for p, x in self._unchanged)
        except (ValueError, TypeError, ArithmeticError):
            return True

    @cached_property
    def _unchanged(self) -> list[tuple[tuple[Stream, int], Array]]:
        return [(probe, self._play(self.method, self.hyper, *probe)) for probe in self._probes]

    def _other_methods(self) -> Iterator[Change]:
        """Yield the methods of the same folder, with the hyperparameters that they share."""
        own = name_of(self.method)
        if own not in methods_.names():
            return
        values = {**keywords(self.method.init), **keywords(self.method.step), **self.hyper}
        kin = [get(name) for name in methods_.names() if name != own and folder_of(name) == folder_of(own)]
        for other in sorted(kin, key=lambda other: len(keywords(other.step))):  # the simpler first
            known = {**keywords(other.init), **keywords(other.step)}
            if set(other.SPEC.needs) == {"grad"} and "lr" in known:
                shared = {"lr": self.hyper["lr"], **{key: values[key] for key in known if values.get(key) is not None}}
                yield Change(f"the rule of {name_of(other)}", frozenset(), shared, (), other)


def _close(x: Array, y: Array, x0: Array) -> bool:
    """Say whether two paths are the same, loosely, in units of the way moved."""
    apart = distance(x, y)
    with np.errstate(invalid="ignore", over="ignore"):
        moved = np.fmax(np.max(np.abs(x - x0), axis=0, initial=0.0), np.max(np.abs(y - x0), axis=0, initial=0.0))
        floor = 1e3 * unit_roundoff(x.dtype) * np.abs(x0)
        return bool(np.all((apart == 0) | (apart <= COARSE * moved + floor)))


# ------------------------------------------------------------------------------------------------- the space searched


def changes(method: Any, hyper: Mapping[str, Any]) -> list[Change]:
    """Return every change of `method` at `hyper`, the likelier first."""
    values = {**keywords(method.init), **keywords(method.step), **hyper}
    literals = _literals(method)
    found = [
        _set(key, option)
        for key, value in values.items()
        for option in (literals.get(key, ()) or ((not value,) if isinstance(value, bool) else ()))
        if option != value
    ]
    rules = mistakes.catalogue(method, hyper)
    found += [Change(name, frozenset(), {}, (rule,)) for name, rule in rules.items() if name not in mistakes.ANY]
    for key, value in values.items():
        of_dialects = [options[key] for options in method.DIALECTS.values() if key in options and key != "lr"]
        slips = dict.fromkeys([*of_dialects, *_slips(key, value, values)])
        found += [_set(key, slip) for slip in slips if slip != value and key not in literals]
    found += list(_betas(values))
    found += [Change(name, frozenset(), {}, (rule,)) for name, rule in rules.items() if name in mistakes.ANY]
    for dialect, options in method.DIALECTS.items():
        options = {key: value for key, value in options.items() if key != "lr"}
        if any(values[key] != value for key, value in options.items()):
            found.append(Change(f"dialect={dialect!r}", frozenset(options), options))
    return list({change.name: change for change in reversed(found)}.values())[::-1]


def _set(key: str, value: Any) -> Change:
    return Change(f"{key}={value!r}", frozenset({key}), {key: value})


def _literals(method: Any) -> dict[str, tuple[Any, ...]]:
    """Return the options of each switch."""
    hints = {**typing.get_type_hints(method.init), **typing.get_type_hints(method.step)}
    return {key: typing.get_args(hint) for key, hint in hints.items() if typing.get_origin(hint) is Literal}


def _slips(key: str, value: Any, values: Mapping[str, Any]) -> list[float]:
    """Return the values that a hyperparameter is given by mistake."""
    if isinstance(value, bool) or not isinstance(value, float | int):
        return []
    if key.startswith("eps"):
        slips: list[float] = list(EPS)
    elif _is_beta(key, value):
        slips = [*BETAS, round(1 - value, 12)]
    elif key == "weight_decay":
        slips = [0.0, *DECAYS, *(f * value for f in FACTORS), value * values.get("lr", 1.0)]
    elif isinstance(value, int):
        slips = [value - 1, value + 1]
    elif math.isfinite(value):
        slips = [f * value for f in FACTORS] if value else [*DECAYS, 1.0]
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
