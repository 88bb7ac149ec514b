"""Killed at random moments of their work, races, laboratories and checkpoints lose nothing and double nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

import problems
from refopt import minimize
from refopt.first_order import adam
from refopt.lab import laboratory

KILLS = [3, pytest.param(50, marks=pytest.mark.slow)]
REFOPT = [sys.executable, "-c", "from refopt.cli import main; main()", "race"]
RACE = [*REFOPT, "saddle", "--methods", "sgd,adam", "--tune", "3", "--budget", "400", "--seeds"]
SMALL_LAB = [sys.executable, Path(__file__).with_name("small_lab.py")]
STEPS = """
import sys, time, numpy as np, problems
from refopt import minimize
from refopt.checkpoint import Checkpoint
from refopt.first_order import adam
r = minimize(problems.get("rosenbrock", n=10), adam, steps=3000, lr=0.01, checkpoint=Checkpoint(sys.argv[1], every=3),
             callback=lambda step: time.sleep(0.001))
np.save(sys.argv[2], r.x)
"""


def kill_at_random(
    commands: Sequence[Sequence[object]], seed: int, done: Callable[[], object], within: float = 0.1
) -> None:
    """Start each of the commands, and kill it with its children `within` so many seconds of what it does first.

    It has done something where `done` is no longer what it was. At least half of the kills must find it at work.
    """
    moments, hits = random.Random(seed), 0
    for command in commands:
        before = done()
        process = subprocess.Popen(
            [*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 120
        while done() == before and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(within * moments.random())
        if process.poll() is None:
            hits += 1
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert hits >= len(commands) / 2
    time.sleep(1.1)  # what they left is swept when it is a second old


def finished(folder: Path) -> Callable[[], int]:
    """Return what counts the finished runs in a folder."""
    return lambda: len(list(folder.rglob("runs/*.json")))


def outcomes(folder: Path) -> dict[str, Any]:
    """Return all that the finished runs hold but for times, by file; and the rows of a race's tables."""
    found: dict[str, Any] = {}
    for path in folder.rglob("runs/*.json"):
        run = json.loads(path.read_text())
        run["rows"].pop("seconds")
        found[path.name] = run
    for path in folder.glob("*.parquet"):
        found[path.name] = timeless(pyarrow.parquet.read_table(path).to_pylist())
    for path in folder.glob("*.csv.gz"):
        found[path.name] = timeless(laboratory.read(path))
    return found


def timeless(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return rows without times, in words, where nan is nan."""
    return [repr({name: cell for name, cell in row.items() if "seconds" not in name}) for row in rows]


def both(command: Sequence[object]) -> list[tuple[int, bytes]]:
    """Run a command twice at once; return the statuses, and what is told on stderr."""
    started = [
        subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)
    ]
    told = [process.communicate(timeout=300)[1] for process in started]
    return [(process.returncode, text) for process, text in zip(started, told, strict=True)]


@pytest.mark.parametrize("times", KILLS)
def test_a_race(times: int, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    race, go_on = [*RACE, str(5 * times), "--out"], [*REFOPT, "--resume", "--out", killed]
    subprocess.run([*race, whole], check=True, capture_output=True)
    kill_at_random([[*race, killed], *[go_on] * (times - 1)], 0, finished(killed))
    subprocess.run(go_on, check=True, capture_output=True)
    assert outcomes(killed) == outcomes(whole)
    assert not list(killed.rglob(".*.tmp"))


@pytest.mark.parametrize("times", KILLS)
def test_a_laboratory(times: int, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    seeds = str(1 + times // 5)
    subprocess.run([*SMALL_LAB, whole, seeds], check=True)
    kill_at_random([[*SMALL_LAB, killed, seeds]] * times, 2, finished(killed), within=0.02)
    subprocess.run([*SMALL_LAB, killed, seeds], check=True)
    assert outcomes(killed) == outcomes(whole)
    assert (killed / "verdict.md").exists()
    assert not list((killed / "work").rglob(".*.tmp"))


@pytest.mark.parametrize("times", KILLS)
def test_a_checkpoint(times: int, tmp_path: Path) -> None:
    whole = minimize(problems.get("rosenbrock", n=10), adam, steps=3000, lr=0.01)
    path, out = tmp_path / "run.npz", tmp_path / "x.npy"
    command = [sys.executable, "-c", STEPS, path, out]
    kill_at_random([command] * times, 3, lambda: path.exists() and path.stat().st_mtime_ns)
    subprocess.run(command, check=True)
    np.testing.assert_array_equal(np.load(out), whole.x)
    assert not list(tmp_path.glob(".*.tmp"))


def test_two_races_in_one_folder(tmp_path: Path) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    subprocess.run([*RACE, "4", "--out", alone], check=True, capture_output=True)
    kill_at_random([[*RACE, "4", "--out", shared]], 4, finished(shared))
    for status, told in both([*REFOPT, "--resume", "--out", shared]):
        assert status == 0, told
    assert outcomes(shared) == outcomes(alone)


def test_two_laboratories_in_one_folder(tmp_path: Path) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    subprocess.run([*SMALL_LAB, alone, "1"], check=True)
    both([*SMALL_LAB, shared, "1"])  # where one may find what the other has just begun to replace, and say so
    subprocess.run([*SMALL_LAB, shared, "1"], check=True)
    assert outcomes(shared) == outcomes(alone)


def test_two_runs_with_one_checkpoint(tmp_path: Path) -> None:
    whole = minimize(problems.get("rosenbrock", n=10), adam, steps=3000, lr=0.01)
    for status, told in both([sys.executable, "-c", STEPS, tmp_path / "run.npz", tmp_path / "x.npy"]):
        assert status == 0, told
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), whole.x)
