"""The deviation table: installed torch, optax, keras and scipy beside the references, as a page made by running.

agreements      every row of `dialects.PEERS`: the library's optimizer replayed beside the dialect named after it
defaults        knobs that the libraries' dialects set differently
claims          `deviations.CLAIMS`, each with its measured effect
solvers         scipy's and torch's solvers, optax' L-BFGS, and ours in their dialects, on Rosenbrock's function
measured        the scripts of examples/deviations, with what they print: what no two dialects can show
bugs            the scripts of examples/bugs, likewise
"""

from __future__ import annotations

import ast
import datetime
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import problems
from refopt import minimize
from refopt.conformance.deviations import CLAIMS, NOTES
from refopt.conformance.dialects import LIBRARIES, NAMED, PEERS, Peer, version
from refopt.conformance.recording import load
from refopt.conformance.replay import Comparison, Difference, preset
from refopt.conformance.streams import FLOAT32
from refopt.method import get, keywords, names
from refopt.status import nearest

GTOL = 1e-5
TELLING = 1e-2  # a stream on which rounding alone may move x by a larger share says nothing about a rule
ROOT = Path(__file__).parents[2]
RECORDINGS = ROOT / "tests" / "conformance" / "fixtures"
BUGS = ROOT / "examples" / "bugs"
MEASURED = ROOT / "examples" / "deviations"


class Agreement(NamedTuple):
    """What the replay of one peer found."""

    peer: Peer
    source: str  # 'torch 2.13.0', or with '(recorded)'
    comparison: Comparison

    @property
    def as_claimed(self) -> bool:
        """Whether the two agree, or differ where a bug is known."""
        return self.comparison.agrees is not bool(self.peer.bug)

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of a table, under `COLUMNS`."""
        peer = self.peer
        call = peer.call.removeprefix(f"{peer.library}.")
        sizes = (_largest(self.telling, dtype) for dtype in ("float64", "float32"))
        streams = f"{len(self.telling)} of {len(self.comparison.streams)}"
        return peer.method, self.source, call, peer.dialect or peer.library, streams, *sizes, self._finding

    @property
    def telling(self) -> list[Difference]:
        """The largest differences of the streams on which little enough is allowed."""
        return [d for d in self.comparison.streams if d.tolerance <= TELLING]

    @property
    def _finding(self) -> str:
        peer = self.peer
        if peer.bug:
            return "no longer differs" if self.comparison.agrees else f"differs, as known: {peer.bug}"
        if self.comparison.agrees:
            return f"agrees to {peer.rtol:.0e}: {peer.precision}" if peer.precision else "agrees"
        return f"DIFFERS: {self.comparison.first}"


COLUMNS = ("method", "library", "optimizer", "dialect", "streams", "float64 (allowed)", "float32 (allowed)", "finding")


def agreements(
    methods: Sequence[str] = (), libraries: Sequence[str] = (), recordings: Path = RECORDINGS
) -> Iterator[Agreement]:
    """Replay each peer of `methods` and `libraries`, all unless given; a recording where the library is missing.

    Raises ValueError for a method or library without a row.
    """
    for peer in peers(methods, libraries):
        file = recordings / f"{peer.name}.npz"
        if installed := version(peer.library):
            yield Agreement(peer, f"{peer.library} {installed}", peer.compare(peer.candidate()))
        elif file.exists():
            recording = load(file)
            source = f"{peer.library} {recording.about['version']} (recorded)"
            yield Agreement(peer, source, peer.compare(recording))


def peers(methods: Sequence[str] = (), libraries: Sequence[str] = ()) -> list[Peer]:
    """Return the rows of `PEERS` that are asked for. Raises ValueError for a method or library without one."""
    known = {peer.method for peer in PEERS}
    for what, asked, rows in (("method", methods, known), ("library", libraries, LIBRARIES)):
        for name in asked:
            if name not in rows:
                raise ValueError(f"no row for the {what} {name!r}{nearest(name, rows)}")
    return [p for p in PEERS if p.method in (methods or known) and p.library in (libraries or LIBRARIES)]


def _largest(differences: Sequence[Difference], dtype: str) -> str:
    """Return the largest of the differences in a dtype beside what is allowed there, as text."""
    found = [d for d in differences if (d.stream in FLOAT32) is (dtype == "float32")]
    return max(((d.relative, f"{d.relative:.0e} ({d.tolerance:.0e})") for d in found), default=(0.0, ""))[1]


# ---------------------------------------------------------------------------------------------------------- the parts


def defaults() -> Iterator[tuple[str, ...]]:
    """Yield method, knob and its value in each library, where two libraries have the method and differ in the knob."""
    for name in names():
        method = get(name)
        known = {**keywords(method.init), **keywords(method.step)}
        dialects = [library for library in NAMED if library in method.DIALECTS]
        for knob in known:
            values = {library: preset(method, library).get(knob, known[knob]) for library in dialects}
            if knob == "lr" and "optax" in dialects and "lr" not in preset(method, "optax"):
                values["optax"] = "required"
            if len(set(map(repr, values.values()))) > 1:
                cells = (values.get(library, "") for library in NAMED)
                yield name, knob, *(f"{v:g}" if isinstance(v, float) else str(v) for v in cells)


class Solver(NamedTuple):
    """One whole solver from Rosenbrock's start."""

    name: str
    steps: int
    gradients: int
    value: float


OURS = (
    ("bfgs", "scipy"),
    ("lbfgs", "scipy"),
    ("lbfgs", "torch"),
    ("lbfgs", "optax"),
    ("nonlinear_cg", "scipy"),
    ("newton_cg", "paper"),
    ("trust_region", "scipy"),
    ("trust_region_lanczos", "paper"),
    ("trust_region_exact", "paper"),
)
SCIPY = ("BFGS", "L-BFGS-B", "CG", "Newton-CG", "trust-ncg", "trust-krylov", "trust-exact")


def solvers(n: int) -> Iterator[Solver]:
    """Run the solvers of scipy, torch and optax, where installed, and ours in their dialects."""
    problem = problems.get("rosenbrock", n=n)
    for name, dialect in OURS:
        method = get(name)
        result = minimize(problem, method, steps=1000, stop={"grad_norm": GTOL}, **preset(method, dialect))
        gradients = result.ledger.counts["grad"] + result.ledger.counts["linearize"]  # which gives one too
        yield Solver(f"refopt {name}, dialect {dialect}", result.steps, gradients, result.value)
    if version("scipy"):
        for name in SCIPY:
            yield _scipy(problem, name)
    if version("torch"):
        for search in (None, "strong_wolfe"):
            yield _torch(problem, search)
    if version("optax"):
        yield _optax(problem)


def _scipy(problem: Any, name: str) -> Solver:
    from scipy.optimize import minimize as scipy_minimize

    f = problem.objective
    options = {"maxiter": 1000} | ({} if name == "Newton-CG" else {"gtol": GTOL})  # it stops by the length of its step
    result = scipy_minimize(
        lambda x: (float(f.value(x)), f.grad(x)),
        problem.x0,
        jac=True,
        hess=(lambda x: np.stack([f.hvp(x, e) for e in np.eye(len(x))])) if name == "trust-exact" else None,
        hessp=f.hvp if name in ("Newton-CG", "trust-ncg", "trust-krylov") else None,
        method=name,
        options=options,
    )
    return Solver(f"scipy {version('scipy')} {name}", int(result.nit), int(result.njev), float(result.fun))


def _torch(problem: Any, search: str | None) -> Solver:
    torch: Any = importlib.import_module("torch")
    x = torch.nn.Parameter(torch.tensor(problem.x0))
    lbfgs = torch.optim.LBFGS([x], max_iter=1000, tolerance_grad=GTOL, line_search_fn=search)
    calls = 0

    def closure() -> Any:
        nonlocal calls
        calls += 1
        value, g = problem.objective.value_and_grad(x.detach().numpy())
        x.grad = torch.tensor(g)
        return torch.tensor(float(value), dtype=x.dtype)  # a search in float32 takes other steps

    lbfgs.step(closure)
    value = float(problem.objective.value(x.detach().numpy()))
    return Solver(f"torch {version('torch')} LBFGS, {search or 'no search'}", lbfgs.state[x]["n_iter"], calls, value)


def _optax(problem: Any) -> Solver:
    jax, optax = (importlib.import_module(name) for name in ("jax", "optax"))

    def f(x: Any) -> Any:
        return jax.numpy.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    def advance(x: Any, state: Any) -> tuple[Any, Any]:
        value, g = optax.value_and_grad_from_state(f)(x, state=state)
        update, state = lbfgs.update(g, state, x, value=value, grad=g, value_fn=f)
        return optax.apply_updates(x, update), state

    with jax.enable_x64(True):
        lbfgs, x, steps, gradients = optax.lbfgs(), jax.numpy.asarray(problem.x0), 0, 1
        state, step = lbfgs.init(x), jax.jit(advance)
        while steps < 1000 and float(jax.numpy.linalg.norm(jax.grad(f)(x))) > GTOL:
            x, state = step(x, state)
            steps += 1
            gradients += int(optax.tree.get(state, "info").num_linesearch_steps)
        return Solver(f"optax {version('optax')} lbfgs", steps, gradients, float(f(x)))


class Script(NamedTuple):
    """A script of `BUGS` or `MEASURED` and what it printed."""

    name: str
    about: str  # its docstring
    code: str  # what follows it
    library: str
    printed: str  # "" where the library is missing

    @property
    def row(self) -> int:
        """The row of the table of known deviations that the name of one of `MEASURED` begins with."""
        return int(self.name.partition("_")[0])


def scripts(folder: Path, run: Callable[[Path], str] | None = None) -> Iterator[Script]:
    """Run each script in a process of its own."""
    for path in sorted(folder.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        about = ast.get_docstring(ast.parse(source)) or ""
        library = library_of(path)
        printed = (run or run_script)(path) if version(library) else ""
        yield Script(path.name, about, source.split('"""', 2)[2].strip(), library, printed)


def library_of(path: Path) -> str:
    """Return the library that a script's name tells: of 'torch_nadam.py' and '43_torch_first_step.py' torch."""
    name = path.name.lstrip("0123456789_")
    return next(library for library in (*LIBRARIES, "scipy") if name.startswith(f"{library}_"))


def run_script(path: Path) -> str:
    """Return what a script prints. Raises CalledProcessError where it fails.

    The last line is 'differs' or 'mended' of a bug, 'holds' or 'no longer' of what is measured.
    """
    command = [sys.executable, "-W", "ignore", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.strip()


# ----------------------------------------------------------------------------------------------------------- the page


def page(found: Sequence[Agreement]) -> str:
    """Return the whole table as Markdown."""
    today = datetime.date.today().isoformat()
    installed = [f"{library} {version(library)}" for library in (*LIBRARIES, "scipy") if version(library)]
    claims = [(claim, claim.measure()) for claim in CLAIMS]
    left_out = sum(len(agreement.comparison.streams) - len(agreement.telling) for agreement in found)
    return "\n".join(
        [
            "# Deviations",
            "",
            "Where implementations of the same optimizer agree, and where they differ. Made by running:",
            f"`refopt conformance table --out docs/deviations.md`, {today}, {', '.join(installed) or 'no library'}.",
            "",
            "## Who agrees with which dialect",
            "",
            "Each library's optimizer, made with the options shown and all else at its defaults, replayed beside the",
            "method's dialect for 200 steps of each stream. The numbers are the largest relative difference of x, and",
            "in brackets what is allowed there. x is a matrix (4, 2) and a vector; for Muon, which takes matrices",
            "alone, a wide and a tall one. A row lacks the streams on which it could tell nothing: schedules where",
            "it has a row of its own for them; for Muon those on which rounding decides. Of the others, `streams`",
            f"counts those whose numbers are here: where rounding alone may move x by more than {TELLING:g}, the row",
            f"leaves the stream out, {left_out} times in all.",
            "",
            *markdown(COLUMNS, [agreement.cells for agreement in found]),
            "",
            "## Defaults that differ",
            "",
            "`required`: the library has no default.",
            "",
            *markdown(("method", "knob", *NAMED), defaults()),
            "",
            "## What differs, and by how much",
            "",
            "Two settings at the same learning rate on the same 40 gradients; the largest difference of the distance",
            "moved, relative to it, among coordinates of small gradients (1e-9 to 1e-4) and of large ones (1e-3 to",
            "1e2). 0 is below 1e-11. `row` numbers the deviations that were known before they were measured.",
            "",
            *markdown(
                ("row", "what", "left", "right", "small, step 1", "large, step 1", "small, step 40", "large, step 40"),
                [
                    (
                        str(claim.row),
                        claim.about + ("" if claim.holds(effect) else " **NO LONGER**"),
                        f"{claim.left}",
                        f"{claim.right}" + (f", stream {claim.stream}" if claim.stream != "scales" else ""),
                        *map(_size, effect),
                    )
                    for claim, effect in claims
                ],
            ),
            "",
            "What no two settings of one method show, measured on the libraries by the scripts of",
            "`examples/deviations/`:",
            "",
            *markdown(
                ("row", "what", "measured", "library"),
                [
                    (str(script.row), script.about, "; ".join(_printed(script).splitlines()), script.library)
                    for script in scripts(MEASURED)
                ],
            ),
            "",
            *markdown(("row", "note"), [(str(row), note) for row, note in NOTES.items()]),
            "",
            "## Whole solvers",
            "",
            "Rosenbrock's function from (-1.2, 1, ...) until |g| <= 1e-5 in each library's norm, counted by it. Line",
            "searches differ, so paths do.",
            "",
            *markdown(
                ("n", "solver", "steps", "gradients", "f at the end"),
                [
                    (str(n), solver.name, str(solver.steps), str(solver.gradients), _size(solver.value))
                    for n in (2, 10)
                    for solver in solvers(n)
                ],
            ),
            "",
            "From n = 4 on the function has a second minimum, near (-1, 1, 1, ...); at n = 10 its value is 3.9866.",
            "",
            "## Live bugs",
            "",
            "Each in a script of its own, in `examples/bugs/`.",
            *(line for bug in scripts(BUGS) for line in _shown(bug)),
            "",
        ]
    )


def _shown(bug: Script) -> list[str]:
    return ["", f"### {bug.name}", "", bug.about, "", "```python", bug.code, "```", "", "```text", _printed(bug), "```"]


def _printed(script: Script) -> str:
    return script.printed or f"{script.library} is not installed"


def markdown(columns: Sequence[str], rows: Any) -> list[str]:
    """Return a Markdown table, line by line."""
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _size(size: float) -> str:
    return "0" if abs(size) <= 1e-11 else f"{size:.1e}"
