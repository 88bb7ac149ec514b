"""Races from the command line to the files that they leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refopt import cli
from tests.browser import SPILL, shown

OWN = """
x0 = [-1.2, 1.0]


def valley(x, xp):
    return 100.0 * (x[1] - x[0] ** 2) ** 2 + (1.0 - x[0]) ** 2


def descent(x, g, state, *, lr=1e-2):
    return x - lr * g, state


def failing(x, g, state):
    if state == 5:
        raise ZeroDivisionError("no way on")
    return x - 1e-6 * g, (state or 0) + 1


def still(x, g, state):
    return x, state
"""
SMALL = ("--tune", "3", "--seeds", "2", "--budget", "20")


def race(*arguments: object) -> None:
    """Hold a race by the command line; it must end well."""
    with pytest.raises(SystemExit) as end:
        cli.main(["race", *(str(argument) for argument in arguments)])
    assert end.value.code == 0


def table(out: Path, name: str) -> list[dict[str, Any]]:
    """Return a table of results, row by row."""
    parquet = pytest.importorskip("pyarrow.parquet")
    rows: list[dict[str, Any]] = parquet.read_table(out / f"{name}.parquet").to_pylist()
    return rows


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows without what a clock measured."""
    return [{name: cell for name, cell in row.items() if "seconds" not in name} for row in rows]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a race with everything: a user's problem and methods, a failing one, minibatches."""
    base = tmp_path_factory.mktemp("race") / "<b>&own"
    base.mkdir()
    own = base / "own.py"
    own.write_text(OWN)
    out = base / "out"
    race(
        "least_squares",
        "--problem",
        f"{own}:valley",
        "--methods",
        f"sgd,adam,lbfgs,{own}:descent,{own}:failing,{own}:still",
        *SMALL,
        "--set",
        f"{own}:descent.lr=1e-2",
        "--workers",
        2,
        "--out",
        out,
    )
    return out


def test_one_row_a_run_and_step(folder: Path) -> None:
    runs, steps = table(folder, "runs"), table(folder, "steps")
    # 2 problems; 2 settings x 2 seeds of 6 methods; 3 trials of those with free knobs, 1 of the three others
    assert len(runs) == 2 * (6 * 2 * 2 + 3 * 3 + 3)
    assert Counter(row["setting"] for row in runs) == {"tuned": 24, "default": 24, "trial": 24}
    looked_at = Counter((row["run"], row["setting"], row["k"]) for row in steps)
    assert set(looked_at.values()) == {1}
    assert {row["run"] for row in steps} == {row["run"] for row in runs}
    for row in runs:
        mine = [step for step in steps if (step["run"], step["setting"]) == (row["run"], row["setting"])]
        assert mine[0]["k"] == 0
        assert mine[-1]["k"] == row["last_k"]
        costs = [step["gradient_equivalents"] for step in mine]
        assert costs == sorted(costs)


def test_it_is_fair(folder: Path) -> None:
    runs, steps = table(folder, "runs"), table(folder, "steps")
    for problem in {row["problem"] for row in runs}:
        starts = {(row["seed"], row["value"]) for row in steps if row["problem"] == problem and row["k"] == 0}
        assert len(starts) == 3, "one start a seed, whatever the method; the third is that of the trials"
        assert len({seed for seed, _ in starts}) == 3
    for row in runs:
        mine = [
            (step["k"], step["gradient_equivalents"], step["value"])
            for step in steps
            if (step["run"], step["setting"]) == (row["run"], row["setting"])
        ]
        assert all(cost <= 20 for _, cost, _ in mine[:-1]), "a run ends with the step that spends the budget"
        if row["status"] == "BUDGET_SPENT":
            assert mine[-1][1] >= 20
            assert mine[-2][0] == mine[-1][0] - 1 or mine[-1][1] == 20, "what was reached within the budget is kept"
            assert row["value"] == mine[-1 if mine[-1][1] == 20 else -2][2], "and is what counts"
        assert (row["setting"] == "trial") == (row["seed"] == 1_000_000), "a trial's seed is never reported"


def test_a_users_descent_is_sgd_to_the_last_bit(folder: Path) -> None:
    """The same starts and the same batches: else two implementations of one rule would part."""
    steps = [row for row in timeless(table(folder, "steps")) if row["setting"] == "default"]

    def path(problem: str, method: str) -> list[tuple[Any, ...]]:
        return [
            (row["seed"], row["k"], row["value"])
            for row in steps
            if row["problem"].endswith(problem) and row["method"].endswith(method)
        ]

    for problem in ("least_squares", "own.py:valley"):
        assert len(path(problem, "sgd")) > 4
        assert path(problem, "sgd") == path(problem, "own.py:descent")


def test_a_method_that_fails_is_shown_and_ends_nothing_else(folder: Path) -> None:
    failing = [row for row in table(folder, "runs") if row["method"].endswith("failing")]
    assert {row["status"] for row in failing} == {"ERROR"}
    assert {row["message"] for row in failing} == {"ZeroDivisionError: no way on"}
    assert "ZeroDivisionError: no way on" in (folder / "report.html").read_text()


def test_a_method_that_stands_still_costs_nothing_and_ends(folder: Path) -> None:
    still = [row for row in table(folder, "runs") if row["method"].endswith("still")]
    assert {row["status"] for row in still} == {"BUDGET_SPENT", "STAGNATED"}, "batches cost, a memorised x does not"


def test_results_do_not_depend_on_the_number_of_workers(folder: Path, tmp_path: Path) -> None:
    settings = json.loads((folder / "race.json").read_text())["settings"]
    arguments = [
        *settings["problems"],
        "--methods",
        ",".join(settings["methods"]),
        *SMALL,
        "--set",
        settings["fixed"][0],
    ]
    race(*arguments, "--workers", 1, "--out", tmp_path / "one")
    for name in ("runs", "steps"):
        assert timeless(table(folder, name)) == timeless(table(tmp_path / "one", name))


def test_what_has_finished_is_not_run_again(folder: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()}
    tables = {name: table(folder, name) for name in ("runs", "steps")}
    race("--resume", "--out", folder)
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()} == before
    assert {name: table(folder, name) for name in tables} == tables, "to the last bit, clock readings too"


def test_the_printed_table_is_whole_in_a_narrow_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    race("--resume", "--out", folder)
    told = capsys.readouterr().out
    assert "…" not in told
    assert {line.split()[0] for line in told.splitlines() if ".." in line} >= {"sgd", "own.py:descent", "own.py:still"}


class _Links(HTMLParser):
    """What a page would load or lead to, and the text that it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "data", "action")]


def test_the_page_stands_alone_and_escapes_what_users_named(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    parser = _Links()
    parser.feed(page)
    assert parser.links == []
    assert parser.tags["script"] == 3
    assert parser.tags["link"] == parser.tags["iframe"] == parser.tags["img"] == 0
    assert "@import" not in page.partition("<script>")[0]
    assert "<b>&own" not in page
    assert "&lt;b&gt;&amp;own" in page


def test_the_page_draws_curves_paths_and_learning_rates(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    drawn = json.loads(page.partition('type="application/json">')[2].partition("</script>")[0])
    squares, valley = drawn["problems"]
    assert squares["plane"] is None
    assert len(valley["plane"]["z"]) == len(valley["plane"]["y"])
    x, y = valley["paths"]["default"]["sgd"]
    assert (x[0], y[0]) == (-1.2, 1.0)
    for axis, curve in squares["curves"]["tuned"]["adam"].items():
        assert axis in ("gradient_equivalents", "seconds", "k")
        low, median, high = (np.asarray(curve[name], dtype=float) for name in ("low", "median", "high"))
        assert np.all(np.diff(curve["x"]) > 0)
        assert np.all(low <= median)
        assert np.all(median <= high)
    assert [decays for *_, decays in squares["rates"]["adam"]].count(True) == 1, "of three trials under noise"
    assert not any(decays for *_, decays in valley["rates"]["adam"])
    assert (folder / "race.png").read_bytes().startswith(b"\x89PNG")


def test_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    race("rosenbrock", "--methods", "sgd,lbfgs", "--tune", 0, "--seeds", 1, "--json", "--out", tmp_path / "out")
    told = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in told["standings"][0]["rows"]] == ["lbfgs", "sgd"]
    assert told["standings"][0]["rows"][1]["end"]["median"] is None, "sgd at its default lr diverges here"
    assert len(told["answer"]) == 1
    assert json.loads((tmp_path / "out" / "race.json").read_text())["answer"] == told["answer"]


@pytest.mark.parametrize("name", ["numpy", "array_api_strict"])
def test_backends_and_dtypes(name: str, tmp_path: Path) -> None:
    race(
        "saddle",
        "--methods",
        "adam,newton_cg",
        "--backend",
        name,
        "--dtype",
        "float32",
        *SMALL,
        "--out",
        tmp_path / "o",
    )
    assert {row["status"] for row in table(tmp_path / "o", "runs")} <= {"BUDGET_SPENT", "CONVERGED"}


def test_a_budget_in_seconds(tmp_path: Path) -> None:
    race("saddle", "--methods", "sgd", "--tune", 0, "--seeds", 1, "--budget", "0.05s", "--out", tmp_path / "out")
    (row,) = table(tmp_path / "out", "runs")
    assert row["status"] == "TIME_SPENT"
    assert row["last_seconds"] >= 0.05


def test_tables_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import csv

    from refopt.race import results

    monkeypatch.setattr(results.importlib.util, "find_spec", lambda name: None)
    rows = [{"a": 1, "b": 0.1 + 0.2}, {"a": 2, "x,1": 'said "no"'}]
    path = results.write_table(tmp_path, "runs", rows)
    with path.open(newline="") as file:
        read = list(csv.DictReader(file))
    assert read == [{"a": "1", "b": "0.30000000000000004", "x,1": ""}, {"a": "2", "b": "", "x,1": 'said "no"'}]


def test_a_worker_that_dies_is_told_and_ends_nothing_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "import multiprocessing, os, signal\n"
        "def kill(x, g, state):\n"
        "    if multiprocessing.parent_process():\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return x, state\n"
    )
    with pytest.raises(SystemExit) as end:
        cli.main(["race", "rosenbrock", "--methods", f"{own}:kill", "--tune", "0", "--out", str(tmp_path / "out")])
    assert end.value.code == 2
    assert "a worker process died" in capsys.readouterr().err


def test_without_the_plot_extra_the_numbers_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.delitem(sys.modules, "plotly.offline", raising=False)
    out = tmp_path / "out"
    race("rosenbrock", "--methods", "sgd", "--tune", 0, "--seeds", 1, "--budget", 5, "--out", out)
    assert "no report: plotly is missing; install refopt[plot]" in capsys.readouterr().err
    assert list(out.glob("runs.*"))  # parquet where pyarrow is installed, else csv
    assert not (out / "report.html").exists()


def test_a_damaged_run_is_named_and_left_alone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    race("rosenbrock", "--methods", "sgd", "--tune", 0, "--seeds", 1, "--budget", 5, "--out", out)
    (run,) = (out / "runs").iterdir()
    run.write_text(run.read_text()[:100])
    with pytest.raises(SystemExit) as end:
        cli.main(["race", "--resume", "--out", str(out)])
    assert end.value.code == 2
    assert f"{run} is damaged" in capsys.readouterr().err
    assert len(run.read_text()) == 100


ENDLESS = ("saddle", "--methods", "sgd,adam,nesterov", "--tune", "3", "--seeds", "5", "--budget", "1000")


def start(out: Path) -> subprocess.Popen[bytes]:
    """Start a race in a process of its own and wait until it has finished a few runs."""
    command = [sys.executable, "-c", "from refopt.cli import main; main()", "race", *ENDLESS, "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list((out / "runs").glob("*.json"))) < 4:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    return process


def test_nothing_is_lost_or_doubled_by_sigkill(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(killed)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.communicate()
    finished = {path.name: path.stat().st_mtime_ns for path in (killed / "runs").glob("*.json")}
    assert 4 <= len(finished) < 39
    for path in (killed / "runs").glob("*.json"):
        json.loads(path.read_text())
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, "the workers must end with their parent"
        time.sleep(0.05)
    race("--resume", "--out", killed)
    race(*ENDLESS, "--out", whole)
    assert finished.items() <= {path.name: path.stat().st_mtime_ns for path in (killed / "runs").glob("*.json")}.items()
    for name in ("runs", "steps"):
        assert timeless(table(killed, name)) == timeless(table(whole, name))


def test_ctrl_c_leaves_what_is_finished(tmp_path: Path) -> None:
    process = start(tmp_path / "out")
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the workers too
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"finished runs are in" in told
    assert b"--resume --out" in told
    assert b"Traceback" not in told


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_in_a_browser(width: int, folder: Path, tmp_path: Path) -> None:
    page = (folder / "report.html").read_text()
    measure = """<script>addEventListener("load", () => setTimeout(() => {
      const told = { main: document.querySelector("main").outerHTML };
      told.over = document.documentElement.scrollWidth - document.documentElement.clientWidth;
      const all = (selector) => [...document.querySelectorAll(`[id^=plane] ${selector}`)];
      told.named = all(".annotation-text").map((e) => e.textContent);
      const mark = (trace) => trace.querySelector(".points path").getAttribute("d");
      told.marks = new Set(all(".scatterlayer .trace").map(mark)).size;
    """
    told = shown(f"{measure}{SPILL} }}, 500));</script></body>".join(page.rsplit("</body>", 1)), width, tmp_path)
    parser = _Links()
    parser.feed(told["main"])
    assert told["width"] == width
    assert parser.links == []
    assert parser.tags["svg"] >= 2 * 3, "curves, learning rates and a plane"
    assert told["over"] == 0, "nothing sticks out to the side"
    assert told["spill"] == []
    assert len(told["named"]) == len(set(told["named"])) >= 3, "every path of the plane has its name"
    assert told["marks"] > 3, "and its mark"
    for label in ("lbfgs", "start"):
        assert f">{label}</" in told["main"]
