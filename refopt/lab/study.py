"""What a study is: races, the numbers kept of them, and the findings that follow from the numbers.

    NAME, TITLE, QUESTION
    races(scale) -> Sequence[Settings]              what to race, at the scale "reduced" (minutes) or "full" (hours)
    measure(scale) -> Rows                          what no race shows; absent where races say all
    keep(race, plan) -> Rows                        the numbers to store of one race that was held
    findings(rows) -> Findings                      from the stored numbers alone, so anyone can make them again

A study is a module of `refopt.lab.studies`, found by itself.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from refopt.lab.statistics import Duel
from refopt.page import Rows as Table
from refopt.race.plan import Plan, Settings
from refopt.race.results import Raced

Scale: TypeAlias = Literal["reduced", "full"]
Rows: TypeAlias = Sequence[Mapping[str, Any]]


class Findings(NamedTuple):
    """What a study found.

    `duels` has, for each kind of place, how often the best method that uses curvature was ahead of the best that uses
    gradients alone. `answer` is the answer to the study's question, in sentences; `paragraphs` are the details, each
    with its numbers; `figures` are matplotlib's, drawn on call, by a word for the file's name, the main one by "".
    """

    duels: Mapping[str, Duel]
    answer: Sequence[str]
    paragraphs: Sequence[str]
    tables: Sequence[Table]
    figures: Mapping[str, Callable[[], Any]]


class Held(NamedTuple):
    """A study that was held: at which scale, by which versions and machine and when, its numbers and its findings."""

    scale: Scale
    versions: Mapping[str, str]
    rows: Rows
    findings: Findings

    @property
    def origin(self) -> str:
        """Where the numbers come from, in words."""
        found = self.versions
        libraries = ", ".join(f"{name} {found[name]}" for name in found if name not in ("machine", "date"))
        return f"{self.scale.capitalize()} scale, {found['date']}, {found['machine']}; {libraries}"


class Study(Protocol):
    """The face of a study's module; see above."""

    NAME: str
    TITLE: str
    QUESTION: str

    @staticmethod
    def races(scale: Scale) -> Sequence[Settings]: ...  # noqa: D102

    @staticmethod
    def keep(race: Sequence[Raced], plan: Plan) -> Rows: ...  # noqa: D102

    @staticmethod
    def findings(rows: Rows) -> Findings: ...  # noqa: D102


ORDER = ("cost", "noise", "saddles", "training", "robustness")
"""The three obstacles, then what practice asks."""


def names() -> list[str]:
    """Return the names of the studies that there are, in the order in which they are told."""
    package = importlib.import_module("refopt.lab.studies")
    found = {module.name for module in pkgutil.iter_modules(package.__path__)}
    return sorted(found, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def get(name: str) -> Any:
    """Return the study `name`, a module. Raises ValueError for an unknown one."""
    from refopt.status import nearest

    if name not in names():
        raise ValueError(f"unknown study {name!r}{nearest(name, names())}; known: {', '.join(names())}")
    return importlib.import_module(f"refopt.lab.studies.{name}")
