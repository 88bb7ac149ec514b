"""What a cluster costs: the engine's share of a task, and a step over shards against the plan of docs/scale.md.

    python benchmarks/scale.py [--n 1000000] [--tasks 1000] [--workers 1 2 4] [--json PATH]

1. Tasks that do nothing, on both engines: milliseconds a task, and beside it the time of the journal's own write.
2. One value and gradient, and one product at a linearised point, over shards: on threads, and on worker processes of
   this machine. The yardstick is the same sum in one piece. The objective is one pass over x, so that all the rest is
   the way there and back. `moved` is what the plan says travels, and MB/s what follows; `counted` is what all
   connections sent a gradient, and `resident` by how many vectors of length n a worker's peak memory grew; both 0 where
   nothing is sent.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import distributed
import numpy as np
from distributed.comm.tcp import TCP
from rich.console import Console
from rich.table import Table

from refopt.objective import Objective
from refopt.race import dask_engine, engine
from refopt.race.plan import Budget, Run
from refopt.race.results import Journal, Outcome
from refopt.sharded import sharded


def nothing(run: Run) -> Outcome:
    return Outcome(run, "BUDGET_SPENT", "", {"k": [0]})


def milliseconds(call: Callable[[], Any], repeats: int = 15) -> float:
    """Return the best of several, which others on the machine disturb least."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return 1e3 * min(seconds)


def tasks(count: int) -> dict[str, float]:
    """Return the milliseconds a task of both engines, and those of a write to the journal."""
    runs = [Run("none", "none", {}, seed, Budget(1, "ge"), None, "numpy", None) for seed in range(count)]
    for run in runs:
        run.key  # noqa: B018 (worked out once, beforehand)
    engine.perform = dask_engine._perform = nothing
    found = {}
    for name in engine.ENGINES:
        with engine.make(name, workers=2) as performing:
            found[name] = milliseconds(lambda: list(performing.perform(runs)), repeats=4) / count
    journal = Journal(Path(tempfile.mkdtemp()))
    found["journal"] = milliseconds(lambda: [journal.write(nothing(run)) for run in runs[:100]], repeats=3) / 100
    return found


def bowls(c: Any) -> Objective:
    """Return the mean of |x - c_i|^2 / 2: a value and gradient is one pass over x."""
    mean, square = float(np.mean(c)), float(np.mean(c * c))

    def value_and_grad(x: Any) -> tuple[float, Any]:
        g = x - mean
        return 0.5 * float(g @ g) + 0.5 * len(x) * (square - mean * mean), g

    return Objective(
        value_and_grad=value_and_grad,
        linearize=lambda x: (*value_and_grad(x), lambda v: 1.0 * v),
        n_examples=len(c),
        restrict=lambda indices: bowls(c[indices]),
    )


def count() -> None:
    """Let the TCP connections of this process add up what they send."""
    if not hasattr(TCP, "sent"):
        TCP.sent, write = 0, TCP.write

        async def counting(self: Any, *arguments: Any, **options: Any) -> int:
            size: int = await write(self, *arguments, **options)
            TCP.sent += size
            return size

        TCP.write = counting


def sent() -> int:
    return TCP.sent


def peak() -> int:
    """Return the most bytes that this process has held; getrusage would count its parent's from before the exec."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def steps(n: int, workers: list[int]) -> list[dict[str, Any]]:
    """Return a row for each place of the shards: as many as workers, for a gradient and for a product."""
    x = np.random.default_rng(0).standard_normal(n)
    whole = bowls(np.linspace(0.0, 1.0, 64))

    def row(where: str, objective: Objective, moved: float = 0.0) -> dict[str, Any]:
        objective.value_and_grad(x)
        mv = objective.linearize(x)[2]
        found = {"gradient": lambda: objective.value_and_grad(x), "product": lambda: mv(x)}
        took = {name: milliseconds(call) for name, call in found.items()}
        return {"where": where, **took, "moved": moved / 1e6, "MB/s": moved / 1e3 / took["gradient"]}

    def on_workers(where: str, client: Any, shards: int) -> dict[str, Any]:
        count()
        client.run(count)
        before = client.run(peak)
        objective = sharded(whole, client, shards=shards)
        found = row(where, objective, 2 * 8 * n * shards)
        grown = max(after - before[worker] for worker, after in client.run(peak).items())
        so_far = sent() + sum(client.run(sent).values())
        for _ in range(5):
            objective.value_and_grad(x)
        counted = (sent() + sum(client.run(sent).values()) - so_far) / 5
        return {**found, "counted": counted / 1e6, "resident": grown / (8 * n)}

    rows = [{**row("one piece", whole), "counted": 0.0, "resident": 0.0}]
    for many in workers:
        with ThreadPoolExecutor(many) as pool:
            rows.append({**rows[0], **row(f"{many} threads", sharded(whole, pool, shards=many))})
    for many in workers:
        quiet = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
        with distributed.LocalCluster(n_workers=many, **quiet) as cluster:
            for direct in (True, False):
                with distributed.Client(cluster, direct_to_workers=direct) as client:
                    way = "direct" if direct else "through the scheduler"
                    rows.append(on_workers(f"{many} workers, {way}", client, many))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = {"tasks": tasks(arguments.tasks), "steps": steps(arguments.n, arguments.workers)}
    for name, rows in (("milliseconds a task", [found["tasks"]]), ("milliseconds a step", found["steps"])):
        table = Table(*rows[0], title=name)
        for one in rows:
            table.add_row(*(cell if isinstance(cell, str) else f"{cell:.3g}" for cell in one.values()))
        Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
