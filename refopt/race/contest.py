"""Hold a race: tune every method by the same number of trials, then run the seeds to report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refopt.race import sources, tuning
from refopt.race.engine import Engine, Watch, do
from refopt.race.plan import Entry, Plan, Run
from refopt.race.results import Journal, Raced


def hold(plan: Plan, out: Path, engine: Engine, watch: Watch) -> list[Raced]:
    """Run the plan on an engine that is open, with a journal in the folder `out`; return the race, entry by entry.

    Runs that the journal holds already are not run again.
    """

    def seeds(entry: Entry, hyper: Mapping[str, Any]) -> list[Run]:
        return [entry.run(hyper, seed) for seed in range(plan.settings.seeds)]

    journal = Journal(out)
    default = {entry: seeds(entry, {}) for entry in plan.entries}
    trials = {entry: _trials(entry, cost, plan.settings.tune) for entry, cost in plan.entries.items()}
    tuned: dict[Entry, list[Run]] = {}
    do(engine, "tuning", [run for runs in trials.values() for run in runs], journal, watch)
    for entry, runs in trials.items():
        if runs:
            tuned[entry] = seeds(entry, runs[tuning.best([journal[run] for run in runs])].hyper)
    do(engine, "racing", [run for runs in (*tuned.values(), *default.values()) for run in runs], journal, watch)
    return [
        Raced(
            entry,
            [journal[run] for run in trials[entry]],
            {
                setting: [journal[run] for run in runs[entry]]
                for setting, runs in (("tuned", tuned), ("default", default))
                if entry in runs
            },
        )
        for entry in plan.entries
    ]


def _trials(entry: Entry, cost: float, count: int) -> list[Run]:
    """Return the runs of an entry's tuning, none for a count of 0; `cost` is that of a step."""
    if count == 0:
        return []
    method = sources.find_method(entry.method)
    search: dict[str, Any] = {k: axis for k, axis in method.SPEC.search.items() if k not in dict(entry.fixed)}
    least, most = method.SPEC.gradient_equivalents
    averages = hasattr(method, "solution")  # which does a decaying rate's work at a constant one
    if "lr" in search and entry.batch_size and entry.budget.unit == "ge" and least == most and not averages:
        search["lr"] = tuning.Decaying(search["lr"], steps=math.ceil(entry.budget.amount / cost))
    return [entry.run(hyper, tuning.SEED) for hyper in tuning.settings(search, count, purpose=entry.method)]
