"""Runs on a cluster of Dask distributed: a run is a task, whose key is the run's own.

A worker that is lost takes only the runs under way on it along, and they are performed elsewhere. A run during which
`ATTEMPTS` workers were lost is left out and named when all others have ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Self

from refopt.race.engine import ONE_THREAD, perform
from refopt.race.plan import Run
from refopt.race.results import Outcome

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

ATTEMPTS = 4
PATIENCE = 30  # seconds, for a scheduler to answer and for a first worker to come
KEPT = "finished runs are kept, and --resume goes on"


class Dask:
    """An engine: the workers of the `scheduler` at an address, or `workers` processes of this machine without one.

    Workers need the same refopt and the same files at the same paths. Raises RuntimeError where Dask distributed is not
    installed and, on entering, where no scheduler answers.
    """

    def __init__(self, scheduler: str | None, workers: int) -> None:
        self.distributed = _distributed()
        self.scheduler, self.workers = scheduler, workers
        self.cluster: LocalCluster | None = None
        self.client: Client | None = None

    def __enter__(self) -> Self:
        distributed = self.distributed
        if self.scheduler is None:
            self.cluster = distributed.LocalCluster(
                n_workers=self.workers, threads_per_worker=1, dashboard_address=None, env=ONE_THREAD
            )
        try:
            self.client = distributed.Client(self.cluster or self.scheduler, timeout=PATIENCE)
        except (OSError, ValueError) as error:
            raise RuntimeError(f"no Dask scheduler answers at {self.scheduler}: {error}") from None
        return self

    def perform(self, runs: Sequence[Run]) -> Iterator[Outcome]:
        """Yield the outcome of every run as it ends. Raises RuntimeError, in the end, where some could not be had."""
        assert self.client is not None
        if not runs:
            return
        lost: list[str] = []
        # Nothing but `ended` holds the futures: what has been yielded is let go of on the workers.
        ended = self.distributed.as_completed(
            self.client.map(_perform, runs, key=[run.key for run in runs], retries=ATTEMPTS - 1, pure=False),
            with_results=True,
            raise_errors=False,
        )
        for future, outcome in ended:
            if future.status == "finished":
                yield outcome
            elif future.status == "error":
                lost.append(str(outcome[1]))
            else:
                raise RuntimeError(f"the Dask scheduler was lost; {KEPT}")
        if lost:
            raise RuntimeError(f"{len(lost)} runs could not be performed, one of them because {lost[0]}; {KEPT}")

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        if self.client is not None:
            self.client.close(timeout=2)
        if self.cluster is not None:
            self.cluster.close(timeout=5)


def _distributed() -> ModuleType:
    try:
        import distributed
    except ModuleNotFoundError:
        raise RuntimeError("Dask distributed is missing; install refopt[dask]") from None
    return distributed


def _perform(run: Run) -> Outcome:
    """Perform a run, on a worker, where it would be the same run."""
    if replace(run).key != run.key:  # a copy works its key out anew
        raise RuntimeError(f"a worker has another refopt, or other files, than {run.method} on {run.problem} asks for")
    return perform(run)
