"""Run the studies, store their numbers, and write their pages.

OUT/work/STUDY/N/        the journal of each race, from which an interrupted study goes on
OUT/STUDY.json           the scale of a study, the versions, the machine and the date
OUT/STUDY.csv.gz         the numbers kept of a study: all that findings are made of
OUT/STUDY.html, *.png    the findings
OUT/verdict.md           what follows from all the studies in the folder
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
from refopt.lab.study import Findings, Held, Rows, Scale
from refopt.race import contest
from refopt.race.engine import Engine, Watch
from refopt.race.plan import make_plan
from refopt.race.results import finite, versions, write_race


def run(names: Sequence[str], scale: Scale, out: Path, engine: Engine, watch: Watch) -> dict[str, Findings]:
    """Hold the races of each study that is not stored in `out` yet, on an open engine, and return the findings.

    What is finished is not run again; a study whose numbers are stored is only told again. Full numbers replace
    reduced ones, and serve where reduced ones are asked for. The verdict is on all studies in the folder.
    Raises ValueError where `out` holds something else.
    """
    _check(out)
    for name in names:
        if _scale(out, name) not in (scale, "full"):
            _hold(name, scale, out, engine, watch)
    held = {name: _read_study(out, name) for name in studies.names() if _scale(out, name)}
    for name in names:
        study, findings = studies.get(name), held[name].findings
        said = [study.QUESTION, " ".join(findings.answer), f"{held[name].origin}.", *findings.paragraphs]
        drawn = {word: draw() for word, draw in findings.figures.items()}
        page.write(out, name, study.TITLE, said, findings.tables, drawn)
    write_atomically(out / "verdict.md", verdict.write(held, out).encode())
    return {name: held[name].findings for name in names}


def _hold(name: str, scale: Scale, out: Path, engine: Engine, watch: Watch) -> None:
    """Hold the races of a study, and store their numbers."""
    study = studies.get(name)
    rows: list[Any] = []
    for i, settings in enumerate(study.races(scale)):
        plan, folder = make_plan(settings), out / "work" / name / str(i)
        write_race(folder, plan)

        def told(stage: str, total: int, part: str = f"{name} {i + 1}") -> Any:
            return watch(f"{part}: {stage}", total)

        rows += study.keep(contest.hold(plan, folder, engine, told), plan)
    if hasattr(study, "measure"):
        rows += study.measure(scale)
    note, numbers = _files(out, name)
    if _scale(out, name) != scale:  # else another process has just stored the same, and may be reading it
        numbers.unlink(missing_ok=True)  # before the note changes: nobody reads the numbers of one scale as the other's
    write_atomically(note, json.dumps({"scale": scale, "versions": versions("numpy")}, indent=1).encode())
    write(numbers, rows)


def _files(out: Path, name: str) -> tuple[Path, Path]:
    """Return the note and the numbers of a study."""
    return out / f"{name}.json", out / f"{name}.csv.gz"


def _scale(out: Path, name: str) -> Scale | None:
    """Return the scale of the study that is stored, None where there is none."""
    note, numbers = _files(out, name)
    return _read_note(note)[0] if note.exists() and numbers.exists() else None


def _read_study(out: Path, name: str) -> Held:
    """Return a study that is stored, its findings made from its numbers."""
    note, numbers = _files(out, name)
    rows = read(numbers)
    return Held(*_read_note(note), rows, studies.get(name).findings(rows))


def _read_note(note: Path) -> tuple[Scale, dict[str, str]]:
    try:
        read = json.loads(note.read_text())
        return read["scale"], read["versions"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{note} is damaged ({error}); remove it, and the study is run again") from None


def _check(out: Path) -> None:
    """Raise ValueError where `out` holds something, and that is no laboratory."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"{out} is a file; --out names another folder")
    ours = any(path.exists() for name in studies.names() for path in (out / "work" / name, *_files(out, name)))
    if any(out.iterdir()) and not ours:
        raise ValueError(f"{out} is not empty; --out names another folder")


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
            "answer": list(findings.answer),
            "paragraphs": list(findings.paragraphs),
            "tables": [{"columns": list(t.columns), "rows": [list(row) for row in t.rows]} for t in findings.tables],
        }
        for name, findings in found.items()
    }
    plain: dict[str, Any] = finite(told)
    return plain
