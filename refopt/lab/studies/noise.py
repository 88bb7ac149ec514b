"""Gradient noise: the level that methods settle at, and how much noise a curvature estimate survives."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, NamedTuple

import numpy as np

import problems
from refopt import page
from refopt.first_order import adam
from refopt.gradient_regression import parabola
from refopt.lab.study import Findings, Rows, Scale
from refopt.loop import iterate
from refopt.page import Rows as Table
from refopt.race import sources
from refopt.race.answer import uses_curvature
from refopt.race.plan import Plan, Settings
from refopt.race.results import Raced

NAME = "noise"
TITLE = "The second obstacle: noise in the gradients"
QUESTION = (
    "Noise hides the trend of the gradients from which curvature is learned. To which level does each method come "
    "down in noise, and how large must a batch be before an estimate of the curvature has the right sign?"
)

METHODS = (
    "sgd",
    "nesterov",
    "adam",
    "schedule_free",
    "svrg",
    "saga",
    "parabola",
    "ogr_subspace",
    "online_lbfgs",
    "sqn",
    "lbfgs",
    "adahessian",
    "sophia",
    "newton_cg",
    "subsampled_newton",
    "saddle_free_krylov",
)


def races(scale: Scale) -> list[Settings]:
    """Return one race a noise model, its scales the problems, and one race a batch size on real data."""
    scales, models, batches, budget, seeds, tune = (
        ((0.01, 1.0), ("additive", "multiplicative", "cauchy", "mask_out"), (1, 32, 569), "180ge", 2, 4)
        if scale == "reduced"
        else (
            (0.001, 0.01, 0.1, 0.5, 1.0),
            ("additive", "multiplicative", "cauchy", "mask_out"),
            (1, 4, 16, 64, 256, 569),
            "300ge",
            10,
            12,
        )
    )
    synthetic = [
        Settings(
            problems=tuple(
                f"noisy:of=quadratic,noise={model},scale={_strength(model, strength)}" for strength in scales
            ),
            methods=METHODS,
            budget=budget,
            batch_size=1,
            seeds=seeds,
            tune=tune,
        )
        for model in models
    ]
    real = [
        Settings(
            problems=("logistic_breast_cancer",),
            methods=METHODS,
            budget="10ge",
            batch_size=batch,
            seeds=seeds,
            tune=tune,
        )
        for batch in batches
    ]
    return [*synthetic, *real]


def _strength(model: str, strength: float) -> float:
    """Return the scale of a model: a mask is a probability, below 1."""
    return 0.9 * strength if model == "mask_out" else strength


def keep(race: Sequence[Raced], plan: Plan) -> Rows:
    """Return the level at which each run ended, a share of the height that it began at."""
    rows = []
    for raced in race:
        problem = plan.problems[raced.entry.problem]
        options = sources.read_options(raced.entry.problem.partition(":")[2] or "of=none")
        all_runs = [run for other in race for runs in other.reported.values() for run in runs]
        least = min(run.end for run in all_runs) if problem.minimum is None else problem.minimum
        for label, outcome in raced.labelled():
            if label["setting"] == "trial":
                continue
            start = outcome.rows["value"][0] if outcome.rows else math.nan
            rows.append(
                {
                    "kind": "level",
                    "problem": problem.name if problem.name != "noisy" else f"noisy {options['of']}",
                    "model": options.get("noise", "minibatches"),
                    "strength": options.get("scale", 1.0 / (raced.entry.batch_size or 1)),
                    "method": label["method"],
                    "setting": label["setting"],
                    "seed": label["seed"],
                    "status": outcome.status,
                    "level": (outcome.end - least) / (start - least),
                    "halfway": outcome.place_of("gradient_equivalents", 0.5 * (start + least)),
                    "seconds": outcome.spent("seconds"),
                }
            )
    return rows


# ------------------------------------------------------------------------------------------ the sign of the curvature


class Estimate(NamedTuple):
    """An estimate of the curvature along a direction, beside the truth."""

    name: str
    said: float
    true: float


WAYS = {
    "Hessian product": "the Hessian product of the batch",
    "same batch": "the difference of two gradients of one batch",
    "two batches": "the difference of two gradients of different batches, as consecutive steps give it",
    "regression": "the parabola's regression on the gradients seen",
}


def measure(scale: Scale) -> Rows:
    """Return, on a network in training, how often each way to estimate the curvature has its sign right."""
    batches, points, draws = ((4, 64, 512), 3, 12) if scale == "reduced" else ((1, 4, 16, 64, 256, 1024, 1437), 8, 60)
    return [
        {"kind": "sign", "batch": batch, "way": found.name, "said": found.said, "true": found.true}
        for batch in batches
        for found in (*_along_training(batch, points, draws), *_regression(batch, draws * points))
    ]


def _along_training(batch: int, points: int, draws: int) -> Iterator[Estimate]:
    """Yield estimates along the steps of Adam, at evenly spaced points of 200 steps of it."""
    problem = problems.get("mlp_digits")
    f = problem.objective
    between = 200 // points
    for k, x, state, _ in iterate(problem, adam, x0=problem.x0, batch_size=batch, lr=1e-2):
        if k > 0 and k % between == 0:
            for draw in range(draws):
                here = f.sample(batch, seed=1, k=k * draws + draw, purpose="sign, first batch")
                there = f.sample(batch, seed=1, k=k * draws + draw, purpose="sign, second batch")
                g = here.grad(x)
                after, _ = adam.step(here, x, state, lr=1e-2)
                s = after - x
                length = float(s @ s)
                true = float(s @ f.hvp(x, s)) / length
                yield Estimate("Hessian product", float(s @ here.hvp(x, s)) / length, true)
                yield Estimate("same batch", float(s @ (here.grad(after) - g)) / length, true)
                yield Estimate("two batches", float(s @ (there.grad(after) - g)) / length, true)
        if k >= 200:
            return


def _regression(batch: int, count: int) -> Iterator[Estimate]:
    """Yield what the parabola believes along its own direction, over `count` steps after 50."""
    problem = problems.get("mlp_digits")
    previous = problem.x0
    for k, x, state, _ in iterate(problem, parabola, x0=problem.x0, batch_size=batch):
        if k > 50:
            v = state.info["v"]
            yield Estimate("regression", state.info["lam"], float(v @ problem.objective.hvp(previous, v)))
        if k >= 50 + count:
            return
        previous = x


# ------------------------------------------------------------------------------------------------------- the findings


def findings(rows: Rows) -> Findings:
    """Return the levels by model and strength, and the share of right signs by batch."""
    levels = [row for row in rows if row["kind"] == "level" and row["setting"] == "tuned"]
    signs = [row for row in rows if row["kind"] == "sign"]
    cases = sorted({(row["model"], row["strength"]) for row in levels})
    order = list(dict.fromkeys(row["method"] for row in levels))
    table = Table(
        ("method", *(_case(*case) for case in cases)),
        [[m, *(_cell(levels, m, case) for case in cases)] for m in order],
    )
    shares = _shares(signs)
    batches = sorted({row["batch"] for row in signs})
    second = Table(
        ("sign right, by batch", *(str(b) for b in batches)),
        [[WAYS[way], *(f"{shares[way, b]:.0%}" for b in batches)] for way in WAYS],
    )
    said = []
    for case in cases:
        ranked = sorted(order, key=lambda m: _level(levels, m, case))
        first = ranked[0]
        kind = "uses curvature" if uses_curvature(first) else "uses gradients alone"
        rival = next((m for m in ranked if uses_curvature(m) != uses_curvature(first)), None)
        said.append(
            f"{_case(*case)}: {first}, which {kind}, came lowest, to {_level(levels, first, case):.2g} of the start"
            + (f"; of the other kind {rival}, to {_level(levels, rival, case):.2g}." if rival else ".")
        )
    for way, words in WAYS.items():
        enough = [b for b in batches if all(shares[way, at] >= 0.9 for at in batches if at >= b)]
        at = f"from batches of {enough[0]} on" if enough else f"not with batches up to {batches[-1]}"
        said.append(
            f"On a digits network in training, {words}, has the sign of the curvature right 9 times of 10 {at}."
        )
    return Findings(said, [table, second], lambda: _draw(levels, order, shares, batches))


def _case(model: str, strength: float) -> str:
    return f"batch {round(1 / strength)}" if model == "minibatches" else f"{model} {strength:g}"


def _level(levels: Rows, method: str, case: tuple[str, float]) -> float:
    found = [row["level"] for row in levels if row["method"] == method and (row["model"], row["strength"]) == case]
    return median(value if not math.isnan(value) else math.inf for value in found) if found else math.inf


def _cell(levels: Rows, method: str, case: tuple[str, float]) -> str:
    took = any(row["method"] == method and (row["model"], row["strength"]) == case for row in levels)
    level = _level(levels, method, case)
    return "-" if not took else "lost" if level == math.inf else f"{level:.2g}"


def _shares(signs: Rows) -> dict[tuple[str, int], float]:
    """Return, by way and batch, the share of estimates whose sign is right."""
    right: dict[tuple[str, int], list[bool]] = {}
    for row in signs:
        right.setdefault((row["way"], row["batch"]), []).append((row["said"] > 0) == (row["true"] > 0))
    return {key: float(np.mean(found)) for key, found in right.items()}


def _draw(levels: Rows, order: Sequence[str], shares: dict[tuple[str, int], float], batches: Sequence[int]) -> Any:
    models = sorted({row["model"] for row in levels})
    figure = page.figure(14, 8)
    panels = figure.subplots(2, 3).flat
    for panel, model in zip(panels, models, strict=False):
        strengths = sorted({row["strength"] for row in levels if row["model"] == model})
        for m in order:
            curved = uses_curvature(m)
            heights = [max(_level(levels, m, (model, s)), 1e-16) for s in strengths]
            panel.loglog(
                strengths,
                heights,
                color=page.COLOURS[0 if curved else 1],
                marker="D" if curved else "s",
                markersize=4,
                linewidth=0.8,
                label="uses curvature" if curved else "gradients alone",
            )
        page.dress(panel, f"{model}: level reached")
        panel.set_xlabel("strength" if model != "minibatches" else "1 / batch")
    kinds = {line.get_label(): line for line in figure.axes[0].get_lines()}
    figure.axes[0].legend(kinds.values(), kinds.keys(), frameon=False, fontsize=8)
    last = figure.axes[-1]
    for way, colour, marker in zip(WAYS, page.COLOURS, "osv^", strict=False):
        last.semilogx(batches, [shares[way, b] for b in batches], color=colour, marker=marker, label=way)
    last.axhline(0.5, color=page.SOFT, linewidth=0.8, linestyle="--")
    last.set_ylim(0, 1.02)
    page.dress(last, "Share of right signs of curvature (digits network)")
    last.set_xlabel("batch")
    last.legend(frameon=False, fontsize=8)
    return figure
