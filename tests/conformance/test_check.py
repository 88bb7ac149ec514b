"""A candidate agrees in the dialect that it is, or differs with a reason; what fails is a report."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refopt import bind
from refopt.conformance import assert_matches, report
from refopt.conformance.check import DEFAULTS, _distance, check
from refopt.conformance.process import check_apart
from refopt.conformance.replay import Difference, Trace
from refopt.first_order import adam
from refopt.method import get

CANDIDATES = """
import os, time
import numpy as np

def momentum(x, g, v, lr):
    v = g if v is None else 0.9 * v + g
    return x - lr * v, v

def rmsprop(x, g, v, lr):
    v = 0.01 * g * g if v is None else 0.99 * v + 0.01 * g * g
    return x - lr * g / np.sqrt(v + 1e-8), v

def raises(x, g, k, lr):
    k = 1 if k is None else k + 1
    return x - lr / (3 - k) * g, k

def hangs(x, g, state, lr):
    time.sleep(60)

def short(x, g, state, lr):
    return x[:-1], state

def nothing(x, g, state, lr):
    return None

def nan(x, g, state, lr):
    return x * np.nan, state

calls = []

def dies_later(x, g, state, lr):
    calls.append(0)
    if len(calls) > 65:  # of 13 streams
        os._exit(9)
    return x - 2 * lr * g, state

def dies(x, g, state, lr):
    os._exit(7)
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("candidates") / "mine.py"
    path.write_text(CANDIDATES)
    return path


@pytest.fixture(scope="module")
def mine(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(file.read_text(), found)
    return found


def test_without_a_dialect_the_one_that_agrees_is_named(mine: dict[str, Any]) -> None:
    found = check(mine["momentum"], "heavy_ball")
    assert (found.outcome, found.mode, found.candidate) == ("agrees", "replay", "momentum")
    assert found.dialect in found.agreeing
    assert set(found.agreeing) == {"paper", "torch", "optax"}  # keras has lr inside the velocity
    assert set(found.tried) == set(get("heavy_ball").DIALECTS)
    assert found.largest is not None
    assert found.largest["relative"] < 1e-12


def test_the_dialect_that_comes_closest_is_diagnosed(mine: dict[str, Any]) -> None:
    found = check(mine["rmsprop"], "rmsprop")
    assert (found.outcome, found.dialect, found.agreeing) == ("differs", "torch", [])
    assert DEFAULTS in found.tried
    assert found.first is not None
    assert (found.first["step"], found.first["stream"]) == (1, "scales")
    assert found.diagnosis is not None
    assert (found.diagnosis["causes"], found.diagnosis["explains"]) == (["eps_placement='inside'"], True)
    assert "eps_placement='inside'" in str(found)


def test_hyperparameters_are_the_reference_s(mine: dict[str, Any]) -> None:
    assert check(bind(adam, lr=0.1, eps=1e-3), "adam", dialect="torch", lr=0.1, eps=1e-3).outcome == "agrees"
    assert check(mine["momentum"], "heavy_ball", dialect="torch", momentum=0.8, diagnose=False).outcome == "differs"


def test_the_curves_are_as_long_as_the_replay_and_cross_the_tolerance_where_it_differs(mine: dict[str, Any]) -> None:
    found = check(mine["momentum"], "heavy_ball", dialect="keras", steps=30, diagnose=False)
    for stream in found.streams:
        curve = {name: np.asarray(values) for name, values in stream["curve"].items()}
        assert len(curve["steps"]) == 30
        assert stream["agrees"] is not bool((curve["relative"] > curve["tolerance"]).any())
    assert [s["stream"] for s in found.streams if not s["agrees"]] == ["schedule"]


@pytest.mark.parametrize(
    ("name", "outcome", "words"),
    [
        ("raises", "could not run", "ZeroDivisionError: float division by zero (raises at step 3 of stream 'scales')"),
        ("short", "could not run", "must return x of shape (12,) and dtype float64, got (11,)"),
        ("nothing", "could not run", "nothing must return (x, state), got NoneType"),
        ("nan", "differs", "candidate nan"),
    ],
)
def test_what_fails_is_reported(name: str, outcome: str, words: str, mine: dict[str, Any]) -> None:
    found = check(mine[name], "sgd", steps=5)
    assert found.outcome == outcome
    assert words in str(found)


@pytest.mark.parametrize("arrays", [True, False])
def test_a_count_from_0_is_named_though_it_divides_by_zero(arrays: bool) -> None:
    def adam(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        t, m, v = state or (0, 0 * x, 0 * x)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        if not arrays:
            lr = lr / (1 - 0.9**t)
        return x - lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), (t + 1, m, v)

    found = check(adam, "adam", dialect="torch", steps=20)
    if arrays:
        assert found.diagnosis is not None
        assert found.diagnosis["causes"] == ["t starting at 0"]
        assert "not finite" in found.notes[-1]
    else:
        assert found.outcome == "could not run"
        assert found.notes == ["does t start at 0? 1 - beta^t is 0 there"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"reference": "adm"}, "unknown method 'adm'"),
        ({"dialect": "tensorflow"}, "adam has no dialect 'tensorflow'"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"beta": 0.5}, "adam has no hyperparameter 'beta'"),
        ({"lr": "high"}, "lr must be a number, got 'high'"),
        ({"reference": None}, "a reference must be named, unless the candidate is a solver"),
    ],
)
def test_misuse_is_raised(asked: dict[str, Any], message: str, mine: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        check(mine["momentum"], **{"reference": "adam", **asked})


def test_assert_matches_says_where_and_why(mine: dict[str, Any]) -> None:
    assert_matches(mine["momentum"], "heavy_ball", dialect="torch")
    with pytest.raises(AssertionError) as raised:
        assert_matches(mine["rmsprop"], "rmsprop", dialect="torch", steps=50)
    said = str(raised.value)
    assert "not refopt's rmsprop, dialect 'torch'" in said
    assert "first divergence: stream 'scales', step 1" in said
    assert "refopt's with eps_placement='inside'" in said


def test_the_dialect_that_parts_last_comes_closest() -> None:
    """Wrong from step 8 on: after that the paths are their own, and the largest difference says little."""

    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        t, v = state or (0, 0 * x)
        v = 0.9 * v + g
        return x - lr * (v if t < 7 else 1e3 * v), (t + 1, v)

    found = check(update, "heavy_ball", steps=20, diagnose=False)
    assert found.first is not None
    assert found.first["step"] == 8

    def traced(step: int, relative: float) -> list[Trace]:
        found = Difference("scales", step, 0, 1.0, 2.0, relative, 1e-14)
        return [Trace("scales", np.asarray([step]), np.asarray([relative]), np.asarray([1e-14]), found, found)]

    assert _distance(traced(8, 1e3)) < _distance(traced(1, 1e-6)) < _distance(traced(1, 1e-3))


def test_a_whole_solver_is_no_method() -> None:
    def minimize(fun: Any, x0: Any, args: Any = ()) -> Any:
        return x0

    with pytest.raises(TypeError, match="minimize is a whole solver and no adam"):
        assert_matches(minimize, "adam")


def test_assert_matches_asks_where_the_method_asks() -> None:
    def newton(x: Any, f: Any, state: Any) -> tuple[Any, Any]:
        H = np.stack([f.hvp(x, e) for e in np.eye(len(x))])
        return x - np.linalg.solve(H, f.grad(x)), state

    assert_matches(newton, "newton", dialect="pure")
    with pytest.raises(AssertionError, match="not refopt's newton_cg"):
        assert_matches(newton, "newton_cg")


# --------------------------------------------------------------------------------------------- in a process of its own


def test_apart_finds_the_same(file: Path, mine: dict[str, Any]) -> None:
    here = check(mine["rmsprop"], "rmsprop", dialect="torch", steps=20, lr=0.01)
    apart = check_apart(f"{file}:rmsprop", "rmsprop", dialect="torch", steps=20, hyper="lr=0.01")
    assert apart.candidate == f"{file}:rmsprop"
    for field in ("outcome", "first", "largest", "diagnosis", "hyper", "notes"):
        assert getattr(apart, field) == (list(here.notes) if field == "notes" else getattr(here, field))


@pytest.mark.parametrize(
    ("name", "limit", "words"),
    [
        ("hangs", 2.0, "no answer within 2 s"),
        ("dies", 60.0, "its process ended with status 7"),
        ("absent", 60.0, "has no 'absent'"),
    ],
)
def test_a_candidate_cannot_take_the_check_down(name: str, limit: float, words: str, file: Path) -> None:
    found = check_apart(f"{file}:{name}", "sgd", steps=5, time_limit=limit)
    assert found.outcome == "could not run"
    assert words in found.error


def test_what_ends_a_diagnosis_is_said(file: Path) -> None:
    found = check_apart(f"{file}:dies_later", "sgd", dialect="torch", steps=5)
    assert found.outcome == "differs"
    assert found.notes == ["no diagnosis: its process ended with status 9"]


def test_a_module_is_looked_for_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "problems.py").write_text("raise RuntimeError('imported in place of our own')")
    (tmp_path / "candidate_here.py").write_text(CANDIDATES)
    monkeypatch.chdir(tmp_path)
    assert check_apart("candidate_here:momentum", "heavy_ball", steps=5).outcome == "agrees"


# --------------------------------------------------------------------------------------------------------- the report


def test_json_is_strict_and_has_the_documented_keys(mine: dict[str, Any]) -> None:
    found = check(mine["nan"], "sgd", steps=5)
    told = json.loads(report.as_json(found), parse_constant=pytest.fail)
    assert told["exit_status"] == 1
    assert told["first"]["candidate"] == "nan"
    docs = (Path(__file__).parents[2] / "docs" / "check.md").read_text()
    for key in [*told, *told["streams"][0], *told["streams"][0]["curve"], *told["first"]]:
        assert f"`{key}`" in docs, key


def test_the_page_is_escaped_and_opens_offline(mine: dict[str, Any], tmp_path: Path) -> None:
    found = check(mine["nan"], "sgd", steps=5, name="<script>alert(1)</script>")
    report.write_html(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    head, _, tail = page.partition('<script id="drawn" type="application/json">')
    assert {curve["name"] for curve in json.loads(tail.partition("</script>")[0])} == {
        stream["stream"] for stream in found.streams
    }
    assert 'src="http' not in head
    assert "candidate nan" in head


def test_the_page_of_what_could_not_run_has_no_curves(mine: dict[str, Any], tmp_path: Path) -> None:
    report.write_html(check(mine["short"], "sgd", steps=5), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "must return x of shape" in page
    assert "Plotly" not in page


# -------------------------------------------------------------------------------------------------------------- peers


@pytest.mark.peers
@pytest.mark.parametrize(
    ("candidate", "method", "dialect", "outcome"),
    [
        ("torch.optim:Adam", "adam", "torch", "agrees"),
        ("torch.optim:SGD:momentum=0.9,nesterov=True", "nesterov", "torch", "agrees"),
        ("torch.optim:RMSprop:eps=1e-6", "rmsprop", "torch", "differs"),
        ("optax:adamw", "adamw", "optax", "agrees"),
        ("optax:lion", "adam", "optax", "differs"),
        ("keras.optimizers:Adam", "adam", "keras", "agrees"),
    ],
)
def test_optimizers_of_libraries(candidate: str, method: str, dialect: str, outcome: str) -> None:
    if importlib.util.find_spec(candidate.partition(":")[0].partition(".")[0]) is None:
        pytest.skip("is not installed")
    found = check_apart(candidate, method, steps=60, time_limit=120)
    assert found.outcome == outcome, str(found)
    if outcome == "agrees":
        assert found.dialect == dialect
