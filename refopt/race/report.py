"""The page and the picture of a race: report.html, which opens offline, and race.png."""

from __future__ import annotations

import html
import importlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refopt.checkpoint import write_atomically
from refopt.page import COLOURS
from refopt.race import picture
from refopt.race.answer import uses_curvature
from refopt.race.curves import curve, over_learning_rate, plane
from refopt.race.plan import Plan
from refopt.race.results import Raced, finite, versions
from refopt.race.standing import AXES, Standings

DASHES: dict[bool, tuple[float, ...]] = {True: (), False: (4.0, 1.5)}
"""Lines of methods that use curvature are solid, of those that use gradients alone dashed."""

MARKERS = (
    ("circle", "o"),
    ("square", "s"),
    ("diamond", "D"),
    ("triangle-up", "^"),
    ("cross", "P"),
    ("triangle-down", "v"),
    ("hexagon", "h"),
)
"""In the words of plotly and of matplotlib; seven beside nine colours, so that no two of 63 methods share both."""


def write(out: Path, plan: Plan, race: Sequence[Raced], standings: Sequence[Standings], answer: Sequence[str]) -> None:
    """Write both into the folder `out`. Raises RuntimeError where refopt[plot] is missing."""
    jinja2, offline, _ = library("jinja2"), library("plotly.offline"), library("matplotlib.figure")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("refopt.race"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["number"] = number
    styles = {
        method: {
            "label": html.escape(method),
            "colour": COLOURS[i % len(COLOURS)],
            "dashes": DASHES[uses_curvature(method)],
            "symbol": MARKERS[i % len(MARKERS)][0],
            "marker": MARKERS[i % len(MARKERS)][1],
        }
        for i, method in enumerate(plan.settings.methods)
    }
    drawn = {"methods": styles, "units": AXES, "problems": [_drawn(plan, race, found) for found in standings]}
    page = environment.get_template("report.html").render(
        plan=plan,
        standings=standings,
        answer=answer,
        units=AXES,
        failures={found.problem: _failures(race, found.problem) for found in standings},
        versions=versions(plan.settings.backend),
        plotly=offline.get_plotlyjs(),
        drawn=json.dumps(finite(_rounded(drawn)), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    )
    write_atomically(out / "report.html", page.encode())
    write_atomically(out / "race.png", picture.draw(race, standings, styles))


def library(name: str) -> Any:
    """Import what refopt[plot] brings. Raises RuntimeError, saying so, where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        missing = name.partition(".")[0]
        raise RuntimeError(f"no report: {missing} is missing; install refopt[plot], and --resume writes it") from None


def number(x: float) -> str:
    """Return `x` in three digits; "lost" for the value of a run that was lost."""
    if x == float("inf"):
        return "lost"
    return f"{x:.0f}" if 1e3 <= abs(x) < 1e6 else f"{x:.3g}"


def _drawn(plan: Plan, race: Sequence[Raced], found: Standings) -> dict[str, Any]:
    """Return what the page draws of one problem."""
    here = [raced for raced in race if raced.entry.problem == found.problem]
    return {
        "axis": found.axis,
        "saddles": [found.floored(value) for value in found.saddles],
        "label": "f" if found.minimum is None else "f - min f",
        "curves": {
            setting: {
                raced.entry.method: {axis: _columns(raced, setting, axis, found) for axis in AXES} for raced in here
            }
            for setting in here[0].reported
        },
        "rates": {raced.entry.method: over_learning_rate(raced, found) for raced in here},
        "plane": plane(plan.problems[found.problem], here),
        "paths": {
            setting: {
                raced.entry.method: [raced.reported[setting][0].rows.get(axis, []) for axis in ("x1", "x2")]
                for raced in here
            }
            for setting in here[0].reported
        },
    }


def _columns(raced: Raced, setting: str, axis: str, found: Standings) -> dict[str, Sequence[float]]:
    x, spread = curve(raced.reported[setting], axis, found)
    return {"x": x, **{name: [getattr(s, name) for s in spread] for name in ("median", "low", "high")}}


def _failures(race: Sequence[Raced], problem: str) -> list[tuple[str, str, str, int]]:
    """Return (method, setting, what went wrong, how often), trials included."""
    counted = Counter(
        (label["method"], label["setting"], outcome.message)
        for raced in race
        if raced.entry.problem == problem
        for label, outcome in raced.labelled()
        if outcome.failed
    )
    return [(*what, times) for what, times in counted.items()]


def _rounded(node: Any) -> Any:
    """Return the tree `node` with its floats in four digits: enough to draw, and a page half the size."""
    if isinstance(node, dict):
        return {key: _rounded(value) for key, value in node.items()}
    if isinstance(node, tuple) and hasattr(node, "_asdict"):
        return _rounded(node._asdict())
    if isinstance(node, list | tuple):
        return [_rounded(value) for value in node]
    return float(f"{node:.4g}") if isinstance(node, float) else node
