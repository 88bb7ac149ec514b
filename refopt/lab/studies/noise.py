"""Gradient noise: the level that methods settle at, and how much noise a curvature estimate survives."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple, TypeAlias

import numpy as np

import problems
from backends import random
from problems.problem import Problem
from refopt import page
from refopt.curvature import lanczos
from refopt.first_order import adam
from refopt.gradient_regression import parabola
from refopt.lab.kinds import best, duel_of_kinds, number
from refopt.lab.statistics import Duel
from refopt.lab.study import Findings, Rows, Scale
from refopt.loop import iterate, minimize
from refopt.newton import newton
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
    "unit tests": "noise of every kind on unit tests",
    "minibatches": "minibatches of a convex problem",
}
MODELS = ("additive", "cauchy", "multiplicative", "mask_out")
SHAPES = (
    "quad_bowl",
    "abs",
    "gauss_nonconvex",
    "laplace_bowl",
    "relu",
)
"""Unit tests of Schaul et al. whose minimum is known: smooth and not, convex and not, and one with a flat side."""


def races(scale: Scale) -> list[Settings]:
    """Return one race a noise model, its scales the problems; one on unit tests; and one a batch size on real data."""
    full = scale == "full"
    budget, of_tests, of_data = ("300ge", "100ge", "10ge") if full else ("120ge", "60ge", "5ge")
    seeds, tune = (4 if full else 2), 4
    strengths = (0.001, 0.01, 0.1, 0.5, 1.0) if full else (0.01, 1.0)
    batches = (1, 4, 16, 64, 256, 569) if full else (1, 32, 569)
    shapes, noises = (SHAPES, ("none", *MODELS)) if full else (SHAPES[:3], MODELS[:2])
    models = [
        tuple(f"noisy:of=quadratic,noise={model},scale={_strength(model, strength)}" for strength in strengths)
        for model in MODELS
    ]
    tests = tuple(
        f"unit_test:shape={shape},noise={noise},noise_scale={_strength(noise, 0.5)}"
        for shape in shapes
        for noise in noises
    )
    data = ("logistic_breast_cancer",)
    return [
        *(Settings(p, METHODS, budget, batch_size=1, seeds=seeds, tune=tune) for p in models),
        Settings(tests, METHODS, of_tests, batch_size=1, seeds=2, tune=tune),
        *(Settings(data, METHODS, of_data, batch_size=batch, seeds=seeds, tune=tune) for batch in batches),
    ]


def _strength(model: str, strength: float) -> float:
    """Return the scale of a model: a mask is a probability, below 1."""
    return 0.9 * strength if model == "mask_out" else strength


def keep(race: Sequence[Raced], plan: Plan) -> Rows:
    """Return the level at which each run ended, a share of the height that it began at."""
    rows = []
    for raced in race:
        text = raced.entry.problem
        least = _minimum(plan.problems[text])
        model, strength = _case(text, raced.entry.batch_size)
        for label, outcome in raced.labelled():
            if label["setting"] == "trial":
                continue
            start = outcome.rows["value"][0] if outcome.rows else math.nan
            rows.append(
                {
                    "kind": "level",
                    "problem": text.partition(",noise")[0],
                    "model": model,
                    "strength": strength,
                    "method": label["method"],
                    "setting": label["setting"],
                    "seed": label["seed"],
                    "status": outcome.status,
                    "level": max(0.0, outcome.end - least) / (start - least),
                    "halfway": outcome.place_of("gradient_equivalents", 0.5 * (start + least)),
                    "seconds": outcome.spent("seconds"),
                }
            )
    return rows


def _case(text: str, batch: int | None) -> tuple[str, Any]:
    """Return the model of a problem's noise, and its strength: the model itself on a unit test, 1 / batch on data."""
    name, _, options = text.partition(":")
    read = sources.read_options(options) if options else {}
    if name == "unit_test":
        return "unit tests", read["noise"]
    return ("minibatches", 1.0 / (batch or 1)) if name != "noisy" else (read["noise"], read["scale"])


def _minimum(problem: Problem) -> float:
    """Return the minimum of a problem, found where it is not known: the data's are convex and small."""
    if problem.minimum is not None:
        return problem.minimum
    return float(minimize(problem, newton, steps=100, stop={"grad_norm": 1e-12}, history_every=100).value)


# ------------------------------------------------------------------------------------------ the sign of the curvature


SIGNS = ("positive", "negative")
Shares: TypeAlias = Mapping[tuple[str, str, int], float]
"""By way, the true sign of the curvature, and batch: the share of estimates whose sign is right."""


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
    batches, points, draws = ((4, 64, 512), 3, 12) if scale == "reduced" else ((1, 4, 16, 64, 256, 1024, 1437), 8, 30)
    return [
        {"kind": "sign", "batch": batch, "way": found.name, "said": found.said, "true": found.true}
        for batch in batches
        for found in (*_along_training(batch, points, draws), *_regression(batch, draws * points))
    ]


def _along_training(batch: int, points: int, draws: int) -> Iterator[Estimate]:
    """Yield estimates at evenly spaced points of 200 steps of Adam, along its step and the most negative curvature.

    Along a step the curvature is positive nearly always, and whoever always said so would be right.
    """
    problem = problems.get("mlp_digits")
    f = problem.objective
    between = 200 // points
    for k, x, state, _ in iterate(problem, adam, x0=problem.x0, batch_size=batch, lr=1e-2):
        if k > 0 and k % between == 0:
            mv = f.linearize(x)[2]
            probe = random.normal((problem.n,), seed=1, k=k, purpose="sign, Lanczos", like=x)
            krylov = lanczos(mv, probe, steps=40)
            most_negative = krylov.Q @ krylov.U[:, 0]
            for draw in range(draws):
                here = f.sample(batch, seed=1, k=k * draws + draw, purpose="sign, first batch")
                there = f.sample(batch, seed=1, k=k * draws + draw, purpose="sign, second batch")
                g = here.grad(x)
                s = adam.step(here, x, state, lr=1e-2)[0] - x
                length = float(s @ s)
                for way in (s, math.sqrt(length) * most_negative):
                    true = float(way @ mv(way)) / length
                    yield Estimate("Hessian product", float(way @ here.hvp(x, way)) / length, true)
                    yield Estimate("same batch", float(way @ (here.grad(x + way) - g)) / length, true)
                    yield Estimate("two batches", float(way @ (there.grad(x + way) - g)) / length, true)
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
        ("sign right, by batch", "curvature", *(str(b) for b in batches)),
        [
            [WAYS[way], sign, *(f"{shares[way, sign, b]:.0%}" if (way, sign, b) in shares else "-" for b in batches)]
            for way in WAYS
            for sign in SIGNS
        ],
    )
    duels = {
        noise: duel_of_kinds(here, ("problem", "strength"), "level")
        for model, noise in NOISE.items()
        if (here := [row for row in levels if row["model"] == model])
    }
    return Findings(
        duels,
        _answer(duels, shares, batches),
        [*(_ahead(levels, model, cases[model]) for model in cases if model != "unit tests"), *SAID],
        [second, *(_table(levels, order, model, cases[model]) for model in cases)],
        {"": lambda: _draw(levels, order, shares, batches)},
    )


def _answer(duels: Mapping[str, Duel], shares: Shares, batches: Sequence[int]) -> list[str]:
    """Return in which noise curvature is ahead, and from which batch on an estimate of it can be trusted."""
    trusted = []
    for way, words in WAYS.items():
        worst = {b: min(shares.get((way, sign, b), 1.0) for sign in SIGNS) for b in batches}
        good = [b for b in batches if all(worst[at] >= 0.9 for at in batches if at >= b)]
        trusted.append(f"{f'from batches of {good[0]} on' if good else 'at no batch that was tried'} by {words}")
    ahead = [f"{found.wins} of {sum(found)} with {noise}" for noise, found in duels.items()]
    return [
        *([f"Of the pairs of runs the best that uses curvature ended lower in {', '.join(ahead)}."] if ahead else []),
        "On a digits network in training the sign of the curvature, be it positive or negative, is right nine times of "
        f"ten {'; '.join(trusted)}.",
    ]


SAID = (
    "svrg and saga subtract what one realisation adds at every point alike: additive and heavy-tailed noise does not "
    "reach them, noise that multiplies does.",
)


def _ahead(levels: Rows, model: str, strengths: Sequence[Any]) -> str:
    """Say who came lowest at each strength of one model."""
    told = []
    for strength in strengths:
        here = [row for row in levels if (row["model"], row["strength"]) == (model, strength)]
        (level, first), (rival_level, rival) = sorted(best(here, "level", kind) for kind in (True, False))
        told.append(f"{_strength_said(model, strength)}: {first} {level:.2g} before {rival} {rival_level:.2g}")
    return f"With {NOISE[model]}, the lowest of either kind, as shares of the start: {'; '.join(told)}."


def _table(levels: Rows, order: Sequence[str], model: str, strengths: Sequence[Any]) -> Table:
    """Return the level of each method at each strength of one model, and how long it took to come half-way there."""
    columns = (f"{model}: level (half-way after)", *(_strength_said(model, strength) for strength in strengths))
    return Table(columns, [[m, *(_cell(levels, m, (model, strength)) for strength in strengths)] for m in order])


def _strength_said(model: str, strength: Any) -> str:
    if model == "unit tests":
        return str(strength)
    return f"batch {round(1 / strength)}" if model == "minibatches" else f"strength {strength:g}"


def _here(levels: Rows, method: str, case: tuple[str, Any], name: str) -> list[float]:
    """Return a column of a method's runs in one case."""
    return [number(row, name) for row in levels if (row["method"], row["model"], row["strength"]) == (method, *case)]


def _level(levels: Rows, method: str, case: tuple[str, Any]) -> float:
    return median(_here(levels, method, case, "level") or [math.inf])


def _cell(levels: Rows, method: str, case: tuple[str, Any]) -> str:
    if not _here(levels, method, case, "level"):
        return "-"
    level, halfway = _level(levels, method, case), median(_here(levels, method, case, "halfway"))
    if level == math.inf:
        return "lost"
    return f"{level:.2g}" + (f" ({halfway:.2g})" if halfway < math.inf else "")


def _shares(signs: Rows) -> Shares:
    """Return the share of estimates whose sign is right."""
    right: dict[tuple[str, str, int], list[bool]] = {}
    for row in signs:
        sign = SIGNS[int(row["true"] <= 0)]
        right.setdefault((row["way"], sign, row["batch"]), []).append((row["said"] > 0) == (row["true"] > 0))
    return {key: float(np.mean(found)) for key, found in right.items()}


def _draw(levels: Rows, order: Sequence[str], shares: Shares, batches: Sequence[int]) -> Any:
    models = [model for model in dict.fromkeys(row["model"] for row in levels) if model != "unit tests"]
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
        for sign, style in zip(SIGNS, ("-", ":"), strict=True):
            there = [b for b in batches if (way, sign, b) in shares]
            right = [shares[way, sign, b] for b in there]
            last.semilogx(there, right, style, color=colour, marker=marker, label=f"{way}, {sign}")
    last.axhline(0.5, color=page.SOFT, linewidth=0.8, linestyle="--")
    last.set_ylim(0, 1.02)
    page.dress(last, "Share of right signs of curvature (digits network)")
    last.set_xlabel("batch")
    last.legend(frameon=False, fontsize=8)
    return figure
