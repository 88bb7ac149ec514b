"""The sum over shards is the sum in one piece."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import problems
from refopt import minimize
from refopt import method as methods
from refopt.objective import MissingPart, Objective
from refopt.sharded import ROWS, TOTALS, Shard, _cut, _Product, _Shards, sharded

NETWORK = "mlp_digits"


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def directions(n: int, count: int) -> Any:
    return np.random.default_rng(0).standard_normal((count, n))


def close(found: Any, known: Any) -> None:
    """Equal to rounding, relative to the largest entry."""
    np.testing.assert_allclose(found, known, rtol=0, atol=1e-13 * max(1.0, float(np.max(np.abs(known)))))


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("batch", [None, [5, 900, 7, 1400, 5, 901]])
def test_every_part_is_that_of_one_piece(shards: int, batch: list[int] | None, threads: ThreadPoolExecutor) -> None:
    problem = problems.get(NETWORK)
    whole = problem.objective
    parts = sharded(whole, threads, shards=shards)
    assert set(parts.parts) == set(whole.parts) - {"residuals"}
    if batch is not None:
        whole, parts = whole.minibatch(np.asarray(batch)), parts.minibatch(np.asarray(batch))
    x, v = problem.x0, directions(problem.n, 1)[0]
    assert_equal = np.testing.assert_array_equal if shards == 1 else close
    for name in TOTALS:
        arguments = (x, v) if name == "hvp" else (x,)
        for found, known in zip(
            np.atleast_1d(getattr(parts, name)(*arguments)) if name != "value_and_grad" else parts.value_and_grad(x),
            np.atleast_1d(getattr(whole, name)(*arguments)) if name != "value_and_grad" else whole.value_and_grad(x),
            strict=True,
        ):
            assert_equal(found, known)
    value, g, mv = parts.linearize(x)
    assert_equal(value, whole.value(x))
    assert_equal(g, whole.grad(x))
    assert_equal(mv(v), whole.linearize(x)[2](v))
    block = directions(problem.n, 3).T
    assert_equal(mv(block), whole.linearize(x)[2](block))
    assert_equal(parts.ggn(x)(v), whole.ggn(x)(v))
    assert_equal(parts.fisher(x)(v), whole.fisher(x)(v))
    rows = slice(None) if batch is not None else slice(0, 40)
    close(parts.per_example_grads(x)[rows], whole.per_example_grads(x)[rows])
    for name, layer in whole.layers(x).items():
        close(parts.layers(x)[name].inputs, layer.inputs)
        close(parts.layers(x)[name].output_grads, layer.output_grads)
