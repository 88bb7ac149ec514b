"""What a race is asked to run, checked as a whole before anything runs."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from problems.problem import Problem
from refopt import __version__
from refopt import method as methods
from refopt.loop import minimize
from refopt.objective import MissingPart
from refopt.race import sources
from refopt.status import nearest, require

PROBLEMS = ("mlp_digits", "saddle")
METHODS = (
    "sgd",
    "nesterov",
    "adam",
    "schedule_free",
    "svrg",
    "parabola",
    "adahessian",
    "kfac",
    "lbfgs",
    "newton_cg",
)
FULL_BATCH_BUDGET = "400ge"
MINIBATCH_BUDGET = "20ge"
"""What races, and what each run may spend, when nothing is named."""


class Budget(NamedTuple):
    """What each run may spend: gradient equivalents ("ge") or seconds ("s") inside steps."""

    amount: float
    unit: str

    @classmethod
    def read(cls, text: str) -> Budget:
        """Return the budget that ``500``, ``500ge`` or ``30s`` spells. Raises ValueError where it spells none."""
        match = re.fullmatch(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*(ge|s)?\s*", text)
        try:
            amount = float(match[1]) if match else math.nan
        except ValueError:
            amount = math.nan
        require(0 < amount < math.inf, "budget must be positive, such as 500, 500ge or 30s", text)
        return cls(amount, match[2] or "ge" if match else "")

    @property
    def rule(self) -> str:
        """The stop rule of `minimize`, and the column of the results, that this budget is counted in."""
        return "gradient_equivalents" if self.unit == "ge" else "seconds"

    def __str__(self) -> str:
        return f"{self.amount:g} {'gradient equivalents' if self.unit == 'ge' else 'seconds'}"


@dataclass(frozen=True)
class Settings:
    """What was asked for, in the words of the command line."""

    problems: tuple[str, ...] = PROBLEMS
    methods: tuple[str, ...] = METHODS
    budget: str | None = None
    batch_size: int = 64
    seeds: int = 3
    tune: int = 8
    fixed: tuple[str, ...] = ()  # such as "adam.lr=1e-3"
    backend: str = "numpy"
    dtype: str | None = None


@dataclass(frozen=True)
class Run:
    """One run, in words that a file and another process can hold. Equal runs have equal keys, and equal outcomes."""

    problem: str
    method: str
    hyper: Mapping[str, Any]  # numbers, words, and schedules by their formulas
    seed: int
    budget: Budget
    batch_size: int | None
    backend: str
    dtype: str | None

    @cached_property
    def key(self) -> str:
        """A name for files: a digest of all that the outcome depends on."""
        content = [__version__, sources.digest(self.problem), sources.digest(self.method), asdict(self)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Entry:
    """One method on one problem: the runs of an entry differ in their knobs and seeds only."""

    problem: str
    method: str
    fixed: tuple[tuple[str, str], ...]  # (knob, value)
    budget: Budget
    batch_size: int | None
    backend: str
    dtype: str | None

    def run(self, hyper: Mapping[str, Any], seed: int) -> Run:
        """Return the run with the knobs `hyper` beside the fixed ones."""
        knobs = {**hyper, **dict(self.fixed)}
        return Run(self.problem, self.method, knobs, seed, self.budget, self.batch_size, self.backend, self.dtype)


@dataclass(frozen=True)
class Plan:
    """A race that can run: its entries with what their first step cost, in gradient equivalents; the problems with the
    start of seed 0; and who cannot take part and why.
    """

    settings: Settings
    problems: Mapping[str, Problem]
    entries: Mapping[Entry, float]
    absent: tuple[tuple[str, str, str], ...]  # (problem, method, why)

    def of(self, problem: str) -> list[Entry]:
        """Return the entries on one problem."""
        return [entry for entry in self.entries if entry.problem == problem]


def make_plan(settings: Settings) -> Plan:
    """Check `settings` as a whole; every method takes one step on every problem that has what it needs.

    Raises ValueError or TypeError for misuse, RuntimeError where a backend or a data set is missing.
    """
    require(settings.seeds >= 1, "seeds must be at least 1", settings.seeds)
    require(settings.tune >= 0, "tune must be at least 0", settings.tune)
    require(bool(settings.methods), "methods must name at least one", settings.methods)
    require(settings.batch_size >= 1, "batch-size must be at least 1", settings.batch_size)
    require(settings.dtype in (None, "float32", "float64"), "dtype must be float32 or float64", settings.dtype)
    if settings.budget is not None:
        Budget.read(settings.budget)
    fixed = _read_fixed(settings)
    for text, knobs in fixed.items():
        methods.bind(sources.find_method(text), **sources.read_knobs(knobs))
    found = {
        text: sources.find_problem(text, seed=0, backend=settings.backend, dtype=settings.dtype)
        for text in settings.problems
    }
    entries: dict[Entry, float] = {}
    absent = []
    for text, problem in found.items():
        for entry in _entries(text, problem, settings, fixed):
            try:
                entries[entry] = _try(entry, problem)
            except MissingPart as missing:
                absent.append((text, entry.method, str(missing)))
        if not any(entry.problem == text for entry in entries):
            raise ValueError(f"no method can race on {text}: {absent[-1][2]}")
    return Plan(settings, found, entries, tuple(absent))


def _read_fixed(settings: Settings) -> dict[str, dict[str, str]]:
    """Return {method: {knob: value}}, the values still as text."""
    fixed: dict[str, dict[str, str]] = {method: {} for method in settings.methods}
    for text in settings.fixed:
        name, equals, value = text.partition("=")
        method, dot, knob = name.rpartition(".")
        require(bool(equals and dot), "--set must be METHOD.KNOB=VALUE", text)
        if method not in fixed:
            raise ValueError(f"--set {text}: no method {method!r} races{nearest(method, fixed)}")
        fixed[method][knob] = value
    return fixed


def _entries(
    text: str, problem: Problem, settings: Settings, fixed: Mapping[str, Mapping[str, str]]
) -> Iterable[Entry]:
    examples = problem.objective.n_examples
    batch_size = None if examples is None else min(settings.batch_size, examples)
    default = FULL_BATCH_BUDGET if examples is None else MINIBATCH_BUDGET
    budget = Budget.read(settings.budget or default)
    for method, knobs in fixed.items():
        yield Entry(text, method, tuple(knobs.items()), budget, batch_size, settings.backend, settings.dtype)


def _try(entry: Entry, problem: Problem) -> float:
    """Take one step, for the errors that only a step can find, and return what it cost."""
    if not hasattr(problem.objective, "value_and_grad"):
        raise MissingPart(f"a race needs value and grad, {entry.problem} has {', '.join(problem.objective.parts)}")
    method, knobs = sources.find_method(entry.method), sources.read_knobs(dict(entry.fixed))
    try:
        with np.errstate(all="ignore"):
            result = minimize(problem, method, steps=1, batch_size=entry.batch_size, **knobs)
            return result.ledger.gradient_equivalents
    except MissingPart:
        raise
    except (ValueError, TypeError) as error:
        raise type(error)(f"{entry.method} on {entry.problem}: {error}") from error
