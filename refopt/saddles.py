"""Who leaves a saddle: methods race from the neighbourhood of a known one.

All start at the same point x_0 = s + distance u, u a random direction of length 1, with their default knobs, on the
full batch. A method

    leaves         when |x - s| >= radius and f(x) < f(s), for the first time; radius is half the way to the nearest
                   other stationary point, where one is known, and else 100 distance
    converges      to the saddle where it ends within distance / 1000 of it
    is on its way  where it ends below f(s), 10 distance away or more
    stays          else

and the direction by which it left is what x - s then is made of: the share of |x - s|^2 along the eigenvectors of
H(s) whose eigenvalues are not positive, and the one eigenvector that has most of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from backends import random
from backends.arrays import Array, array_like, asnumpy, norm
from problems.problem import Problem, StationaryPoint
from refopt import checkpoint, page
from refopt import method as methods
from refopt.curvature import saddle_classifier
from refopt.curvature.products import dense
from refopt.curvature.saddle_classifier import Classification
from refopt.loop import Step, minimize
from refopt.objective import MissingPart
from refopt.race import sources
from refopt.race.plan import Budget
from refopt.race.results import finite
from refopt.status import require

METHODS = (
    "sgd",
    "nesterov",
    "adam",
    "barzilai_borwein",
    "lbfgs",
    "newton",
    "newton_cg",
    "trust_region",
    "cubic",
    "saddle_free",
    "newton_mr",
    "negative_curvature_descent",
    "perturbed_gd",
)
"""Who races when nobody is named: those of these that there are."""

LARGEST = 1000
"""The largest n: all eigenvectors at the saddle are computed."""


class Departure(NamedTuple):
    """How one method fared."""

    method: str
    outcome: str  # "leaves", "on its way", "stays", "converges" to s, or how it failed
    k: int | None  # steps until it left
    gradient_equivalents: float | None
    share: float | None  # of |x - s|^2 along directions of eigenvalue <= 0, when it left
    along: float | None  # the eigenvalue of the direction that has most of it
    sign: int | None  # to which side of that eigenvector
    value: float  # f where it ended
    distance: float  # |x - s| there
    steps: int
    spent: float  # gradient equivalents of the whole run
    path: tuple[tuple[float, float, float, float], ...]  # (gradient equivalents, |x - s|, v_1^T (x - s), v_n^T (x - s))


class Race(NamedTuple):
    """The race at one saddle."""

    saddle: StationaryPoint
    verdict: Classification
    eigenvalues: tuple[float, ...]  # of H(s), ascending
    V: np.ndarray[Any, Any]  # (n, n) its eigenvectors
    radius: float
    distance: float
    departures: tuple[Departure, ...]
    absent: tuple[tuple[str, str], ...]  # (method, why)


LETTERS = {"leaves": "L", "on its way": "w", "stays": "s", "converges": "c"}
"""What stands for an outcome in a survey; "!" for a failure, "-" for a method that cannot take part."""


def known_saddles(problem: Problem) -> list[StationaryPoint]:
    """Return the points of a problem that are known to be a saddle, a maximum or degenerate."""
    return [point for point in problem.stationary_points if point.index > 0 or point.degenerate]


def find_saddle(problem: Problem, number: int) -> StationaryPoint:
    """Return the known saddle `number` of a problem. Raises ValueError where there is none."""
    known = known_saddles(problem)
    if not known:
        raise ValueError(f"no saddle of {problem.name} is known")
    require(0 <= number < len(known), f"saddle must be in [0, {len(known) - 1}]", number)
    return known[number]


def race(
    problem: Problem,
    names: Sequence[str] | None = None,
    *,
    number: int = 0,
    distance: float = 1e-3,
    budget: str = "200ge",
    until_left: bool = False,
    seed: int = 0,
) -> Race:
    """Race the methods `names` from the neighbourhood of the saddle `number` of `problem`.

    A method runs on after it left, to the end of the budget, unless `until_left`.

    Raises ValueError for a problem without a known saddle or of more than 1000 parameters, a distance or a budget that
    is not positive, and where no method can take part; ValueError or TypeError for a method that is none.
    """
    require(distance > 0, "distance must be positive", distance)
    require(problem.n <= LARGEST, f"a problem must have at most {LARGEST} parameters", problem.n)
    saddle, spent = find_saddle(problem, number), Budget.read(budget)
    named = names if names is not None else [name for name in METHODS if name in methods.names()]
    require(bool(named), "methods must name at least one", named)
    found = {name: sources.find_method(name) for name in named}

    eigenvalues, V = np.linalg.eigh(asnumpy(dense(problem.objective.linearize(saddle.x)[2], saddle.x)))
    others = [norm(point.x - saddle.x) for point in problem.stationary_points if point is not saddle]
    radius = max(0.5 * min(others) if others else 100.0 * distance, 2.0 * distance)
    u = random.normal(problem.n, seed=seed, k=0, purpose="saddles", like=saddle.x)
    x0 = saddle.x + (distance / norm(u)) * u
    watched = _Watched(problem, saddle, radius, distance, eigenvalues, V)
    departures, absent = [], []
    for name, method in found.items():
        try:
            departures.append(_run(name, method, watched, x0, spent, until_left, seed))
        except MissingPart as missing:
            absent.append((name, str(missing)))
    if not departures:
        raise ValueError(f"no method can race on {problem.name}: {absent[-1][1]}")
    verdict = saddle_classifier(problem.objective, saddle.x, exact_up_to=LARGEST)
    return Race(saddle, verdict, tuple(eigenvalues.tolist()), V, radius, distance, tuple(departures), tuple(absent))


def survey(problem: Problem, names: Sequence[str], *, budget: str = "200ge", seed: int = 0) -> dict[str, str]:
    """Race at every known saddle of `problem`; return for each method one of `LETTERS` a saddle, in their order.

    Raises what `race` raises.
    """
    outcomes = dict.fromkeys(names, "")
    for number in range(len(known_saddles(problem))):
        found = race(problem, names, number=number, budget=budget, until_left=True, seed=seed)
        letters = {d.method: LETTERS.get(d.outcome, "!") for d in found.departures}
        outcomes = {name: so_far + letters.get(name, "-") for name, so_far in outcomes.items()}
    return outcomes


class _Watched(NamedTuple):
    problem: Problem
    saddle: StationaryPoint
    radius: float
    distance: float
    eigenvalues: np.ndarray[Any, Any]
    V: np.ndarray[Any, Any]  # (n, n) eigenvectors

    def where(self, x: Array) -> np.ndarray[Any, Any]:
        """Return x - s in the coordinates of the eigenvectors."""
        turned: np.ndarray[Any, Any] = self.V.T @ asnumpy(x - self.saddle.x)
        return turned

    def below(self, x: Array) -> bool:
        return float(self.problem.objective.value(x)) < self.saddle.value


def _run(
    name: str, method: methods.Method, watched: _Watched, x0: Array, budget: Budget, until_left: bool, seed: int
) -> Departure:
    path: list[tuple[float, float, float, float]] = []
    left: tuple[int, float, np.ndarray[Any, Any]] | None = None
    solution = getattr(method, "solution", None) or (lambda x, state: x)

    def watch(step: Step) -> bool:
        nonlocal left
        x = solution(step.x, step.state)
        d = watched.where(x)
        far = float(np.linalg.norm(d))
        path.append((step.ledger.gradient_equivalents, far, float(d[0]), float(d[-1])))
        if left is None and far >= watched.radius and watched.below(x):
            left = step.k, step.ledger.gradient_equivalents, d
        return until_left and left is not None

    steps = int(10 * budget.amount) + 10 if budget.unit == "ge" else 10**9
    with np.errstate(all="ignore"):
        end = minimize(
            watched.problem,
            method,
            x0=x0,
            steps=steps,
            seed=seed,
            callback=watch,
            stop={budget.rule: budget.amount},
            history_every=steps,
        )
    k, spent, d = left if left is not None else (None, None, None)
    share = along = sign = None
    if d is not None:
        squares = d * d / (d @ d)
        falling = watched.eigenvalues <= 1e-10 * np.max(np.abs(watched.eigenvalues))
        most = int(np.argmax(squares))
        share, along, sign = float(squares[falling].sum()), float(watched.eigenvalues[most]), int(np.sign(d[most]))
    distance = norm(end.x - watched.saddle.x)
    if left is not None:
        outcome = "leaves"
    elif distance <= 1e-3 * watched.distance:
        outcome = "converges"
    elif end.status.failed:
        outcome = str(end.status)
    else:
        on_its_way = distance >= 10 * watched.distance and end.value < watched.saddle.value
        outcome = "on its way" if on_its_way else "stays"
    return Departure(
        name,
        outcome,
        k,
        spent,
        share,
        along,
        sign,
        end.value,
        distance,
        end.steps,
        end.ledger.gradient_equivalents,
        tuple(path),
    )


# -------------------------------------------------------------------------------------------------------- in words

COLUMNS = ("method", "outcome", "steps", "ge", "lambda", "downhill", "f at end")


def rows(found: Race) -> list[tuple[str, ...]]:
    """Return the table, one row a method, who left first on top; in brackets, what those spent who did not leave.

    lambda is the eigenvalue of the direction by which it left, with the side in brackets.
    """
    order = sorted(found.departures, key=lambda d: (d.gradient_equivalents is None, d.gradient_equivalents or 0.0))
    return [
        (
            d.method,
            d.outcome,
            str(d.k) if d.k is not None else f"({d.steps})",
            f"{d.gradient_equivalents:.4g}" if d.gradient_equivalents is not None else f"({d.spent:.4g})",
            f"{d.along:.3g} ({'+' if d.sign == 1 else '-'})" if d.along is not None else "",
            f"{d.share:.1%}" if d.share is not None else "",
            f"{d.value:.4g}",
        )
        for d in order
    ]


def sentences(found: Race, problem: Problem) -> list[str]:
    """Return what the race was, in sentences."""
    lowest, highest = found.eigenvalues[0], found.eigenvalues[-1]
    left = [d for d in found.departures if d.outcome == "leaves"]
    return [
        f"{problem.title}: the point is {found.verdict}; eigenvalues {lowest:.3g} .. {highest:.3g}.",
        f"All start {found.distance:g} from it, the same way; who leaves is {found.radius:.3g} away, and below.",
        f"{len(left)} of {len(found.departures)} leave it.",
    ]


def as_json(found: Race) -> dict[str, Any]:
    """Return the race as plain JSON values."""
    return {
        "saddle": asnumpy(found.saddle.x).tolist(),
        "kind": found.verdict.kind.name,
        "index": found.verdict.inertia.negative,
        "eigenvalues": found.eigenvalues,
        "radius": found.radius,
        "distance": found.distance,
        "departures": [d._asdict() for d in found.departures],
        "absent": found.absent,
    }


def draw(found: Race, problem: Problem) -> Any:
    """Return a figure: the distance from the saddle over the cost, and the paths in the plane of both ends of H."""
    drawn = page.figure(12.8, 5.2)
    over, plane = drawn.subplots(1, 2)
    for i, d in enumerate(found.departures):
        path = np.asarray(d.path)
        colour, dashes = page.COLOURS[i % len(page.COLOURS)], "-" if i < len(page.COLOURS) else "--"
        over.plot(path[:, 0], np.maximum(path[:, 1], 1e-16), dashes, color=colour, linewidth=1.5, label=d.method)
        plane.plot(path[:, 2], path[:, 3], dashes, color=colour, linewidth=1.3, marker=".", markersize=3)
    over.axhline(found.radius, color=page.SOFT, linewidth=0.8, linestyle=":")
    over.set_xscale("symlog")
    over.set_xlim(left=0.0)
    over.set(yscale="log", xlabel="gradient equivalents", ylabel="|x - s|")
    over.legend(frameon=False, fontsize=8)
    page.dress(over, "distance from the saddle")
    reach = 2.5 * found.radius
    _landscape(plane, found, problem, reach)
    plane.set(xlim=(-reach, reach), ylim=(-reach, reach))
    plane.set(xlabel=f"along lambda = {found.eigenvalues[0]:.3g}", ylabel=f"along lambda = {found.eigenvalues[-1]:.3g}")
    page.dress(plane, "paths, seen in the plane of the extreme eigenvectors")
    return drawn


def _landscape(axes: Any, found: Race, problem: Problem, reach: float) -> None:
    """Draw the level lines of f in the plane through the saddle."""
    if problem.n < 2:
        return
    s, V = found.saddle.x, found.V
    grid = np.linspace(-reach, reach, 61)
    points = ((array_like(a * V[:, 0] + b * V[:, -1], s) for a in grid) for b in grid)
    f = np.asarray([[float(problem.objective.value(s + d)) for d in row] for row in points]) - found.saddle.value
    axes.contour(grid, grid, np.sign(f) * np.sqrt(np.abs(f)), 24, colors=page.FAINT, linewidths=0.7)


def write(found: Race, problem: Problem, out: Path) -> None:
    """Write saddles.json, saddles.png and saddles.html into the folder `out`."""
    table, title = page.Rows(COLUMNS, rows(found)), f"Who leaves the saddle? {problem.title}"
    absent = [page.Rows(("absent", "why"), found.absent)] if found.absent else []
    page.write(out, "saddles", title, sentences(found, problem), [table, *absent], {"": draw(found, problem)})
    checkpoint.write_atomically(out / "saddles.json", json.dumps(finite(as_json(found)), indent=1).encode())
