"""Odd surroundings: no home to write to, foreign letters in paths, no network, long runs, arguments at random."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import socket
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import problems
from refopt import cli, minimize
from refopt.first_order import adam
from refopt.lab import laboratory
from refopt.lab.study import Findings
from refopt.page import Rows, figure, write

ROOT = Path(__file__).parents[2]
RACE = ["race", "rosenbrock", "--methods", "sgd,lbfgs", "--tune", "0", "--seeds", "1", "--budget", "20"]


def test_a_home_that_cannot_be_written_to(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from refopt.cli import main; main()", *RACE, "--out", tmp_path / "out"]
    hidden = {"HOME": "/proc/nowhere", "XDG_CONFIG_HOME": "/proc/nowhere", "XDG_CACHE_HOME": "/proc/nowhere"}
    environment = {name: value for name, value in os.environ.items() if name != "MPLCONFIGDIR"} | hidden
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.html").exists()


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


def test_nothing_asks_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError(f"a connection was asked for: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for arguments in (["list"], ["show", "adam"], ["spectrum", "saddle:n=4"], ["saddles", "saddle:n=4"]):
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        assert end.value.code == 0


def test_memory_of_a_long_run_is_bounded() -> None:
    problem = problems.get("quadratic", n=100)

    def peak(steps: int) -> int:
        tracemalloc.start()
        minimize(problem, adam, steps=steps, lr=1e-3, history_every=steps)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(100)  # caches are filled
    assert peak(4000) <= 1.2 * peak(200) + 50_000


# fmt: off
WORDS = (
    "list", "show", "race", "spectrum", "saddles", "check", "golden", "conformance", "lab", "adam", "rosenbrock",
    "saddle:n=4", "methods", "verify", "export", "table", "cost", "--resume", "--json", "--full", "--steps",
    "--seeds", "--methods", "--budget", "--tune", "--set", "--dtype", "--backend", "--workers", "--at", "--top",
    "--chunk", "--seed", "--saddle", "--reference", "--dialect", "--hyper", "--time-limit", "--engine", "--scheduler",
    "-1", "0", "nan", "inf", "1e400", "''", "=", ",", ":", "../x",
)
# fmt: on


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=8)), min_size=1, max_size=4))
def test_any_arguments_end_in_work_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    if arguments[0] in ("race", "lab", "golden", "conformance"):
        arguments = [*arguments, "--no-such-option"]  # a right guess would start minutes of work
    monkeypatch.chdir(tmp_path_factory.mktemp("arguments"))
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(SystemExit) as end, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        cli.main(arguments)
    assert end.value.code in (0, 1, 2)
    told = err.getvalue()
    if end.value.code == 2 and not out.getvalue():
        assert told.startswith("refopt: ")
        assert told.count("\n") == 1
    assert "Traceback" not in told


def test_a_page_escapes_every_label(tmp_path: Path) -> None:
    nasty = '<script>alert("x")</script>'
    write(tmp_path, "page", nasty, [nasty], [Rows((nasty,), [[nasty]])], figure(2, 2))
    text = (tmp_path / "page.html").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_findings_are_plain_json() -> None:
    found = {"study": Findings(["said"], [Rows(("a",), [["1"]])], lambda: None)}
    assert laboratory.as_json(found)["study"]["tables"] == [{"columns": ["a"], "rows": [["1"]]}]


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
