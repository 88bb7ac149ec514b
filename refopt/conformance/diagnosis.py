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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from backends.arrays import Array
from refopt import method as methods
from refopt.conformance import mistakes
from refopt.conformance import streams as catalogue
from refopt.conformance.changes import GIVEN, Change, changes, setting
from refopt.conformance.evidence import NOT_RESET, Evidence, gather
from refopt.conformance.interactive import default_lr
from refopt.conformance.reference import Reference, distance, unit_roundoff
from refopt.conformance.replay import Comparison, Difference, Trace, preset, summary, trace
from refopt.conformance.streams import FLOAT32, Stream
from refopt.method import Method, folder_of, get, keywords, name_of

SHORT = Change("float32 accumulation", frozenset())
"""Changes nothing, but float64 need not be met better than float32."""

EARLY = 4  # steps of every stream that an explanation is first held against,
COARSE = 1e-6  # within this part of the way moved
AMPLIFIED = 100.0  # times the spread of the reference: another may amplify rounding more
SECANTS = 12


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
    pairs: bool = True,
    **hyper: Any,
) -> Diagnosis:
    """Explain how `candidate` differs from `method`; the arguments and errors are those of `compare`.

    A method that asks for more than gradients is held against it in arenas, whatever the streams (see `interactive`);
    a `Log` of queries answers both. Costs one replay of the candidate, some hundred short replays of the reference, and
    with `pairs` some thousand where no single change explains: seconds.

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
    evidence = gather(candidate, module, hyper, chosen, steps)
    flaws = evidence.flaws
    comparison = evidence.compare(module, hyper, rtol)
    if NOT_RESET in flaws and not comparison.agrees:  # the first run alone began afresh
        evidence = replace(evidence, streams=evidence.streams[:1])
        comparison = evidence.compare(module, hyper, rtol)
    if comparison.first is None:
        return Diagnosis(module.SPEC.title, flaws, True, comparison)
    search = _Search(module, hyper, evidence, rtol, comparison.first)
    tried = 0
    for explanations in search.levels(pairs):
        found: list[tuple[tuple[str, ...], Comparison]] = []
        for explanation in explanations:
            tried += 1
            if agreement := search.explained(explanation):
                found.append((tuple(change.name for change in explanation), agreement))
        if found:
            (causes, agreement), *others = found
            ties = tuple(flaws + names for names, _ in others)
            return Diagnosis(module.SPEC.title, flaws + causes, True, agreement, ties, tried)
    return Diagnosis(module.SPEC.title, flaws, False, comparison, (), tried)


@dataclass
class _Search:
    """The reference, the candidate's paths, and what is tried to bring them together."""

    method: Any
    hyper: Mapping[str, Any]  # with lr
    evidence: Evidence
    rtol: float
    first: Difference  # between the two as they are
    _spreads: dict[str, Array | float] = field(default_factory=dict)

    def levels(self, pairs: bool) -> Iterator[Iterable[tuple[Change, ...]]]:
        """Yield what is tried, the likelier first; of one level all that explain are ties."""
        alone = changes(self.method, self.hyper)
        yield [(change,) for change in alone]
        yield ((change,) for key in self._numbers for change in self._fits(key))
        yield [(SHORT,)]
        others = list(self._other_methods())
        yield [(other,) for other in others]
        if not pairs:
            return
        effective = [change for change in alone if not self._idle(change)]
        yield (pair for pair in itertools.combinations(effective, 2) if not pair[0].turns & pair[1].turns)
        yield (
            (other, change)
            for other in others
            for change in changes(other.method, {**other.hyper})
            if change.method is None
        )
        yield ((SHORT, change) for change in effective)  # the tolerance is wide there, so it comes last

    def explained(self, changes: tuple[Change, ...]) -> Comparison | None:
        """Return the comparison with the reference so changed, if it agrees as far as the two as they are part."""
        streams = self.evidence.streams
        short = SHORT in changes
        probes = [] if changes == (SHORT,) else self._probes
        method, hyper = self._changed(changes)
        try:
            if not all(self._near(self._play(method, hyper, *probe), *probe) for probe in probes):
                return None
            found = []
            for stream in streams:
                found.append(self._trace(method, hyper, stream, loosely=short and stream.name not in FLOAT32))
                too_short = stream is self._parts and found[-1].steps[-1] < self.first.step
                if found[-1].first or too_short:
                    return None
        except Exception:  # a method made wrong may raise anything
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
        return mistakes.make(method, mistakes.arranged(rules)), hyper

    def _trace(self, method: Any, hyper: Mapping[str, Any], stream: Stream, loosely: bool = False) -> Trace:
        path = self.evidence.paths[stream.name]
        reference = self.evidence.refer(method, hyper, stream, int(path.steps[-1]))
        rtol = self.rtol
        if loosely:
            sizes = np.maximum.accumulate(np.abs(reference.x))
            ulps = np.nanmax(reference.rounding[sizes > 0] / sizes[sizes > 0], initial=0.0)
            rtol += float(ulps) * unit_roundoff(np.float32) / unit_roundoff(reference.x.dtype)
        return trace(path, reference, rtol)

    # ------------------------------------------------------------------------------------ a hyperparameter, fitted

    @cached_property
    def _numbers(self) -> dict[str, float]:
        """The hyperparameters that are numbers."""
        known = {**keywords(self.method.init), **keywords(self.method.step)}
        values = {key: self.hyper.get(key, value) for key, value in known.items()}
        return {key: value for key, value in values.items() if isinstance(value, float) and math.isfinite(value)}

    def _fits(self, key: str) -> Iterator[Change]:
        """Yield the values of a hyperparameter that meet the candidate where the two part, rounded less and less.

        One coordinate tells each: where a step is all but a sign, others cannot.
        """
        roots = (self._root(key, i) for i in range(len(self._parts.x0)))
        texts = (f"{root:.{digits}g}" for root in roots if math.isfinite(root) for digits in (2, 3, 4, 6))
        yield from (setting(key, float(text)) for text in dict.fromkeys(texts))

    def _root(self, key: str, i: int) -> float:
        """Return the zero of reference - candidate in a hyperparameter, by secants; nan if there is none."""
        path, step = self.evidence.paths[self._parts.name], self.first.step
        target = float(path.x[path.steps == step][0, i])

        def apart(value: float) -> float:
            return float(self._play(self.method, {**self.hyper, key: value}, self._parts, step)[-1, i]) - target

        a = self._numbers[key]
        b = a * (1.001 if 0 < a < 0.9 or a > 1 else 0.999) if a else 1e-6
        try:
            of_a, of_b = apart(a), apart(b)
            for _ in range(SECANTS):
                if of_b in (0.0, of_a) or not math.isfinite(of_b):
                    break
                a, b, of_a = b, b - of_b * (b - a) / (of_b - of_a), of_b
                of_b = apart(b)
        except Exception:
            return math.nan
        return b

    # --------------------------------------------------------------------------------------------- the loose look

    @cached_property
    def _parts(self) -> Stream:
        """The stream on which the two part first."""
        return next(s for s in self.evidence.streams if s.name == self.first.stream)

    @cached_property
    def _probes(self) -> list[tuple[Stream, int]]:
        """Where an explanation is held first: where the reference itself parts, and early on every float64 stream."""
        stream, step = self._parts, self.first.step
        lengths = {s.name: int(self.evidence.paths[s.name].steps[-1]) for s in self.evidence.streams}
        probes = [
            (stream, step),
            (stream, min(step + 2, lengths[stream.name])),
            *(
                (s, min(EARLY, lengths[s.name]))
                for s in self.evidence.streams
                if s.name not in FLOAT32 and s is not stream
            ),
        ]
        return sorted(probes, key=lambda probe: probe[1])

    def _play(self, method: Any, hyper: Mapping[str, Any], stream: Stream, steps: int) -> Array:
        return self.evidence.refer(method, hyper, stream, steps).x

    def _near(self, x: Array, stream: Stream, steps: int) -> bool:
        path = self.evidence.paths[stream.name]
        kept = path.steps[path.steps <= steps]
        return self._close(x[kept - 1], path.x[: len(kept)], stream)

    def _idle(self, change: Change) -> bool:
        """Say whether a change leaves the early steps as they are: no pair needs it.

        Not so where it sets what the method chooses itself, which may follow the other of the pair.
        """
        known = {**keywords(self.method.init), **keywords(self.method.step), **self.hyper}
        if any(known[key] is None for key in change.hyper if key != "layout"):
            return False
        method, hyper = self._changed([change])
        try:
            return all(self._close(self._play(method, hyper, *probe), x, probe[0]) for probe, x in self._unchanged)
        except Exception:
            return True

    @cached_property
    def _unchanged(self) -> list[tuple[tuple[Stream, int], Array]]:
        return [(probe, self._play(self.method, self.hyper, *probe)) for probe in self._probes]

    def _close(self, x: Array, y: Array, stream: Stream) -> bool:
        """Say whether two paths are the same, loosely, in units of the way moved."""
        apart = distance(x, y)
        with np.errstate(invalid="ignore", over="ignore"):
            moved = np.fmax.reduce(np.fmax(np.abs(x - stream.x0), np.abs(y - stream.x0)))  # before either is nan
            unit = COARSE * moved + 1e3 * unit_roundoff(x.dtype) * np.abs(stream.x0)
            return bool(np.all((apart == 0) | (apart <= self._as(stream).reach(unit[None]) + self._amplified(stream))))

    def _as(self, stream: Stream) -> Reference:
        """The reference as it is, as far as explanations are first held."""
        steps = max(steps for probed, steps in self._probes if probed is stream)
        return self.evidence.refer(self.method, self.hyper, stream, steps)

    def _amplified(self, stream: Stream) -> Array | float:
        """What rounding may do to each coordinate where tensors are decomposed; elsewhere COARSE is more."""
        if stream.name not in self._spreads:
            tensors = "layout" in keywords(self.method.step)
            self._spreads[stream.name] = AMPLIFIED * self._as(stream).spread[-1] if tensors else 0.0
        return self._spreads[stream.name]

    def _other_methods(self) -> Iterator[Change]:
        """Yield the methods of the same folder, with the hyperparameters that they share."""
        own = name_of(self.method)
        if own not in methods.names():
            return
        values = {**keywords(self.method.init), **keywords(self.method.step), **self.hyper}
        kin = [get(name) for name in methods.names() if name != own and folder_of(name) == folder_of(own)]
        for other in sorted(kin, key=lambda other: len(keywords(other.step))):  # the simpler first
            known = {**keywords(other.init), **keywords(other.step)}
            replayed = [set(method.SPEC.needs) == {"grad"} for method in (self.method, other)]
            if replayed[0] == replayed[1]:
                shared = {key: values[key] for key in known if key not in GIVEN and values.get(key) is not None}
                yield Change(f"the rule of {name_of(other)}", frozenset(), shared, (), other)
