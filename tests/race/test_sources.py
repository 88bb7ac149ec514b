from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refopt import Schedule, bind
from refopt.first_order import sgd
from refopt.objective import Objective
from refopt.race import sources
from refopt.race.engine import perform
from refopt.race.plan import Budget, Settings, make_plan

BOWL = Objective(value_and_grad=lambda x: (0.5 * (x @ x), x))


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("-2", -2), ("True", True), ("None", None), ("hat", "hat"), ("'hat'", "hat"), ("[1, 2]", [1, 2])],
)
def test_values(text: str, value: object) -> None:
    assert sources.read_value(text) == value


def test_options() -> None:
    text = "n=20,hidden=[32, 16],activation=relu,path=/data/my file.csv,l2=1e-3"
    options = {"n": 20, "hidden": [32, 16], "activation": "relu", "path": "/data/my file.csv", "l2": 1e-3}
    assert sources.read_options(text) == options
    for wrong in ("3", "n", "=3", "n=1,2x=3", ",n=1"):
        with pytest.raises(ValueError, match="options must be written NAME=VALUE,NAME=VALUE"):
            sources.read_options(wrong)


def test_a_schedule_is_read_and_its_formula_reads_back() -> None:
    lr = sources.read_value("warm_up(cosine(0.1, 100), 10)")
    assert isinstance(lr, Schedule)
    again = sources.read_value(lr.formula)
    assert [lr(k) for k in range(0, 120, 7)] == [again(k) for k in range(0, 120, 7)]
    assert sources.read_value("piecewise([1.0, 0.1], [10])")(10) == 0.1


@pytest.mark.parametrize("text", ["", "1 +", "open('x')", "lr()", "__import__('os')", "a.b", "cosine(0.1)", "x=1"])
def test_nothing_else_is_read_or_run(text: str) -> None:
    with pytest.raises(ValueError, match="is no number, word or schedule"):
        sources.read_value(text)


@pytest.mark.parametrize(
    ("text", "budget"),
    [("500", Budget(500, "ge")), ("500ge", Budget(500, "ge")), (" 30 s", Budget(30, "s")), ("1e2", Budget(100, "ge"))],
)
def test_budgets(text: str, budget: Budget) -> None:
    assert Budget.read(text) == budget


@pytest.mark.parametrize("text", ["", "ge", "-1", "0", "1.2.3", "nan", "inf", "5 min", "1e999"])
def test_no_budgets(text: str) -> None:
    with pytest.raises(ValueError, match="budget must be positive, such as"):
        Budget.read(text)


def test_an_update_function_is_a_method(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def update(x, g, state, *, lr=0.1):\n    return x - lr * g, (state or 0) + 1\n")
    mine = sources.find_method(f"{path}:update")
    x = np.asarray([1.0, -2.0])
    init, step = bind(mine, lr=0.2)
    x1, state = step(BOWL, x, init(x))
    assert np.array_equal(x1, x - 0.2 * x)
    assert (state.k, state.own) == (1, 1)
    assert set(mine.SPEC.search) == {"lr"}
    with pytest.raises(TypeError, match="has no hyperparameter 'rl'; did you mean 'lr'"):
        bind(mine, rl=1.0)


def test_a_module_is_a_method(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(Path(sgd.__file__).read_text())
    init, step = bind(sources.find_method(str(path)), lr=0.2)
    x = np.asarray([1.0, -2.0])
    assert np.array_equal(step(BOWL, x, init(x))[0], 0.8 * x)


def test_problems_of_the_users_own(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        "import problems\n"
        "x0 = [3.0]\n"
        "def f(x, xp): return xp.sum(x * x)\n"
        "def g(x, xp): return xp.sum(x * x)\n"
        "g.x0 = [1.0, 2.0]\n"
        "given = problems.get('rosenbrock')\n"
        "def made(like, *, seed=0): return problems.get('saddle', like=like, seed=seed)\n"
        "def wrong(like): return 3\n"
    )

    def find(name: str, seed: int = 0, dtype: str | None = None) -> np.ndarray:
        return sources.find_problem(f"{path}:{name}", seed=seed, backend="numpy", dtype=dtype).x0

    assert find("f").tolist() == [3.0]
    assert find("g").tolist() == [1.0, 2.0]
    assert find("g", dtype="float32").dtype == np.float32
    assert find("given").tolist() == [-1.2, 1.0]
    assert not np.array_equal(find("made"), find("made", seed=1))
    with pytest.raises(TypeError, match="must return a Problem, got int"):
        find("wrong")


def test_the_seed_moves_the_start_where_a_problem_has_one() -> None:
    def start(text: str, seed: int) -> list[float]:
        return sources.find_problem(text, seed=seed, backend="numpy", dtype=None).x0.tolist()

    assert start("saddle", 0) != start("saddle", 1)
    assert start("saddle:seed=4", 0) == start("saddle:seed=4", 1)
    assert start("rosenbrock:n=4", 0) == start("rosenbrock:n=4", 1)


def test_an_option_of_the_catalogue_may_name_a_file_of_python(tmp_path: Path) -> None:
    path = tmp_path / "notes.py"
    path.write_text("# a language model may read this\n" * 40)
    text = f"char_lm:context=8,path={path}"
    assert sources.find_problem(text, seed=0, backend="numpy", dtype=None).name == "char_lm"
    assert sources.digest(text) == ""


def test_two_methods_are_one_by_the_layout() -> None:
    both = sources.find_method("muon+adamw")
    assert both.SPEC.title == "Muon on matrices, AdamW on the rest"
    assert {"lr", "adamw_lr"} <= set(both.SPEC.search)
    with pytest.raises(ValueError, match="unknown method 'adamv'; did you mean 'adam"):
        sources.find_method("muon+adamv")
    plan = make_plan(
        Settings(problems=("mlp_digits:hidden=[4]", "saddle"), methods=("muon", "muon+adamw", "sgd"), seeds=1)
    )
    assert [(entry.problem.partition(":")[0], entry.method) for entry in plan.entries] == [
        ("mlp_digits", "muon+adamw"),
        ("mlp_digits", "sgd"),
        ("saddle", "muon"),
        ("saddle", "sgd"),
    ]
    assert [method for _, method, _ in plan.absent] == ["muon", "muon+adamw"]
    run = next(iter(plan.entries)).run({"lr": "cosine(0.02, 4)", "adamw_lr": 1e-3}, 0)
    assert perform(replace(run, budget=Budget(2.0, "ge"))).status == "BUDGET_SPENT"
