"""Killed at random moments, races, laboratories and checkpoints lose nothing and double nothing."""

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

import numpy as np
import pytest

import problems
from refopt import minimize
from refopt.first_order import adam

KILLS = [3, pytest.param(50, marks=pytest.mark.slow)]
RACE = ["saddle", "--methods", "sgd,adam", "--tune", "3", "--seeds", "4", "--budget", "400"]
SMALL_LAB = """
import sys
from pathlib import Path
from refopt.lab import laboratory
from refopt.lab.studies import robustness
from refopt.race.engine import Pool
if __name__ == "__main__":
    robustness.PROBLEMS = ("beale", "saddle", "himmelblau", "wood")
    robustness.methods.names = lambda: ["sgd", "adam", "lbfgs", "newton_cg", "newton", "bfgs"]
    with Pool(2) as engine:
        laboratory.run(["robustness"], "reduced", Path(sys.argv[1]), engine, lambda stage, total: lambda: None)
"""
STEPS = """
import sys, time, numpy as np, problems
from refopt import minimize
from refopt.checkpoint import Checkpoint
from refopt.first_order import adam
r = minimize(problems.get("rosenbrock", n=10), adam, steps=3000, lr=0.01, checkpoint=Checkpoint(sys.argv[1], every=3),
             callback=lambda step: time.sleep(0.001))
np.save(sys.argv[2], r.x)
"""


def kill_at_random(command: Sequence[object], times: int, seed: int, first: Callable[[], bool]) -> None:
    """Start `command` again and again and kill it and its children; after `first` holds, within a second."""
    moments = random.Random(seed)
    for _ in range(times):
        process = subprocess.Popen(
            [*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 120
        while not first() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(moments.random())
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def outcomes(folder: Path) -> dict[str, dict[str, object]]:
    """Return all that the finished runs hold but for times, by file."""
    found = {}
    for path in folder.rglob("runs/*.json"):
        run = json.loads(path.read_text())
        run["rows"].pop("seconds")
        found[path.name] = run
    return found


@pytest.mark.parametrize("times", KILLS)
def test_a_race(times: int, tmp_path: Path) -> None:
    refopt = [sys.executable, "-c", "from refopt.cli import main; main()", "race"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*refopt, *RACE, "--out", whole], check=True, capture_output=True)
    started = [*refopt, *RACE, "--out", killed]
    kill_at_random(started, 1, 0, lambda: (killed / "race.json").exists())
    kill_at_random([*refopt, "--resume", "--out", killed], times - 1, 1, lambda: True)
    subprocess.run([*refopt, "--resume", "--out", killed], check=True, capture_output=True)
    assert outcomes(killed) == outcomes(whole)
    assert not list(killed.rglob("*.tmp*"))


@pytest.mark.parametrize("times", KILLS)
def test_a_laboratory(times: int, tmp_path: Path) -> None:
    script = tmp_path / "small_lab.py"
    script.write_text(SMALL_LAB)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([sys.executable, script, whole], check=True)
    kill_at_random([sys.executable, script, killed], times, 2, lambda: (killed / "work").exists())
    subprocess.run([sys.executable, script, killed], check=True)
    assert outcomes(killed) == outcomes(whole)
    assert (killed / "verdict.md").exists()


@pytest.mark.parametrize("times", KILLS)
def test_a_checkpoint(times: int, tmp_path: Path) -> None:
    whole = minimize(problems.get("rosenbrock", n=10), adam, steps=3000, lr=0.01)
    path, out = tmp_path / "run.npz", tmp_path / "x.npy"
    kill_at_random([sys.executable, "-c", STEPS, path, out], times, 3, path.exists)
    subprocess.run([sys.executable, "-c", STEPS, path, out], check=True)
    assert np.array_equal(np.load(out), whole.x)


def test_two_processes_in_one_folder(tmp_path: Path) -> None:
    refopt = [sys.executable, "-c", "from refopt.cli import main; main()", "race"]
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    subprocess.run([*refopt, *RACE, "--out", alone], check=True, capture_output=True)
    kill_at_random([*refopt, *RACE, "--out", shared], 1, 4, lambda: (shared / "race.json").exists())
    both = [
        subprocess.Popen([*refopt, "--resume", "--out", shared], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in both:
        _, told = process.communicate(timeout=300)
        assert process.returncode == 0, told
    assert outcomes(shared) == outcomes(alone)
