"""Gradient noise: the level that methods settle at, and how much noise a curvature estimate survives."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple, TypeAlias

import numpy as np

import problems
from refopt import page
from refopt.first_order import adam
from refopt.gradient_regression import parabola
from refopt.lab.statistics import Duel, duel
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


NOISE = {
    "additive": "additive noise",
    "multiplicative": "multiplicative noise (gone at the minimum)",
    "cauchy": "heavy-tailed noise",
    "mask_out": "entries masked out (gone at the minimum)",
    "minibatches": "minibatches of a convex problem",
}

Lowest: TypeAlias = tuple[tuple[float, str], tuple[float, str]]
"""The lowest level and its method, of those that use curvature and of those that use gradients alone."""


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
    order = list(dict.fromkeys(row["method"] for row in levels))
    cases = {
        model: sorted({row["strength"] for row in levels if row["model"] == model})
        for model in dict.fromkeys(row["model"] for row in levels)
    }
    shares = _shares(signs)
    batches = sorted({row["batch"] for row in signs})
    second = Table(
        ("sign right, by batch", *(str(b) for b in batches)),
        [[WAYS[way], *(f"{shares[way, b]:.0%}" for b in batches)] for way in WAYS],
    )
    lowest = {model: [_lowest(levels, order, (model, strength)) for strength in cases[model]] for model in cases}
    duels = {
        NOISE[model]: duel([curved for (curved, _), _ in found], [plain for _, (plain, _) in found])
        for model, found in lowest.items()
    }
    return Findings(
        duels,
        _answer(duels, shares, batches),
        [_ahead(model, cases[model], lowest[model]) for model in cases],
        [second, *(_table(levels, order, model, cases[model]) for model in cases)],
        lambda: _draw(levels, order, shares, batches),
    )


def _lowest(levels: Rows, order: Sequence[str], case: tuple[str, float]) -> Lowest:
    """Return the lowest level of those that use curvature and of those that do not, each with its method."""
    curved, plain = (
        min(((_level(levels, m, case), m) for m in order if uses_curvature(m) is kind), default=(math.inf, "nobody"))
        for kind in (True, False)
    )
    return curved, plain


def _answer(duels: Mapping[str, Duel], shares: Mapping[tuple[str, int], float], batches: Sequence[int]) -> list[str]:
    """Return in which noise curvature is ahead, and from which batch on an estimate of it can be trusted."""
    trusted = []
    for way, words in WAYS.items():
        good = [b for b in batches if all(shares[way, at] >= 0.9 for at in batches if at >= b)]
        trusted.append(f"{f'from batches of {good[0]} on' if good else 'at no batch that was tried'} by {words}")
    ahead = [f"{found.wins} of {sum(found)} strengths of {noise}" for noise, found in duels.items()]
    return [
        *([f"The lowest level was reached by a method that uses curvature at {', '.join(ahead)}."] if ahead else []),
        f"On a digits network in training the sign of the curvature is right nine times of ten {'; '.join(trusted)}.",
    ]


def _ahead(model: str, strengths: Sequence[float], lowest: Sequence[Lowest]) -> str:
    """Say who came lowest at each strength of one model."""
    told = []
    for strength, both in zip(strengths, lowest, strict=True):
        (level, first), (rival_level, rival) = sorted(both)
        told.append(f"{_strength_said(model, strength)}: {first} {level:.2g} before {rival} {rival_level:.2g}")
    return f"With {NOISE[model]}, the lowest of either kind, as shares of the start: {'; '.join(told)}."


def _table(levels: Rows, order: Sequence[str], model: str, strengths: Sequence[float]) -> Table:
    """Return the level of each method at each strength of one model, and how long it took to come half-way there."""
    columns = (f"{model}: level (half-way after)", *(_strength_said(model, strength) for strength in strengths))
    return Table(columns, [[m, *(_cell(levels, m, (model, strength)) for strength in strengths)] for m in order])


def _strength_said(model: str, strength: float) -> str:
    return f"batch {round(1 / strength)}" if model == "minibatches" else f"strength {strength:g}"


def _here(levels: Rows, method: str, case: tuple[str, float], name: str) -> list[float]:
    """Return a column of a method's runs in one case; nan counts as inf."""
    found = [row[name] for row in levels if row["method"] == method and (row["model"], row["strength"]) == case]
    return [value if not math.isnan(value) else math.inf for value in found]


def _level(levels: Rows, method: str, case: tuple[str, float]) -> float:
    return median(_here(levels, method, case, "level") or [math.inf])


def _cell(levels: Rows, method: str, case: tuple[str, float]) -> str:
    if not _here(levels, method, case, "level"):
        return "-"
    level, halfway = _level(levels, method, case), median(_here(levels, method, case, "halfway"))
    if level == math.inf:
        return "lost"
    return f"{level:.2g}" + (f" ({halfway:.2g})" if halfway < math.inf else "")


def _shares(signs: Rows) -> dict[tuple[str, int], float]:
    """Return, by way and batch, the share of estimates whose sign is right."""
    right: dict[tuple[str, int], list[bool]] = {}
    for row in signs:
        right.setdefault((row["way"], row["batch"]), []).append((row["said"] > 0) == (row["true"] > 0))
    return {key: float(np.mean(found)) for key, found in right.items()}


def _draw(levels: Rows, order: Sequence[str], shares: dict[tuple[str, int], float], batches: Sequence[int]) -> Any:
    models = list(dict.fromkeys(row["model"] for row in levels))
    figure = page.figure(14, 8)
    panels = figure.subplots(2, 3).flat
    for panel, model in zip(panels, models, strict=False):
        strengths = sorted({row["strength"] for row in levels if row["model"] == model})
        heights = {m: [max(_level(levels, m, (model, s)), 1e-16) for s in strengths] for m in order}
        for m in order:
            panel.loglog(strengths, heights[m], color=page.COLOURS[0 if uses_curvature(m) else 1], lw=0.6, alpha=0.35)
        for curved, word, marker in (
            (True, "uses curvature, the lowest", "D"),
            (False, "gradients alone, the lowest", "s"),
        ):
            group = [heights[m] for m in order if uses_curvature(m) is curved]
            if group:
                lowest = [min(column) for column in zip(*group, strict=True)]
                panel.loglog(
                    strengths, lowest, color=page.COLOURS[0 if curved else 1], lw=2.2, marker=marker, label=word
                )
        page.dress(panel, f"{model}: level reached, a share of the start")
        panel.set_xlabel("strength" if model != "minibatches" else "1 / batch")
    figure.axes[0].legend(frameon=False, fontsize=8)
    last = figure.axes[-1]
    for way, colour, marker in zip(WAYS, page.COLOURS, "osv^", strict=False):
        last.semilogx(batches, [shares[way, b] for b in batches], color=colour, marker=marker, label=way)
    last.axhline(0.5, color=page.SOFT, linewidth=0.8, linestyle="--")
    last.set_ylim(0, 1.02)
    page.dress(last, "Share of right signs of curvature (digits network)")
    last.set_xlabel("batch")
    last.legend(frameon=False, fontsize=8)
    return figure
