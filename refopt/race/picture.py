"""race.png: the curves of a race over its cost, one panel a problem."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from refopt.page import SOFT, dress
from refopt.race.curves import curve
from refopt.race.results import Raced
from refopt.race.standing import AXES, Standings

LINE = 0.045  # the height of a label, as a share of the panel's


def draw(race: Sequence[Raced], standings: Sequence[Standings], styles: Mapping[str, Any]) -> bytes:
    """Return a PNG: medians over the seeds with their range, tuned where there was tuning, named at their ends."""
    from matplotlib.figure import Figure  # not pyplot, which keeps every figure and looks for a display

    columns = min(len(standings), 2)
    rows = math.ceil(len(standings) / columns)
    figure = Figure(figsize=(6.4 * columns, 4.6 * rows), dpi=150, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(standings) :]:
        axes.set_axis_off()
    for axes, found in zip(panels, standings, strict=False):
        _panel(axes, [raced for raced in race if raced.entry.problem == found.problem], found, styles)
    key = "solid: uses curvature\ndashed: gradients alone\nmedian over the seeds, and range"
    panels[0].annotate(key, (0.02, 0.03), xycoords="axes fraction", color=SOFT, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer)
    return buffer.getvalue()


def _panel(axes: Any, race: Sequence[Raced], found: Standings, styles: Mapping[str, Any]) -> None:
    setting = found.settings[0]
    ends = []
    for raced in race:
        x, spread = curve(raced.reported[setting], found.axis, found)
        if not x:
            continue
        colour, dashes, marker = (styles[raced.entry.method][key] for key in ("colour", "dashes", "marker"))
        median, low, high = zip(*spread, strict=True)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        shown = {"marker": marker, "markersize": 3.5, "markevery": 0.2}
        axes.plot(x, median, color=colour, linewidth=1.6, linestyle=(0, dashes) if dashes else "-", **shown)
        ends.append((x[-1], median[-1], raced.entry.method, colour, marker))
    drawn = [y for _, y, *_ in ends if math.isfinite(y)]
    start = found.height(found.start)
    positive = bool(drawn) and min(drawn) > 0
    axes.set(xscale="log", yscale="log" if positive else "linear", xlabel=AXES[found.axis])
    if positive:
        axes.set_ylim(0.5 * min(drawn), 3.0 * start)
    for value in found.saddles:
        axes.axhline(found.floored(value), color=SOFT, linewidth=0.8, linestyle=":")
        place = {"xy": (0.0, found.floored(value)), "xycoords": ("axes fraction", "data"), "xytext": (4, 3)}
        axes.annotate("saddle", **place, textcoords="offset points", color=SOFT, fontsize=8)
    axes.set_ylabel("f" if found.minimum is None else "f - min f")
    dress(axes, found.title)
    _name_ends(axes, ends)


def _name_ends(axes: Any, ends: Sequence[tuple[float, float, str, str, str]]) -> None:
    """Write each method beside the end of its curve; at the right edge, one above the other."""
    edge, inside = [], []
    for x, y, method, colour, marker in sorted(ends, key=lambda end: -end[1]):
        axes.plot([x], [y], marker, color=colour, markersize=3.5, clip_on=False)
        across, up = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))
        text = {"color": colour, "fontsize": 9, "va": "center", "parse_math": False, "annotation_clip": False}
        if across < 0.8:
            inside.append((x, y, method, text))
        else:
            edge.append((up, method, text))
    for x, y, method, text in inside:
        last = x == max(end[0] for end in inside)
        offset, side = ((6, 0), "left") if last else ((-9, 0), "right")
        axes.annotate(method, (x, y), offset, textcoords="offset points", ha=side, **text)
    places = [up for up, *_ in edge]
    for i in range(1, len(places)):
        places[i] = min(places[i], places[i - 1] - LINE)
    for i in reversed(range(len(places))):
        places[i] = max(places[i], places[i + 1] + LINE if i + 1 < len(places) else 0.0)
    for place, (_, method, text) in zip(places, edge, strict=True):
        axes.annotate(method, (1.02, place), xycoords="axes fraction", **text)
