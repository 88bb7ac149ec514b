"""`refopt check`: words, JSON and a page; status 0, 1 and 2."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.test_cli import run

MINE = """
def momentum(x, g, v, lr):
    v = g if v is None else 0.9 * v + g
    return x - lr * v, v

def descend(fun, x0, jac):
    x = x0 + 0.0
    for _ in range(50):
        x = x - 1e-3 * jac(x)
    return type("Result", (), {"x": x, "success": True})
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(MINE)
    return str(tmp_path / "mine.py")


def test_agrees(capsys: pytest.CaptureFixture[str], mine: str) -> None:
    code, out, err = run(capsys, "check", f"{mine}:momentum", "--reference", "heavy_ball", "--steps", 20)
    assert (code, err) == (0, "")
    assert "agrees with refopt's heavy_ball, dialect 'paper'; with 'torch', 'optax' too" in out


def test_differs_in_json_and_on_a_page(capsys: pytest.CaptureFixture[str], mine: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    arguments = ("--reference", "nesterov", "--dialect", "torch", "--hyper", "lr=0.1,momentum=0.9", "--steps", 20)
    code, out, err = run(capsys, "check", f"{mine}:momentum", *arguments, "--no-diagnose", "--json", "--html", page)
    assert (code, err) == (1, "")
    told = json.loads(out)
    assert (told["outcome"], told["first"]["step"], told["diagnosis"]) == ("differs", 1, None)
    assert told["hyper"] == {"lr": 0.1, "momentum": 0.9}
    assert "first divergence" in page.read_text()


def test_a_solver_needs_no_reference(capsys: pytest.CaptureFixture[str], mine: str) -> None:
    code, out, _ = run(capsys, "check", f"{mine}:descend")
    assert code == 1
    assert "linear, stationary: success, where max |g| = 1" in out


def test_what_cannot_run_is_reported(capsys: pytest.CaptureFixture[str], mine: str) -> None:
    code, out, err = run(capsys, "check", f"{mine}:momentun", "--reference", "sgd")
    assert (code, err) == (2, "")
    assert "did you mean 'momentum'?" in out


MISUSE: dict[str, tuple[tuple[object, ...], str]] = {
    "unknown method": (("--reference", "adm"), "unknown method 'adm'; did you mean 'adam'?"),
    "unknown dialect": (("--reference", "adam", "--dialect", "troch"), "did you mean 'torch'?"),
    "unknown knob": (("--reference", "adam", "--hyper", "beta=1"), "adam has no hyperparameter 'beta'"),
    "malformed knobs": (("--reference", "adam", "--hyper", "0.1"), "options must be written NAME=VALUE"),
    "no steps": (("--reference", "adam", "--steps", 0), "steps must be at least 1, got 0"),
    "no time": (("--reference", "adam", "--time-limit", 0), "time_limit must be above 0"),
    "no folder": (
        ("--reference", "sgd", "--steps", 1, "--html", "no/where.html"),
        "a page must be named in a folder that exists",
    ),
}


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_ends_in_one_line(name: str, capsys: pytest.CaptureFixture[str], mine: str) -> None:
    arguments, message = MISUSE[name]
    code, out, err = run(capsys, "check", f"{mine}:momentum", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_log_without_a_reference_is_named_and_not_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.savez(tmp_path / "run.NPZ.npz", x=np.zeros((3, 2)), g=np.zeros((2, 2)))
    (tmp_path / "run.NPZ.npz").rename(tmp_path / "run.NPZ")
    code, out, _ = run(capsys, "check", tmp_path / "run.NPZ")
    assert (code, out.count("\n")) == (2, 1)
    assert "the candidate is a solver(fun, x0); got " in out
    assert "array" not in out


def test_no_reference_for_an_update_rule(capsys: pytest.CaptureFixture[str], mine: str) -> None:
    code, out, _ = run(capsys, "check", f"{mine}:momentum")
    assert code == 2
    assert "a reference must be named, unless the candidate is a solver(fun, x0)" in out
