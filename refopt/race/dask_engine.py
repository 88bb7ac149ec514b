"""Runs on a cluster of Dask distributed: a run is a task, named by the run's own key.

A worker that is lost takes only the runs under way on it along, and they are performed elsewhere. Dask blames a lost
worker on every task that waited there too, and gives a task up when it was blamed four times: such runs are performed
again at the end, one by one, and only what then still ends its workers is left out, and named.
"""

from __future__ import annotations

import importlib
import logging
import math
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Self

from refopt.race.engine import ONE_THREAD, perform
from refopt.race.plan import Run
from refopt.race.results import Outcome

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

PATIENCE = 30  # seconds for a scheduler to answer
KEPT = "finished runs are kept, and --resume goes on"


class Dask:
    """An engine: the workers of the `scheduler` at an address, or `workers` processes of this machine without one.

    Workers need the same refopt, and the user's own files under the same names. Raises RuntimeError where Dask
    distributed is not installed and, on entering, where no scheduler answers.
    """

    direct = False
    """Whether the client reaches the workers by itself: vectors are spared the way through the scheduler."""

    def __init__(self, scheduler: str | None, workers: int) -> None:
        self.distributed = _distributed()
        self.scheduler, self.workers = scheduler, workers
        self.cluster: LocalCluster | None = None
        self.client: Client | None = None

    def __enter__(self) -> Self:
        import dask

        if self.scheduler is None:
            # Runs wait at the workers, which saves a round trip each; idle workers steal them from busy ones.
            with dask.config.set({"distributed.scheduler.worker-saturation": math.inf}):
                self.cluster = self.distributed.LocalCluster(
                    n_workers=self.workers,
                    threads_per_worker=1,
                    dashboard_address="127.0.0.1:0",  # None would take port 8787, and warn where it is taken
                    silence_logs=logging.CRITICAL,
                    preload=[__name__],  # whose `dask_setup` is called
                    env=ONE_THREAD,
                )
        try:
            self.client = self.distributed.Client(
                self.cluster or self.scheduler, timeout=PATIENCE, direct_to_workers=self.direct or None
            )
        except (OSError, ValueError) as error:
            raise RuntimeError(f"no Dask scheduler answers at {self.scheduler}: {error}") from None
        finally:
            if self.client is None:
                self.__exit__(None, None, None)
        return self

    def perform(self, runs: Sequence[Run]) -> Iterator[Outcome]:
        """Yield the outcome of every run as it ends. Raises RuntimeError where the scheduler is lost.

        Raises it in the end, too, where a run could not be performed.
        """
        suspects: dict[str, str] = {}
        yield from self._perform(runs, suspects)
        guilty: dict[str, str] = {}
        for run in runs:
            if _name(run) in suspects:
                yield from self._perform([run], guilty)
        if guilty:
            raise RuntimeError(f"{len(guilty)} runs were not performed ({next(iter(guilty.values()))}); {KEPT}")

    def _perform(self, runs: Sequence[Run], failed: dict[str, str]) -> Iterator[Outcome]:
        """Yield outcomes, and enter into `failed` the names of the tasks that have none, each with what Dask says."""
        assert self.client is not None
        # Only `ended` holds the futures: what has been yielded is let go of on the workers.
        ended = self.distributed.as_completed(
            self.client.map(_perform, runs, key=[_name(run) for run in runs], retries=2, pure=False)
        )
        for batch in ended.batches():  # fetched in one go
            states = Counter(future.status for future in batch)
            if states["cancelled"] or states["lost"]:
                raise RuntimeError(f"the Dask scheduler was lost; {KEPT}")
            failed.update({future.key: str(future.exception()) for future in batch if future.status == "error"})
            yield from self.client.gather([future for future in batch if future.status == "finished"])

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        if self.client is not None:
            self.client.close(timeout=2)
        if self.cluster is not None:
            self.cluster.close(timeout=5)


def dask_setup(worker: object) -> None:
    """Leave Ctrl-C to the parent: called in each worker process of this machine as it starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _distributed() -> ModuleType:
    try:
        return importlib.import_module("distributed")
    except ModuleNotFoundError:
        raise RuntimeError("Dask distributed is missing; install refopt[dask]") from None


def _name(run: Run) -> str:
    """Return the name of a run's task. The prefix makes them one group, which the scheduler keeps account of as one."""
    return f"run-{run.key}"


def _perform(run: Run) -> Outcome:
    """Perform a run on a worker, where it is the same run: a copy works its key out anew."""
    if replace(run).key != run.key:
        raise RuntimeError(f"a worker has another refopt or other files than {run.method} on {run.problem} asks for")
    return perform(run)
