"""`refopt spectrum` and `refopt saddles`: tables, files, JSON; and every misuse in one line with status 2."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import problems
from refopt import spectrum
from refopt.objective import Objective
from refopt.race import dask_engine
from tests.test_cli import run


def test_spectrum_prints_and_writes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, printed, err = run(capsys, "spectrum", "saddle:n=4", "--trace", "--density", "--out", out)
    assert (code, err) == (0, "")
    for word in ("lambda_1", "index", "1 negative", "trace", "memory", "8 vectors of length 4", str(out)):
        assert word in printed
    assert sorted(path.name for path in out.iterdir()) == ["spectrum.html", "spectrum.json", "spectrum.png"]
    assert (out / "spectrum.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "spectrum.json").read_text())["negative"] == 1


def test_spectrum_of_every_matrix_of_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    for matrix in ("gauss-newton", "fisher", "empirical-fisher"):
        arguments = ("mlp_digits:hidden=2", "--matrix", matrix, "--top", 1, "--chunk", 1000, "--json")
        code, printed, _ = run(capsys, "spectrum", *arguments)
        found = json.loads(printed)
        assert (code, found["matrix"], found["negative"]) == (0, matrix, 0)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Return the address of a cluster of two worker processes."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
    ) as cluster:
        yield cluster.scheduler_address


@pytest.mark.parametrize(
    ("problem", "matrix", "chunk"),
    [
        ("least_squares", "hessian", 150),  # of 200
        ("mlp_digits:hidden=4", "gauss-newton", 4096),
        ("softmax_digits", "empirical-fisher", 4096),
    ],
)
def test_spectrum_over_the_workers_of_a_cluster(
    problem: str, matrix: str, chunk: int, capsys: pytest.CaptureFixture[str], scheduler: str
) -> None:
    arguments = ("spectrum", problem, "--matrix", matrix, "--at", "end-of-sgd", "--budget", "5ge", "--top", 2, "--json")
    here, there = (
        json.loads(run(capsys, *arguments, "--chunk", chunk, "--seed", 1, *more)[1])
        for more in ((), ("--engine", "dask", "--scheduler", scheduler))
    )
    for name in ("value", "grad_norm", "top", "smallest", "gradient_equivalents"):
        assert there[name] == pytest.approx(here[name], rel=1e-9, abs=1e-12), name
    for name in ("n", "products", "negative", "exact", "status"):
        assert there[name] == here[name], name


def test_vectors_go_to_the_workers_directly(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    direct = []

    def watched(problem: str, client: Any, **options: Any) -> Objective:
        direct.append(client.direct_to_workers)
        return problems.get(problem).objective

    monkeypatch.setattr(spectrum, "sharded", watched)
    with spectrum.performed("least_squares", "dask", scheduler):
        assert direct == [True]


def test_spectrum_over_processes_of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("distributed")
    code, printed, err = run(capsys, "spectrum", "least_squares", "--engine", "dask", "--top", 1)
    assert (code, err) == (0, "")
    assert "lambda_1" in printed


def test_spectrum_where_no_scheduler_answers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(dask_engine, "PATIENCE", 1)
    code, _, err = run(capsys, "spectrum", "least_squares", "--engine", "dask", "--scheduler", "tcp://127.0.0.1:1")
    assert code == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in err.splitlines()[-1]


def test_spectrum_without_dask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    code, _, err = run(capsys, "spectrum", "least_squares", "--engine", "dask")
    assert (code, err) == (2, "refopt: Dask distributed is missing; install refopt[dask]\n")


def test_saddles_prints_and_writes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, printed, err = run(capsys, "saddles", "saddle:n=3", "--methods", "lbfgs,svrg", "--out", out)
    assert (code, err) == (0, "")
    for word in ("strict saddle", "lbfgs", "leaves", "svrg needs a finite sum"):
        assert word in printed
    assert sorted(path.name for path in out.iterdir()) == ["saddles.html", "saddles.json", "saddles.png"]
    code, printed, _ = run(capsys, "saddles", "saddle:n=3", "--methods", "lbfgs", "--json")
    assert json.loads(printed)["departures"][0]["outcome"] == "leaves"


MISUSE: dict[str, tuple[tuple[object, ...], str]] = {
    "no problem": (("spectrum",), "problem"),
    "unknown problem": (("spectrum", "rosenbrok"), "did you mean 'rosenbrock'?"),
    "unknown place": (("spectrum", "rosenbrock", "--at", "end"), "at must be start, end-of-METHOD or FILE.npz"),
    "unknown method": (("spectrum", "rosenbrock", "--at", "end-of-adm"), "unknown method 'adm'; did you mean 'adam'?"),
    "method that cannot run": (("spectrum", "rosenbrock", "--at", "end-of-svrg"), "svrg needs a finite sum"),
    "no file": (("spectrum", "rosenbrock", "--at", "nowhere.npz"), "nowhere.npz: No such file"),
    "no npz": (("spectrum", "rosenbrock", "--at", "text.npz"), "text.npz is damaged or no npz file"),
    "file of two arrays": (("spectrum", "rosenbrock", "--at", "two.npz"), "must hold an array x, or one array alone"),
    "file of another length": (("spectrum", "rosenbrock", "--at", "long.npz"), "must have shape (2,), got (3,)"),
    "file of integers": (("spectrum", "rosenbrock", "--at", "whole.npz"), "must hold floating-point numbers"),
    "file with nan": (("spectrum", "rosenbrock", "--at", "nan.npz"), "must be finite"),
    "file with objects": (("spectrum", "rosenbrock", "--at", "objects.npz"), "Object arrays cannot be loaded"),
    "unknown matrix": (("spectrum", "rosenbrock", "--matrix", "hesian"), "did you mean 'hessian'?"),
    "missing matrix": (("spectrum", "rosenbrock", "--matrix", "fisher"), "has no fisher"),
    "top of 0": (("spectrum", "rosenbrock", "--top", 0), "top must be in [1, 2], got 0"),
    "top beyond n": (("spectrum", "rosenbrock", "--top", 3), "top must be in [1, 2], got 3"),
    "chunk of 0": (("spectrum", "mlp_digits:hidden=2", "--chunk", 0), "chunk must be at least 1, got 0"),
    "bad budget": (("spectrum", "rosenbrock", "--at", "end-of-adam", "--budget", "x"), "budget must be positive"),
    "unknown engine": (("spectrum", "least_squares", "--engine", "dusk"), "did you mean 'dask'?"),
    "scheduler of no cluster": (("spectrum", "least_squares", "--scheduler", "tcp://x:1"), "needs --engine dask"),
    "nothing to spread": (("spectrum", "rosenbrock", "--engine", "dask"), "rosenbrock is no finite sum"),
    "unwritable": (("spectrum", "rosenbrock", "--out", "/dev/null/x"), "/dev/null/x"),
    "no saddle known": (("saddles", "rosenbrock"), "no saddle of rosenbrock is known"),
    "saddle out of range": (("saddles", "saddle", "--saddle", 1), "saddle must be in [0, 0], got 1"),
    "no distance": (("saddles", "saddle", "--distance", 0), "distance must be positive, got 0.0"),
    "no methods": (("saddles", "saddle", "--methods", ","), "methods must name at least one"),
    "unknown saddle method": (("saddles", "saddle", "--methods", "adm"), "did you mean 'adam'?"),
    "needs unmet": (("saddles", "saddle", "--methods", "svrg"), "no method can race on saddle: svrg needs"),
    "bad saddle budget": (("saddles", "saddle", "--budget", "soon"), "budget must be positive"),
    "saddles unwritable": (("saddles", "saddle", "--methods", "sgd", "--out", "/dev/null/x"), "/dev/null/x"),
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.npz").write_text("no archive")
    x = np.ones(2)
    np.savez("two.npz", a=x, b=x)
    np.savez("long.npz", x=np.ones(3))
    np.savez("whole.npz", x=np.ones(2, dtype=int))
    np.savez("nan.npz", x=np.nan * x)
    np.savez("objects.npz", x=np.array([None, {}], dtype=object))


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("case", MISUSE)
def test_misuse_ends_in_one_line_and_status_2(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = MISUSE[case]
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert message in err
    assert err.startswith("refopt: ")
    assert err.count("\n") == 1
    assert not out
