"""Odd surroundings: no home to write to, foreign letters in paths, no network, long runs, arguments at random."""

from __future__ import annotations

import ast
import contextlib
import errno
import io
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refopt import cli, minimize
from refopt.first_order import adam
from refopt.lab import laboratory
from refopt.lab.study import Findings
from refopt.page import Rows, figure, write
from refopt.quasi_newton import online_lbfgs
from refopt.race import results, sources

ROOT = Path(__file__).parents[2]
RACE = ["race", "rosenbrock", "--methods", "sgd,lbfgs", "--tune", "0", "--seeds", "1", "--budget", "20"]


@pytest.fixture
def mine(tmp_path: Path) -> str:
    """Return an optimizer of one's own, by file and name."""
    (tmp_path / "mine.py").write_text("def descent(x, g, state, lr):\n    return x - lr * g, state\n")
    return f"{tmp_path / 'mine.py'}:descent"


def refopt(*arguments: object) -> list[str]:
    """Return the command line in a process of its own."""
    return [sys.executable, "-c", "from refopt.cli import main; main()", *map(str, arguments)]


@pytest.mark.parametrize("command", ["race", "lab", "check"])
def test_a_home_that_cannot_be_written_to(command: str, mine: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = {
        "race": refopt(*RACE, "--out", out),
        "lab": [sys.executable, str(Path(__file__).with_name("small_lab.py")), str(out), "1"],
        "check": refopt("check", mine, "--reference", "sgd", "--steps", 5, "--html", out / "check.html"),
    }[command]
    out.mkdir()
    hidden = {"HOME": "/proc/nowhere", "XDG_CONFIG_HOME": "/proc/nowhere", "XDG_CACHE_HOME": "/proc/nowhere"}
    environment = {name: value for name, value in os.environ.items() if name != "MPLCONFIGDIR"} | hidden
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert list(out.glob("*.html"))


@pytest.mark.parametrize("command", ["lab", "spectrum", "saddles", "check", "golden"])
def test_a_full_disk(
    command: str, mine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = {
        "lab": ["lab", "robustness", "--workers", "1", "--out", out],
        "spectrum": ["spectrum", "saddle:n=4", "--out", out],
        "saddles": ["saddles", "saddle:n=4", "--methods", "sgd", "--out", out],
        "check": ["check", mine, "--reference", "sgd", "--steps", "5", "--html", tmp_path / "check.html"],
        "golden": ["golden", "export", "--methods", "sgd", "--out", out],
    }[command]

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(SystemExit) as end:
        cli.main([str(argument) for argument in arguments])
    told = capsys.readouterr().err
    assert end.value.code == 2
    assert told.startswith("refopt: ")
    assert "No space left on device" in told
    assert told.count("\n") == 1
    assert not list(tmp_path.rglob(".*.tmp"))


def test_letters_of_all_alphabets_in_a_path(tmp_path: Path) -> None:
    out = tmp_path / "Ergebnisse, Größe" / "данные 数据"
    out.parent.mkdir()
    with pytest.raises(SystemExit) as end:
        cli.main([*RACE, "--out", str(out)])
    assert end.value.code == 0
    assert (out / "report.html").exists()
    own = tmp_path / "modèle.py"
    own.write_text("def f(x, xp):\n    return xp.sum(x * x)\n\n\nx0 = [1.0, 2.0]\n", encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        cli.main([*RACE[:1], "--problem", f"{own}:f", *RACE[2:], "--out", str(tmp_path / "völlig")])
    assert end.value.code == 0


GUARD = """
import os, pathlib, socket

here = pathlib.Path(__file__).parent
(here / f"guarded-{os.getpid()}").touch()


def refuse(*arguments, **options):
    (here / "asked").write_text(repr(arguments))
    raise OSError("no network")


socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""
COMMANDS = """
import sys
from refopt.cli import main

for line in sys.argv[1:]:
    try:
        main(line.split())
    except SystemExit as end:
        assert end.code == 0, line
"""


def test_nothing_asks_the_network(mine: str, tmp_path: Path) -> None:
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD)  # which the processes started by ours import too
    lines = [
        "list",
        "show adam",
        "spectrum saddle:n=4",
        "saddles saddle:n=4 --methods sgd",
        f"check {mine} --reference sgd --steps 5",
        f"golden export --methods sgd --out {tmp_path / 'golden'}",
        f"{' '.join(RACE)} --workers 1 --out {tmp_path / 'race'}",
    ]
    path = os.pathsep.join(filter(None, [str(guard), str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, *lines],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(guard.glob("guarded-*"))) >= 3, "ours, that of the check, and the worker of the race"
    assert not (guard / "asked").exists(), (guard / "asked").read_text()


@pytest.mark.parametrize(
    ("method", "problem", "options"),
    [(adam, "quadratic:n=100", {"lr": 1e-3}), (online_lbfgs, "least_squares", {"batch_size": 20})],
    ids=["adam", "online_lbfgs"],
)
def test_memory_of_a_long_run_is_bounded(method: Any, problem: str, options: dict[str, Any]) -> None:
    found = sources.find_problem(problem, seed=0, backend="numpy", dtype=None)

    def peak(steps: int) -> int:
        tracemalloc.start()
        result = minimize(found, method, steps=steps, history_every=steps, **options)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert result.steps == steps
        return most

    peak(2000)  # caches are filled
    assert peak(6000) <= 1.2 * peak(2000) + 50_000


def test_ctrl_c_before_the_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(results, "write_race", interrupted)
    with pytest.raises(SystemExit) as end:
        cli.main([*RACE, "--out", str(tmp_path / "out")])
    assert end.value.code == 130
    assert capsys.readouterr().err.startswith("refopt: interrupted; 0 finished runs")


WORD = st.text("xyzé<'\"[", min_size=1, max_size=6)
NO_NUMBER = st.one_of(WORD, st.sampled_from(["", "nan", "-inf", "-1", "-0.5", "-1e400"]))
NO_COUNT = st.one_of(
    NO_NUMBER, st.floats(allow_nan=False, allow_infinity=False).map(repr), st.integers(-99, -1).map(str)
)
NO_BUDGET = st.one_of(NO_NUMBER, WORD.map("5".__add__), st.sampled_from(["0ge", "-1ge", "nange", "infs", "ge"]))
RUNS = {"--engine": WORD, "--scheduler": WORD, "--workers": st.one_of(NO_COUNT, st.just("0"))}
ARRAYS = {"--backend": WORD, "--dtype": WORD}
BAD: dict[str, dict[str, st.SearchStrategy[str]]] = {  # what a command refuses, by option; "" is an argument
    "list": {"": WORD},
    "show": {"": WORD},
    "race rosenbrock --methods sgd": {
        "": st.one_of(WORD, WORD.map("rosenbrock:".__add__), WORD.map("rosenbrock:n=".__add__)),
        "--problem": st.one_of(WORD, WORD.map("nowhere.py:".__add__)),
        "--methods": st.one_of(WORD, WORD.map("sgd,".__add__), WORD.map("nowhere.py:".__add__)),
        "--budget": NO_BUDGET,
        "--batch-size": NO_COUNT,
        "--seeds": st.one_of(NO_COUNT, st.just("0")),
        "--tune": NO_COUNT,
        "--set": st.one_of(WORD, WORD.map("sgd.".__add__), WORD.map("sgd.lr=".__add__), WORD.map("{}=1".format)),
        **RUNS,
        **ARRAYS,
    },
    "lab": {"": WORD, **RUNS},
    "spectrum saddle:n=4": {
        "--at": st.one_of(WORD, WORD.map("end-of-".__add__), WORD.map("{}.npz".format)),
        "--at end-of-sgd --budget": NO_BUDGET,
        "--matrix": WORD,
        "--top": st.one_of(NO_COUNT, st.sampled_from(["0", "5"])),
        "--chunk": st.one_of(NO_COUNT, st.just("0")),
        "--seed": NO_COUNT,
        "--engine": WORD,
        "--scheduler": WORD,
        **ARRAYS,
    },
    "saddles saddle:n=4 --methods sgd": {
        "--methods": st.one_of(WORD, WORD.map("sgd,".__add__)),
        "--saddle": st.one_of(NO_COUNT, st.just("7")),
        "--distance": NO_NUMBER,
        "--budget": NO_BUDGET,
        "--seed": NO_COUNT,
    },
    "check nowhere:method --reference sgd": {
        "--reference": WORD,
        "--dialect": WORD,
        "--steps": st.one_of(NO_COUNT, st.just("0")),
        "--hyper": st.one_of(WORD, WORD.map("lr=".__add__), WORD.map("{}=1".format)),
        "--time-limit": st.one_of(NO_NUMBER, st.just("0")),
    },
    "golden export": {"--methods": WORD},
    "golden verify": {"": WORD},
    "golden": {"": WORD},
    "conformance table": {"": WORD, "--library": WORD},
    "conformance record out": {"": WORD, "--library": WORD},
    "conformance": {"": WORD},
}


@pytest.mark.parametrize("command", BAD)
@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(data=st.data())
def test_bad_arguments_end_in_one_line(
    command: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    option = data.draw(st.sampled_from([*BAD[command], "--no-such-option"]))
    value = data.draw(BAD[command].get(option, WORD))
    monkeypatch.chdir(tmp_path_factory.mktemp("arguments"))
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(SystemExit) as end, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        cli.main([*command.split(), *option.split(), value])
    told = err.getvalue()
    assert (end.value.code, out.getvalue()) == (2, "")
    assert told.startswith("refopt: ")
    assert told.count("\n") == 1


def test_a_page_escapes_every_label(tmp_path: Path) -> None:
    nasty = '<script>alert("x")</script>'
    write(tmp_path, "page", nasty, [nasty], [Rows((nasty,), [[nasty]])], {"": figure(2, 2)})
    text = (tmp_path / "page.html").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_findings_are_plain_json() -> None:
    found = {"study": Findings({}, ["so"], ["said"], [Rows(("a",), [["1"]])], {})}
    told = laboratory.as_json(found)["study"]
    assert told == {"answer": ["so"], "paragraphs": ["said"], "tables": [{"columns": ["a"], "rows": [["1"]]}]}


def test_no_file_is_read_that_could_run_code() -> None:
    refused = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
    for package in ("refopt", "backends", "problems"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                    if isinstance(node, ast.ImportFrom)
                    else []
                )
                assert not refused & {name.split(".")[0] for name in names}, path
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
                    allowed = [k for k in node.keywords if k.arg == "allow_pickle"]
                    assert all(isinstance(k.value, ast.Constant) and k.value.value is False for k in allowed), path
