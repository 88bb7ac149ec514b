"""What a claim is, how its runs are held, and the numbers that verdicts are made of.

A claim compares entrants: a method on a problem, some knobs fixed, the others tuned by the same number of trials for
everybody (`refopt.race.tuning`), then run from the seeds to report. A setting is tried from two starts that are not
reported and judged by the worse, so that one which is about to diverge is not chosen by luck. Budgets are gradient
equivalents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import median
from types import TracebackType
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from problems.problem import Problem
from refopt.loop import Record, Result, minimize
from refopt.method import LogUniform
from refopt.race import sources, tuning
from refopt.race.engine import ENDLESS, Watch, do
from refopt.race.plan import Budget, Run
from refopt.race.results import Journal, Outcome

Verdict: TypeAlias = Literal["holds", "holds in part", "does not hold", "not comparable"]
LOOKS = 100  # at the objective over all examples, at most, in a run of a method whose steps are cheap
STARTS = (tuning.SEED, tuning.SEED + 1)
RATES = {"lr": LogUniform(1e-3, 1e-1)}
"""The learning rates tried where a paper's file names no others: two decades for everybody."""


@dataclass(frozen=True)
class Entrant:
    """A method on a problem. Knobs in `search`, those of its SPEC unless given, are tuned but for the `fixed` ones."""

    problem: str
    method: str
    budget: float  # gradient equivalents
    batch_size: int | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] | None = None


class Finding(NamedTuple):
    """Our number, in words, and what it says about the claim."""

    number: str
    verdict: Verdict


Found: TypeAlias = Mapping[str, Sequence[Outcome]]
"""For each entrant its outcomes, one a seed."""


def _catalogue(text: str, seed: int, dtype: str) -> Problem:
    return sources.find_problem(text, seed=seed, backend="numpy", dtype=dtype)


@dataclass(frozen=True)
class Claim:
    """A paper's claim, how it is tried here, and the judgement of what was found.

    `against` names the entrants that the others are compared with. `judge` is asked by `finding` alone, so that it need
    not wonder what a comparison with a lost run means.
    """

    paper: str
    claim: str
    setting: str  # what is the same as in the paper, and what is not
    entrants: Mapping[str, Entrant]
    judge: Callable[[Found], Finding]
    against: Sequence[str] = ()
    find: Callable[[str, int, str], Problem] = _catalogue
    measure: Callable[[Problem, Result], Mapping[str, float]] = lambda problem, result: {}
    dtype: str = "float32"

    def finding(self, found: Found) -> Finding:
        """Return what `judge` finds, or that nothing is comparable: an entrant of `against` was lost, or every one."""
        ends = {name: end(outcomes) for name, outcomes in found.items()}
        lost = {name for name, f in ends.items() if math.isinf(f)}
        if lost == set(ends) or lost & set(self.against):
            return Finding("f: " + ", ".join(f"{name} {shown(f)}" for name, f in ends.items()), "not comparable")
        return self.judge(found)


class Here(AbstractContextManager["Here"]):
    """An engine (`refopt.race.engine`) that performs the runs of a claim in this process, one after the other.

    Unlike a race's it takes the claim's measurements, and looks at every step of a method that takes few.
    """

    def __init__(self, claim: Claim) -> None:
        self.claim = claim

    def perform(self, runs: Sequence[Run]) -> Iterator[Outcome]:
        """Yield the outcome of every run as it ends."""
        for run in runs:
            with np.errstate(all="ignore"):  # a diverging trial is an outcome
                yield self._one(run)

    def _one(self, run: Run) -> Outcome:
        problem, method = self.claim.find(run.problem, run.seed, str(run.dtype)), sources.find_method(run.method)
        formulas = {knob: text for knob, text in run.hyper.items() if isinstance(text, str) and "(" in text}
        knobs = {**run.hyper, **sources.read_knobs(formulas)}
        share = 1.0 if run.batch_size is None else run.batch_size / (problem.objective.n_examples or run.batch_size)
        dearest = share * method.SPEC.gradient_equivalents[1]  # inf where the cost of a step has no bound
        looks = min(LOOKS, 2 * run.budget.amount)
        result = minimize(
            problem,
            method,
            steps=ENDLESS,
            batch_size=run.batch_size,
            seed=run.seed,
            stop={run.budget.rule: run.budget.amount},
            history_every=max(1, int(run.budget.amount / dearest / looks)),
            **knobs,
        )
        rows = {name: [getattr(record, name) for record in result.history] for name in Record._fields}
        measured = dict(self.claim.measure(problem, result))
        return Outcome(run, result.status.name, str(result.status), rows, dict(result.ledger.counts), test=measured)

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        """Nothing is held."""


def hold(claim: Claim, journal: Journal, watch: Watch, *, trials: int, seeds: int, share: float = 1.0) -> Found:
    """Tune every entrant by `trials` settings, run `seeds` seeds of the best, and return these.

    `share` of the budgets is spent. Runs that the journal holds are not run again.
    """
    engine = Here(claim)
    tried = {name: _trials(entrant, claim.dtype, trials, share) for name, entrant in claim.entrants.items()}
    do(engine, "tuning", [run for runs in tried.values() for pair in runs for run in pair], journal, watch)
    final = {}
    for name, entrant in claim.entrants.items():
        best = min(tried[name], key=lambda pair: max(journal[run].end for run in pair)) if tried[name] else ()
        hyper = best[0].hyper if best else {}
        final[name] = [_run(entrant, hyper, seed, claim.dtype, share) for seed in range(seeds)]
    do(engine, "running", [run for runs in final.values() for run in runs], journal, watch)
    return {name: [journal[run] for run in runs] for name, runs in final.items()}


def _trials(entrant: Entrant, dtype: str, count: int, share: float) -> list[list[Run]]:
    """Return for each setting its runs, one a start; nothing where there is nothing to choose."""
    search = sources.find_method(entrant.method).SPEC.search if entrant.search is None else entrant.search
    free = {knob: axis for knob, axis in search.items() if knob not in entrant.fixed}
    found = tuning.settings(free, count, purpose=entrant.method) if free else []
    return [[_run(entrant, hyper, seed, dtype, share) for seed in STARTS] for hyper in found]


def _run(entrant: Entrant, hyper: Mapping[str, Any], seed: int, dtype: str, share: float) -> Run:
    budget, knobs = Budget(share * entrant.budget, "ge"), {**hyper, **entrant.fixed}
    return Run(entrant.problem, entrant.method, knobs, seed, budget, entrant.batch_size, "numpy", dtype)


def end(outcomes: Sequence[Outcome]) -> float:
    """Return the median over the seeds of the value at the end of the budget, inf where most runs were lost."""
    return median(outcome.end for outcome in outcomes)


def place(outcomes: Sequence[Outcome], axis: str, value: float) -> float:
    """Return the median over the seeds of where the column `axis` stood when `value` was first reached, or inf."""
    return median(outcome.place_of(axis, value) for outcome in outcomes)


def count(steps: float, unit: str = "") -> str:
    """Return a number of steps or seconds in words.

    >>> count(12.0, " steps"), count(math.inf)
    ('12 steps', 'not reached')
    """
    return "not reached" if math.isinf(steps) else f"{steps:.4g}{unit}"


def times_fewer(steps: float, others: float, unit: str = "") -> str:
    """Return by what factor `steps`, inf where the value was not reached, are fewer than the `others`, in words.

    >>> times_fewer(3.0, 12.0, " iterations"), times_fewer(math.inf, 12.0)
    ('4.0 times fewer iterations', 'no fewer')
    """
    return f"no fewer{unit}" if math.isinf(steps) else f"{others / max(1.0, steps):.1f} times fewer{unit}"


def shown(f: float) -> str:
    """Return a value, or a measurement, of the end in words.

    >>> shown(0.25), shown(math.inf), shown(math.nan)
    ('0.25', 'diverged', 'diverged')
    """
    return f"{f:.4g}" if math.isfinite(f) else "diverged"


def known(f: float, spec: str) -> str:
    """Return a measurement as `spec` formats it, in words where no run was left to measure.

    >>> known(0.25, ".0%"), known(math.nan, ".0%")
    ('25%', 'unknown')
    """
    return f"{f:{spec}}" if math.isfinite(f) else "unknown"


def measured(outcomes: Sequence[Outcome], name: str) -> float:
    """Return the median over the seeds of a measurement; nan where no run ended at a point."""
    return median([outcome.test[name] for outcome in outcomes if name in outcome.test] or [math.nan])


def of(parts: Sequence[bool]) -> Verdict:
    """Return the verdict on a claim of several parts."""
    return "holds" if all(parts) else "holds in part" if any(parts) else "does not hold"
