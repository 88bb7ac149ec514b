"""The page of what stands behind each method is made by running tests and seeing which methods step."""

from __future__ import annotations

from pathlib import Path

import pytest

from refopt.conformance import correctness
from refopt.conformance.correctness import Check

TESTS = """
import numpy as np
import pytest
from refopt import minimize
from refopt.first_order import adam, sgd
import problems

@pytest.mark.parametrize("method", [adam, sgd])
def test_the_rule_by_hand(method):
    minimize(problems.get("matyas"), method, steps=1)

def test_that_fails():
    adam.step(problems.get("matyas").objective, np.ones(2), adam.init(np.ones(2)))
    assert False

def test_of_no_method():
    pass
"""


@pytest.fixture(scope="module")
def checks(tmp_path_factory: pytest.TempPathFactory) -> list[Check]:
    root: Path = tmp_path_factory.mktemp("tree")
    folder = root / "tests" / "first_order"
    folder.mkdir(parents=True)
    (folder / "test_some.py").write_text(TESTS)
    (root / "tests" / "elsewhere").mkdir()
    (root / "tests" / "elsewhere" / "test_other.py").write_text(TESTS)
    return correctness.run(("tests",), root)


def test_a_test_belongs_to_the_methods_that_it_steps(checks: list[Check]) -> None:
    path = "tests/first_order/test_some.py"
    assert checks == [
        Check("adam", path, "test_that_fails", 0, 1),
        Check("adam", path, "test_the_rule_by_hand", 1, 0),
        Check("sgd", path, "test_the_rule_by_hand", 1, 0),
    ]


@pytest.mark.parametrize(
    ("path", "name", "kind"),
    [
        ("tests/conformance/test_dialects.py", "test_dialects_reproduce_the_recorded_library", "dialects"),
        ("tests/test_contract.py", "test_nan_everywhere_is_a_status", "contract"),
        ("tests/first_order/test_by_hand.py", "test_misuse_names_the_argument", "misuse and trouble"),
        ("tests/first_order/test_by_hand.py", "test_a_rule_agrees_with_the_rule_by_hand", "second implementation"),
        ("tests/structured/test_kfac.py", "test_factors_have_the_papers_decay", "paper"),
        ("tests/first_order/test_adam.py", "test_the_scale_of_f_does_not_matter", "invariance"),
        ("tests/first_order/test_adam.py", "test_the_first_step_is_lr", "facts"),
        ("tests/conformance/test_mutants.py", "test_a_right_rule_by_hand_raises_no_alarm", "second implementation"),
        (
            "tests/quasi_newton/test_online_lbfgs.py",
            "test_the_path_is_that_of_the_papers_update",
            "second implementation",
        ),
        ("tests/quasi_newton/test_lbfgs.py", "test_no_more_evaluations_than_scipy", "facts"),
        ("tests/quasi_newton/test_lbfgs.py", "test_a_quadratic_is_solved_and_every_step_descends", "facts"),
        ("tests/structured/test_kfac.py", "test_one_linear_layer_is_solved_in_one_step", "facts"),
        ("tests/first_order/test_momentum.py", "test_heavy_ball_is_stable_up_to_its_limit", "facts"),
        ("tests/first_order/test_invariances.py", "test_turned_coordinates_turn_the_path", "invariance"),
    ],
)
def test_place_and_name_say_the_kind(path: str, name: str, kind: str) -> None:
    assert Check("adam", path, name, 1, 0).kind == kind


def test_the_page_counts_cases_and_shows_failures(checks: list[Check]) -> None:
    page = correctness.page(checks)
    assert "2 cases passed, 1 failed" in page
    path = "tests/first_order/test_some.py"
    assert f"- facts: [`{path}::test_that_fails`](../{path}#test_that_fails), **1 failed**" in page
    assert "- dialects: `torch.optim.Adam(lr), 2." in page
    assert [line for line in page.splitlines() if line.startswith("## ")] == ["## adam", "## sgd"]


def test_a_rule_written_down_twice_counts_where_check_holds_them_together() -> None:
    """By its place it is in no folder of a method; the rest of that file is about wrong optimizers."""
    *_, matrices = correctness.BY_HAND
    (check,) = correctness.run((f"{matrices}[muon]",))
    assert check == Check("muon", *matrices.split("::"), 1, 0)
    assert check.kind == "second implementation"
    assert f"- second implementation: [`{matrices}`]" in correctness.page([check])


def test_without_a_source_tree_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="source tree"):
        correctness.run(root=tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "test_broken.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(RuntimeError, match="pytest could not run"):
        correctness.run(("broken",), tmp_path)
