"""The sum over shards is the sum in one piece, on threads and on the workers of a cluster."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import problems
from refopt import minimize
from refopt.checkpoint import Checkpoint
from refopt.curvature import kronecker
from refopt.first_order import adam, sgd
from refopt.newton import newton_cg
from refopt.objective import MissingPart, Objective
from refopt.race import sources
from refopt.sharded import TOTALS, Shard, sharded
from refopt.structured import ekfac, kfac
from refopt.variance_reduction import saga
from tests.conftest import Backend


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@contextmanager
def cluster() -> Iterator[Any]:
    """Yield the client of two worker processes."""
    distributed = pytest.importorskip("distributed")
    quiet = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
    with distributed.LocalCluster(n_workers=2, **quiet) as made, distributed.Client(made) as client:
        yield client


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with cluster() as made:
        yield made


def close(found: Any, known: Any) -> None:
    """Equal to rounding, relative to the largest entry."""
    np.testing.assert_allclose(found, known, rtol=0, atol=1e-13 * max(1.0, float(np.max(np.abs(known)))))


def answers(objective: Objective, x: Any, v: Any) -> Iterator[tuple[str, Any]]:
    """Yield all that the parts return at x, but for examples."""
    for name in TOTALS:
        found = getattr(objective, name)(*((x, v) if name == "hvp" else (x,)))
        yield from ((name, one) for one in (found if isinstance(found, tuple) else (found,)))
    value, g, mv = objective.linearize(x)
    yield from (("value", value), ("grad", g), ("product", mv(v)), ("block", mv(np.stack([v, -x], axis=1))))
    yield from (("ggn", objective.ggn(x)(v)), ("fisher", objective.fisher(x)(v)))


def rows(objective: Objective, x: Any) -> Iterator[Any]:
    """Yield all that has a row an example."""
    yield objective.per_example_grads(x)
    for layer in objective.layers(x).values():
        yield from (layer.inputs, layer.output_grads)


BATCH = np.asarray([5, 900, 7, 1400, 5, 901])  # of 1437, out of order, one twice; the shards of three have 1, 2 and 3


@pytest.mark.parametrize("batch", [None, BATCH, BATCH[:1]], ids=["all", "batch", "one"])
def test_every_part_is_that_of_one_piece(batch: Any, threads: ThreadPoolExecutor) -> None:
    problem = problems.get("mlp_digits")
    x, v = problem.x0, np.cos(np.arange(problem.n))
    whole, one, three = (
        objective if batch is None else objective.minibatch(batch)
        for objective in (problem.objective, *(sharded(problem.objective, threads, shards=s) for s in (1, 3)))
    )
    assert one.parts == three.parts == whole.parts
    assert one.prices == whole.prices
    for (_, known), (_, same), (_, found) in zip(
        answers(whole, x, v), answers(one, x, v), answers(three, x, v), strict=True
    ):
        close(same, known)
        close(found, known)
    if batch is not None:
        for known, found in zip(rows(whole, x), rows(three, x), strict=True):
            close(found, known)


def test_rows_come_back_in_order(threads: ThreadPoolExecutor) -> None:
    fit = problems.get("least_squares")
    apart = sharded(fit.objective, threads, shards=3)
    close(apart.per_example_grads(fit.x0), fit.objective.per_example_grads(fit.x0))


def bowls(c: Any) -> Objective:
    """Return the mean of c_i x^2 / 2, summed over x: without a BLAS, whose last bit may hang on where an array lies."""
    mean = sum(c) / len(c)
    return Objective(
        value_and_grad=lambda x: (0.5 * mean * float(sum(x * x)), mean * x),
        linearize=lambda x: (0.5 * mean * float(sum(x * x)), mean * x, lambda v: mean * v),
        n_examples=len(c),
        restrict=lambda indices: bowls(c[indices]),
    )


def test_what_an_objective_returns_is_left_alone(threads: ThreadPoolExecutor) -> None:
    c = np.ones(1 << 15)  # above 128 KiB, where the sum is written over

    def slope(m: int) -> Objective:
        return Objective(
            value_and_grad=lambda x: (c @ x, c), n_examples=m, restrict=lambda indices: slope(len(indices))
        )

    apart = sharded(slope(4), threads, shards=2)
    for _ in range(2):
        np.testing.assert_array_equal(apart.grad(c), c)


def test_the_same_bits_for_the_same_number_of_shards(client: Any, threads: ThreadPoolExecutor) -> None:
    c, x = 10.0 ** np.linspace(-8, 8, 90) / 3, np.sin(np.arange(1.0, 60.0))
    gradients = [bowls(part).grad(x) for part in (c[0::3], c[1::3], c[2::3])]
    first, second, third = (1 / 3 * g for g in gradients)
    assert not np.array_equal((first + second) + third, first + (second + third))
    np.testing.assert_array_equal(sharded(bowls(c), threads, shards=1).grad(x), bowls(c).grad(x))
    for executor in (client, threads):
        apart = sharded(bowls(c), executor, shards=3)
        np.testing.assert_array_equal(apart.grad(x), (first + second) + third)
        np.testing.assert_array_equal(apart.linearize(x)[2](x), (first + second) + third)
        result = minimize(apart, sgd, x0=x, steps=3, batch_size=50, lr=1e-8)
        known = minimize(sharded(bowls(c), threads, shards=3), sgd, x0=x, steps=3, batch_size=50, lr=1e-8)
        np.testing.assert_array_equal(result.x, known.x)


def test_on_the_workers_of_a_cluster(client: Any, threads: ThreadPoolExecutor) -> None:
    problem = problems.get("softmax_digits")
    x, v = problem.x0 + 0.1, np.cos(np.arange(problem.n))
    built, sent = (sharded(one, client, shards=3) for one in ("softmax_digits", problem.objective))
    for (_, known), (_, one), (_, other) in zip(
        *(answers(objective.minibatch(BATCH), x, v) for objective in (problem.objective, built, sent)), strict=True
    ):
        close(one, known)
        close(other, known)
    for known, found in zip(*(rows(one.minibatch(BATCH), x) for one in (problem.objective, built)), strict=True):
        close(found, known)


@pytest.mark.parametrize(
    "method", [sgd, kfac, ekfac, saga, newton_cg], ids=lambda method: method.__name__.split(".")[-1]
)
def test_methods_run_unchanged(method: Any, threads: ThreadPoolExecutor) -> None:
    problem = problems.get("softmax_digits")
    apart = sharded(problem.objective, threads, shards=3)
    batch = 32 if method in (sgd, saga) else None
    hyper: dict[str, Any] = {} if method in (kfac, newton_cg) else {"lr": 1e-2}
    ours, known = (
        minimize(one, method, x0=problem.x0, steps=3, batch_size=batch, **hyper) for one in (apart, problem.objective)
    )
    np.testing.assert_allclose(ours.x, known.x, rtol=0, atol=1e-9 * np.max(np.abs(known.x)))
    assert ours.ledger.counts == known.ledger.counts


def test_on_every_backend(backend: Backend, threads: ThreadPoolExecutor) -> None:
    fit = problems.get("least_squares", like=backend.array([0.0]))
    x = backend.array(np.sin(np.arange(fit.n)))
    apart = sharded(fit.objective, threads, shards=4)
    close(backend.numpy(apart.grad(x)), backend.numpy(fit.objective.grad(x)))
    batch = np.asarray([150, 3])
    close(
        backend.numpy(apart.minibatch(batch).per_example_grads(x)),
        backend.numpy(fit.objective.minibatch(batch).per_example_grads(x)),
    )


@pytest.mark.parametrize("library", ["array_api_strict", pytest.param("cupy", marks=pytest.mark.gpu)])
def test_a_shard_on_another_library_takes_and_gives_host_vectors(library: str) -> None:
    if library == "cupy":
        pytest.importorskip("cupy")
    other = problems.get("mlp_digits", backend=library)
    host = problems.get("mlp_digits")
    shard, known = Shard(other.objective, like=other.x0[:0]), Shard(host.objective)
    for found, one in (
        (shard.part(None, "value_and_grad", host.x0), known.part(None, "value_and_grad", host.x0)),
        (shard.hold(None, "linearize", 0, set(), host.x0), known.hold(None, "linearize", 0, set(), host.x0)),
    ):
        assert type(found[1]) is np.ndarray
        close(found[1], one[1])
    close(shard.product(0, host.x0), known.product(0, host.x0))
    for one in (shard, known):
        names = one.hold(BATCH, "layers", 1, {0, 1}, host.x0)
    assert all(type(shard.layer(1, name).inputs) is np.ndarray for name in names)
    sums = partial(kronecker.sums, n=host.n)
    found, expected = (one.total(1, sums) for one in (shard, known))
    assert found.batch == len(BATCH)
    assert type(found.A[names[0]]) is np.ndarray
    close(found.G[names[0]], expected.G[names[0]])


@pytest.mark.parametrize("batch", [None, BATCH], ids=["all", "batch"])
@pytest.mark.parametrize("problem", ["softmax_digits", "mlp_digits:hidden=(4,)", "autoencoder_curves:hidden=(4,)"])
def test_shards_draw_what_one_piece_draws(problem: str, batch: Any, threads: ThreadPoolExecutor) -> None:
    fit = sources.find_problem(problem, seed=0, backend="numpy", dtype=None)
    v = np.cos(np.arange(fit.n))
    whole, apart = (
        one if batch is None else one.minibatch(batch)
        for one in (fit.objective, sharded(fit.objective, threads, shards=3))
    )
    for known, found in zip(*(one.layers(fit.x0, seed=3, k=1).values() for one in (whole, apart)), strict=True):
        close(found.output_grads, known.output_grads)
    close(apart.fisher(fit.x0, seed=3, k=1)(v), whole.fisher(fit.x0, seed=3, k=1)(v))


@pytest.mark.parametrize("batch", [None, BATCH], ids=["all", "batch"])
@pytest.mark.parametrize("drawn", [{}, {"seed": 3, "k": 1}], ids=["data", "drawn"])
def test_factors_are_sums_over_shards(batch: Any, drawn: dict[str, int], client: Any) -> None:
    problem = problems.get("mlp_digits", hidden=(8, 6))
    apart = sharded(problem.objective, client, shards=3)
    here, there = (one if batch is None else one.minibatch(batch) for one in (problem.objective, apart))
    layers = there.layers(problem.x0, **drawn)
    sums = partial(kronecker.sums, n=problem.n, neighbours=True)
    found, known = kronecker.total(sums, layers), sums(here.layers(problem.x0, **drawn))
    assert (found.N, found.batch) == (known.N, known.batch)
    for M, N in zip(found[:4], known[:4], strict=True):
        assert list(M) == list(N)
        for name in N:
            close(M[name], N[name])
    with pytest.raises(KeyError):
        layers["dense9"]


@pytest.mark.parametrize(
    ("method", "hyper"),
    [(kfac, {}), (kfac, {"structure": "block_tridiagonal", "tau1": 0.5}), (ekfac, {"interval": 2})],
    ids=["kfac", "tridiagonal", "ekfac"],
)
def test_no_rows_travel_for_the_factors(
    method: Any, hyper: dict[str, Any], threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Shard, "layer")
    problem = problems.get("mlp_digits", hidden=(8,))
    apart = sharded(problem.objective, threads, shards=3)
    ours, known = (minimize(one, method, x0=problem.x0, steps=5, **hyper) for one in (apart, problem.objective))
    np.testing.assert_allclose(ours.x, known.x, rtol=0, atol=1e-9 * np.max(np.abs(known.x)))
    assert ours.ledger.flops == known.ledger.flops


def test_products_are_kept_as_long_as_they_are_asked_for(threads: ThreadPoolExecutor) -> None:
    fit = problems.get("least_squares")
    apart = sharded(fit.objective, threads, shards=2)
    shards = [call.args[1] for call in apart._restrict.__self__.calls]  # type: ignore[union-attr]
    x, v = fit.x0, np.ones(fit.n)
    first = apart.linearize(x)[2]
    second = apart.linearize(x + 1.0)[2]
    close(first(v), second(v))  # a quadratic
    assert {len(shard.held) for shard in shards} == {2}
    del first
    gc.collect()
    third = apart.ggn(x)
    assert {len(shard.held) for shard in shards} == {2}, "second and third"
    close(second(v), third(v))


def test_misuse(threads: ThreadPoolExecutor) -> None:
    fit = problems.get("least_squares")
    with pytest.raises(ValueError, match="shards must be at least 1, got 0"):
        sharded(fit.objective, threads, shards=0)
    with pytest.raises(ValueError, match="shards must be at most the 200 examples, got 201"):
        sharded("least_squares", threads, shards=201)
    with pytest.raises(MissingPart, match="no finite sum, so it has no shards"):
        sharded("rosenbrock", threads, shards=2)
    plain = Objective(value=lambda x: x @ x, n_examples=4, restrict=lambda indices: Objective(value=lambda x: x @ x))
    with pytest.raises(MissingPart, match="must be a finite sum too"):
        sharded(plain, threads, shards=2)


def at_step(k: int, act: Callable[[], object]) -> Callable[[Any], None]:
    """Return the callback that acts once, at step k."""
    return lambda step: act() if step.k == k else None  # type: ignore[return-value]


def test_a_run_goes_on_where_a_worker_was_lost(client: Any, threads: ThreadPoolExecutor, tmp_path: Path) -> None:
    c, x0 = 10.0 ** np.linspace(-2, 2, 90) / 3, np.sin(np.arange(1.0, 60.0))
    run: dict[str, Any] = {"x0": x0, "steps": 12, "batch_size": 50, "lr": 1e-2}
    undisturbed = minimize(sharded(bowls(c), threads, shards=2), adam, **run)
    run["checkpoint"] = Checkpoint(tmp_path / "run.npz", every=2)
    with cluster() as mine:
        pid = mine.run(os.getpid).popitem()[1]
        kill = at_step(7, lambda: os.kill(pid, signal.SIGKILL))
        with pytest.raises((RuntimeError, OSError)):
            minimize(sharded(bowls(c), mine, shards=2), adam, **run, callback=kill)
    seen: list[int] = []
    again = {**run, "callback": lambda step: seen.append(step.k)}
    result = minimize(sharded(bowls(c), client, shards=2), adam, **again)
    assert seen[0] >= 6
    np.testing.assert_array_equal(result.x, undisturbed.x)


def test_a_slow_worker_is_waited_for(client: Any, threads: ThreadPoolExecutor) -> None:
    c, x0 = np.linspace(0.1, 1.0, 90), np.sin(np.arange(1.0, 60.0))
    pid = client.run(os.getpid).popitem()[1]

    def stall() -> None:
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(1.0, os.kill, (pid, signal.SIGCONT)).start()

    result = minimize(sharded(bowls(c), client, shards=2), sgd, x0=x0, steps=6, lr=0.1, callback=at_step(3, stall))
    known = minimize(sharded(bowls(c), threads, shards=2), sgd, x0=x0, steps=6, lr=0.1)
    np.testing.assert_array_equal(result.x, known.x)
