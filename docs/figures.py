"""The paths of a method on three networks of two parameters, drawn when the site is built.

Networks, because they have all the parts that a method may ask for: minibatches, layers, per-example gradients.

    quadratic       1/2 mean_i (w a_i + b - y_i)^2          a line through points, all of them at each step
    saddle          1/2 mean_i (w_2 w_1 a_i - y_i)^2        a linear network of two layers, near its saddle at 0
    noisy valley    cross-entropy of w a_i + b              logistic regression on minibatches of 8 of 64 examples
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import contourpy
import numpy as np

from backends import random
from problems.networks.layers import Dense, Stack
from problems.networks.losses import BinaryCrossEntropy, SquaredError
from problems.networks.network import network_objective
from refopt import iterate, method, minimize
from refopt.newton import newton
from refopt.objective import Objective

STEPS, SIDE, TRIALS, BATCH = 40, 300, 5, 8


@dataclass(frozen=True)
class Landscape:
    """A function of two parameters, and the part of the plane that is drawn."""

    title: str
    objective: Objective
    x0: tuple[float, float]
    view: tuple[float, float, float, float]  # left, right, bottom, top
    saddle: tuple[float, float] | None = None
    minima: tuple[tuple[tuple[float, float], ...], ...] = ()  # a point each, or a line of them
    batch: int | None = None

    @functools.cached_property
    def contours(self) -> str:
        """The level lines, as the data of an SVG path."""
        left, right, bottom, top = self.view
        xs, ys = np.linspace(left, right, 50), np.linspace(bottom, top, 50)
        values = np.array([[float(self.objective.value(np.array([x, y]))) for x in xs] for y in ys])
        lines = contourpy.contour_generator(xs, ys, values)
        levels = np.quantile(values, (0.03, 0.1, 0.2, 0.32, 0.46, 0.62, 0.8))
        return " ".join(self.polyline(points) for level in levels for points in lines.lines(level))

    @functools.cached_property
    def marks(self) -> str:
        """What is known of the function: its saddle and its minima, as SVG."""
        lines = "".join(f'<path class="minima" d="{self.polyline(line)}"/>' for line in self.minima if len(line) > 1)
        known = [("minimum", "★", line[0]) for line in self.minima if len(line) == 1]
        known += [("saddle", "✕", self.saddle)] if self.saddle else []
        at = [(kind, sign, *self.place(point)) for kind, sign, point in known]
        return lines + "".join(
            f'<text class="mark" x="{x:.0f}" y="{y:.0f}"><title>{kind}</title>{sign}</text>' for kind, sign, x, y in at
        )

    def place(self, points: Any) -> Any:
        """Return the positions in the picture, (k, 2), of points of the plane."""
        left, right, bottom, top = self.view
        return (np.asarray(points) - (left, top)) / (right - left, bottom - top) * SIDE

    def polyline(self, points: Any) -> str:
        """Return the data of an SVG path through `points`."""
        return "M" + "L".join(f"{x:.0f} {y:.0f}" for x, y in self.place(points))


@functools.cache
def landscapes() -> tuple[Landscape, ...]:
    """Return the three."""
    host = np.empty(0)
    noise = random.normal((64, 2), seed=0, k=0, purpose="figures", like=host)
    a = 0.8 + noise[:, :1]
    line = Stack(Dense(1, 1))
    product = Stack(Dense(1, 1, bias=False), Dense(1, 1, bias=False))
    labels = np.where(2.0 * a - 1.5 + 1.5 * noise[:, 1:] > 0.0, 1.0, 0.0)
    quadratic = network_objective(line, SquaredError(), a, a - 0.5)
    saddle = network_objective(product, SquaredError(), a, a)
    valley = network_objective(line, BinaryCrossEntropy(), a, labels)
    one = np.geomspace(0.5, 2.0, 30)  # the layers' product is 1 at the minima
    ridges = (tuple(zip(one, 1.0 / one, strict=True)), tuple(zip(-one, -1.0 / one, strict=True)))
    least = tuple(minimize(valley, newton, x0=np.zeros(2), steps=50, stop={"grad_norm": 1e-10}).x)
    return (
        Landscape("quadratic", quadratic, (-0.7, -1.6), (-1.2, 2.4, -2.2, 1.4), minima=(((1.0, -0.5),),)),
        Landscape("saddle", saddle, (-1.35, 1.3), (-2.0, 2.0, -2.0, 2.0), saddle=(0.0, 0.0), minima=ridges),
        Landscape("noisy valley", valley, (-1.0, 1.5), (-2.0, 5.0, -4.5, 2.5), minima=((least,),), batch=BATCH),
    )


@functools.cache
def figure(name: str) -> str:
    """Return the three pictures of the method `name` as HTML."""
    with np.errstate(all="ignore"):  # a run that leaves for infinity is one of those not drawn
        return "\n".join(['<div class="paths">', *(picture(name, land) for land in landscapes()), "</div>"])


def picture(name: str, land: Landscape) -> str:
    """Return the method's path on `land`: of the settings tried, that of the lowest value."""
    value, setting, points = min(
        ((fell(land, points), setting, points) for setting, points in runs(name, land)), key=lambda run: run[0]
    )
    places = land.place(points)
    dots = "".join(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="2.6"/>' for x, y in places[1:-1])
    (u, v), (x, y) = places[0], places[-1]
    told = ", ".join([*setting, f"{len(points) - 1} steps, f = {value:.3g}"])
    return "".join(
        [
            f'<figure><svg viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="Path on the {land.title}: {told}">',
            f'<path class="contour" d="{land.contours}"/>{land.marks}',
            f'<path class="path" d="{land.polyline(points)}"/>{dots}',
            f'<circle class="start" cx="{u:.0f}" cy="{v:.0f}" r="6"/>',
            f'<rect class="end" x="{x - 5:.0f}" y="{y - 5:.0f}" width="10" height="10"/></svg>',
            f"<figcaption><b>{land.title}</b>: {told}</figcaption></figure>",
        ]
    )


def fell(land: Landscape, points: list[Any]) -> float:
    """Return f at the last of `points`; noise is averaged out over the last quarter of them."""
    last = points[-max(1, len(points) // 4) :] if land.batch else points[-1:]
    values = [float(land.objective.value(x)) for x in last]
    return float(np.mean(values)) if np.all(np.isfinite(values)) else np.inf


def runs(name: str, land: Landscape) -> Iterator[tuple[list[str], list[Any]]]:
    """Yield the setting and the points of each run: the defaults, and values of the first logarithmic search axis.

    They are of its upper half, as two parameters bear longer steps than a million.
    """
    chosen = method.get(name)
    axes = [(knob, axis) for knob, axis in chosen.SPEC.search.items() if isinstance(axis, method.LogUniform)]
    yield ["defaults"], run(chosen, land, {})
    for knob, axis in axes[:1]:
        for i in range(TRIALS):
            at = float(f"{axis.at(1.0 - 0.5 * i / (TRIALS - 1)):.2g}")
            yield [f"{knob} = {at:g}"], run(chosen, land, {knob: at})


def run(chosen: Any, land: Landscape, hyper: dict[str, Any]) -> list[Any]:
    """Return the points that the method reports, until it ends or has made `STEPS` steps."""
    batch = land.batch or (BATCH if {"minibatch", "per_example_grads"} & set(chosen.SPEC.needs) else None)
    solution = getattr(chosen, "solution", lambda x, state: x)
    points: list[Any] = []
    steps = iterate(land.objective, chosen, x0=np.asarray(land.x0), batch_size=batch, **hyper)
    for _, x, state, _ in itertools.islice(steps, STEPS + 1):
        if not np.all(np.isfinite(x)) or np.max(np.abs(x)) > 1e3:
            break
        points.append(solution(x, state))
        status = getattr(state, "status", None)
        ended = status is not None and (status.failed or status.name == "CONVERGED")
        if ended or (batch is None and np.linalg.norm(land.objective.grad(points[-1])) < 1e-8):
            break
    return points
