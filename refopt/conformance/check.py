"""`refopt check`: a candidate of any kind against a method, in the dialect that agrees best; if none does, why.

The candidate runs here; `process` runs it elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from backends.arrays import Array
from refopt.conformance import answers, interactive, replay, report, solvers
from refopt.conformance.adapters.player import name_of as named
from refopt.conformance.logs import Log
from refopt.conformance.queries import apart, elsewhere, match
from refopt.conformance.recording import Path as Track
from refopt.conformance.recording import Recording
from refopt.conformance.replay import Trace, preset
from refopt.conformance.report import Report
from refopt.conformance.streams import NAMES, Stream
from refopt.method import Bound, Method, bind, get, keywords, name_of
from refopt.objective import MissingPart
from refopt.status import require

if TYPE_CHECKING:
    from refopt.conformance.diagnosis import Diagnosis

DEFAULTS = "defaults"
"""What a method's own defaults are called where no dialect has the same."""

STEPS = 200
"""Of each stream, unless told otherwise."""

NEVER = "it claims success on no problem"
DIVIDES = "does t start at 0? 1 - beta^t is 0 there"
NOT_FINITE = "the candidate is not finite where they part: other mistakes may look the same"

Traced: TypeAlias = tuple[list[Trace], list[str]]
"""Traces, and notes."""


def check(
    candidate: Any,
    reference: str | Method | None,
    *,
    dialect: str | None = None,
    steps: int | None = None,
    diagnose: bool = True,
    name: str = "",
    watch: Callable[[Report], None] = lambda found: None,
    **hyper: Any,
) -> Report:
    """Hold `candidate` against the method `reference`, or against the truth if it is a solver.

    `candidate` is what `candidates.find` returns; how it is held follows from it and from what the method needs.
    Without `dialect` all are tried. `steps` are those of each stream, `STEPS` unless given, and all of a log. `hyper`
    are the method's hyperparameters; the candidate is given lr alone. `watch` is told what is known so far before the
    diagnosis is begun, which may take long. A candidate that raises, or returns what is no iterate, is a report too.

    Raises ValueError or TypeError for an unknown method, dialect or hyperparameter, or a number of steps below 1.
    """
    name = name or (candidate.name if isinstance(candidate, Log) else named(candidate))
    if isinstance(candidate, Log) and "lr" in hyper:
        candidate = candidate._replace(lr=None)
    if reference is None or _is_solver(candidate):
        return _check_solver(candidate, name, reference)
    method = get(reference) if isinstance(reference, str) else reference
    steps, cut = _held_steps(candidate, steps)
    presets = validate(method, dialect, steps, hyper)
    about = Report(name, name_of(method), "could not run", _mode(candidate, method), hyper=hyper, steps=steps)
    try:
        found = _tried(candidate, method, presets, steps, hyper)
    except Exception as error:  # whatever a candidate may raise
        notes = [DIVIDES] if isinstance(error, ZeroDivisionError) else []
        return replace(about, error=words(error), notes=notes)
    found = {label: (these, [*cut, *notes]) for label, (these, notes) in found.items()}
    closest, *others = sorted(found, key=lambda label: (*_distance(found[label][0]), label not in name))
    about = replace(
        about,
        tried=list(found),
        agreeing=[label for label, (these, _) in found.items() if replay.summary(these).agrees],
    )
    about = _held(about, closest, *found[closest])
    if about.outcome == "agrees" or not diagnose:
        return about
    watch(about)
    try:
        for label in (closest, *others):
            why = _diagnose(candidate, method, steps, {**preset(method, presets[label]), **hyper}, pairs=False)
            if why.explains:
                break
        else:
            label = closest
            why = _diagnose(candidate, method, steps, {**preset(method, presets[label]), **hyper})
    except Exception as error:  # a candidate may raise on what a diagnosis replays
        return replace(about, notes=[*about.notes, f"no diagnosis: {words(error)}"])
    told = {"text": str(why), "causes": list(why.causes), "explains": why.explains}
    about = _held(about, label, *found[label])
    assert about.first is not None
    notes = [*about.notes, *([] if math.isfinite(about.first["candidate"]) else [NOT_FINITE])]
    return replace(about, diagnosis=told, notes=notes)


def _held(about: Report, label: str, traces: list[Trace], notes: list[str]) -> Report:
    """Return the report of the traces under a dialect."""
    comparison = replay.summary(traces)
    return replace(
        about,
        outcome="agrees" if comparison.agrees else "differs",
        dialect=label,
        largest=comparison.largest._asdict(),
        first=comparison.first._asdict() if comparison.first else None,
        streams=[report.stream(trace) for trace in traces],
        notes=notes,
    )


def assert_matches(
    candidate: Any,
    method: str | Method,
    *,
    dialect: str | None = None,
    streams: Sequence[str] = NAMES,
    steps: int | None = None,
    rtol: float = 0.0,
    **hyper: Any,
) -> None:
    """Raise AssertionError, saying where they part and why, unless `candidate` agrees with `method`.

    The candidate is anything that `check` takes but a whole solver, and `steps` are as there. Without a dialect, the
    method's defaults are meant. `streams` and `rtol` are those of `compare`, for methods that read gradients alone.
    """
    __tracebackhide__ = True
    module = get(method) if isinstance(method, str) else method
    if _is_solver(candidate):
        raise TypeError(
            f"{named(candidate)} is a whole solver and no {name_of(module)}: see refopt.conformance.solvers"
        )
    knobs = {**preset(module, dialect), **hyper}
    steps, _ = _held_steps(candidate, steps)
    traces, notes = _traces(candidate, module, steps, knobs, streams=streams, rtol=rtol)
    comparison = replay.summary(traces)
    if comparison.agrees:
        return
    found = _diagnose(candidate, module, steps, knobs, streams)
    like = f"{name_of(module)}, dialect {dialect!r}" if dialect else name_of(module)
    why = [str(comparison), *notes, str(found)]
    raise AssertionError("\n".join([f"the candidate is not refopt's {like}", *why]))


def _diagnose(
    candidate: Any,
    method: Method,
    steps: int,
    knobs: dict[str, Any],
    streams: Sequence[str | Stream] = NAMES,
    pairs: bool = True,
) -> Diagnosis:
    """Return why they differ."""
    from refopt.conformance.diagnosis import diagnose  # what agrees needs none

    if isinstance(candidate, Log) and candidate.queries is None:
        logged, steps = _Replayed.of(candidate, method, knobs), min(steps, candidate.steps)
        candidate, streams, knobs = logged.recording, [logged.stream], logged.knobs
        steps = min(steps, len(candidate.paths[logged.stream.name].steps))
    return diagnose(candidate, method, streams=streams, steps=steps, pairs=pairs, **knobs)


def _held_steps(candidate: Any, steps: int | None) -> tuple[int, list[str]]:
    """Return the number of steps that are held, and a note where a log has more."""
    if isinstance(candidate, Recording) and steps is None:
        return max([STEPS, *(int(path.steps[-1]) for path in candidate.paths.values())]), []
    if not isinstance(candidate, Log):
        return STEPS if steps is None else steps, []
    if steps is None or steps >= candidate.steps:
        return candidate.steps, []
    return steps, [f"only {steps} of the {candidate.steps} steps of {candidate.name} were held, as asked for"]


def validate(method: Method, dialect: str | None, steps: int, hyper: Mapping[str, Any]) -> dict[str, str | None]:
    """Check what was asked for, and return the dialects to try, by what they are called.

    Raises ValueError or TypeError.
    """
    require(steps >= 1, "steps must be at least 1", steps)
    lr = hyper.get("lr", 1.0)
    require(isinstance(lr, int | float) and math.isfinite(lr), "lr must be a number", lr)
    if dialect is not None:
        bind(method, **{**preset(method, dialect), **hyper})
        return {dialect: dialect}
    bind(method, **hyper)
    return {**{name: name for name in method.DIALECTS}, DEFAULTS: None}


def _tried(
    candidate: Any, method: Method, presets: Mapping[str, str | None], steps: int, hyper: Mapping[str, Any]
) -> dict[str, Traced]:
    """Return the traces under each dialect; those with the same knobs are replayed once, DEFAULTS not beside a twin."""
    known = {**keywords(method.init), **keywords(method.step)}
    done: list[tuple[dict[str, Any], Traced]] = []
    found = {}
    lacking: MissingPart | None = None
    for label, dialect in presets.items():
        knobs = {**preset(method, dialect), **hyper}
        same = next((traced for others, traced in done if others == {**known, **knobs}), None)
        if same is None:
            try:
                same = _traces(candidate, method, steps, knobs)
            except MissingPart as missing:  # it may ask for what only another dialect is served
                lacking = missing
                continue
            done.append(({**known, **knobs}, same))
        elif label == DEFAULTS:
            continue
        found[label] = same
    if not found and lacking is not None:
        raise lacking
    return found


def _is_solver(candidate: Any) -> bool:
    return not isinstance(candidate, Method | Bound | Log | Recording) and solvers.is_solver(candidate)


def _mode(candidate: Any, method: Method) -> Any:
    if isinstance(candidate, Log):
        return "log"
    return "replay" if set(method.SPEC.needs) == {"grad"} else "interactive"


def _traces(candidate: Any, method: Method, steps: int, knobs: dict[str, Any], **replayed: Any) -> Traced:
    """Return the traces in the mode that candidate and method ask for; `replayed` are options of a replay alone."""
    if isinstance(candidate, Log):
        if candidate.queries is not None or set(method.SPEC.needs) != {"grad"}:
            return answers.traces(candidate, method, steps=steps, **knobs), answers.doubts(candidate)
        logged = _Replayed.of(candidate, method, knobs)
        steps = min(steps, candidate.steps)
        traces = replay.traces(logged.recording, method, streams=[logged.stream], steps=steps, **logged.knobs)
        return [logged.with_points(trace, candidate) for trace in traces], []
    if set(method.SPEC.needs) == {"grad"}:
        return replay.traces(candidate, method, steps=steps, **replayed, **knobs), []
    return interactive.traces(candidate, method, steps=steps, **knobs)


class _Replayed(NamedTuple):
    """A log of gradients as a stream on which the reference is replayed."""

    recording: Recording
    stream: Stream
    knobs: dict[str, Any]
    points: list[Array]  # where the reference asked for the gradient, once it has been replayed

    @classmethod
    def of(cls, log: Log, method: Method, knobs: dict[str, Any]) -> _Replayed:
        """Make it; the log's lr goes before that of `knobs`. Raises ValueError for a log without gradients."""
        require(log.g is not None, f"{log.name} must hold g to be replayed", "queries alone")
        assert log.g is not None
        g = log.g
        points: list[Array] = []

        def grad(k: int, x: Array) -> Array:
            if k == len(points):
                points.append(np.array(x))
            return np.array(g[k])

        factor = None
        known = {**keywords(method.init), **keywords(method.step)}
        if log.lr is not None and "lr" in known:
            lr, factor = answers.rates(log.lr, method)
            knobs = {**knobs, "lr": lr}
        if "layout" in known:
            knobs = {"layout": log.layout, **knobs}
        track = Track(np.arange(1, log.steps + 1), log.x[1:])
        return cls(Recording({log.name: track}, {}), Stream(log.name, log.x[0], grad, factor), knobs, points)

    def with_points(self, trace: Trace, log: Log) -> Trace:
        """Return the trace with the first step at which the log's gradient is of another point, if that is earlier."""
        for k, (mine, theirs) in enumerate(zip(() if log.at is None else log.at, self.points, strict=False)):
            if trace.first is not None and trace.first.step <= k:
                break
            if apart(theirs, mine) > match(mine.dtype):
                return trace._replace(first=elsewhere(log.name, k, theirs, mine))
        return trace


def _distance(traces: Sequence[Trace]) -> tuple[bool, int, float]:
    """Return how far a candidate is: whether it differs, the sooner the farther, and by how much.

    By how much is the mean logarithm of the largest differences of the streams: after the first one the two are on
    paths of their own, so it says less than when that was.
    """
    sizes = [min(max(trace.largest.relative, 1e-17), 1e300) for trace in traces]
    first = replay.summary(traces).first
    return first is not None, -first.step if first else 0, float(np.mean(np.log10(sizes)))


def _check_solver(candidate: Any, name: str, reference: str | Method | None) -> Report:
    if not _is_solver(candidate):
        raise TypeError(f"a reference must be named, unless the candidate is a solver(fun, x0); got {name}")
    unused = [] if reference is None else ["the reference was not used: a whole solver is held against the truth"]
    about = Report(name, "", "could not run", "solver", notes=unused)
    try:
        claims = solvers.check(candidate)
    except Exception as error:  # whatever a solver may raise
        return replace(about, error=words(error))
    outcome: report.Outcome = "agrees" if all(claim.holds for claim in claims) else "differs"
    never = [] if any(claim.claim == "stationary" for claim in claims) else [NEVER]
    return replace(about, outcome=outcome, claims=[claim._asdict() for claim in claims], notes=[*unused, *never])


def words(error: BaseException) -> str:
    """Return what was raised and where, in one line."""
    notes = getattr(error, "__notes__", [])
    return f"{type(error).__name__}: {' '.join(str(error).split())}{f' ({notes[0]})' if notes else ''}"
