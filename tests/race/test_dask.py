"""Races on a cluster of worker processes: the rows of the local engine, whatever is lost on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from refopt import cli
from refopt.race import contest, engine
from refopt.race.plan import Plan, Settings, make_plan
from refopt.race.results import Raced, steps_table

distributed = pytest.importorskip("distributed")

OWN = """
import os, pathlib, signal, time

HERE = pathlib.Path(__file__).parent
NAPS = {naps}


def careful(x, g, state, *, lr=1e-3):
    if state is None and os.getpid() != {parent}:  # once a run, on a worker
        with open(HERE / "begun", "a") as file:
            file.write(f"{{os.getpid()}}\\n")
        time.sleep(NAPS)
    return x - lr * g, 0


def deadly(x, g, state):
    if os.getpid() != {parent}:
        os.kill(os.getpid(), signal.SIGKILL)
    return x, state
"""


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., str]:
    """Return what writes a file of methods of one's own and names one of them."""

    def write(name: str, naps: float = 0.0) -> str:
        path = tmp_path / "own.py"
        path.write_text(OWN.format(parent=os.getpid(), naps=naps))
        return f"{path}:{name}"

    return write


def begun(tmp_path: Path) -> list[int]:
    """Return the processes that have begun a run, one a run begun."""
    file = tmp_path / "begun"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def plan(*methods: str, seeds: int = 6) -> Plan:
    """Return a small race: 2 runs of tuning and `seeds` twice to report, on a problem of two variables."""
    return make_plan(Settings(problems=("rosenbrock",), methods=methods, budget="10ge", seeds=seeds, tune=2))


def silent(stage: str, total: int) -> Callable[[], None]:
    return lambda: None


def timeless(race: list[Raced]) -> list[dict[str, Any]]:
    """Return all rows without what a clock measured."""
    return [{name: cell for name, cell in row.items() if name != "seconds"} for row in steps_table(race)]


def known(race: Plan, out: Path) -> list[dict[str, Any]]:
    """Return the rows that the local engine gives."""
    with engine.make(workers=1) as local:
        return timeless(contest.hold(race, out, local, silent))


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class _InBackground(threading.Thread):
    """A race held in a thread; `rows` waits for its end."""

    def __init__(self, race: Plan, out: Path, performing: engine.Engine) -> None:
        super().__init__(daemon=True)
        self.arguments = race, out, performing, silent
        self.race: list[Raced] = []
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.race = contest.hold(*self.arguments)
        except BaseException as error:
            self.error = error

    def rows(self) -> list[dict[str, Any]]:
        self.join(120)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
        return timeless(self.race)


def test_the_rows_are_those_of_the_local_engine(tmp_path: Path) -> None:
    announced: Counter[str] = Counter()
    ended: Counter[str] = Counter()

    def watch(stage: str, total: int) -> Callable[[], None]:
        announced[stage] = total
        return lambda: ended.update([stage])

    race = plan("sgd", "adam", seeds=3)
    with engine.make("dask", workers=2) as dask:
        assert dask.cluster.scheduler.http_server.address == "127.0.0.1", "no one outside can look on"  # type: ignore[attr-defined]
        held = contest.hold(race, tmp_path / "dask", dask, watch)
        again = contest.hold(race, tmp_path / "dask", dask, watch)
    assert set(ended) == {"tuning", "racing"}
    assert ended.total() == len(list((tmp_path / "dask" / "runs").iterdir()))
    assert announced == {"tuning": 0, "racing": 0}, "the second time nothing is missing"
    assert steps_table(again) == steps_table(held)
    assert timeless(held) == known(race, tmp_path / "local")


@pytest.mark.parametrize("command", [("race", "rosenbrock"), ("lab", "noise")])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--engine", "dusk"], "engine must be one of local, dask, got 'dusk'; did you mean 'dask'?"),
        (["--scheduler", "tcp://127.0.0.1:1"], "a scheduler needs --engine dask"),
        (["--engine", "dask", "--scheduler", "tcp://127.0.0.1:1", "--workers", "2"], "leave --workers out"),
        (["--workers", "0"], "workers must be at least 1, got 0"),
    ],
)
def test_misuse(
    command: tuple[str, ...], options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([*command, *options, "--out", str(tmp_path / "out")])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(RuntimeError, match=r"Dask distributed is missing; install refopt\[dask\]"):
        engine.make("dask")


def test_a_client_that_fails_leaves_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    def fail(*arguments: object, **options: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(distributed, "Client", fail)
    monkeypatch.setattr(
        distributed, "LocalCluster", lambda **options: SimpleNamespace(close=lambda timeout: closed.append(timeout))
    )
    with pytest.raises(RuntimeError, match="no Dask scheduler answers"), engine.make("dask", workers=1):
        pass
    assert closed


@pytest.mark.slow
def test_a_killed_worker_loses_its_running_tasks_only(tmp_path: Path, own: Callable[..., str]) -> None:
    race = plan(own("careful", naps=0.3))
    with engine.make("dask", workers=2) as dask:
        held = _InBackground(race, tmp_path / "dask", dask)
        wait_for(lambda: len(begun(tmp_path)) >= 5, "the race must begin")
        os.kill(begun(tmp_path)[-1], signal.SIGKILL)
        rows = held.rows()
    runs = len(list((tmp_path / "dask" / "runs").iterdir()))
    # Each worker process warms a method up once, by a run of its own; the third is the one that came after the kill.
    warm_ups = len(set(begun(tmp_path)))
    assert len(begun(tmp_path)) <= runs + warm_ups + 2, "no finished run is performed again but one not fetched yet"
    assert rows == known(race, tmp_path / "local")


@pytest.mark.slow
def test_only_the_guilty_are_left_out(tmp_path: Path, own: Callable[..., str]) -> None:
    race = plan(own("deadly"), "sgd", "adam", seeds=1)
    with engine.make("dask", workers=2) as dask, pytest.raises(RuntimeError, match="1 runs were not performed"):
        contest.hold(race, tmp_path / "dask", dask, silent)
    # The tuning ends with the innocent written: two trials of each, and none of the method without working knobs.
    assert len(list((tmp_path / "dask" / "runs").iterdir())) == 4


@pytest.mark.slow
def test_a_stalled_worker_is_passed_by_and_its_late_results_are_not_written_twice(
    tmp_path: Path, own: Callable[..., str]
) -> None:
    import dask as configured

    race = plan(own("careful", naps=0.5))
    written: Counter[str] = Counter()
    with (
        configured.config.set({"distributed.scheduler.worker-ttl": "3s"}),
        engine.make("dask", workers=2) as dask,
        pytest.MonkeyPatch.context() as patch,
    ):
        write = engine.Journal.write

        def count(journal: Any, outcome: Any) -> None:
            written[outcome.run.key] += 1
            write(journal, outcome)

        patch.setattr(engine.Journal, "write", count)
        held = _InBackground(race, tmp_path / "dask", dask)
        wait_for(lambda: len(begun(tmp_path)) >= 5, "the race must begin")
        stalled = begun(tmp_path)[-1]
        os.kill(stalled, signal.SIGSTOP)
        threading.Timer(6.0, _go_on, [stalled]).start()
        rows = held.rows()
    assert set(written.values()) == {1}
    assert rows == known(race, tmp_path / "local")


def _go_on(process: int) -> None:
    """Continue a stopped process, if there is still one."""
    if Path(f"/proc/{process}").exists():
        os.kill(process, signal.SIGCONT)


@contextmanager
def cluster(port: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start a scheduler and two workers as one would on a cluster: processes of their own."""
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", str(port), "--no-dashboard"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1"]
    worker += ["--no-dashboard", "--death-timeout", "20"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [subprocess.Popen(one, **quiet) for one in (command, worker, worker)]  # type: ignore[call-overload]
    try:
        yield started
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(30)


@pytest.mark.slow
def test_a_restarted_scheduler_goes_on_from_the_journal(tmp_path: Path, own: Callable[..., str]) -> None:
    race, out = plan(own("careful", naps=0.3)), tmp_path / "dask"
    port = 18786 + os.getpid() % 1000
    with cluster(port) as (scheduler, *_), engine.make("dask", scheduler=f"tcp://127.0.0.1:{port}") as dask:
        held = _InBackground(race, out, dask)
        wait_for(lambda: len(list((out / "runs").glob("*.json"))) >= 4, "a few runs must end")
        scheduler.kill()
        with pytest.raises(RuntimeError, match="the Dask scheduler was lost; finished runs are kept"):
            held.rows()
    finished = {path.name: path.stat().st_mtime_ns for path in (out / "runs").glob("*.json")}
    with cluster(port), engine.make("dask", scheduler=f"tcp://127.0.0.1:{port}") as dask:
        rows = timeless(contest.hold(race, out, dask, silent))
    assert finished.items() <= {path.name: path.stat().st_mtime_ns for path in (out / "runs").glob("*.json")}.items()
    assert rows == known(race, tmp_path / "local")


@pytest.mark.slow
def test_ctrl_c_leaves_what_is_finished(tmp_path: Path, own: Callable[..., str]) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from refopt.cli import main; main()", "race", "rosenbrock", "--out", str(out)]
    command += ["--methods", own("careful", naps=0.3), "--seeds", "40", "--tune", "0", "--budget", "10"]
    command += ["--engine", "dask", "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    wait_for(lambda: len(list((out / "runs").glob("*.json"))) >= 3, "a few runs must end")
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the workers too
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told.decode()
    (line,) = filter(None, told.decode().splitlines())
    assert "finished runs are in" in line
