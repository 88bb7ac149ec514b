"""Run the studies, store their numbers, and write their pages.

OUT/lab.json             the scale and the versions
OUT/work/STUDY/N/        the journal of each race, from which an interrupted study goes on
OUT/STUDY.csv.gz         the numbers kept of a study: all that findings are made of
OUT/STUDY.html, .png     the findings
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refopt import page
from refopt.checkpoint import write_atomically
from refopt.lab import study as studies
from refopt.lab import verdict
from refopt.lab.study import Findings, Rows, Scale
from refopt.race import contest
from refopt.race.engine import Engine, Watch
from refopt.race.plan import make_plan
from refopt.race.results import finite, versions, write_race


def run(names: Sequence[str], scale: Scale, out: Path, engine: Engine, watch: Watch) -> dict[str, Findings]:
    """Hold the races of each study that is not stored in `out` yet, on an open engine, and return the findings.

    What is finished is not run again; a study whose numbers are stored is only told again. Raises ValueError where
    `out` holds a laboratory of another scale.
    """
    _claim(out, scale)
    found = {name: _run(name, scale, out, engine, watch) for name in names}
    command = f"refopt lab {'--full ' if scale == 'full' else ''}--out {out.as_posix()}"
    told = verdict.write(found, {name: read(out / f"{name}.csv.gz") for name in names}, command)
    write_atomically(out / "verdict.md", told.encode())
    return found


def _run(name: str, scale: Scale, out: Path, engine: Engine, watch: Watch) -> Findings:
    study = studies.get(name)
    stored = out / f"{name}.csv.gz"
    if not stored.exists():
        rows: list[Any] = []
        for i, settings in enumerate(study.races(scale)):
            plan, folder = make_plan(settings), out / "work" / name / str(i)
            write_race(folder, plan)

            def told(stage: str, total: int, part: str = f"{name} {i + 1}") -> Any:
                return watch(f"{part}: {stage}", total)

            rows += study.keep(contest.hold(plan, folder, engine, told), plan)
        if hasattr(study, "measure"):
            rows += study.measure(scale)
        write(stored, rows)
    findings: Findings = study.findings(read(stored))
    page.write(out, name, study.TITLE, [study.QUESTION, *findings.paragraphs], findings.tables, findings.draw())
    return findings


def _claim(out: Path, scale: Scale) -> None:
    """Make the folder `out` a laboratory of this scale, unless it is one."""
    note = out / "lab.json"
    if note.exists():
        held = json.loads(note.read_text()).get("scale")
        if held != scale:
            raise ValueError(f"{out} holds the {held} laboratory; name another folder by --out for the {scale} one")
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is {'not empty' if out.is_dir() else 'a file'}; --out names another folder")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(note, json.dumps({"scale": scale, "versions": versions("numpy")}, indent=1).encode())


def write(path: Path, rows: Rows) -> None:
    """Write rows as gzipped csv, the same bytes for the same rows; a cell that a row lacks, or None, is empty."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows({name: _written(value) for name, value in row.items()} for row in rows)
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as file:
        file.write(text.getvalue().encode())
    write_atomically(path, packed.getvalue())


def read(path: Path) -> Rows:
    """Return the rows of a file: numbers as int or float, "True" and "False" as bool, empty cells absent.

    Raises ValueError where the file is damaged.
    """
    try:
        text = gzip.decompress(path.read_bytes()).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it, and the study is run again") from None
    return [
        {name: _read(cell) for name, cell in row.items() if cell != ""}
        for row in csv.DictReader(io.StringIO(text, newline=""))
    ]


def _written(value: Any) -> Any:
    """Return a float in six digits, which say all that a measurement does; anything else as it is."""
    return f"{value:.6g}" if isinstance(value, float) else value


def _read(cell: str) -> Any:
    if cell in ("True", "False"):
        return cell == "True"
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def as_json(found: dict[str, Findings]) -> dict[str, Any]:
    """Return the findings as plain JSON."""
    told = {
        name: {
            "paragraphs": list(findings.paragraphs),
            "tables": [{"columns": list(t.columns), "rows": [list(row) for row in t.rows]} for t in findings.tables],
        }
        for name, findings in found.items()
    }
    plain: dict[str, Any] = finite(told)
    return plain
