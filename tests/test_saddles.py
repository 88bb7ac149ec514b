"""docs/saddles.md: complete, true, and what it says about each family holds at every saddle of the catalogue."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import problems
from problems.problem import Problem
from refopt import method
from refopt.curvature.products import dense
from refopt.saddles import LETTERS, known_saddles, survey

PAGE = Path(__file__).parent.parent / "docs" / "saddles.md"
LEAVE = (
    "cubic",
    "cubic_lanczos",
    "newton_cg",
    "newton_mr_npc",
    "saddle_free_krylov",
    "trust_region",
    "trust_region_exact",
    "trust_region_lanczos",
)
SOME = ("beale", "monkey_saddle", "saddle", "three_hump_camel")
COMPACT = (*LEAVE, "adam", "lbfgs", "newton_mr", "nonlinear_cg", "sgd")


def table() -> dict[str, dict[str, str]]:
    """Return problem -> method -> letters, as the page has them."""
    surveys: dict[str, dict[str, str]] = {}
    heads: list[str] = []
    for cells in _rows(PAGE.read_text()):
        if cells[:2] == ["method", "left"]:
            heads = cells[2:]
        elif heads and len(cells) == 2 + len(heads) and not cells[0].startswith("---"):
            for problem, letters in zip(heads, cells[2:], strict=True):
                surveys.setdefault(problem, {})[cells[0]] = letters.strip("`")
    return surveys


def _rows(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


@functools.cache
def tabled() -> list[Problem]:
    return [problems.get(name) for name in table()]


def test_every_method_and_every_saddle_is_in_the_table() -> None:
    surveys, text = table(), PAGE.read_text()
    for problem in tabled():
        for letters in surveys[problem.name].values():
            assert len(letters) == len(known_saddles(problem))
            assert set(letters) <= {*LETTERS.values(), "!", "-"}
    missing = [name for name in method.names() if not re.search(rf"\b{name}\b", text)]
    assert not missing, f"run python benchmarks/saddles.py: {missing} are not in docs/saddles.md"


@pytest.mark.parametrize("name", LEAVE)
def test_second_order_leaves_every_strict_saddle_whose_fall_is_not_lost_beside_the_rise(name: str) -> None:
    surveys = table()
    for problem in tabled():
        for point, letter in zip(known_saddles(problem), surveys[problem.name][name], strict=True):
            theta = np.linalg.eigvalsh(dense(problem.objective.linearize(point.x)[2], point.x))
            if not point.degenerate and theta[0] < -1e-5 * theta[-1]:
                assert letter in "Lw", (problem.name, surveys[problem.name][name])


def test_newton_mr_converges_to_nearly_all_and_nobody_else_to_any() -> None:
    surveys = table()
    caught = "".join(letters["newton_mr"] for letters in surveys.values())
    assert caught.count("c") > 0.8 * len(caught)
    for problem in tabled():
        strict = [not point.degenerate for point in known_saddles(problem)]
        for name, letters in surveys[problem.name].items():
            held = [letter for letter, is_strict in zip(letters, strict, strict=True) if is_strict and letter == "c"]
            assert name == "newton_mr" or not held, (problem.name, name)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of trial points far off
@pytest.mark.parametrize("name", SOME)
def test_the_table_is_what_a_race_gives(name: str) -> None:
    written = table()[name]
    assert survey(problems.get(name), COMPACT) == {method: written[method] for method in COMPACT}


@pytest.mark.slow
def test_every_problem_that_knows_a_saddle_is_in_the_table() -> None:
    named = (name for name in problems.names() if problems.options(name).get("path") != "")
    assert [name for name in named if known_saddles(problems.get(name))] == list(table())


@pytest.mark.slow
def test_the_whole_table_is_what_races_give() -> None:
    """All but one in a hundred: a step to the other side of a ridge may hang on rounding."""
    surveys, cells, others = table(), 0, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for problem in tabled():
            found = survey(problem, list(surveys[problem.name]))
            for who, letters in found.items():
                pairs = list(zip(letters, surveys[problem.name][who], strict=True))
                cells += len(pairs)
                others += [(problem.name, who) for now, then in pairs if now != then]
    assert len(others) <= cells / 100, others
