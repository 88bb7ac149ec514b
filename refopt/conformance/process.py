"""A check in a process of its own, which survives a candidate that hangs or ends its process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import refopt
from refopt.checkpoint import write_atomically
from refopt.conformance import candidates
from refopt.conformance.check import STEPS, check, validate, words
from refopt.conformance.report import Report
from refopt.method import get
from refopt.race.sources import read_options
from refopt.status import require


def check_apart(
    candidate: str,
    reference: str | None,
    *,
    dialect: str | None = None,
    steps: int | None = None,
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
        validate(get(reference), dialect, STEPS if steps is None else steps, read_options(hyper) if hyper else {})
    about = Report(candidate, reference or "", "could not run", steps=steps or STEPS)
    with tempfile.TemporaryDirectory() as folder:
        out, so_far = Path(folder) / "report.json", Path(folder) / "so_far.json"
        asked = [candidate, reference, dialect, steps, hyper, diagnose, str(out), str(so_far)]
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
        if out.exists():
            return Report(**json.loads(out.read_bytes()))
        if not so_far.exists():
            return replace(about, error=ended)
        found = Report(**json.loads(so_far.read_bytes()))
        return replace(found, notes=[*found.notes, f"no diagnosis: {ended}"])


_CHILD = "import sys; from refopt.conformance.process import _answer; sys.path.insert(0, ''); _answer(sys.argv[1])"


def _answer(asked: str) -> None:
    """Check in this process, and write the report, so far and at the end."""
    text, reference, dialect, steps, hyper, diagnose, out, so_far = json.loads(asked)

    def write(path: str, found: Report) -> None:
        write_atomically(Path(path), json.dumps(asdict(found), default=str).encode())

    knobs = read_options(hyper) if hyper else {}
    options = {"dialect": dialect, "steps": steps, "diagnose": diagnose, "name": text, "watch": partial(write, so_far)}
    try:
        candidate = candidates.find(text)
        write(out, check(candidate, reference, **options, **knobs))
    except (Exception, SystemExit) as error:  # an import may do anything
        write(out, Report(text, reference or "", "could not run", steps=steps or STEPS, error=words(error)))
