from __future__ import annotations

import json
import math
import shutil
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from refopt.cli import main
from refopt.lab import laboratory, study, verdict
from refopt.lab.statistics import Duel
from refopt.lab.studies import cost, noise, robustness, saddles, training
from refopt.race.engine import perform
from refopt.race.plan import Budget, Run, Settings, make_plan
from refopt.race.results import Outcome

SHRUNK = {
    "cost": ("quadratic:n=5,condition=10", "quadratic:n=5,condition=1000"),
    "noise": ("noisy:of=quadratic,noise=additive,scale=0.01", "noisy:of=quadratic,noise=additive,scale=1.0"),
    "saddles": (saddles.CASES["strict"], saddles.CASES["monkey"]),
    "training": ("softmax_digits",),
    "robustness": ("beale", "saddle"),
}


class Here:
    """An engine in this process, which counts."""

    performed = 0

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def perform(self, runs: Sequence[Run]) -> Iterator[Outcome]:
        for run in runs:
            self.performed += 1
            yield perform(run)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any], Here]]:
    """A laboratory of one small race a study."""
    patch = pytest.MonkeyPatch()
    for name, problems in SHRUNK.items():
        module = study.get(name)
        (first, *_) = module.races("reduced")
        few = ("sgd", "adam", "parabola", "lbfgs", "newton_cg") if name != "noise" else ("sgd", "parabola", "svrg")
        budget, tune = ("1ge", 2) if name == "training" else ("40ge", min(first.tune, 2))
        small = replace(first, problems=problems, methods=few, budget=budget, seeds=2, tune=tune, fixed=())
        if name == "robustness":
            split = [replace(small, problems=(problem,), seeds=1) for problem in problems]
            patch.setattr(module, "races", lambda scale, split=split: split)
        else:
            patch.setattr(module, "races", lambda scale, small=small: [small])
    patch.setattr(
        noise, "_along_training", lambda batch, points, draws: [noise.Estimate(w, 1.0, 1.0) for w in noise.WAYS]
    )
    patch.setattr(noise, "_regression", lambda batch, count: [noise.Estimate("regression", -1.0, 1.0)])
    out, engine = tmp_path_factory.mktemp("lab") / "out", Here()
    yield out, laboratory.run(list(SHRUNK), "reduced", out, engine, lambda stage, total: lambda: None), engine
    patch.undo()


def test_every_study_is_found_and_asks_for_known_things() -> None:
    from refopt import method
    from refopt.race import sources

    assert study.names() == ["cost", "noise", "saddles", "training", "robustness"]
    for name in study.names():
        for scale in ("reduced", "full"):
            for settings in study.get(name).races(scale):
                assert isinstance(settings, Settings)
                assert {one for name in settings.methods for one in name.split("+")} <= set(method.names())
                for problem in settings.problems:
                    text, _, options = problem.partition(":")
                    import problems

                    assert set(sources.read_options(options) if options else {}) <= set(problems.options(text))


CHEAP = ("mlp_digits", "matrix_factorisation")


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(settings, id=problem, marks=() if problem in CHEAP else pytest.mark.slow)
        for settings in training.races("full")
        for problem in settings.problems
    ],
)
def test_every_method_trains_on_every_problem_of_the_full_scale_without_a_network(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("no network access at run time")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    plan = make_plan(settings)
    (problem,) = plan.problems.values()
    minibatches = problem.objective.n_examples is not None
    assert not (minibatches and plan.absent)
    for entry in plan.entries:
        tiny = replace(entry, budget=Budget(0.1 if minibatches else 2.0, "ge"))
        outcome = perform(tiny.run({}, seed=0))
        assert not outcome.failed, f"{entry.method}: {outcome.message}"
        assert outcome.spent("k") >= 1
        assert all(map(math.isfinite, outcome.rows["value"]))


def test_it_writes_numbers_pages_and_the_verdict(held: tuple[Path, dict[str, Any], Here]) -> None:
    out, found, _ = held
    assert list(found) == list(SHRUNK)
    for name, findings in found.items():
        assert (out / f"{name}.csv.gz").exists()
        assert (out / f"{name}.png").stat().st_size > 1000
        assert (out / f"{name}.html").exists()
        assert findings.answer
        assert findings.duels
        for table in findings.tables:
            assert all(len(row) == len(table.columns) for row in table.rows)
    told = (out / "verdict.md").read_text()
    for name in SHRUNK:
        assert f"![{study.get(name).TITLE}]({name}.png)" in told
    assert "What to try" in told
    assert "nan" not in told


def test_nothing_is_measured_twice(held: tuple[Path, dict[str, Any], Here]) -> None:
    out, found, engine = held
    before = engine.performed
    again = laboratory.run(list(SHRUNK), "reduced", out, engine, lambda stage, total: lambda: None)
    assert engine.performed == before
    assert laboratory.as_json(again) == laboratory.as_json(found)
    (out / "cost.csv.gz").unlink()  # the journal still has the runs
    laboratory.run(["cost"], "reduced", out, engine, lambda stage, total: lambda: None)
    assert engine.performed == before


def test_every_study_has_a_scale_of_its_own(held: tuple[Path, dict[str, Any], Here], tmp_path: Path) -> None:
    out, _, engine = held
    mixed = shutil.copytree(out, tmp_path / "mixed")
    for asked in ("full", "reduced"):  # full numbers serve where reduced ones are asked for
        laboratory.run(["cost"], asked, mixed, engine, lambda stage, total: lambda: None)
        scales = {name: json.loads((mixed / f"{name}.json").read_text())["scale"] for name in SHRUNK}
        assert scales == dict.fromkeys(SHRUNK, "reduced") | {"cost": "full"}
    told = (mixed / "verdict.md").read_text()
    for name in SHRUNK:
        full, scale = (" --full", "Full") if name == "cost" else ("", "Reduced")
        line = next(line for line in told.splitlines() if f"`refopt lab {name}{full} --out {mixed}`" in line)
        assert line.startswith(f"*{scale} scale, 20")
    assert "Full scale" in (mixed / "cost.html").read_text()


def test_a_kill_between_the_numbers_and_their_note_leaves_no_study(
    held: tuple[Path, dict[str, Any], Here], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _, engine = held
    monkeypatch.setattr(laboratory.page, "write", lambda *args: None)  # pictures take seconds
    killed = shutil.copytree(out, tmp_path / "killed")

    def kill(path: Path, rows: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(laboratory, "write", kill)
        with pytest.raises(KeyboardInterrupt):
            laboratory.run(["cost"], "full", killed, engine, lambda stage, total: lambda: None)
    again = laboratory.run(["noise"], "reduced", killed, engine, lambda stage, total: lambda: None)
    assert list(again) == ["noise"]
    told = (killed / "verdict.md").read_text()
    assert study.get("noise").TITLE in told
    assert study.get("cost").TITLE not in told
    assert laboratory.run(["cost"], "reduced", killed, engine, lambda stage, total: lambda: None).keys() == {"cost"}


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(SystemExit) as end:
        main(["lab", "cost", "--out", str(tmp_path)])
    assert end.value.code == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["lab", "costs"], "did you mean 'cost'"), (["lab", "cost", "--workers", "0"], "workers must be at least 1")],
)
def test_misuse(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--out", str(tmp_path / "out")])
    assert end.value.code == 2
    assert word in capsys.readouterr().err


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [{"name": "a, b", "n": 3, "x": 0.125, "y": math.inf, "ok": True}, {"name": "c", "z": -1.0}]
    path = tmp_path / "rows.csv.gz"
    laboratory.write(path, rows)
    assert laboratory.read(path) == rows
    first = path.read_bytes()
    laboratory.write(path, rows)
    assert path.read_bytes() == first
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="damaged"):
        laboratory.read(path)


def test_the_cheapest_way_is_named() -> None:
    rows = [
        {
            "n": 10,
            "condition": 100,
            "method": method,
            "setting": "tuned",
            "seed": 0,
            "gradient_equivalents": spent,
            "seconds": spent / 100,
            "state_vectors": 1.0,
        }
        for method, spent in (("sgd", 50.0), ("lbfgs", 20.0), ("newton", math.inf))
    ]
    found = cost.findings(rows)
    row = dict(zip(found.tables[1].columns, found.tables[1].rows[0], strict=True))
    assert row["secant pairs"] == "20 (lbfgs)"
    assert row["forming and factorising"] == "not within the budget"
    assert row["first by seconds"] == "lbfgs, 0.2 s"
    assert found.duels["exact gradients, by seconds"] == (1, 0)


def test_a_way_pays_at_the_sizes_where_it_is_near_the_fastest() -> None:
    rows = [
        {"n": n, "condition": 10, "method": method, "setting": "tuned", "seed": 0, "state_vectors": 1.0}
        | {"gradient_equivalents": seconds, "seconds": seconds}
        for n, times in (
            (10, (3.0, 2.0, 1.0)),
            (30, (3.0, 2.0, 1.0)),
            (100, (3.0, 2.0, 1.0)),
            (300, (1.0, 3.0, math.inf)),
        )
        for method, seconds in zip(("sgd", "lbfgs", "newton"), times, strict=True)
    ]
    pays = {row[0]: row[1] for row in cost.findings(rows).tables[0].rows}
    assert pays["forming and factorising"] == pays["secant pairs"] == "10 to 100"
    assert pays["gradients alone"] == "300"
    assert pays["sampling the diagonal"] == "-"


def test_right_signs_are_counted() -> None:
    signs = [
        {"kind": "sign", "batch": 4, "way": way, "said": said, "true": true}
        for way in noise.WAYS
        for true in ((1.0, -1.0) if way != "regression" else (1.0,))
        for said in ((true, true) if way != "regression" else (-1.0, 1.0))
    ]
    found = noise.findings(signs)
    table = {tuple(row[:2]): row[2] for row in found.tables[0].rows}
    assert table[noise.WAYS["regression"], "positive"] == "50%"
    assert table[noise.WAYS["regression"], "negative"] == "-"
    assert table[noise.WAYS["Hessian product"], "negative"] == "100%"
    assert "at no batch that was tried by the parabola" in found.answer[-1]


def test_each_noise_has_a_table_and_a_duel() -> None:
    levels = [
        {"kind": "level", "problem": "p", "model": model, "strength": strength, "method": m, "setting": "tuned"}
        | {"halfway": 7.0, "level": level if model == "additive" else 1 - level}
        for model in ("additive", "minibatches")
        for strength in (0.25, 1.0)
        for m, level in (("sgd", 0.1), ("parabola", 0.3))
    ]
    signs = [{"kind": "sign", "batch": 4, "way": way, "said": 1.0, "true": 1.0} for way in noise.WAYS]
    found = noise.findings([*levels, *signs])
    assert found.duels == {noise.NOISE["additive"]: (0, 2), noise.NOISE["minibatches"]: (2, 0)}
    assert "strength 0.25: sgd 0.1 before parabola 0.3" in found.paragraphs[0]
    additive, minibatches = found.tables[1:]
    assert additive.rows[0] == ["sgd", "0.1 (7)", "0.1 (7)"]
    assert minibatches.columns[1:] == ("batch 4", "batch 1")


def test_caught_and_left_are_told_apart() -> None:
    rows = [
        {"case": case, "method": m, "setting": setting, "seed": s, "gradient_equivalents": spent, "end": 1.0}
        for case in saddles.CASES
        for setting in ("tuned", "default")
        for m, times in (("sgd", (30.0, math.inf)), ("newton", (math.inf, math.inf)), ("newton_cg", (9.0, 11.0)))
        for s, spent in enumerate(times)
    ]
    found = saddles.findings(rows)
    assert {row[0]: row[1] for row in found.tables[0].rows} == {
        "newton_cg": "10",
        "sgd": "30 (50%)",
        "newton": "not left",
    }
    assert "within the budget, newton_cg left tuned; newton_cg left untuned" in found.answer[1]
    assert "strict saddle sgd, newton did not get away" in found.answer[0]  # sgd left in half of its runs
    assert found.duels == {"leaving saddles, exact gradients": (2 * len(saddles.CASES), 0)}  # two seeds
    axes = [
        {"steepness": steepness, "index": k, "method": m, "setting": "tuned", "seed": 0, "gradient_equivalents": spent}
        for steepness in (1.0, 0.1)
        for k in (1, 5)
        for m, spent in (("sgd", 30.0 / steepness), ("newton_cg", 9.0 * k), ("sr1", 8.0), ("newton", math.inf))
    ]
    more = saddles.findings([*rows, *axes])
    assert more.duels == found.duels
    flatter, broader = more.answer[-2:]
    assert "flattens from 1 to 0.1, leaving costs who uses curvature 1 times as much" in flatter
    assert "who uses gradients alone 10 times as much" in flatter
    assert broader.startswith("Where 5 directions fall, not 1,")
    assert "curvature 3 times as much" in broader  # the median of 5 and 1
    (picture, _) = more.figures["axes"]().axes
    columns = [label.get_text() for label in picture.get_xticklabels()]
    assert columns == ["steepness 1", "steepness 0.1", "index 1", "index 5"]
    words = [text.get_text() for text in picture.texts]
    assert words.count("not left") == 4  # newton, everywhere


def test_ranks_decide_what_is_recommended() -> None:
    rows = [
        {
            "problem": "p",
            "batch": 64,
            "method": m,
            "setting": setting,
            "seed": 0,
            "end": end,
            "at equal seconds": 1 / end,
        }
        for setting in ("tuned", "default")
        for m, end in (("adam", 0.5), ("kfac", 0.25), ("sgd", 1.0))
    ]
    table = verdict.recommendations({"training": rows})
    by_clock, by_cost, untuned = ([name.split("]")[0][1:] for name in row[1].split(", ")] for row in table.rows)
    assert by_cost == untuned == ["kfac", "adam", "sgd"]
    assert by_clock == ["sgd", "adam", "kfac"]


def test_who_never_came_down_is_not_recommended() -> None:
    rows = [
        {"n": 10, "condition": 100, "method": m, "setting": "tuned", "seed": 0, "seconds": spent}
        | {"gradient_equivalents": spent}
        for m, spent in (("sgd", math.inf), ("lbfgs", 2.0))
    ]
    (row,) = verdict.recommendations({"cost": rows}).rows
    assert row[1] == "[lbfgs](../methods/lbfgs.md)"


def test_the_profile_of_one_problem_is_its_race() -> None:
    rows = [
        {"problem": "p", "method": m, "gradient_equivalents": ge, "seconds": ge, "height": 0.0, "status": "CONVERGED"}
        for m, ge in (("adam", 10.0), ("lbfgs", 2.0), ("sgd", math.inf))
    ]
    found = robustness.findings(rows)
    table = {row[0]: row[1:] for row in found.tables[0].rows}
    assert table["lbfgs"][:5] == ["1", "100%", "100%", "100%", "100%"]
    assert table["adam"][:5] == ["1", "100%", "100%", "100%", "0%"]
    assert table["sgd"][1] == "0%"
    assert json.dumps(laboratory.as_json({"robustness": found}))


def test_training_reads_what_each_knob_may_be() -> None:
    rows = [
        {
            "problem": "p",
            "batch": 64,
            "method": m,
            "setting": setting,
            "seed": s,
            "end": end * (1 + s),
            "at equal k": end,
        }
        | {"at equal seconds": end, "seconds": 1.0, "test": 0.1, "start": 2.0, "knobs": knobs}
        for m, end, lr in (("adam", 0.5, 0.9), ("ekfac", 0.1, 0.002))
        for setting, knobs in (("tuned", "{}"), ("default", "{}"), ("trial", json.dumps({"lr": lr, "own": 1})))
        for s in (0, 1)
    ]
    found = training.findings(rows)
    sensitivity, table = found.tables
    assert [row[:2] + row[3:] for row in sensitivity.rows] == [
        ["adam", "lr", "-", "-", "0% of 2"],
        ["ekfac", "lr", "100% of 2", "-", "-"],
    ]
    width = table.columns.index("width")
    assert {row[0]: row[width] for row in table.rows} == {"ekfac": "100%", "adam": "0%"}
    assert set(found.duels.values()) == {(2, 0)}
    assert training.ranks(rows, "end", "tuned") == [("ekfac", 1.0), ("adam", 2.0)]


def test_the_conclusion_is_yes_no_or_undecided() -> None:
    told = verdict.conclusion({"there": Duel(9, 0), "here": Duel(1, 8), "elsewhere": Duel(3, 2)})
    assert told.endswith("\n\n- **Yes**: there.\n- **No**: here.\n- **Not decided**: elsewhere.")
