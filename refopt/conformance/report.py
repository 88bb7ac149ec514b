"""The outcome of a check: in words, as JSON, and as a page with the difference curves that opens offline."""

from __future__ import annotations

import html
import importlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from refopt.checkpoint import write_atomically
from refopt.conformance.replay import Difference, Trace
from refopt.page import COLOURS, STYLE
from refopt.status import require

Outcome = Literal["agrees", "differs", "could not run"]

EXIT_STATUS: Mapping[Outcome, int] = {"agrees": 0, "differs": 1, "could not run": 2}

DRAWN_AT_LEAST = 1e-17
"""Where a difference of 0 is drawn on the logarithmic axis."""


@dataclass(frozen=True)
class Report:
    """What a check found. All fields are plain, so that it is its own JSON; `docs/check.md` describes them."""

    candidate: str
    reference: str
    outcome: Outcome
    mode: Literal["replay", "interactive", "log", "solver", ""] = ""
    dialect: str = ""  # the one asked for, or else the one that agrees best
    agreeing: Sequence[str] = ()  # all dialects that agree
    tried: Sequence[str] = ()
    hyper: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 0
    largest: Mapping[str, Any] | None = None  # a Difference
    first: Mapping[str, Any] | None = None  # a Difference
    streams: Sequence[Mapping[str, Any]] = ()  # see `stream`
    diagnosis: Mapping[str, Any] | None = None  # text, causes, explains
    claims: Sequence[Mapping[str, Any]] = ()  # of a solver: problem, claim, holds, finding
    notes: Sequence[str] = ()
    error: str = ""

    def __str__(self) -> str:
        return "\n".join(sentences(self))


def stream(trace: Trace) -> dict[str, Any]:
    """Return a trace as plain values."""
    return {
        "stream": trace.stream,
        "agrees": trace.first is None,
        "largest": trace.largest._asdict(),
        "first": trace.first._asdict() if trace.first else None,
        "curve": {name: getattr(trace, name).tolist() for name in ("steps", "relative", "tolerance")},
    }


def sentences(report: Report) -> list[str]:
    """Return the outcome in words: the verdict, where, why, and what else was seen."""
    if report.outcome == "could not run":
        return [f"{report.candidate} could not be checked: {report.error}", *report.notes]
    if report.mode == "solver":
        wrong = [claim for claim in report.claims if not claim["holds"]]
        verdict = "is true" if not wrong else f"is untrue {len(wrong)} times"
        told = f"{report.candidate}: what its results claim {verdict}, of {len(report.claims)} claims"
        return [told, *(f"{c['problem']}, {c['claim']}: {c['finding']}" for c in wrong), *report.notes]
    dialect = f", dialect {report.dialect!r}" if report.dialect else ""
    said = [f"{report.candidate} {report.outcome} {_WITH[report.outcome]} refopt's {report.reference}{dialect}"]
    if report.mode == "log":
        said[0] += f", on {report.steps} steps"
    if also := [other for other in report.agreeing if other != report.dialect]:
        said[0] += f"; with {', '.join(map(repr, also))} too"
    elif report.outcome == "differs" and len(report.tried) > 1:
        said[0] += f", which comes closest of {', '.join(map(repr, report.tried))}"
    if report.first:
        said.append(f"first divergence: {Difference(**report.first)}")
    if report.largest:
        said.append(f"largest difference: {Difference(**report.largest)}")
    if report.diagnosis:
        said.append(f"diagnosis: {report.diagnosis['text']}")
    return [*said, *report.notes]


_WITH = {"agrees": "with", "differs": "from"}


def as_json(report: Report) -> str:
    """Return the report as JSON; numbers that are not finite are the words nan, inf and -inf."""
    plain = {**asdict(report), "exit_status": EXIT_STATUS[report.outcome], "text": sentences(report)}
    return json.dumps(_finite(plain), indent=1, allow_nan=False)


def require_folder(path: Path) -> None:
    """Raise ValueError where no page can be written, before a check that may take long."""
    require(path.parent.is_dir() and not path.is_dir(), "a page must be named in a folder that exists", str(path))


def write_html(report: Report, path: Path) -> None:
    """Write the page. Raises RuntimeError where refopt[plot] is missing."""
    jinja2, offline = _library("jinja2"), _library("plotly.offline")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("refopt.conformance"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    curves = [
        {
            "name": html.escape(found["stream"]),
            "colour": COLOURS[i % len(COLOURS)],
            "steps": found["curve"]["steps"],
            **{kind: [_drawn(y) for y in found["curve"][kind]] for kind in ("relative", "tolerance")},
        }
        for i, found in enumerate(report.streams)
    ]
    page = environment.get_template("report.html").render(
        report=report,
        sentences=sentences(report),
        style=STYLE,
        rows=[(found["stream"], found["agrees"], found["largest"], found["first"]) for found in report.streams],
        plotly=offline.get_plotlyjs() if curves else "",
        curves=json.dumps(curves, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    )
    write_atomically(path, page.encode())


def _drawn(y: float) -> float | None:
    """Return a difference in four digits as it is drawn; None where it is not finite."""
    return float(f"{max(y, DRAWN_AT_LEAST):.4g}") if math.isfinite(y) else None


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise RuntimeError(f"no page: {name.partition('.')[0]} is missing; install refopt[plot]") from None


def _finite(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {str(key): _finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(value) for value in node]
    if isinstance(node, float) and not math.isfinite(node):
        return str(node)
    return node if isinstance(node, str | int | float | None) else str(node)
