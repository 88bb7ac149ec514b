"""Who leaves which saddle: every method beside every known saddle of the catalogue, as a table in docs/saddles.md.

    python benchmarks/saddles.py [--problems himmelblau ...] [--budget 200ge] [--out docs/saddles.md]

All start 1/1000 from the saddle, the same way, with their default knobs, on the full batch; the outcomes are those of
`refopt.saddles`. Some minutes.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import problems
from problems.problem import Problem
from refopt import method
from refopt.saddles import known_saddles, survey

FOLDERS = {
    "first_order": "First order",
    "gradient_regression": "Gradient regression",
    "quasi_newton": "Quasi-Newton",
    "diagonal": "Diagonal curvature",
    "newton": "Newton family",
    "structured": "Structured curvature",
    "variance_reduction": "Variance reduction",
}
HEAD = """# Who leaves which saddle

Written by `benchmarks/saddles.py`: every method beside every saddle, maximum and degenerate point that the catalogue
knows, {count} in all. All start at the same point, 1/1000 away in a random direction, with their default knobs, on the
full batch, and may spend {budget}. `refopt saddles PROBLEM` shows one such race; the letters are its outcomes, one
for each saddle of the problem in the order of `stationary_points`:

| letter | outcome |
|---|---|
| `L` | leaves: half the way to the nearest other stationary point, or 0.1, and below the saddle |
| `w` | is on its way: ten times as far as it began, and below |
| `s` | stays |
| `c` | converges to the saddle, to a thousandth of the distance that it began at |
| `!` | fails: diverges, or its search does |
| `-` | cannot take part: it needs minibatches, layers or a generalised Gauss-Newton matrix that the problem lacks |

A default learning rate decides much: where it is 1e-3, 200 steps of unit length reach 0.2, which is on its way and no
further; where it is too large for the curvature beside the saddle, a method diverges.
"""


def known() -> Iterator[Problem]:
    """Yield the problems of the catalogue of which a saddle is known."""
    for name in problems.names():
        if problems.options(name).get("path") != "":  # else a file is asked for
            problem = problems.get(name)
            if known_saddles(problem):
                yield problem


def page(surveys: Mapping[str, Mapping[str, str]], points: Mapping[str, str], budget: str) -> str:
    """Return the page: `surveys` maps problem and method to letters, `points` says what each problem's saddles are."""
    count = sum(len(next(iter(letters.values()))) for letters in surveys.values())
    lines = [HEAD.format(count=count, budget=budget.replace("ge", " gradients"))]
    lines += ["## The saddles\n", "| problem | Morse index of each, `d` where degenerate |", "|---|---|"]
    lines += [f"| {name} | {kinds} |" for name, kinds in points.items()]
    lines += ["", "## The outcomes\n"]
    for folder, title in FOLDERS.items():
        members = [name for name in next(iter(surveys.values())) if method.folder_of(name) == folder]
        taking = [name for name in members if any(set(letters[name]) != {"-"} for letters in surveys.values())]
        lines += [f"### {title}\n"]
        if taking:
            lines += [f"| method | left | {' | '.join(surveys)} |", "|---" * (2 + len(surveys)) + "|"]
        for name in taking:
            seen = Counter("".join(letters[name] for letters in surveys.values()))
            cells = " | ".join(f"`{letters[name]}`" for letters in surveys.values())
            lines.append(f"| {name} | {seen['L']} of {seen.total() - seen['-']} | {cells} |")
        absent = [name for name in members if name not in taking]
        if absent:
            lines += ([""] if taking else []) + [f"Not taking part: {', '.join(absent)}."]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", help="all that know a saddle unless given")
    parser.add_argument("--budget", default="200ge")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs" / "saddles.md")
    arguments = parser.parse_args()

    warnings.simplefilter("ignore")  # of trial points far off
    names, surveys, points = method.names(), {}, {}
    for problem in known():
        if arguments.problems is None or problem.name in arguments.problems:
            print(problem.name, file=sys.stderr, flush=True)
            surveys[problem.name] = survey(problem, names, budget=arguments.budget)
            kinds = (f"{point.index}{'d' * point.degenerate}" for point in known_saddles(problem))
            points[problem.name] = ", ".join(kinds)
    arguments.out.write_text(page(surveys, points, arguments.budget))


if __name__ == "__main__":
    main()
