"""Draws depend on (seed, k, purpose) alone, for every seed in range, and the parts of a batch draw what it draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends import random

HOST = np.empty(0)
LOW, HIGH = "hutchinson", "xtrace"  # purposes whose tags have the top bit clear, and set


@pytest.mark.parametrize("purpose", [LOW, HIGH])
def test_no_two_seeds_draw_the_same(purpose: str) -> None:
    seeds = [0, 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1]
    drawn = {float(random.uniform(1, seed=seed, k=0, purpose=purpose, like=HOST)[0]) for seed in seeds}
    assert len(drawn) == len(seeds)


def test_numbers_on_record() -> None:
    drawn = [random.uniform(1, seed=7, k=3, purpose=purpose, like=HOST)[0] for purpose in (LOW, HIGH)]
    assert drawn == [0.37587752602778657, 0.6608102275804904]


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=rf"seed must be in \[0, 2\*\*64\), got {seed}"):
        random.normal(1, seed=seed, k=0, purpose=HIGH, like=HOST)


@pytest.mark.parametrize("draw", [random.uniform, random.normal, random.rademacher])
@pytest.mark.parametrize("rows", [slice(1, None, 3), np.array([6, 0, 2])])
def test_parts_of_a_batch(draw: Any, rows: random.Rows) -> None:
    for others in ((), (2,)):
        whole = draw((8, *others), seed=1, k=2, purpose=HIGH, like=HOST)
        with random.among(8, rows):
            part = draw(whole[rows].shape, seed=1, k=2, purpose=HIGH, like=HOST)
            with pytest.raises(ValueError, match="a row for each of 3 examples"):
                draw((8, *others), seed=1, k=2, purpose=HIGH, like=HOST)
        np.testing.assert_array_equal(part, whole[rows])
