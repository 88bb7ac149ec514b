from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import problems
from refopt import checkpoint, minimize
from refopt.checkpoint import Checkpoint, load, save
from refopt.first_order import adam, heavy_ball, sgd
from refopt.loop import Record
from refopt.race.results import Journal
from refopt.status import Status


def test_every_kind_of_leaf_comes_back(backend: Any, tmp_path: Path) -> None:
    x = backend.array([1.0, np.nan, np.inf], dtype="float32")
    tree = {
        "array": x,
        "state": adam.State(3, x, x, info={"dropped": 1}),
        "record": Record(1, 0.1, float("inf"), float("nan"), 1e-300),
        "tuple": (1, 2.5, True, None, "text"),
        "list": [Status.CONVERGED, {"nested": (x,)}],
        "counter": Counter({"grad": 3}),
    }
    save(tmp_path / "c.npz", tree)
    back = load(tmp_path / "c.npz", like=x)
    assert back["tuple"] == tree["tuple"]
    assert type(back["tuple"][2]) is bool
    assert back["counter"] == tree["counter"]
    assert isinstance(back["counter"], Counter)
    assert back["list"][0] is Status.CONVERGED
    assert isinstance(back["state"], adam.State)
    assert back["state"].info == {}
    assert repr(back["record"]) == repr(tree["record"])
    assert type(back["array"]) is type(x)
    assert back["array"].dtype == x.dtype
    np.testing.assert_array_equal(backend.numpy(back["list"][1]["nested"][0]), backend.numpy(x))


def test_an_interrupted_run_gives_the_same_bits(tmp_path: Path) -> None:
    problem = problems.get("rosenbrock", n=10)
    whole = minimize(problem, adam, steps=60, lr=0.01)
    path = tmp_path / "run.npz"
    minimize(problem, adam, steps=25, lr=0.01, checkpoint=Checkpoint(path, every=10))
    resumed = minimize(problem, adam, steps=60, lr=0.01, checkpoint=Checkpoint(path, every=10))
    assert np.array_equal(whole.x, resumed.x)
    assert [r[:4] for r in whole.history] == [r[:4] for r in resumed.history]
    assert whole.ledger.counts == resumed.ledger.counts
    assert whole.ledger.gradient_equivalents == resumed.ledger.gradient_equivalents


RUN = """
import sys, time, numpy as np, problems
from refopt import minimize
from refopt.checkpoint import Checkpoint
from refopt.first_order import adam
r = minimize(problems.get("rosenbrock", n=10), adam, steps=400, lr=0.01, checkpoint=Checkpoint(sys.argv[1], every=3),
             callback=lambda step: time.sleep(0.002))
np.save(sys.argv[2], r.x)
"""


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = minimize(problems.get("rosenbrock", n=10), adam, steps=400, lr=0.01)
    path, out = tmp_path / "run.npz", tmp_path / "x.npy"
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", RUN, str(path), str(out)])
        deadline = time.monotonic() + 60
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    subprocess.run([sys.executable, "-c", RUN, str(path), str(out)], check=True)
    assert np.array_equal(np.load(out), whole.x)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 truncated"])
def test_a_damaged_file_is_refused_and_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged or no refopt checkpoint; it was left as it is"):
        minimize(problems.get("rosenbrock"), sgd, steps=3, lr=1e-4, checkpoint=path)
    assert path.read_bytes() == content


def test_every_flipped_byte_is_noticed_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    whole = minimize(problems.get("rosenbrock"), sgd, steps=3, lr=1e-4, checkpoint=path)
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for position in rng.choice(len(data), 60, replace=False):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            again = minimize(problems.get("rosenbrock"), sgd, steps=3, lr=1e-4, checkpoint=path)
        except ValueError:
            continue
        assert np.array_equal(again.x, whole.x)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.npz"
    np.savez(path, weights=np.ones(3))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="no refopt checkpoint"):
        minimize(problems.get("rosenbrock"), sgd, steps=3, lr=1e-4, checkpoint=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "named"),
    [({"lr": 0.02}, "hyper"), ({"seed": 1}, "seed"), ({"method": heavy_ball}, "method"), ({"x0": np.ones(2)}, "x0")],
)
def test_another_runs_checkpoint_is_refused(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    run: dict[str, Any] = {"method": sgd, "lr": 0.01, "steps": 2, "checkpoint": path}
    minimize(problems.get("rosenbrock"), **run)
    with pytest.raises(ValueError, match=f"of another run: its {named} is"):
        minimize(problems.get("rosenbrock"), **{**run, **change})


def test_a_file_cannot_name_any_class_it_likes(tmp_path: Path) -> None:
    from refopt.checkpoint import _decode

    for harmful in ({"named": ["os", "system"], "fields": {}}, {"enum": ["builtins", "eval", "x"]}):
        with pytest.raises(ValueError, match="unknown class"):
            _decode(harmful, {}, np.zeros(1))


def test_what_cannot_be_saved_is_named() -> None:
    with pytest.raises(TypeError, match=r"run\['state'\] is a set"):
        save("unused.npz", {"state": {1, 2}})
    with pytest.raises(TypeError, match="needs string keys"):
        save("unused.npz", {"state": {1: 2}})


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.npz"
    save(path, {"x": np.ones(2)})

    def full_disk(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save(path, {"x": np.zeros(2)})
    assert load(path, like=np.zeros(1))["x"][0] == 1.0
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]


def test_what_killed_writers_left_is_swept(tmp_path: Path) -> None:
    place = tmp_path / "run[1].npz"
    dead, alive, young = (tmp_path / f".run[1].npz.{i}1234567.tmp" for i in range(3))
    another = tmp_path / ".run1.npz.01234567.tmp"
    for path in (dead, alive, young, another):
        path.touch()
        if path is not young:
            os.utime(path, (0, 0))
    with open(alive, "rb") as writing:
        checkpoint._lock(writing)
        checkpoint.sweep(place)
        assert set(tmp_path.iterdir()) == {alive, young, another}, "its own, old and without a writer, is gone"
        checkpoint.sweep(tmp_path)
        assert set(tmp_path.iterdir()) == {alive, young}
    checkpoint.sweep(tmp_path)
    assert set(tmp_path.iterdir()) == {young}


def test_a_writer_is_known_to_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def another_process_sweeps(fd: int) -> None:
        for path in tmp_path.iterdir():
            os.utime(path, (0, 0))
        checkpoint.sweep(tmp_path)

    monkeypatch.setattr(os, "fsync", another_process_sweeps)
    checkpoint.write_atomically(tmp_path / "file", b"data")
    assert (tmp_path / "file").read_bytes() == b"data"


def test_what_is_taken_up_again_is_swept(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    for name in (".run.npz.01234567.tmp", ".race.json.01234567.tmp", "runs/.key.json.01234567.tmp"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    minimize(problems.get("rosenbrock"), adam, steps=1, checkpoint=tmp_path / "run.npz")
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "run.npz", ".race.json.01234567.tmp"}
    Journal(tmp_path)
    assert not list(tmp_path.rglob(".*.tmp"))
