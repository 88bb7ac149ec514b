"""The verdict: the question, every obstacle with its figure and the answer that follows, and what to try.

Every number but those of the literature, which carry their sources, is computed from the stored results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from refopt import method as methods
from refopt import page
from refopt.lab import study as studies
from refopt.lab.statistics import Duel
from refopt.lab.study import Held, Rows
from refopt.page import Rows as Table
from refopt.race.answer import uses_curvature

QUESTION = """\
Should we go toward second-order methods in machine learning? They know curvature, so they could follow several
directions at once and say how far away the extremum is. Three obstacles are said to stop them: the Hessian is too large
to form and invert, gradients are noisy, and saddles attract Newton's step. Each obstacle is an axis here, measured with
every method at equal cost, in gradient equivalents (a Hessian product at a linearised point counts 2, a value 1/3) and
in seconds. Training and robustness ask what remains of it in practice. All that follows is generated from the stored
numbers by

    {command}
"""

LITERATURE = """\
What others report where our two cores do not reach:

- In the first AlgoPerf competition (eight workloads of industrial size, time to a target on fixed hardware) a
  Distributed Shampoo won where submissions could be tuned, about 28% faster than the baseline, and Schedule
  Free AdamW won where nothing may be tuned: Kronecker curvature pays there by the clock, if it is refreshed
  rarely and the work is shared among the workers (Kasimbeg et al. 2025, arXiv:2502.15015).
- With K-FAC, a ResNet-50 reached 75% on ImageNet in 35 epochs at batches below 16,384, and in 978 steps at batches of
  131,072: curvature helps most where batches are large, as the noise axis above lets one expect (Osawa et al. 2019,
  arXiv:1811.12019).
- AdaHessian, at the price of a Hessian product a step, reports better results than Adam and AdamW on images and text
  (Yao et al. 2021, arXiv:2006.00719). It was not among the winners of the competition above.
"""

COSTS = """\
An optimizer's step is bound by memory, a gradient by arithmetic. Adam in float32 reads x, m, v and g and writes x, m
and v: 28 bytes a parameter for about a dozen operations. A gradient costs about 6 B operations a parameter at a batch
of B examples. On a device that does R operations in the time of one byte, the step's share is about 28 R / (6 B) of a
gradient: with R = 100, seven gradients at B = 64 and a tenth of one at B = 4096. So a method that keeps d more vectors
pays for them by bytes, which large batches hide, and a method that multiplies matrices (Kronecker factors,
Newton-Schulz) pays in operations, which large batches hide as well: cheap curvature costs little where batches are
large, and that is where noise is small too. State and cost of a step, method by method:
"""

LIMITS = """\
## The limits of the evidence

Two cores, networks of 1e3 to 1e5 parameters, minutes of training, and a search space a method that was written by
people who know the methods. The sign tests above compare the best of many methods with the best of a few, on each seed
those that were best on the others (where there is one seed, on that), and cells of a grid are no independent samples:
read them as a summary, not as proof. Seconds are those of the machine that ran it, which may have been busy: ranks by
the clock move from run to run where they are close. The wall clock compares NumPy code on one thread a run: methods
made of few large matrix products look better than on a GPU, where element-wise rules are free beside the gradient. The
tuning budget is small and equal. Nothing is said here about generalisation beyond the test columns. Where workers are
unequal, a synchronous step waits for the slowest: a method with fewer and dearer steps waits less often, and
[the page on scale](../scale.md) has the arithmetic.
"""


def write(held: Mapping[str, Held], out: Path) -> str:
    """Return the page on the studies in the folder `out`, in Markdown; figures are named STUDY.png, beside it."""
    rows = {name: study.rows for name, study in held.items()}
    every = "" if list(held) == studies.names() else f" {' '.join(held)}"
    parts = ["# The verdict", "", QUESTION.format(command=f"refopt lab{every} --out {out.as_posix()}")]
    duels = {place: found for study in held.values() for place, found in study.findings.duels.items()}
    parts += ["## In short", "", conclusion(duels), "", *_markdown(_evidence(duels)), ""]
    parts += ["What to try, then:", "", *_markdown(recommendations(rows)), ""]
    for name, study in held.items():
        about, full = studies.get(name), " --full" if study.scale == "full" else ""
        parts += [f"## {about.TITLE}", "", f"*{about.QUESTION}*", "", " ".join(study.findings.answer), ""]
        for word in study.findings.figures:
            picture = f"{page.file_of(name, word)}.png"
            parts += [f"[![{about.TITLE}{f', {word}' * bool(word)}]({picture})]({picture})", ""]
        parts += [f"*{study.origin}. Again: `refopt lab {name}{full} --out {out.as_posix()}`*", ""]
        parts += [f"{paragraph}\n" for paragraph in study.findings.paragraphs]
        for table in study.findings.tables:
            parts += [*_markdown(table), ""]
    parts += ["## The seed's hope: one or two directions", "", *(f"{line}\n" for line in hope(rows))]
    parts += ["## Bytes and operations", "", COSTS, *_markdown(step_costs()), ""]
    parts += ["## At scale", "", LITERATURE, LIMITS]
    return "\n".join(parts)


CLEAR = 0.05  # a sign test below this decides


def conclusion(duels: Mapping[str, Duel]) -> str:
    """Return yes, no or undecided, place by place."""
    places: dict[str, list[str]] = {"**Yes**": [], "**No**": [], "**Not decided**": []}
    for place, found in duels.items():
        places[_said(found)].append(place)
    asked = "Does the best method that uses curvature come out ahead of the best that uses gradients alone?\n"
    return "\n".join([asked, *(f"- {word}: {'; '.join(found)}." for word, found in places.items() if found)])


def _said(found: Duel) -> str:
    return "**Not decided**" if found.p >= CLEAR else "**Yes**" if found.wins > found.losses else "**No**"


def _evidence(duels: Mapping[str, Duel]) -> Table:
    return Table(
        ("where", "curvature ahead", "gradients alone ahead", "sign test p", "curvature pays"),
        [[place, f"{d.wins}", f"{d.losses}", f"{d.p:.2g}", _said(d).strip("*").lower()] for place, d in duels.items()],
    )


def recommendations(rows: Mapping[str, Rows]) -> Table:
    """Return who did best on which kind of problem, and what to expect; a study that was not run leaves its row out."""
    lines: list[list[str]] = []
    if robust := rows.get("robustness"):
        order = _ranked(robust, lambda row: math.isfinite(row["seconds"]), highest=True)
        lines.append(
            [
                "full batch, up to some hundred parameters, no tuning",
                _names(order),
                f"{order[0][0]} solves {order[0][1]:.0%} of the catalogue by default",
            ]
        )
    if cost := rows.get("cost"):
        tuned = [row for row in cost if row["setting"] == "tuned"]
        down = [row for row in tuned if row["seconds"] < math.inf]
        for condition in sorted({row["condition"] for row in down}):
            n = max(row["n"] for row in down if row["condition"] == condition)
            here = [row for row in tuned if (row["n"], row["condition"]) == (n, condition)]
            order = [(m, seconds) for m, seconds in _ranked(here, lambda row: row["seconds"]) if seconds < math.inf]
            place = f"full batch, no noise, condition {condition:g}, {n:,} parameters"
            lines.append([place, _names(order), f"{order[0][1]:.2g} s to a millionth"])
    if training := rows.get("training"):
        for setting, name, word in (
            ("tuned", "at equal seconds", "a network on minibatches, tuned, by the clock"),
            ("tuned", "end", "a network on minibatches, tuned, by gradient equivalents"),
            ("default", "end", "a network on minibatches, untuned"),
        ):
            order = _ranks(training, name, setting)
            lines.append([word, _names(order), f"median rank {order[0][1]:g} over problems and seeds"])
    if saddles := rows.get("saddles"):
        tuned = [row for row in saddles if row["setting"] == "tuned" and "case" in row]  # strict ones are one case
        order = _ranked(tuned, lambda row: math.isfinite(row["gradient_equivalents"]), highest=True)
        lines.append(["saddles on the way", _names(order), f"{order[0][0]} left {order[0][1]:.0%} of them"])
    return Table(("your problem", "try", "expect"), lines)


def _ranked(
    rows: Rows, score: Callable[[Mapping[str, Any]], float], *, highest: bool = False
) -> list[tuple[str, float]]:
    """Return the methods with the median (mean, if highest) of their scores, the best first."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        scores.setdefault(row["method"], []).append(float(score(row)))
    if highest:
        means = [(m, sum(values) / len(values)) for m, values in scores.items()]
        most = max(len(values) for values in scores.values())
        return sorted(((m, mean * len(scores[m]) / most) for m, mean in means), key=lambda item: -item[1])
    return sorted(((m, median(values)) for m, values in scores.items()), key=lambda item: item[1])


def _ranks(training: Rows, name: str, setting: str) -> list[tuple[str, float]]:
    study = studies.get("training")
    ranks: list[tuple[str, float]] = study.ranks(study.on_minibatches(training), name, setting)
    return ranks


def _names(order: Sequence[tuple[str, float]], count: int = 3) -> str:
    return ", ".join(f"[{m}](../methods/{m.partition('+')[0]}.md)" for m, _ in order[:count])


def hope(rows: Mapping[str, Rows]) -> Iterable[str]:
    """Yield what the numbers say of the parabola and its kin beside gradients alone and beside other curvature."""
    if training := rows.get("training"):
        for setting in ("tuned", "default"):
            ranks = dict(_ranks(training, "end", setting))
            regress = {m: r for m, r in ranks.items() if _folder(m) == "gradient_regression"}
            plain = {m: r for m, r in ranks.items() if not uses_curvature(m)}
            told = ", ".join(f"{m} {r:g}" for m, r in sorted({**regress, **plain}.items(), key=lambda item: item[1]))
            if regress and plain:
                better = min(regress.values()) < min(plain.values())
                yield (
                    f"On minibatches of networks, {setting}, at equal gradient equivalents: the median ranks among "
                    f"{len(ranks)} methods are {told}. The best that regresses on gradients is "
                    f"{'ahead of' if better else 'not ahead of'} the best that uses gradients alone."
                )
    if cost := rows.get("cost"):
        cells = sorted({(row["n"], row["condition"]) for row in cost})
        tuned = [row for row in cost if row["setting"] == "tuned"]

        def best(cell: tuple[int, float], kind: Callable[[str], bool]) -> float:
            here = [r["gradient_equivalents"] for r in tuned if (r["n"], r["condition"]) == cell and kind(r["method"])]
            return min(here, default=math.inf)

        wins = [
            cell
            for cell in cells
            if best(cell, lambda m: _folder(m) == "gradient_regression") < best(cell, lambda m: not uses_curvature(m))
        ]
        yield (
            f"On noiseless quadratics regression on gradients came down before gradients alone in {len(wins)} of "
            f"{len(cells)} cells: {', '.join(f'n = {n:,} at condition {c:g}' for n, c in wins) or 'none'}."
        )
    if noise := rows.get("noise"):
        regressed = _right(noise, "regression", lambda true: True)
        above = _right(noise, "Hessian product", lambda true: true > 0)
        below = _right(noise, "Hessian product", lambda true: true <= 0)
        yield (
            "What limits it is the noise: on a digits network the parabola's curvature has the right sign in these "
            f"shares of the steps, by batch size: {regressed}. A Hessian product of the batch, for comparison: where "
            f"the curvature is positive {above}; where it is negative {below}."
        )


def _right(noise: Rows, way: str, asked: Callable[[float], bool]) -> str:
    """Return in words how often an estimate of curvature has its sign right, by batch, where its truth is `asked`."""
    right: dict[int, list[bool]] = {}
    for row in noise:
        if row["kind"] == "sign" and row["way"] == way and asked(row["true"]):
            right.setdefault(row["batch"], []).append((row["said"] > 0) == (row["true"] > 0))
    return (
        ", ".join(f"{sum(found) / len(found):.0%} at {batch}" for batch, found in sorted(right.items())) or "never met"
    )


def _folder(method: str) -> str:
    return methods.folder_of(method) if method in methods.names() else ""


def step_costs() -> Table:
    """Return the memory and the cost of a step of every method, from its SPEC."""
    lines = []
    for name in methods.names():
        spec = methods.get(name).SPEC
        low, high = spec.gradient_equivalents
        price = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
        state = "" if spec.memory is None else f"{4 * spec.memory:g}"
        lines.append(
            [
                f"[{spec.title}](../methods/{name}.md)",
                price,
                spec.cost,
                state,
                spec.memory_note or f"{spec.memory:g} vectors",
            ]
        )
    columns = (
        "method",
        "gradient equivalents a step",
        "what a step does, flops beside gradients",
        "bytes of state a parameter (float32)",
        "state",
    )
    return Table(columns, lines)


def _markdown(table: Table) -> list[str]:
    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"

    return [line(table.columns), line("---" for _ in table.columns), *(line(row) for row in table.rows)]
