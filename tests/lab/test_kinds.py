from __future__ import annotations

import math

from refopt.lab.kinds import best, duel_of_kinds, number

ROWS = [
    {"cell": cell, "method": method, "seed": seed, "cost": cost}
    for cell, costs in (
        ("a", {"sgd": (5.0, 6.0), "adam": (4.0, 9.0), "newton": (1.0, 2.0), "lbfgs": (math.nan, 1.0)}),
        ("b", {"sgd": (1.0, 1.0), "newton": (2.0, 1.0)}),
    )
    for method, found in costs.items()
    for seed, cost in enumerate(found)
]


def test_the_best_of_a_kind_has_the_least_median() -> None:
    here = [row for row in ROWS if row["cell"] == "a"]
    assert best(here, "cost", True) == (1.5, "newton")  # lbfgs' nan counts as inf
    assert best(here, "cost", False) == (5.5, "sgd")
    assert best([], "cost", True) == (math.inf, "nobody")


def test_who_is_best_on_the_other_seeds_meet_seed_by_seed() -> None:
    # In a, lbfgs is best on seed 1, and lost on seed 0, where it meets sgd; newton, best on seed 0, beats adam on 1.
    # In b, newton loses to sgd once and draws once.
    assert duel_of_kinds(ROWS, ("cell",), "cost") == (1, 2)


def test_of_one_seed_the_best_on_it_meet() -> None:
    first = [row for row in ROWS if row["seed"] == 0]
    assert duel_of_kinds(first, ("cell",), "cost") == (1, 1)  # newton before adam in a, behind sgd in b


def test_a_kind_that_took_no_part_loses() -> None:
    assert duel_of_kinds(
        [row for row in ROWS if row["method"] != "newton" and row["cell"] == "b"], ("cell",), "cost"
    ) == (
        0,
        2,
    )


def test_what_is_missing_or_nan_is_beyond_all_numbers() -> None:
    assert number({}, "x") == number({"x": math.nan}, "x") == math.inf
    assert number({"x": 1}, "x") == 1.0
