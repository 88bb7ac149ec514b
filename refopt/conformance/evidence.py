"""What a candidate did, where it can be held against other methods than the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from refopt.conformance import answers, interactive
from refopt.conformance.adapters import adapt
from refopt.conformance.adapters.actor import adapt as adapt_actor
from refopt.conformance.adapters.methods import layout_for
from refopt.conformance.logs import Log
from refopt.conformance.recording import Path, Recording, play
from refopt.conformance.reference import Reference
from refopt.conformance.replay import Comparison, reference, summary, trace
from refopt.conformance.streams import Stream
from refopt.method import Method, keywords

IN_PLACE = "the gradient changed in place"
NOT_RESET = "state not reset between runs"


class Refer(Protocol):
    """Make a method, with its hyperparameters and lr among them, take some steps of a stream."""

    def __call__(self, method: Any, hyper: Mapping[str, Any], stream: Stream, steps: int, /) -> Reference: ...  # noqa: D102


@dataclass(frozen=True)
class Evidence:
    """The paths of a candidate, and how a method is brought to take the same."""

    streams: Sequence[Stream]
    paths: Mapping[str, Path]  # by the name of the stream
    refer: Refer
    flaws: tuple[str, ...] = ()  # what is wrong whatever the reference is

    def compare(self, method: Any, hyper: Mapping[str, Any], rtol: float) -> Comparison:
        """Hold the candidate against a method, on every stream."""
        held = []
        for stream in self.streams:
            path = self.paths[stream.name]
            held.append(trace(path, self.refer(method, hyper, stream, int(path.steps[-1])), rtol))
        return summary(held)


def gather(candidate: Any, method: Method, hyper: Mapping[str, Any], streams: Sequence[Stream], steps: int) -> Evidence:
    """Play the candidate where the reference is played: on `streams`, in arenas, or as its log says.

    Raises TypeError for a candidate of no known kind.
    """
    if isinstance(candidate, Log):
        return _logged(candidate, method, hyper, steps)
    if set(method.SPEC.needs) == {"grad"}:
        return _replayed(candidate, method, hyper, streams, steps)
    return _asked(candidate, method, hyper, steps)


def _replayed(
    candidate: Any, method: Method, hyper: Mapping[str, Any], streams: Sequence[Stream], steps: int
) -> Evidence:
    flaws = []
    lr = hyper["lr"]
    streams = [s for s in streams if s.lr is None or "lr" in keywords(method.step)]
    if isinstance(candidate, Recording):
        streams = [s for s in streams if s.name in candidate.paths]
        paths = {s.name: _within(candidate.paths[s.name], steps) for s in streams}
    else:
        player = adapt(candidate, layout_for(method))
        streams = [s for s in streams if s.lr is None or player.takes_lr]
        paths = {s.name: play(player, s, steps, lr) for s in streams}
        if play(player, streams[0], steps, lr).x.tobytes() != paths[streams[0].name].x.tobytes():
            flaws.append(NOT_RESET)
    if any(path.write for path in paths.values()):
        flaws.insert(0, IN_PLACE)
    paths = {name: path._replace(write=None) for name, path in paths.items()}

    def refer(other: Any, changed: Mapping[str, Any], stream: Stream, steps: int) -> Reference:
        options = dict(changed)
        make = reference if other is method and changed == hyper else Reference  # the one is known already
        return make(other, options, options.pop("lr", 1.0), stream, steps)

    return Evidence(streams, paths, refer, tuple(flaws))


def _asked(candidate: Any, method: Method, hyper: Mapping[str, Any], steps: int) -> Evidence:
    options = dict(hyper)
    lr = options.pop("lr")
    actor = adapt_actor(candidate)
    references = interactive.references(method, options, lr, steps, actor.takes_lr)
    played = {r.arena.name: interactive.play(actor, r.arena, r.horizon, lr)[0] for r in references}
    again = interactive.play(actor, references[0].arena, references[0].horizon, lr)[0]
    flaws = [IN_PLACE] if any(path.write for path in played.values()) else []
    if again.x.tobytes() != played[references[0].arena.name].x.tobytes():
        flaws.append(NOT_RESET)
    played = {name: path._replace(write=None) for name, path in played.items()}

    def refer(method: Any, hyper: Mapping[str, Any], stream: Stream, steps: int) -> Reference:
        options = dict(hyper)
        return interactive.Served(method, options, options.pop("lr", 1.0), stream, steps)

    return Evidence([r.arena for r in references], played, refer, tuple(flaws))


def _logged(log: Log, method: Method, hyper: Mapping[str, Any], steps: int) -> Evidence:
    def refer(method: Any, hyper: Mapping[str, Any], stream: Stream, steps: int) -> Reference:
        return answers.answered(log, method, hyper, steps)

    arena = answers.answered(log, method, hyper, steps).arena
    return Evidence([arena], {log.name: _within(answers.path(log), steps)}, refer)


def _within(path: Path, steps: int) -> Path:
    kept = path.steps <= steps
    return Path(path.steps[kept], path.x[kept], path.write)
