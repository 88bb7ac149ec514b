from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from refopt.lab.statistics import bootstrap, data_profile, duel, performance_profile

COST = st.one_of(st.floats(0.1, 1e6), st.just(math.inf))
TABLE = st.integers(1, 6).flatmap(
    lambda problems: st.lists(st.lists(COST, min_size=problems, max_size=problems), min_size=1, max_size=5)
)


@given(TABLE)
def test_a_performance_profile_is_a_distribution(rows: list[list[float]]) -> None:
    costs = {f"m{i}": row for i, row in enumerate(rows)}
    taus = [1.0, 1.5, 2.0, 10.0, 1e9]
    found = performance_profile(costs, taus)
    wins = 0.0
    for name, row in costs.items():
        assert found[name] == sorted(found[name])
        assert found[name][-1] == np.mean(np.isfinite(row))  # no two finite costs are 1e9 apart
        wins += found[name][0]
    solved = np.mean(np.isfinite(np.asarray(rows)).any(axis=0))
    assert wins >= solved - 1e-12  # every solved problem has a winner, and ties have several


@given(TABLE, st.sampled_from([0.25, 0.5, 2.0, 8.0]))  # powers of two: no rounding
def test_a_performance_profile_does_not_see_a_problems_unit(rows: list[list[float]], unit: float) -> None:
    costs = {f"m{i}": row for i, row in enumerate(rows)}
    scaled = {m: [unit ** (p - 2) * c for p, c in enumerate(row)] for m, row in costs.items()}
    taus = [1.0, 2.0, 1e9]
    assert performance_profile(scaled, taus) == performance_profile(costs, taus)


def test_a_data_profile_counts_in_units_of_n_plus_one() -> None:
    found = data_profile({"a": [30, math.inf], "b": [3, 110]}, [9, 99], [0.3, 1.1, 3.0, math.inf])
    assert found == {"a": [0.0, 0.0, 0.5, 0.5], "b": [0.5, 1.0, 1.0, 1.0]}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_the_duel_is_the_binomial_test(pairs: list[tuple[int, int]]) -> None:
    first, second = zip(*pairs, strict=True)
    smaller, larger = sum(a < b for a, b in pairs), sum(a > b for a, b in pairs)
    if smaller + larger:
        known = scipy.stats.binomtest(smaller, smaller + larger).pvalue
        assert duel(first, second).p == pytest.approx(known)
    else:
        assert duel(first, second).p == 1.0


def test_a_bootstrap_interval_covers_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = [
        low <= 0.0 <= high
        for _, low, high in (
            bootstrap(rng.standard_normal(40), lambda x: np.mean(x, axis=-1), level=0.9, draws=300) for _ in range(300)
        )
    ]
    assert 0.83 <= np.mean(covered) <= 0.95


def test_one_observation_says_nothing_of_the_spread() -> None:
    assert bootstrap([3.0]) == (3.0, -math.inf, math.inf)


def test_a_bootstrap_with_infinite_costs_stays_one() -> None:
    estimate, low, high = bootstrap([1.0, 2.0, math.inf])
    assert (estimate, low, high) == (2.0, 1.0, math.inf)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: performance_profile({"a": [1.0], "b": [1.0, 2.0]}, [1.0]), "one cost a problem"),
        (lambda: performance_profile({"a": [0.0]}, [1.0]), "positive"),
        (lambda: bootstrap([]), "sample"),
        (lambda: bootstrap([1.0, 2.0], level=1.0), "level"),
        (lambda: duel([1.0], []), "equal length"),
    ],
)
def test_misuse_is_named(call: object, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        call()  # type: ignore[operator]
