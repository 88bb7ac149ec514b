"""Run a method on a problem: `iterate` yields every step, `minimize` runs to an end and keeps the account."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from backends.arrays import Array, all_finite, asnumpy, floating, namespace, norm
from backends.elementwise import donating
from refopt import checkpoint as checkpoints
from refopt.checkpoint import Checkpoint
from refopt.ledger import Ledger, counted
from refopt.method import Bound, Method, bind, keywords, name_of
from refopt.objective import PARTS, MissingPart, Objective
from refopt.status import Status, nearest, require

BatchSize: TypeAlias = int | Callable[[int, Any], int]

STOP_RULES = {
    "grad_norm": "end as CONVERGED when |grad f(x)| is at most this",
    "value": "end as CONVERGED when f(x) is at most this",
    "gradient_equivalents": "end as BUDGET_SPENT when this much is spent",
    "seconds": "end as TIME_SPENT when steps have taken this long",
    "divergence": "end as DIVERGED when f(x) exceeds this times max(1, |f(x0)|); 1e12 unless given",
}


class Record(NamedTuple):
    """One row of the history: what was seen at the point reported after k steps, and what it had cost."""

    k: int
    value: float
    grad_norm: float
    gradient_equivalents: float
    seconds: float


class Step(NamedTuple):
    """What `iterate` yields: the state of a run after k steps; k = 0 is the start."""

    k: int
    x: Array
    state: Any
    ledger: Ledger


@dataclass(frozen=True)
class Result:
    """The outcome of a run.

    `x` is the point to report (`solution(x, state)` where a method has one), with its `value` and `grad`; nan and
    None where the objective cannot give them. After NOT_FINITE it is the last finite point.
    """

    x: Array
    value: float
    grad: Array | None
    status: Status
    steps: int
    ledger: Ledger
    history: list[Record]
    state: Any

    def __repr__(self) -> str:
        return (
            f"Result(value={self.value:.6g}, status={self.status.name}, steps={self.steps}, "
            f"gradient_equivalents={self.ledger.gradient_equivalents:.6g})"
        )


@dataclass
class _Run:
    """A method bound to an objective: the part that `iterate` and `minimize` share."""

    method: Method
    bound: Bound
    objective: Objective  # counted, over all examples
    batch_size: BatchSize | None
    seed: int
    ledger: Ledger
    x0: Array = field(repr=False)
    hyper: Mapping[str, Any]

    def start(self) -> Any:
        return self.bound.init(self.x0, objective=self.objective, seed=self.seed)

    def batch(self, k: int, state: Any) -> Objective:
        if self.batch_size is None:
            return self.objective
        size = self.batch_size if isinstance(self.batch_size, int) else self.batch_size(k, state)
        return self.objective.sample(size, self.seed, k)

    def advance(self, k: int, x: Array, state: Any, *, donate: bool = False) -> tuple[Array, Any, bool]:
        """Take step k and put it on the account. The flag says whether all is finite; if not, x is kept."""
        began = time.perf_counter()
        batch = self.batch(k, state)
        finite = True
        if donate:
            # The step may write over x, so a gradient that would spoil it must be seen beforehand. The method's own
            # request at the same x is then served, and charged, by the memo.
            with self.ledger.watch():
                finite = math.isfinite(norm(batch.grad(x)))
        if finite:
            with donating() if donate else nullcontext():
                new, state = self.bound.step(batch, x, state)
            finite = donate or all_finite(new)
            x = new if finite else x
        self.ledger.seconds += time.perf_counter() - began
        info = getattr(state, "info", None)
        if info:
            self.ledger.flops += info.get("flops", 0.0)
        return x, state, finite

    def report(self, x: Array, state: Any) -> Array:
        solution = getattr(self.method, "solution", None)
        return x if solution is None else solution(x, state)

    def observe(self, k: int, x: Array) -> Record:
        """Look at the point x on the monitor's account."""
        objective, ledger = self.objective, self.ledger
        with ledger.watch():
            if hasattr(objective, "value_and_grad"):
                value, g = objective.value_and_grad(x)
                seen = float(value), norm(g)
            elif hasattr(objective, "grad"):
                seen = math.nan, norm(objective.grad(x))
            else:
                seen = float(objective.value(x)), math.nan
        return Record(k, *seen, ledger.gradient_equivalents, ledger.seconds)

    def judge(self, history: list[Record], rules: Mapping[str, float]) -> Status:
        """Say what the latest record means by the stop rules that look at the point."""
        now = history[-1]
        if hasattr(self.objective, "value"):
            if not math.isfinite(now.value):
                return Status.NOT_FINITE
            if now.value > rules["divergence"] * max(1.0, abs(history[0].value)):
                return Status.DIVERGED
        if hasattr(self.objective, "grad") and not math.isfinite(now.grad_norm):
            return Status.NOT_FINITE
        if now.grad_norm <= rules.get("grad_norm", -math.inf) or now.value <= rules.get("value", -math.inf):
            return Status.CONVERGED
        return Status.RUNNING


def iterate(
    problem: Any,
    method: Method,
    *,
    x0: Array | None = None,
    batch_size: BatchSize | None = None,
    seed: int = 0,
    **hyper: Any,
) -> Iterator[Step]:
    """Yield the start and then every step, for ever; the caller decides when to leave.

    Arguments and errors as in `minimize`. Every `x` and `state` yielded may be kept: none is written over.

    >>> import problems
    >>> from refopt.first_order import heavy_ball
    >>> for k, x, state, ledger in iterate(problems.get("rosenbrock", n=2), heavy_ball, lr=1e-4):
    ...     if k == 3:
    ...         break
    >>> ledger.gradient_equivalents
    3.0
    """
    run = _prepare(problem, method, x0, batch_size, seed, hyper)

    def steps() -> Iterator[Step]:
        x, state = run.x0, run.start()
        k = 0
        while True:
            yield Step(k, x, state, run.ledger)
            x, state, _ = run.advance(k, x, state)
            k += 1

    return steps()


def minimize(
    problem: Any,
    method: Method,
    *,
    steps: int,
    x0: Array | None = None,
    batch_size: BatchSize | None = None,
    seed: int = 0,
    callback: Callable[[Step], bool | None] | None = None,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    stop: Mapping[str, float] | None = None,
    history_every: int | None = None,
    donate: bool = False,
    **hyper: Any,
) -> Result:
    """Run `method` on `problem` from `x0` until a stop rule holds or `steps` steps are done.

    `problem` is an `Objective`, or anything with `objective` and `x0`; `x0` is a real floating vector (n,) and its
    library, device and dtype are kept throughout. `batch_size` is an int or `batch_size(k, state)`; batches are
    drawn without replacement, keyed by (seed, k). `hyper` goes to the method through `bind`; a method that works part
    by part, such as LAMB or Shampoo, is given the problem's `layout` unless you pass another.

    `stop` maps rules to bounds: "grad_norm", "value" (both end as CONVERGED), "gradient_equivalents", "seconds",
    "divergence" (times max(1, |f(x0)|); 1e12 unless given). `callback(step)` sees every step and ends the run by
    returning True. `history_every` steps a row is recorded, and "grad_norm", "value" and "divergence" are looked
    at: every step by default, about a hundred times a run with minibatches, where looking costs a full gradient.

    `checkpoint` saves the run to a file, resumes from it if it is there, and gives the same bits as a run that was
    never interrupted (on the same machine, threads and elementwise path).

    `donate` lets elementwise rules write a step over the buffers of the one before: half the memory. It excludes
    `callback`, which might keep them.

    Numerical outcomes are the result's `status`. Misuse raises: ValueError or TypeError that names the argument.
    """
    require(isinstance(steps, int) and steps >= 0, "steps must be an integer of at least 0", steps)
    if donate and callback is not None:
        raise ValueError("donate must be False where a callback may keep arrays, got True")
    run = _prepare(problem, method, x0, batch_size, seed, hyper)
    rules = _checked_rules(stop or {})
    if history_every is None:
        history_every = 1 if batch_size is None else max(1, steps // 100)
    require(history_every >= 1, "history_every must be at least 1", history_every)
    if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
        checkpoint = Checkpoint(checkpoint)

    n = run.x0.shape[0]
    identity = _identity(run) if checkpoint else {}
    saved = _resume(checkpoint, identity, run.x0) if checkpoint else None
    if saved is None:
        xp = namespace(run.x0)
        x, state, k = (xp.asarray(run.x0, copy=True) if donate else run.x0), run.start(), 0
        history: list[Record] = []
        status = Status.RUNNING
    else:
        x, state, k, history, status = (saved[key] for key in ("x", "state", "k", "history", "status"))
        for name, value in saved["ledger"].items():
            setattr(run.ledger, name, value)

    def save() -> None:
        if checkpoint is not None:
            ledger = {name: value for name, value in vars(run.ledger).items() if name != "_watching"}
            progress = {
                "x": x,
                "state": state,
                "k": k,
                "history": history,
                "status": status,
                "ledger": ledger,
            }
            checkpoints.save(checkpoint.path, {"identity": identity, **progress})

    if status in (Status.MAX_STEPS, Status.BUDGET_SPENT, Status.TIME_SPENT, Status.CALLBACK):
        status = Status.RUNNING  # an ordinary end may be continued with a larger bound
    while True:
        if status is Status.RUNNING:
            if k % history_every == 0 or k >= steps:
                if not (history and history[-1].k == k):
                    history.append(run.observe(k, run.report(x, state)))
                status = run.judge(history, rules)
            if status is Status.RUNNING:
                status = _spent(run.ledger, k, steps, rules)
        if callback is not None and callback(Step(k, x, state, run.ledger)) and status is Status.RUNNING:
            status = Status.CALLBACK
        if status is not Status.RUNNING:
            break
        if checkpoint is not None and k % checkpoint.every == 0 and not (saved and saved["k"] == k):
            save()
        x, state, finite = run.advance(k, x, state, donate=donate)
        k += 1
        run.ledger.state_vectors = max(run.ledger.state_vectors, _size(state) / n)
        own = getattr(state, "status", Status.RUNNING)
        if not finite:
            status = Status.NOT_FINITE
        elif own.failed or own is Status.CONVERGED:
            status = own

    point = run.report(x, state)
    if history[-1].k != k and status is not Status.NOT_FINITE:
        history.append(run.observe(k, point))
    save()
    with run.ledger.watch():
        objective = run.objective
        value = float(objective.value(point)) if hasattr(objective, "value") else math.nan
        g = objective.grad(point) if hasattr(objective, "grad") else None
    return Result(point, value, g, status, k, run.ledger, history, state)


def _prepare(
    problem: Any,
    method: Method,
    x0: Array | None,
    batch_size: BatchSize | None,
    seed: int,
    hyper: dict[str, Any],
) -> _Run:
    """Check every argument that `iterate` and `minimize` share, and bind them together."""
    objective = getattr(problem, "objective", problem)
    if not isinstance(objective, Objective):
        raise TypeError(
            f"problem must be an Objective or have one as .objective, got {type(problem).__name__}; "
            "wrap a function f(x, xp) by Objective.from_function"
        )
    if not isinstance(method, Method):
        raise TypeError(f"method must have init, step, SPEC and DIALECTS, got {method!r}")
    if x0 is None:
        if problem is objective:
            raise TypeError("x0 must be given: an objective has no start of its own")
        x0 = problem.x0
    expected = x0.shape if problem is objective else problem.x0.shape
    require(x0.ndim == 1 and x0.shape[0] > 0, "x0 must be a vector of shape (n,) with n >= 1", x0.shape)
    require(x0.shape == expected, f"x0 must have the shape {expected} of the problem", x0.shape)
    if not floating(x0):
        raise TypeError(f"x0 must hold real floating-point numbers, got dtype {x0.dtype}")
    if problem is not objective:
        namespace(x0, problem.x0)  # two backends that meet are an error here, not in the middle of a step
    require(all_finite(x0), "x0 must be finite", "nan or inf in it")
    for part in method.SPEC.needs:
        if part in PARTS:
            if not hasattr(objective, part):
                raise MissingPart(f"{name_of(method)} needs an objective with {part}; this one has {objective.parts}")
        elif objective.n_examples is None:
            raise MissingPart(f"{name_of(method)} needs a finite sum (part {part!r}); this objective is none")
    if batch_size is not None:
        if objective.n_examples is None:
            raise MissingPart("batch_size needs a finite sum; this objective has no examples to draw from")
        if isinstance(batch_size, int):
            require(
                1 <= batch_size <= objective.n_examples,
                f"batch_size must be in [1, {objective.n_examples}]",
                batch_size,
            )
    layout = getattr(problem, "layout", None)
    by_part = "layout" in {*keywords(method.init), *keywords(method.step)}
    if by_part and layout is not None and list(layout.shapes.values()) != [x0.shape]:  # one vector has no parts
        hyper = {"layout": layout, **hyper}
    ledger = Ledger()
    return _Run(method, bind(method, **hyper), counted(objective, ledger), batch_size, seed, ledger, x0, hyper)


def _checked_rules(stop: Mapping[str, float]) -> dict[str, float]:
    for rule, bound in stop.items():
        if rule not in STOP_RULES:
            raise ValueError(f"unknown stop rule {rule!r}{nearest(rule, STOP_RULES)}")
        require(not math.isnan(bound), f"stop[{rule!r}] must be a number", bound)
    return {"divergence": 1e12, **stop}


def _spent(ledger: Ledger, k: int, steps: int, rules: Mapping[str, float]) -> Status:
    if ledger.gradient_equivalents >= rules.get("gradient_equivalents", math.inf):
        return Status.BUDGET_SPENT
    if ledger.seconds >= rules.get("seconds", math.inf):
        return Status.TIME_SPENT
    return Status.MAX_STEPS if k >= steps else Status.RUNNING


def _size(node: Any) -> int:
    """Count the numbers held in the arrays of a state; `info` is for readers and does not count."""
    if not isinstance(node, tuple | dict):
        return int(node.size) if hasattr(node, "shape") else 0
    items: Iterable[Any] = node.values() if isinstance(node, dict) else node
    if "info" in (fields := getattr(node, "_fields", ())):
        items = [item for name, item in zip(fields, items, strict=True) if name != "info"]
    # This is asked after every step, and most of the leaves are no arrays.
    return sum([_size(item) for item in items if type(item) not in _SCALARS])


_SCALARS = {int, float, bool, str, type(None), Status}


def _identity(run: _Run) -> dict[str, Any]:
    """Name what a checkpoint must agree with to be continued: method, knobs, seed, batches and start."""

    def words(value: Any) -> str:
        return str(getattr(value, "__qualname__", getattr(value, "__name__", repr(value))))

    start = asnumpy(run.x0)
    return {
        "method": name_of(run.method),
        "hyper": {key: words(value) for key, value in sorted(run.hyper.items())},
        "seed": run.seed,
        "batch_size": words(run.batch_size),
        "n": int(start.shape[0]),
        "dtype": str(start.dtype),
        "x0": hashlib.sha256(start.tobytes()).hexdigest(),
    }


def _resume(checkpoint: Checkpoint, identity: Mapping[str, Any], like: Array) -> Any:
    checkpoints.sweep(Path(checkpoint.path))
    try:
        saved = checkpoints.load(checkpoint.path, like)
    except FileNotFoundError:
        return None
    for key, expected in identity.items():
        found = saved["identity"].get(key)
        if found != expected:
            raise ValueError(
                f"checkpoint {os.fspath(checkpoint.path)} is of another run: its {key} is {found!r}, "
                f"this run's is {expected!r}; it was left as it is"
            )
    return saved
