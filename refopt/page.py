"""A page and a picture of an analysis: one HTML file that opens offline, figure inside, and a PNG."""

from __future__ import annotations

import html
import importlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from refopt.checkpoint import write_atomically

INK, SOFT, FAINT = "#1d2433", "#5a6478", "#d9dde5"
COLOURS = ("#332288", "#cc6677", "#117733", "#ddaa33", "#882255", "#44aa99", "#aa4499", "#5599cc", "#999933")
"""After P. Tol's muted scheme, which stays apart for colour-blind eyes; a tenth method takes the first again."""

STYLE = """
  body { margin: 0; color: #1d2433; background: #f6f7fa; font: 16px/1.55 system-ui, "Segoe UI", sans-serif; }
  main { max-width: 1200px; margin: 0 auto; padding: 40px 24px 80px; }
  h1 { font-size: 30px; line-height: 1.2; margin: 0 0 4px; }
  p { color: #5a6478; margin: 4px 0; }
  .card { background: #fff; border: 1px solid #e2e6ee; border-radius: 10px; }
  .card { padding: 14px 16px; margin: 18px 0; overflow-x: auto; }
  svg { width: 100%; height: auto; }
  table { border-collapse: collapse; font-size: 14px; width: 100%; }
  th, td { text-align: left; padding: 6px 12px 6px 0; border-bottom: 1px solid #e2e6ee; }
  td { font-variant-numeric: tabular-nums; }
  th { color: #5a6478; font-weight: 600; }
"""


class Rows(NamedTuple):
    """A table in words: its columns' names, none to show none, and its rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def figure(width: float, height: float) -> Any:
    """Return an empty matplotlib figure. Raises RuntimeError where refopt[plot] is missing."""
    try:
        module = importlib.import_module("matplotlib.figure")  # not pyplot, which looks for a display
    except ImportError:
        raise RuntimeError("no picture: matplotlib is missing; install refopt[plot]") from None
    return module.Figure(figsize=(width, height), dpi=150, layout="constrained")


def dress(axes: Any, title: str) -> None:
    """Give a panel its title and the looks that all share."""
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    axes.grid(color=FAINT, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def heat(axes: Any, shades: Any, words: Sequence[Sequence[str]], rows: Sequence[str], columns: Sequence[str]) -> Any:
    """Draw a table of words on a ground of shades, nan for none; return the picture, for a colour bar."""
    picture = axes.imshow(shades, aspect="auto", cmap="cividis_r")
    colours = picture.cmap(picture.norm(shades))
    for i, line in enumerate(words):
        for j, word in enumerate(line):
            red, green, blue, opaque = colours[i, j]
            light = opaque == 0.0 or 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.5
            axes.text(j, i, word, ha="center", va="center", fontsize=7, color=INK if light else "white")
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_xticks(range(len(columns)), columns, fontsize=8, rotation=30, ha="right")
    axes.spines[["top", "right"]].set_visible(False)
    return picture


def write(
    out: Path,
    name: str,
    title: str,
    sentences: Sequence[str],
    tables: Sequence[Rows],
    figures: Mapping[str, Any],
) -> None:
    """Write NAME.html, the figure "" as NAME.png and others as NAME-WORD.png, into the folder `out`, which is made."""
    out.mkdir(parents=True, exist_ok=True)
    pictures = []
    for word, drawn in figures.items():
        png, svg = io.BytesIO(), io.StringIO()
        drawn.savefig(png, format="png")
        drawn.savefig(svg, format="svg", metadata={"Date": None})
        pictures.append(svg.getvalue())
        write_atomically(out / f"{file_of(name, word)}.png", png.getvalue())
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>",
        f"<h1>{html.escape(title)}</h1>",
        *(f"<p>{html.escape(sentence)}</p>" for sentence in sentences),
        *(f'<div class="card">{picture[picture.index("<svg") :]}</div>' for picture in pictures),
        *(f'<div class="card">{_table(table)}</div>' for table in tables),
        "</main>\n</body>\n</html>\n",
    ]
    write_atomically(out / f"{name}.html", "\n".join(parts).encode())


def file_of(name: str, word: str) -> str:
    """Return the name of the file of a figure, without its ending."""
    return f"{name}-{word}" if word else name


def _table(table: Rows) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
    rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in table.rows)
    return "\n".join(["<table>", f"<tr>{head}</tr>", *(f"<tr>{row}</tr>" for row in rows), "</table>"])
