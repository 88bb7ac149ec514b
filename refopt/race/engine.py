"""One run, and many of them on an engine: a pool of processes, or a cluster (`refopt.race.dask_engine`).

A run depends on nothing but its own description, so outcomes are the same whatever the engine and the number of its
workers. Each worker computes on one thread: a pool of threads inside a pool of processes would only get in its own way.

An engine only performs. The journal is written here, by one process, at most once a run: a run that was performed
twice, because its first worker was lost or slow, leaves one row.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import lru_cache
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from backends.arrays import Array, all_finite, asnumpy, namespace, norm
from backends.elementwise.blocks import available_threads
from problems.problem import Problem
from refopt.loop import Step, minimize
from refopt.method import Method
from refopt.race import sources
from refopt.race.plan import Run
from refopt.race.results import Journal, Outcome
from refopt.status import Status, nearest, require

ROW_GROWTH = 1.04  # a row is kept whenever the cost has grown by this factor since the last
ROW_PAUSE = 0.5  # and by so many gradient equivalents: a row costs one, which beside minibatches is many steps
DIVERGENCE = 1e12  # a run ends where the value exceeds this times max(1, |f(x0)|)
ENDLESS = 10**12  # steps
IDLE = 1000  # and after so many steps in a row that cost nothing: x no longer moves
ENGINES = ("local", "dask")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "REFOPT_THREADS"), "1")

Watch = Callable[[str, int], Callable[[], None]]
"""``watch("tuning", 72)`` announces a stage of 72 runs, and returns what is called as each ends."""


class _Seen(NamedTuple):
    k: int
    x: Array
    gradient_equivalents: float
    seconds: float


class _Rows:
    """The callback that keeps a run's rows: evenly on a logarithmic axis of cost, and the last within the budget."""

    def __init__(self, run: Run, problem: Problem, method: Method) -> None:
        self.budget, self.objective = run.budget, problem.objective
        self.solution = getattr(method, "solution", None) or (lambda x, state: x)
        names = ("k", "value", "grad_norm", "gradient_equivalents", "seconds")
        self.columns: dict[str, list[Any]] = {name: [] for name in (*names, *(("x1", "x2") if problem.n == 2 else ()))}
        self.tolerance = math.sqrt(float(namespace(problem.x0).finfo(problem.x0.dtype).eps))
        self.last = _Seen(-1, problem.x0, 0.0, 0.0)
        self.spent = self.next = 0.0
        self.looked = -math.inf
        self.idle = 0

    def __call__(self, step: Step) -> bool:
        """Look at a step; True, which ends the run, where it has converged, stands still or is beyond all bounds."""
        ledger = step.ledger
        seen = _Seen(step.k, self.solution(step.x, step.state), ledger.gradient_equivalents, ledger.seconds)
        spent = getattr(ledger, self.budget.rule)
        if spent > self.budget.amount:
            self.keep(self.last)
        self.idle = self.idle + 1 if spent == self.spent else 0
        self.last, self.spent = seen, spent
        if spent < self.next or seen.gradient_equivalents < self.looked + ROW_PAUSE:
            return self.idle >= IDLE
        self.keep(seen)
        self.next, self.looked = ROW_GROWTH * spent, seen.gradient_equivalents
        return self.converged or self.diverged or self.idle >= IDLE

    def keep(self, seen: _Seen) -> None:
        """Add a row, unless it is there."""
        if self.columns["k"] and seen.k <= self.columns["k"][-1]:
            return
        value, g = self.objective.value_and_grad(seen.x)
        row = [seen.k, float(value), norm(g), seen.gradient_equivalents, seen.seconds]
        if "x1" in self.columns:
            row += asnumpy(seen.x).tolist()
        for column, entry in zip(self.columns.values(), row, strict=True):
            column.append(entry)

    @property
    def converged(self) -> bool:
        """Whether the gradient is down to the square root of the rounding unit, relative to the start."""
        first, last = self._ends("grad_norm")
        return last <= self.tolerance * first

    @property
    def diverged(self) -> bool:
        """Whether the value is nan, or beyond the bound."""
        first, last = self._ends("value")
        return not last <= DIVERGENCE * max(1.0, abs(first))

    def _ends(self, name: str) -> tuple[float, float]:
        return self.columns[name][0], self.columns[name][-1]


def perform(run: Run) -> Outcome:
    """Do one run. An error that the method or the objective raises is an outcome too."""
    rows = None
    try:
        with np.errstate(all="ignore"):
            _warm_up(run.problem, run.method, run.batch_size, run.backend, run.dtype)
            problem = _problem(run.problem, run.seed, run.backend, run.dtype)
            method = sources.find_method(run.method)
            rows = _Rows(run, problem, method)
            result = minimize(
                problem,
                method,
                steps=ENDLESS,
                batch_size=run.batch_size,
                seed=run.seed,
                callback=rows,
                stop={run.budget.rule: run.budget.amount},
                history_every=ENDLESS,  # the callback looks instead
                **sources.read_knobs(run.hyper),
            )
            rows.keep(rows.last)
            test = problem.test(result.x) if problem.test is not None and all_finite(result.x) else {}
    except Exception as error:
        return Outcome(run, "ERROR", f"{type(error).__name__}: {error}", rows.columns if rows else {})
    status = result.status
    if rows.converged:
        status = Status.CONVERGED
    elif status is Status.CALLBACK:
        status = Status.DIVERGED if rows.diverged else Status.STAGNATED
    ledger = result.ledger
    return Outcome(
        run, status.name, str(status), rows.columns, dict(ledger.counts), ledger.flops, ledger.state_vectors, test
    )


@lru_cache(maxsize=16)
def _problem(problem: str, seed: int, backend: str, dtype: str | None) -> Problem:
    return sources.find_problem(problem, seed=seed, backend=backend, dtype=dtype)


@lru_cache
def _warm_up(problem: str, method: str, batch_size: int | None, backend: str, dtype: str | None) -> None:
    """Take two steps that no account shows, so that traces, caches and libraries are there when the clock runs."""
    with suppress(Exception):  # a run that cannot be made says so itself
        found, module = _problem(problem, 0, backend, dtype), sources.find_method(method)
        minimize(found, module, steps=2, batch_size=batch_size, history_every=2)


class Engine(AbstractContextManager["Engine"], Protocol):
    """What performs runs. Used as a context, which may hold many races.

    Left by an exception (Ctrl-C, a full disk, a worker that died), it drops the runs under way.
    """

    def perform(self, runs: Sequence[Run]) -> Iterator[Outcome]:
        """Yield the outcome of every run as it ends. Raises RuntimeError where some cannot be had."""
        ...


def do(engine: Engine, stage: str, runs: Iterable[Run], journal: Journal, watch: Watch) -> None:
    """Have the runs that the journal does not hold yet performed, and write each into it as it ends.

    Raises RuntimeError where the engine loses one; what had ended is written.
    """
    missing = [run for run in {run.key: run for run in runs}.values() if run not in journal]
    done = watch(stage, len(missing))
    for outcome in engine.perform(missing):
        journal.write(outcome)
        done()


def make(name: str = "local", *, workers: int | None = None, scheduler: str | None = None) -> Engine:
    """Return the engine `name`: "local", or "dask" on the cluster of the `scheduler` or, without one, on this machine.

    `workers` is the number of processes, one a core unless given. Raises ValueError for misuse, RuntimeError where
    dask is not installed.
    """
    require(workers is None or workers >= 1, "workers must be at least 1", workers)
    if name not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {name!r}{nearest(name, ENGINES)}")
    require(scheduler is None or name == "dask", "a scheduler needs --engine dask", scheduler)
    require(scheduler is None or workers is None, "a scheduler has workers of its own: leave --workers out", workers)
    if name == "local":
        return Pool(workers or available_threads())
    from refopt.race.dask_engine import Dask

    return Dask(scheduler, workers or available_threads())


class Pool:
    """An engine: a pool of worker processes on this machine."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        self.executor = ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"), _start_worker)
        return self

    def perform(self, runs: Sequence[Run]) -> Iterator[Outcome]:
        """Yield the outcome of every run as it ends. Raises RuntimeError where a worker dies."""
        assert self.executor is not None
        with _environment(ONE_THREAD):
            futures = [self.executor.submit(perform, run) for run in runs]
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool:
                raise RuntimeError(
                    "a worker process died, for want of memory perhaps; finished runs are kept, and --resume goes on"
                ) from None

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        assert self.executor is not None
        self.executor.shutdown(wait=kind is None, cancel_futures=True)
        if kind is not None:
            for child in multiprocessing.active_children():
                child.terminate()


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the processes started inside: a BLAS reads them when it is loaded."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when it ends: a worker would wait for ever for a parent that was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
