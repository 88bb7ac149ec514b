"""Martens' sparse initialisation of the autoencoders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import problems
from backends.arrays import asnumpy


@pytest.mark.parametrize("incoming", [1, 15])
def test_so_many_weights_come_into_each_unit(incoming: int, backend: Any) -> None:
    problem = problems.get("autoencoder_digits", hidden=(20, 4), incoming=incoming, like=backend.array([]))
    for name, part in problem.layout.split(problem.x0).items():
        W = asnumpy(part)
        if W.ndim == 1:
            np.testing.assert_array_equal(W, 0.0)
        else:
            np.testing.assert_array_equal(np.sum(W != 0.0, axis=0), min(incoming, W.shape[0]), err_msg=name)


def test_the_weights_are_standard_normal_and_their_places_uniform() -> None:
    problem = problems.get("autoencoder_digits", hidden=(2000, 4), incoming=15)
    W = problem.layout.split(problem.x0)["dense1.W"]
    drawn = W[W != 0.0]
    assert abs(drawn.mean()) < 4 / np.sqrt(drawn.size)
    assert drawn.var() == pytest.approx(1.0, abs=4 * np.sqrt(2 / drawn.size))
    share = 15 / 64
    counts = np.sum(W != 0.0, axis=1) / 2000
    assert np.all(np.abs(counts - share) < 5 * np.sqrt(share * (1 - share) / 2000))


def test_all_weights_are_drawn_by_default_and_none_is_refused() -> None:
    problem = problems.get("autoencoder_digits", hidden=(20, 4))
    assert np.all(problem.layout.split(problem.x0)["dense1.W"] != 0.0)
    with pytest.raises(ValueError, match="incoming must be at least 1, got 0"):
        problems.get("autoencoder_digits", incoming=0)
