"""Every file of benchmarks/ runs, on sizes cut down so far that its figures mean nothing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import problems
from refopt import Layout
from refopt.race import dask_engine, engine

FOLDER = Path(__file__).parents[1] / "benchmarks"
ELSEWHERE = {"claims", "gpu"}  # tests/test_claims.py; on a machine that has one


class Small(NamedTuple):
    """Options, what to put for the module's own names, and the optional packages that it cannot do without."""

    options: str
    instead: Callable[[Any], dict[str, Any]] = lambda module: {}
    needs: tuple[str, ...] = ()


def small_network(module: Any) -> dict[str, Any]:
    problem = problems.get("mlp_digits", hidden=(5,))
    return {
        "trained": lambda: (problem, problem.x0),
        "torch_calls": lambda *_: {},  # they know the whole network alone
        "fifty_products": lambda rounds: {"hessian": 0.0},
    }


def small_matrices(module: Any) -> dict[str, Any]:
    layout = Layout({"W0": (6, 5), "b0": (5,), "W1": (5, 3), "b1": (3,)})
    return {"LAYOUT": layout, "MATRICES": [(6, 5), (5, 3)]}


def few_steps(module: Any) -> dict[str, Any]:
    contenders = {name: contender._replace(cycle=1) for name, contender in module.CONTENDERS.items()}
    return {"NETWORKS": {"small": (5, 3)}, "CONTENDERS": contenders}


def first_rows(module: Any) -> dict[str, Any]:
    return {table: getattr(module, table)[:1] for table in ("TABLE_1", "TABLE_2", "TABLE_3")}


SMALL = {
    "autodiff": Small("--batch 2 --rounds 1 --no-jax"),
    "calibration": Small("--steps 12", needs=("sklearn",)),
    "curvature": Small("--rounds 1 --seeds 1", small_network, ("sklearn",)),
    "data_accesses": Small("--batches 284 --passes 2 --seeds 1", needs=("sklearn",)),
    "duda": Small("--seeds 1", first_rows),
    "elementwise": Small("--sizes 100 --dtypes float32 --rounds 1"),
    "gradient_regression": Small("--problems mlp_digits --passes 0.1 --trials 1 --seeds 1", needs=("sklearn",)),
    "kfac": Small("--rounds 1", few_steps),
    "networks": Small(
        "--rounds 3",
        lambda b: {"WIDTHS": (784, 8, 8, 10), "BATCH": 4, "CODE": (784, 6, 5, 4, 3), "IMAGES": 4},
        ("jax", "torch"),
    ),
    "newton": Small("--problems logistic_breast_cancer --rounds 1", needs=("sklearn",)),
    "overlap": Small("--steps 4 --points 2 --d 2 --batches 0 64", needs=("sklearn",)),
    "products": Small("--dtype float32", needs=("sklearn",)),
    "quasi_newton": Small("--rounds 1 --starts 1", lambda b: {"CASES": b.CASES[:1]}),
    "saddles": Small("--problems himmelblau --budget 2ge --out saddles.md"),
    "scale": Small("--n 10 --tasks 2 --workers 1", needs=("distributed",)),
    "structured": Small("--rounds 1", small_matrices),
}


def test_every_file_is_told() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == SMALL.keys() | ELSEWHERE


@pytest.mark.filterwarnings("ignore")  # peers warn of each other's versions
@pytest.mark.parametrize("name", SMALL)
def test_it_runs(name: str, monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    options, instead, needs = SMALL[name]
    for package in needs:
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(FOLDER))
    for module, knob in ((engine, "perform"), (dask_engine, "_perform")):
        monkeypatch.setattr(module, knob, getattr(module, knob))  # scale.py puts its own there
    benchmark = importlib.import_module(name)
    for knob, value in instead(benchmark).items():
        monkeypatch.setattr(benchmark, knob, value)
    monkeypatch.setattr(sys, "argv", [name, *options.split()])
    benchmark.main()
    assert sys.float_info.min / 2 > 0, "subnormals are flushed to zero in this process"
    assert capsys.readouterr().out or list(tmp_path.iterdir())
