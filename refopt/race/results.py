"""Finished runs on disk, and the tables made of them.

    runs/KEY.json     one finished run, written atomically, so that a kill loses none; this is what is resumed from
    steps.parquet     one row a run and step looked at
    runs.parquet      one row a run: how it ended, what it cost, what it reached
    race.json         what was asked for, who could not race, the versions used

Without pyarrow the tables are steps.csv and runs.csv, with the same columns. All values are plain JSON; a number that
is not finite is null.
"""

from __future__ import annotations

import csv
import importlib
import importlib.util
import io
import json
import math
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from refopt.checkpoint import sweep, write_atomically
from refopt.race.plan import Entry, Plan, Run, Settings

Table: TypeAlias = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and its rows by column. `counts`, `flops` and `state_vectors` are the ledger's."""

    run: Run
    status: str  # a name of Status, or "ERROR"
    message: str
    rows: Mapping[str, Sequence[Any]]
    counts: Mapping[str, int] = field(default_factory=dict)
    flops: float = 0.0
    state_vectors: float = 0.0
    test: Mapping[str, float] = field(default_factory=dict)  # the problem's figures of merit at the last point

    @property
    def failed(self) -> bool:
        """Whether the run ended in trouble."""
        return self.status == "ERROR" or self.message.startswith("failed")

    @property
    def end(self) -> float:
        """The value reached within the budget; inf where the run was lost."""
        return self.value_at(self.run.budget.rule, self.run.budget.amount)

    def value_at(self, axis: str, place: float) -> float:
        """Return the value reached when the column `axis` stood at `place`; inf where the run was lost by then.

        A run that ended before keeps what it had reached, unless it ended without a point worth reporting.
        """
        reached = math.inf
        for at, value in zip(self.rows.get(axis, ()), self.rows.get("value", ()), strict=True):
            if at > place * (1 + 1e-9):
                return reached
            reached = math.inf if math.isnan(value) else value
        return math.inf if self.status in ("ERROR", "DIVERGED", "NOT_FINITE") else reached

    def spent(self, axis: str) -> float:
        """Return what the whole run came to on the column `axis`."""
        return float(self.rows[axis][-1]) if self.rows.get(axis) else 0.0

    def place_of(self, axis: str, value: float) -> float:
        """Return where the column `axis` stood when the value was first at most `value`.

        It is inf where that never was within the budget: a step that began within it and ended after does not count.
        """
        budget, rows = self.run.budget, self.rows
        columns = zip(*(rows.get(name, ()) for name in (axis, "value", budget.rule)), strict=True)
        within = budget.amount * (1 + 1e-9)
        return min((at for at, reached, spent in columns if reached <= value and spent <= within), default=math.inf)


@dataclass(frozen=True)
class Raced:
    """One method on one problem, run: the trials of its tuning, and the outcomes to report, one a seed."""

    entry: Entry
    trials: Sequence[Outcome]
    reported: Mapping[str, Sequence[Outcome]]  # {"tuned": ..., "default": ...}; "tuned" only where there was tuning

    def labelled(self) -> Iterator[tuple[dict[str, Any], Outcome]]:
        """Yield every run with its place in the race: the setting is "tuned", "default" or "trial"."""
        settings = {**self.reported, "trial": self.trials}
        for setting, outcomes in settings.items():
            for i, outcome in enumerate(outcomes):
                run = outcome.run
                trial = i if setting == "trial" else None
                yield (
                    {
                        "run": run.key,
                        "problem": run.problem,
                        "method": run.method,
                        "setting": setting,
                        "trial": trial,
                        "seed": run.seed,
                    },
                    outcome,
                )


def runs_table(race: Iterable[Raced]) -> Table:
    """Return one row a run."""
    return [
        {
            **label,
            "hyper": json.dumps(outcome.run.hyper),
            "status": outcome.status,
            "message": outcome.message,
            "value": outcome.end,
            **{
                f"last_{name}": column[-1] if column else None
                for name, column in outcome.rows.items()
                if name not in ("x1", "x2")
            },
            "counts": json.dumps(outcome.counts),
            "flops": outcome.flops,
            "state_vectors": outcome.state_vectors,
            **{f"test_{name}": figure for name, figure in outcome.test.items()},
        }
        for raced in race
        for label, outcome in raced.labelled()
    ]


def steps_table(race: Iterable[Raced]) -> Table:
    """Return one row a run and step looked at."""
    return [
        {**label, **dict(zip(outcome.rows, row, strict=True))}
        for raced in race
        for label, outcome in raced.labelled()
        for row in zip(*outcome.rows.values(), strict=True)
    ]


def write_table(out: Path, name: str, table: Table) -> Path:
    """Write a table as parquet, or as csv where pyarrow is missing. Cells that a row lacks are empty."""
    columns = list(dict.fromkeys(column for row in table for column in row))
    if importlib.util.find_spec("pyarrow"):
        pyarrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
        buffer = io.BytesIO()
        parquet.write_table(pyarrow.table({c: [row.get(c) for row in table] for c in columns}), buffer)
        path, data = out / f"{name}.parquet", buffer.getvalue()
    else:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(table)
        path, data = out / f"{name}.csv", text.getvalue().encode()
    write_atomically(path, data)
    return path


def stored_settings(out: Path, resume: bool) -> Settings:
    """Return the settings to start from: those of the race in the folder `out` where it is resumed.

    Raises ValueError where there is none to resume, or where something is in the way of a new one.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, {out} is a file")
    sweep(out)
    if not resume:
        if out.exists() and any(out.iterdir()):
            raise ValueError(f"{out} is not empty: --resume goes on with the race in it, --out names another folder")
        return Settings()
    try:
        stored = json.loads((out / "race.json").read_text())["settings"]
        settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in stored.items()}
        return Settings(**settings)
    except FileNotFoundError:
        raise ValueError(f"there is no race to resume in {out}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{out / 'race.json'} is damaged: {error}") from None


def write_race(out: Path, plan: Plan, **found: Any) -> None:
    """Write race.json: the settings and versions and, once they are there, the findings."""
    out.mkdir(parents=True, exist_ok=True)
    race = {
        "settings": asdict(plan.settings),
        "versions": versions(plan.settings.backend),
        "absent": [{"problem": problem, "method": method, "why": why} for problem, method, why in plan.absent],
        **found,
    }
    write_atomically(out / "race.json", json.dumps(finite(race), indent=1, allow_nan=False).encode())


def versions(backend: str) -> dict[str, str]:
    """Return what the results depend on besides the settings."""
    libraries = dict.fromkeys(("refopt", "numpy", backend))
    return {
        **{name: importlib.import_module(name).__version__ for name in libraries},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def finite(node: Any) -> Any:
    """Return the tree `node` as plain JSON holds it: numbers that are not finite become None."""
    if isinstance(node, Mapping):
        return {key: finite(value) for key, value in node.items()}
    if isinstance(node, tuple) and hasattr(node, "_asdict"):
        return finite(node._asdict())
    if isinstance(node, list | tuple):
        return [finite(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node


class Journal:
    """The folder of finished runs: `run in journal`, `journal[run]`, `journal.write(outcome)`."""

    def __init__(self, out: Path) -> None:
        self.folder = out / "runs"
        self.folder.mkdir(parents=True, exist_ok=True)
        for folder in (out, self.folder):
            sweep(folder)

    def __contains__(self, run: Run) -> bool:
        return self._path(run).exists()

    def __getitem__(self, run: Run) -> Outcome:
        """Return the outcome of a finished run. Raises ValueError where its file is damaged."""
        try:
            stored = json.loads(self._path(run).read_text())
            rows = {name: [_read(entry) for entry in column] for name, column in stored["rows"].items()}
            test = {name: _read(figure) for name, figure in stored["test"].items()}
            return Outcome(**{**stored, "run": run, "rows": rows, "test": test})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{self._path(run)} is damaged ({error}); remove it and resume") from None

    def write(self, outcome: Outcome) -> None:
        """Write one finished run, whole or not at all."""
        write_atomically(self._path(outcome.run), json.dumps(finite(asdict(outcome)), allow_nan=False).encode())

    def _path(self, run: Run) -> Path:
        return self.folder / f"{run.key}.json"


def _read(number: float | None) -> float:
    return math.nan if number is None else number
