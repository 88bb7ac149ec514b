"""A check in a process of its own, which survives a candidate that hangs or ends its process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import refopt
from refopt.checkpoint import write_atomically
from refopt.conformance import candidates
from refopt.conformance.check import check, validate, words
from refopt.conformance.report import Report
from refopt.method import get
from refopt.race.sources import read_options
from refopt.status import require


def check_apart(
    candidate: str,
    reference: str | None,
    *,
    dialect: str | None = None,
    steps: int = 200,
    hyper: str = "",
    diagnose: bool = True,
    time_limit: float = 120.0,
) -> Report:
    """Check the candidate that a name stands for (see `candidates`) in another process, for at most `time_limit` s.

    `hyper` is written lr=0.01,eps=1e-8. Raises ValueError or TypeError for what `check` does; a candidate that cannot
    be imported, hangs or ends its process is a report.
    """
    require(time_limit > 0, "time_limit must be above 0", time_limit)
    if reference is not None:
        validate(get(reference), dialect, steps, read_options(hyper) if hyper else {})
    about = Report(candidate, reference or "", "could not run", steps=steps)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.json"
        asked = [candidate, reference, dialect, steps, hyper, diagnose, str(out)]
        root = str(Path(refopt.__file__).parents[1])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _CHILD, json.dumps(asked)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
            text=True,
            errors="replace",
        )
        try:
            _, err = process.communicate(timeout=time_limit)
            ended = ": ".join([f"its process ended with status {process.returncode}", *err.strip().splitlines()[-1:]])
        except subprocess.TimeoutExpired:
            ended = f"no answer within {time_limit:g} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # what it started, too
                process.communicate()
        return Report(**json.loads(out.read_bytes())) if out.exists() else replace(about, error=ended)


_CHILD = "import sys; from refopt.conformance.process import _answer; sys.path.insert(0, ''); _answer(sys.argv[1])"


def _answer(asked: str) -> None:
    """Check in this process, and write the report, so far and at the end."""
    text, reference, dialect, steps, hyper, diagnose, out = json.loads(asked)

    def write(found: Report) -> None:
        write_atomically(Path(out), json.dumps(asdict(found), default=str).encode())

    knobs = read_options(hyper) if hyper else {}
    options = {"dialect": dialect, "steps": steps, "diagnose": diagnose, "name": text, "watch": write}
    try:
        candidate = candidates.find(text)
        write(check(candidate, reference, **options, **knobs))
    except (Exception, SystemExit) as error:  # an import may do anything
        write(Report(text, reference or "", "could not run", steps=steps, error=words(error)))
