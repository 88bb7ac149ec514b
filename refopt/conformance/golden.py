"""Golden trajectories: what each method does, number by number, for implementations in any language.

    write(directory, names)     DIR/methods/adam-torch.json and .npz, ..., DIR/curvature/rosenbrock.json and .npz, ...
    verify(directory)           each file again, by this library, and how far apart the two are

docs/golden.md describes the files, `golden_files` reads and writes them. A method that reads one gradient a step is
played on `STREAMS`; another one runs on a small problem, and every question that it asks there is written down with its
answer. What draws random numbers can so be followed by programs that draw others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import problems
from backends.arrays import Array
from refopt import __version__
from refopt.conformance import golden_curvature, golden_files, streams
from refopt.conformance.adapters import methods as method_adapter
from refopt.conformance.golden_files import FORMAT, NOT_FINITE, VERSION, Tree
from refopt.conformance.recording import Path as Track
from refopt.conformance.recording import Recording, play
from refopt.conformance.replay import compare, preset
from refopt.conformance.streams import LAYOUT, Stream
from refopt.method import Method, bind, get, keywords, names
from refopt.objective import MissingPart, Objective
from refopt.status import require

STREAMS = ("scales", "zeros", "schedule", "decay", "quadratic")
STEPS = 50  # of a stream
RUN_STEPS = 12  # of a run on a problem
EPS = float(np.finfo(np.float64).eps)
LOOSE = 1e-6  # relative: a stream on which an ulp of the gradients moves x so far tells nothing
ENOUGH = 1e-6  # beyond this rounding decides
PROBLEMS = (
    ("rosenbrock", {"n": 4}),
    ("saddle", {"n": 6, "index": 2}),
    ("deep_linear", {"depth": 2, "width": 3, "hidden": 2, "singular_values": (2.0, 1.0), "examples": 64}),
)
"""Those that runs are on: the first that suits the method."""

BATCH, SEED = 32, 0
MOST = 10_000  # memory, steps of an inner method: what a file may ask for
RTOL = 1e-7
"""How far a number of a run or of a curvature may be from the file's, in units of the largest of its name."""


class Outcome(NamedTuple):
    """What `verify` found of one file."""

    path: Path
    state: str  # "agrees", "differs" or "unreadable"
    finding: str  # in words: the largest difference, the first one beyond the tolerance, or what is wrong


# ------------------------------------------------------------------------------------------------------- make and write


def write(directory: str | os.PathLike[str], chosen: Sequence[str] | None = None) -> list[Path]:
    """Write the golden files of the methods `chosen` and of the curvature problems; of all methods where it is None.

    Returns the paths. Raises ValueError for an unknown method, and for none. Costs about a second a method.
    """
    chosen = names() if chosen is None else chosen
    require(len(chosen) > 0, "methods must name at least one", chosen)
    written = []
    of_methods = (method_tree(name, dialect) for name in chosen for dialect in get(name).DIALECTS)
    for tree in chain(of_methods, map(curvature_tree, golden_curvature.PROBLEMS)):
        written += golden_files.write(Path(directory, tree["kind"], file_name(tree)), tree)
    return written


def file_name(tree: Tree) -> str:
    """Return the name, without suffix, of the file that holds `tree`."""
    words = (tree["method"], tree["dialect"]) if tree["kind"] == "methods" else (tree["problem"],)
    return "-".join(re.sub(r"\W+", "-", word) for word in words)


def method_tree(name: str, dialect: str) -> Tree:
    """Return the golden trajectory of a method under one of its dialects."""
    method = get(name)
    hyper = _hyper(method, dialect)
    tree = {**_head("methods"), "method": name, "dialect": dialect, "source": method.SPEC.source, "hyper": hyper}
    if set(method.SPEC.needs) == {"grad"} and method.SPEC.gradient_equivalents[1] <= 1:
        scheduled = "lr" in keywords(method.step)  # else it is fixed at init, or there is none
        playable = [name for name in STREAMS if scheduled or streams.get(name).lr is None]
        played = {name: _played(method, hyper, name) for name in playable}
        return {**tree, "streams": {name: stream for name, stream in played.items() if stream}}
    return {**tree, "run": _run_somewhere(method, hyper)}


def curvature_tree(problem: str) -> Tree:
    """Return the curvature of one of `golden_curvature.PROBLEMS` at its start."""
    return {**_head("curvature"), **golden_curvature.measure(problem, golden_curvature.PROBLEMS[problem])}


def _head(kind: str) -> Tree:
    return {"format": FORMAT, "version": VERSION, "refopt": __version__, "kind": kind}


def _hyper(method: Method, dialect: str) -> Tree:
    """Return every keyword that a user may choose, with its value under the dialect."""
    given = {**keywords(method.init), **keywords(method.step), **preset(method, dialect)}
    return {key: value for key, value in sorted(given.items()) if key not in ("objective", "seed", "layout")}


def _played(method: Method, hyper: Mapping[str, Any], name: str) -> Tree:
    """Play a stream: its gradients, and x after each step. Nothing where the rule blows rounding up to `LOOSE`."""
    stream = streams.get(name)
    options = dict(hyper)
    lr = options.pop("lr", 1.0)
    gradients = []

    def grad(k: int, x: Array) -> Array:
        gradients.append(stream.grad(k, x))
        return gradients[-1]

    track = play(method_adapter.player(method, **options), Stream(name, stream.x0, grad, stream.lr), STEPS, lr)
    nudged = Stream(name, stream.x0, lambda k, x: gradients[k] * (1 - EPS * (k % 2)), stream.lr)
    apart = np.abs(play(method_adapter.player(method, **options), nudged, STEPS, lr).x - track.x)
    if not np.all(apart <= LOOSE * np.maximum.accumulate(np.abs(track.x))):
        return {}
    require(len(gradients) == STEPS, f"a method on a stream must ask for {STEPS} gradients", len(gradients))
    rates = {} if stream.lr is None else {"lr": np.asarray([lr * stream.lr(k) for k in range(STEPS)])}
    layout = {part: list(shape) for part, shape in method_adapter.layout_for(method).shapes.items()}
    return {"layout": layout, "x0": stream.x0, **rates, "gradients": np.stack(gradients), "x": track.x}


def _run_somewhere(method: Method, hyper: Mapping[str, Any]) -> Tree:
    """Run on the first of `PROBLEMS` that has what the method asks for, and where it does not climb."""
    for name, options in PROBLEMS:
        f = problems.get(name, **options).objective
        has = {*f.parts, *(("minibatch", "full") if f.n_examples is not None else ())}
        if set(method.SPEC.needs) <= has:
            with suppress(MissingPart), np.errstate(all="ignore"):  # a dialect may ask for more than its method
                run = _run(method, hyper, name, options)
                if f.value(run["x"][-1]) <= f.value(run["x0"]):
                    return run
    raise ValueError(f"no golden problem suits a method that needs {', '.join(method.SPEC.needs)}")


def _run(
    method: Method,
    hyper: Mapping[str, Any],
    name: str,
    options: Mapping[str, Any],
    script: Sequence[Sequence[Tree]] | None = None,
) -> Tree:
    """Run on a problem until |g| is `ENOUGH` of the first: every question with its answer, and x after each step.

    With the questions of a file for a `script` the method is given their answers, and as many steps.
    """
    problem = problems.get(name, **options)
    batches = problem.objective.n_examples is not None
    init, step = bind(method, **hyper)
    x, state = problem.x0, init(problem.x0, objective=problem.objective, seed=SEED)
    iterates: list[Array] = []
    questions: list[list[Tree]] = []
    g0 = np.linalg.norm(problem.objective.grad(x))

    def goes_on() -> bool:
        if script is not None:
            return len(iterates) < len(script)
        return len(iterates) < RUN_STEPS and bool(np.linalg.norm(problem.objective.grad(x)) > ENOUGH * g0)

    while goes_on():
        k = len(iterates)
        questions.append([])
        whole = questioned(problem.objective, questions[-1], script[k] if script is not None else ())
        x, state = step(whole.sample(BATCH, seed=SEED, k=k) if batches else whole, x, state)
        iterates.append(x)
    about = {"problem": name, "options": dict(options), "seed": SEED, **({"batch": BATCH} if batches else {})}
    return {**about, "x0": problem.x0, "questions": questions, "x": np.stack(iterates)}


def questioned(objective: Objective, asked: list[Tree], script: Sequence[Tree] = ()) -> Objective:
    """Return `objective`, which now writes into `asked` what it is asked and what it answers.

    Where `script` has a question of that number and kind, its answer is handed out in place of the objective's own.
    """
    examples = {} if objective.indices is None else {"examples": [int(i) for i in objective.indices]}

    def noted(part: str, x: Array, answer: Any, **more: Any) -> Any:
        scripted = script[len(asked)] if len(asked) < len(script) else {}
        asked.append({"part": part, "x": x, **more, **examples, "answer": _plain(answer)})
        return _filled(answer, scripted["answer"]) if scripted.get("part") == part else answer

    def plainly(part: str) -> Callable[..., Any]:
        def ask(x: Array, **draws: Any) -> Any:
            given = {key: value for key, value in draws.items() if value is not None}
            return noted(part, x, getattr(objective, part)(x, **draws), **given)

        return ask

    def product(part: str, x: Array, mv: Callable[[Array], Array]) -> Callable[[Array], Array]:
        return lambda v: noted(part, x, mv(v), v=v)

    def matrix(part: str) -> Callable[..., Any]:
        return lambda x, **draws: product(f"{part} product", x, getattr(objective, part)(x, **draws))

    def linearize(x: Array) -> Any:
        value, g, mv = objective.linearize(x)
        return *noted("value_and_grad", x, (value, g)), product("hessian product", x, mv)

    def hvp(x: Array, v: Array) -> Any:
        return noted("hessian product", x, objective.hvp(x, v), v=v)

    special = {"ggn": matrix("ggn"), "fisher": matrix("fisher"), "linearize": linearize, "hvp": hvp}
    here: dict[str, Any] = {part: special.get(part, plainly(part)) for part in objective.parts}
    sums: dict[str, Any] = {}
    if objective.n_examples is not None and objective.indices is None:
        sums["n_examples"] = objective.n_examples
        sums["restrict"] = lambda indices: questioned(objective.minibatch(indices), asked, script)
    result = Objective(**here, **sums, prices=objective.prices)
    result.joint = objective.joint
    return result


def _plain(answer: Any) -> Any:
    """Return an answer of an objective as a tree."""
    if isinstance(answer, dict):  # layers
        return {name: {"inputs": a.inputs, "output_grads": a.output_grads} for name, a in answer.items()}
    if isinstance(answer, tuple):
        value, g = answer
        return {"value": float(value), "grad": g}
    return answer if getattr(answer, "ndim", 0) else float(answer)


def _filled(answer: Any, tree: Any) -> Any:
    """Return an answer with the numbers of a tree."""
    if isinstance(answer, dict):
        return {name: layer._replace(**tree[name]) for name, layer in answer.items()}
    if isinstance(answer, tuple):
        return tree["value"], tree["grad"]
    return tree


# -------------------------------------------------------------------------------------------------------------- verify


def verify(directory: str | os.PathLike[str]) -> Iterator[Outcome]:
    """Hold every golden file under `directory`, whoever wrote it, against this library.

    Raises ValueError where there is none.
    """
    paths = sorted(path for suffix in ("json", "npz") for path in Path(directory).rglob(f"*.{suffix}"))
    require(bool(paths), f"{os.fspath(directory)} must hold golden files, .json or .npz", 0)
    for path in paths:
        try:
            finding, agrees = _held(golden_files.read(path))
        except Exception as error:  # a file may hold anything, and a method may raise anything on it
            yield Outcome(path, "unreadable", f"{type(error).__name__}: {error}")
        else:
            yield Outcome(path, "agrees" if agrees else "differs", finding)


def _held(tree: Tree) -> tuple[str, bool]:
    """Return the finding in words and whether all is within the tolerances."""
    if tree["kind"] == "curvature":
        _require_known(tree, golden_curvature.PROBLEMS.items())
        return _compared(golden_curvature.measure(tree["problem"], _tuples(tree["options"])), tree)
    method, hyper = get(tree["method"]), _tuples(tree["hyper"])
    if "run" in tree:
        run = tree["run"]
        _require_known(run, PROBLEMS)
        return _compared(_run(method, hyper, run["problem"], _tuples(run["options"]), run["questions"]), run)
    found = [_replayed(method, hyper, name, stream) for name, stream in tree["streams"].items()]
    return next((f for f in found if not f[1]), max(found, key=lambda f: f[0]))


def _require_known(tree: Tree, known: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Raise ValueError for a problem that no golden file is of: it may be too large to be made."""
    asked = tree["problem"], _tuples(tree["options"])
    require(any(asked == (name, dict(options)) for name, options in known), "problem must be a golden one", asked)


def _replayed(method: Method, hyper: Mapping[str, Any], name: str, stream: Tree) -> tuple[str, bool]:
    """Replay the gradients of the file, with the tolerances of `compare`."""
    gradients, x = stream["gradients"], stream["x"]
    layout = {part: tuple(map(int, shape)) for part, shape in stream["layout"].items()}
    shapes = method_adapter.layout_for(method).shapes
    require(layout == shapes, f"layout must be {shapes}", layout)
    require(gradients.shape == x.shape == (len(x), LAYOUT.n), f"gradients and x must be (steps, {LAYOUT.n})", x.shape)
    options, rates = dict(hyper), stream.get("lr")
    factor = None
    if rates is not None:
        require(len(rates) == len(x), "lr must have one entry a step", len(rates))
        options["lr"] = 1.0
        factor = lambda k: float(rates[k])  # noqa: E731
    played = Stream(name, stream["x0"], lambda k, x: gradients[k].copy(), factor)
    recording = Recording({name: Track(np.arange(1, len(x) + 1), x)}, {})
    comparison = compare(recording, method, streams=(played,), steps=len(x), **options)
    worst = comparison.first or comparison.largest
    return f"{worst.relative:.1e} on {worst}" if comparison.first else f"{worst.relative:.0e}", comparison.agrees


def _compared(ours: Any, theirs: Any) -> tuple[str, bool]:
    """Compare two trees number by number to `RTOL`, words exactly."""
    pairs = list(_pairs(ours, theirs, ""))
    units: dict[str, float] = {}
    for where, a, _ in pairs:
        if not isinstance(a, str):
            name = re.sub(r"/\d+", "", where)
            units[name] = max(units.get(name, 0.0), float(np.max(np.abs(a), initial=0.0)))
    largest = 0.0
    for where, a, b in pairs:
        if isinstance(a, str) or isinstance(b, str):
            if a != b:
                return f"{where}: reference {a!r}, file {b!r}", False
        elif np.shape(a) != np.shape(b):
            return f"{where}: reference of shape {np.shape(a)}, file {np.shape(b)}", False
        else:
            unit = units[re.sub(r"/\d+", "", where)] or 1.0
            apart = float(np.max(np.abs(np.subtract(a, b)), initial=0.0)) / unit
            if not apart <= RTOL:
                return f"{where}: {apart:.1e} apart, tolerance {RTOL:.0e}", False
            largest = max(largest, apart)
    return f"{largest:.0e}", True


def _pairs(a: Any, b: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield the leaves of the first tree beside those of the second, in the first one's order."""
    if isinstance(a, Mapping):
        for key, item in a.items():
            yield from _pairs(item, b[key], f"{where}/{key}")
    elif isinstance(a, list) and a and isinstance(a[0], list | Mapping):
        require(len(a) == len(b), f"{where} must have {len(a)} entries", len(b))
        for i, (item, other) in enumerate(zip(a, b, strict=True)):
            yield from _pairs(item, other, f"{where}/{i}")
    elif a is not None or b is not None:
        yield where, a, b


def _tuples(node: Any) -> Any:
    """Return keywords read from a file as Python has them: tuples for lists, and infinities."""
    if isinstance(node, dict):
        return {key: _tuples(item) for key, item in node.items()}
    if isinstance(node, list):
        return tuple(map(_tuples, node))
    if isinstance(node, int):
        require(abs(node) <= MOST, f"integers must be at most {MOST}", node)
    return float(node) if isinstance(node, str) and node in NOT_FINITE else node
