"""Claims of papers, tried small: the claim, our number, and whether it holds.

    python benchmarks/claims.py [--only martens_2010 ...] [--out claims-results] [--quick] [--docs]

Each finished run is a file in OUT/runs, so that the same command goes on after an interruption and runs nothing twice.
Writes OUT/claims.md and OUT/images/claims.png; --docs writes both into docs/ as well. --quick spends a twentieth of the
budgets on two trials and one seed, to see that everything runs: its verdicts mean nothing. All on one thread: about a
quarter of an hour of an idle core.
"""

from __future__ import annotations

import argparse
import io
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a BLAS reads it when it is loaded, which the next line does

from papers import CLAIMS
from papers.claim import Claim, Found, end, hold, measured, shown
from rich.console import Console

from refopt import page
from refopt.checkpoint import write_atomically
from refopt.cli.console import progress_bars
from refopt.race.results import Journal, Outcome
from refopt.status import nearest

HEAD = """# Claims of papers, tried small

Written by `python benchmarks/claims.py --docs` on {date}; {scale}. A claim that fails here fails at this size, with
these data, at this budget, and no more is said; "not comparable" says that what the claim compares with diverged. Every
method with knobs is tuned by as many settings as every other, each from two starts that are not reported; the numbers
are medians over the seeds, with the lowest and the highest beside them. Seconds are of one thread of a shared machine:
compare them roughly, within a table.

| paper | claim | here | verdict |
|---|---|---|---|
"""


def write(found: Mapping[str, Found], scale: str, folder: Path) -> None:
    """Write claims.md and images/claims.png into a folder."""
    lines = [HEAD.format(date=f"{datetime.now(UTC):%d %B %Y}", scale=scale).rstrip()]
    findings = {name: CLAIMS[name].finding(outcomes) for name, outcomes in found.items()}
    for name, finding in findings.items():
        claim = CLAIMS[name]
        lines.append(f"| {claim.paper} | {claim.claim} | {finding.number} | **{finding.verdict}** |")
    lines += ["", "![The objective against gradient equivalents, claim by claim](images/claims.png)", ""]
    for name, outcomes in found.items():
        lines += [f"## {CLAIMS[name].paper}", "", CLAIMS[name].setting, "", *table(CLAIMS[name], outcomes), ""]
    write_atomically(folder / "claims.md", "\n".join(lines).encode())
    png = io.BytesIO()
    picture(found).savefig(png, format="png", dpi=80)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "images" / "claims.png", png.getvalue())


def table(claim: Claim, found: Found) -> list[str]:
    """Return one line an entrant: its knobs, where it ended, and what that cost."""
    names = list(dict.fromkeys(name for outcomes in found.values() for o in outcomes for name in o.test))
    columns = ["", "knobs", "f", "steps", "gradient equivalents", "seconds", *names]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name, outcomes in found.items():
        ends = [o.end for o in outcomes]
        k, ge, seconds = (f"{median(o.spent(axis) for o in outcomes):.3g}" for axis in ("k", *COST))
        f = f"{shown(end(outcomes))} ({shown(min(ends))} to {shown(max(ends))})"
        cells = [name, knobs(outcomes[0]), f, k, ge, seconds, *(shown(measured(outcomes, key)) for key in names)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


COST = ("gradient_equivalents", "seconds")


def knobs(outcome: Outcome) -> str:
    """Return the knobs of a run, as short as they can be said."""
    said = ", ".join(f"{knob} {value}" for knob, value in outcome.run.hyper.items())
    return f"{outcome.run.method}" + (f": {said if len(said) < 60 else said[:57] + '...'}" if said else "")


def picture(found: Mapping[str, Found]) -> Any:
    """Return a figure with a panel for each claim: f of the median seed against the cost."""
    columns = 2
    rows = -(-len(found) // columns)
    figure = page.figure(12.0, 4.6 * rows)
    for i, (name, outcomes) in enumerate(found.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        page.dress(axes, re.sub(r", arXiv:[\d.]+", "", CLAIMS[name].paper))
        for j, (entrant, runs) in enumerate(outcomes.items()):
            middle = sorted(runs, key=lambda run: run.end)[len(runs) // 2]
            style = ("-", "--", ":")[j // len(page.COLOURS) % 3]
            where, values = middle.rows["gradient_equivalents"], middle.rows["value"]
            axes.plot(where, values, style, color=page.COLOURS[j % len(page.COLOURS)], lw=1.2, label=entrant)
        budgets = [entrant.budget for entrant in CLAIMS[name].entrants.values()]
        if max(budgets) > 10 * min(budgets):
            axes.set_xscale("symlog")  # or the cheapest runs are a line upwards
        axes.set_yscale("log")
        axes.set_xlabel("gradient equivalents")
        axes.set_ylabel("f")
        axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description="Claims of papers, tried small.")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=list(CLAIMS), help=", ".join(CLAIMS))
    parser.add_argument("--out", type=Path, default=Path("claims-results"), help="holds the runs, and what is written")
    parser.add_argument("--quick", action="store_true", help="see that everything runs")
    parser.add_argument("--docs", action="store_true", help="write docs/claims.md and its picture")
    asked = parser.parse_args()
    for name in asked.only:
        if name not in CLAIMS:
            parser.error(f"unknown claim {name!r}{nearest(name, CLAIMS)}")
    trials, seeds, share = (2, 1, 0.05) if asked.quick else (5, 3, 1.0)
    journal, console = Journal(asked.out), Console(stderr=True, highlight=False)
    found: dict[str, Found] = {}
    for name in asked.only:
        with progress_bars(console) as watch:
            found[name] = hold(CLAIMS[name], journal, watch, trials=trials, seeds=seeds, share=share)
        finding = CLAIMS[name].finding(found[name])
        console.print(f"{name}: {finding.verdict}; {finding.number}", markup=False, soft_wrap=True)
    scale = f"{trials} settings tried, {seeds} seed{'s' * (seeds > 1)}" + f", {share:.0%} of the budgets" * asked.quick
    for folder in (asked.out, *([Path(__file__).parents[1] / "docs"] if asked.docs else [])):
        write(found, scale, folder)


if __name__ == "__main__":
    main()
