from __future__ import annotations

import errno
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from rich.text import Text

from refopt import cli, method


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command line as `refopt` does; return its status, stdout and stderr."""
    with pytest.raises(SystemExit) as end:
        cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return end.value.code, out, err  # type: ignore[return-value]


@pytest.mark.parametrize("what", ["methods", "problems", "backends", "dialects"])
def test_list(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "list", what)
    assert code == 0
    assert {"methods": "adam", "problems": "rosenbrock", "backends": "numpy", "dialects": "torch"}[what] in out


def test_python_m_refopt_is_refopt() -> None:
    told = subprocess.run([sys.executable, "-m", "refopt", "list", "backends"], capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (0, "")
    assert "numpy" in told.stdout


def test_no_help_is_taken_for_markup() -> None:
    """As "install refopt[dask]" is, whose brackets then vanish."""
    asked = [typer.main.get_command(cli.app)]
    told = []
    for command in asked:
        asked += getattr(command, "commands", {}).values()
        told += [command.help, *(getattr(option, "help", None) for option in command.params)]
    assert len(told) > 60
    for text in filter(None, told):
        assert Text.from_markup(text).plain == text.replace("\\[", "["), text


@pytest.mark.parametrize("name", method.names())
def test_show_has_the_rule_and_every_knob(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", name)
    module = method.get(name)
    assert code == 0
    assert (module.__doc__ or "").splitlines()[0] in out
    facts = out[out.index("\nneeds ") :]
    for knob in {*method.keywords(module.init), *method.keywords(module.step)} - {"objective", "seed"}:
        assert facts.count(f"\n{knob} ") == 1 + (knob == "memory"), knob  # once, also where init and step have it


@pytest.mark.parametrize(
    ("name", "memory"),
    [
        ("adam", "2 vectors of length n"),
        ("heavy_ball", "1 vector of length n"),
        ("kfac", "1 vector and 2 (d_in^2 + d_out^2) a layer"),
        ("newton", "nothing between steps; 2 n x n within one"),
        ("aggmo", "one vector for each of `betas`; by default 3 vectors of length n"),
    ],
)
def test_show_says_what_memory_a_method_takes(
    name: str, memory: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    _, out, _ = run(capsys, "show", name)
    assert [line.split(maxsplit=1)[1].strip() for line in out.splitlines() if line.startswith("memory ")] == [memory]


def test_show_a_problem_prints_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", "saddle")
    assert code == 0
    assert "Morse index" in out
    assert "saddle" in out


MISUSE: dict[str, tuple[tuple[object, ...], str]] = {
    "unknown name": (("show", "adm"), "unknown method or problem 'adm'; did you mean 'adam'?"),
    "unknown list": (("list", "method"), "method"),
    "unknown command": (("rase",), "rase"),
    "unknown flag": (("race", "--metods", "adam"), "--metods"),
    "unknown problem": (("race", "rosenbrok"), "unknown problem 'rosenbrok'; did you mean 'rosenbrock'?"),
    "unknown option": (("race", "rosenbrock:m=3"), "has no option 'm'; known: n"),
    "malformed option": (("race", "rosenbrock:3"), "options must be written NAME=VALUE,NAME=VALUE, got '3'"),
    "dtype as an option": (("race", "rosenbrock:dtype=float32"), "dtype is no option of a problem: --dtype gives it"),
    "option out of range": (("race", "rosenbrock:n=1"), "n must be at least 2, got 1"),
    "unknown method": (("race", "rosenbrock", "--methods", "adm"), "unknown method 'adm'; did you mean 'adam'?"),
    "no methods": (("race", "rosenbrock", "--methods", ","), "methods must name at least one"),
    "unknown knob": (
        ("race", "rosenbrock", "--methods", "adam", "--set", "adam.beta3=1"),
        "adam has no hyperparameter 'beta3'; did you mean 'beta",
    ),
    "knob out of range": (
        ("race", "rosenbrock", "--methods", "adam", "--set", "adam.beta1=1.2"),
        "adam on rosenbrock: beta1 must be in [0, 1), got 1.2",
    ),
    "knob of another method": (
        ("race", "rosenbrock", "--methods", "adam", "--set", "sgd.lr=1"),
        "no method 'sgd' races",
    ),
    "malformed --set": (("race", "--set", "lr"), "--set must be METHOD.KNOB=VALUE, got 'lr'"),
    "malformed value": (
        ("race", "rosenbrock", "--methods", "adam", "--set", "adam.lr=open('x')"),
        "is no number, word or schedule",
    ),
    "bad budget": (("race", "--budget", "soon"), "budget must be positive, such as 500, 500ge or 30s, got 'soon'"),
    "zero budget": (("race", "--budget", "0s"), "budget must be positive"),
    "zero seeds": (("race", "--seeds", 0), "seeds must be at least 1, got 0"),
    "negative tune": (("race", "--tune", -1), "tune must be at least 0, got -1"),
    "zero batch": (("race", "--batch-size", 0), "batch-size must be at least 1, got 0"),
    "zero workers": (("race", "--workers", 0), "workers must be at least 1, got 0"),
    "no number": (("race", "--seeds", "many"), "Invalid value for '--seeds'"),
    "unknown backend": (("race", "--backend", "numpi"), "backend must be one of numpy, cupy, array_api_strict"),
    "unknown dtype": (("race", "--dtype", "int64"), "dtype must be float32 or float64, got 'int64'"),
    "no such file": (("race", "--problem", "nowhere.py:f"), "there is no file nowhere.py"),
    "nothing to resume": (("race", "--resume", "--out", "nowhere"), "there is no race to resume in nowhere"),
    "needs unmet": (("race", "rosenbrock", "--methods", "svrg"), "no method can race on rosenbrock: svrg needs"),
    "unwritable folder": (("race", "rosenbrock", "--methods", "sgd", "--out", "/dev/null/race"), "/dev/null"),
}


@pytest.mark.parametrize("case", MISUSE)
def test_misuse_ends_in_one_line_and_status_2(
    case: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, message = MISUSE[case]
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert message in err
    assert err.startswith("refopt: ")
    assert err.count("\n") == 1
    assert not out
    assert not list(tmp_path.iterdir()), "a race that cannot run leaves nothing behind"


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_no_cupy(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = run(capsys, "race", "rosenbrock", "--backend", "cupy", "--out", tmp_path / "out")
    assert code == 2
    assert "install refopt[gpu]" in err


@pytest.mark.parametrize("name", ["race.json", "else.txt"])
def test_a_folder_in_use_is_left_alone(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    code, _, err = run(capsys, "race", "rosenbrock", "--out", tmp_path)
    assert code == 2
    assert "is not empty: --resume goes on with the race in it" in err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
    code, _, err = run(capsys, "race", "rosenbrock", "--resume", "--out", tmp_path)
    assert code == 2
    assert "race.json is damaged" in err or "no race to resume" in err


OWN = {
    "not python": ("def f(", "cannot be imported: SyntaxError"),
    "fails on import": ("import nowhere_to_be_found", "cannot be imported: ModuleNotFoundError"),
    "no such name": ("def g(x, xp): ...", "has no 'f'; known: g"),
    "no start": ("def f(x, xp): return xp.sum(x * x)", "has no start: set f.x0, or x0 in the file"),
    "integer start": ("x0 = [1, 2]\ndef f(x, xp): return xp.sum(x * x)", "must hold floating-point numbers"),
    "start of two axes": ("x0 = [[1.0]]\ndef f(x, xp): return xp.sum(x * x)", "must be a vector of length >= 1"),
    "empty start": ("x0 = []\ndef f(x, xp): return xp.sum(x * x)", "must be a vector of length >= 1"),
    "start with nan": ("x0 = [float('nan')]\ndef f(x, xp): return xp.sum(x * x)", "x0 must be finite"),
    "no scalar": ("x0 = [1.0, 2.0]\ndef f(x, xp): return x * x", "scalar"),
    "no function": ("f = 3", "must be a function f(x, xp), a Problem, or a function of like, got int"),
}


@pytest.mark.parametrize("case", OWN)
def test_an_own_problem_that_is_none(case: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source, message = OWN[case]
    path = tmp_path / f"{case.replace(' ', '_')}.py"
    path.write_text(source)
    code, _, err = run(capsys, "race", "--problem", f"{path}:f", "--methods", "sgd", "--out", tmp_path / "out")
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


OWN_METHODS = {
    "two arguments": ("def update(x, g): return x, None", "must be a function update(x, g, state)"),
    "returns x alone": ("def update(x, g, state): return x - g", "must return (x, state)"),
    "no function": ("update = 3", "must be a module with init, step, SPEC and DIALECTS, or a function update"),
    "raises": ("def update(x, g, state): raise ValueError('no idea')", "no idea"),
}


@pytest.mark.parametrize("case", OWN_METHODS)
def test_an_own_method_that_is_none(case: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source, message = OWN_METHODS[case]
    path = tmp_path / f"{case.replace(' ', '_')}.py"
    path.write_text(source)
    code, _, err = run(capsys, "race", "rosenbrock", "--methods", f"{path}:update", "--out", tmp_path / "out")
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("when", [1, 4])
def test_a_full_disk(
    when: int, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from refopt.race import results

    written: list[Path] = []
    write = results.write_atomically

    def full(path: Path, data: Any) -> None:
        written.append(path)
        if len(written) >= when:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, data)

    monkeypatch.setattr(results, "write_atomically", full)
    out = tmp_path / "out"
    arguments = ("race", "rosenbrock", "--methods", "sgd", "--tune", 0, "--seeds", 6, "--budget", 5, "--out", out)
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert "No space left on device" in err
    assert "Traceback" not in err
    for path in (out / "runs").glob("*") if when > 1 else ():
        json.loads(path.read_text())  # what was finished is whole
