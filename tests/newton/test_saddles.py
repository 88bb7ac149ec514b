"""Saddles: who leaves, who is caught, from a thousandth beside every strict saddle of the catalogue."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import problems
from problems.problem import Problem, StationaryPoint
from refopt import Status, method, minimize
from refopt.loop import Step
from refopt.objective import Objective
from tests.quadratic import quadratic

LEAVE = [
    "newton",
    "newton_cg",
    "newton_mr_npc",
    "trust_region",
    "trust_region_exact",
    "trust_region_lanczos",
    "cubic",
    "cubic_lanczos",
    "saddle_free",
    "saddle_free_krylov",
]
PURE = {"modify": False, "damping": "none"}
CAUGHT: list[tuple[str, dict[str, Any]]] = [("newton", PURE), ("newton_mr", {})]
PROBLEMS = [
    "beale",
    "beale_3d",
    "box_3d",
    "goldstein_price",
    "himmelblau",
    "octopus",
    "penalty_1",
    "penalty_2",
    "powell_badly_scaled",
    "rastrigin",
    "saddle",
    "six_hump_camel",
    "styblinski_tang",
    "three_hump_camel",
    "wood",
]


@functools.cache
def strict_saddles() -> list[tuple[Problem, StationaryPoint]]:
    """The first two of each problem whose falling curvature is not lost beside the rising one."""
    found = []
    for problem in map(problems.get, PROBLEMS):
        for saddle in problem.saddles[:2]:
            mv = problem.objective.linearize(saddle.x)[2]
            theta = np.linalg.eigvalsh(np.stack([mv(e) for e in np.eye(problem.n)]))
            if theta[0] < -1e-5 * abs(theta[-1]) and not saddle.degenerate:
                found.append((problem, saddle))
    return found


def beside(saddle: StationaryPoint, seed: int = 0) -> np.ndarray:
    d = np.random.default_rng(seed).normal(size=len(saddle.x))
    return np.asarray(saddle.x + 1e-3 * d / np.linalg.norm(d))


@pytest.mark.parametrize("name", LEAVE)
def test_left(name: str) -> None:
    for problem, saddle in strict_saddles():
        f = problem.objective

        def left(step: Step, saddle: StationaryPoint = saddle, f: Objective = f) -> bool:
            return bool(np.linalg.norm(step.x - saddle.x) > 5e-3) and f.value(step.x) < saddle.value

        with np.errstate(over="ignore"):  # of trial points far off
            result = minimize(f, method.get(name), x0=beside(saddle), steps=60, callback=left)
        assert result.status is Status.CALLBACK, (problem.name, result)


@pytest.mark.parametrize(("name", "hyper"), CAUGHT, ids=[name for name, _ in CAUGHT])
def test_caught(name: str, hyper: dict[str, Any]) -> None:
    for problem, saddle in strict_saddles():
        result = minimize(problem.objective, method.get(name), x0=beside(saddle), steps=30, **hyper)
        np.testing.assert_allclose(result.x, saddle.x, atol=1e-5, err_msg=problem.name)


def test_who_leaves_from_the_very_saddle() -> None:
    """Where g = 0 only a look at the spectrum helps, or noise."""
    problem = problems.get("saddle", n=6, index=2)
    origin = problem.saddles[0].x
    leave = {"trust_region_exact": 50, "cubic": 50, "negative_curvature_descent": 100, "perturbed_gd": 3000}
    for name, steps in leave.items():
        result = minimize(problem.objective, method.get(name), x0=origin, steps=steps)
        assert result.value == pytest.approx(problem.minimum, rel=1e-2)
        assert not result.status.failed
    for name in set(LEAVE) - set(leave):
        result = minimize(problem.objective, method.get(name), x0=origin, steps=5)
        assert result.status is Status.CONVERGED
        np.testing.assert_array_equal(result.x, origin)


@pytest.mark.parametrize(
    ("name", "leaves"),
    [
        ("trust_region_exact", True),
        ("cubic", True),
        ("negative_curvature_descent", True),
        ("saddle_free", False),
        ("trust_region", False),
        ("trust_region_lanczos", False),
        ("cubic_lanczos", False),
        ("newton_cg", False),
    ],
)
def test_a_ridge_where_the_gradient_has_no_part_in_what_falls(name: str, leaves: bool) -> None:
    """The hard case: f = 1/2 (x_2^2 + 2 x_3^2) - 1/2 x_1^2 + 1/4 x_1^4 from x_1 = 0."""

    def linearize(x: np.ndarray) -> tuple[Any, np.ndarray, Any]:
        value = -0.5 * x[0] ** 2 + 0.25 * x[0] ** 4 + 0.5 * x[1] ** 2 + x[2] ** 2
        g = np.stack([x[0] ** 3 - x[0], x[1], 2.0 * x[2]])
        return value, g, lambda v: np.stack([(3.0 * x[0] ** 2 - 1.0) * v[0], v[1], 2.0 * v[2]])

    f = Objective(value_and_grad=lambda x: linearize(x)[:2], linearize=linearize)
    result = minimize(f, method.get(name), x0=np.array([0.0, 1.0, -1.0]), steps=100)
    assert (abs(result.x[0]) > 0.5) == leaves
    assert result.value == pytest.approx(-0.25 if leaves else 0.0, abs=1e-6)


CROSS = [
    "newton",
    "newton_cg",
    "newton_mr_npc",
    "trust_region_exact",
    "cubic",
    "cubic_lanczos",
    "negative_curvature_descent",
]


@pytest.mark.parametrize("name", CROSS)
def test_the_octopus_is_crossed_in_a_few_steps_a_saddle(name: str) -> None:
    """Gradient descent needs a factor of 5 more steps for each saddle than for the one before."""
    for n in (2, 4, 8):
        problem = problems.get("octopus", n=n)
        result = minimize(problem, method.get(name), steps=8 * n, stop={"value": 0.999 * problem.minimum})
        assert result.status is Status.CONVERGED


@pytest.mark.parametrize("name", ["trust_region", "trust_region_lanczos", "saddle_free", "saddle_free_krylov"])
def test_the_octopus_holds_those_whose_exact_steps_end_on_its_next_saddle(name: str) -> None:
    """On the way to a saddle f is a quadratic that rises in the coordinate along which it will fall from there."""
    problem = problems.get("octopus", n=8)
    result = minimize(problem, method.get(name), steps=500)
    assert result.status is Status.CONVERGED
    nearest = min(problem.stationary_points, key=lambda point: float(np.linalg.norm(np.abs(result.x) - point.x)))
    assert nearest.index == 1
    np.testing.assert_allclose(np.abs(result.x), np.abs(nearest.x), atol=1e-9)


def test_newton_stops_at_the_first_tentacle() -> None:
    problem = problems.get("octopus", n=4)
    result = minimize(problem, method.get("newton"), x0=0.3 * problem.x0, steps=50, **PURE)
    assert result.value > 0.5 * problem.minimum


def test_perturbed_gradient_descent_crosses_the_octopus_in_linear_time() -> None:
    times = []
    for n in (2, 4):
        problem = problems.get("octopus", n=n)
        result = minimize(
            problem,
            method.get("perturbed_gd"),
            steps=1500,
            stop={"value": 0.999 * problem.minimum},
            lr=0.25 / np.e,
            radius=np.e / 100,
            g_threshold=np.e / 100,
            t_threshold=20,
            f_threshold=1e-6,
        )
        assert result.status is Status.CONVERGED
        assert result.value <= 0.999 * problem.minimum
        times.append(result.steps)
    assert times[1] < 4 * times[0]


def test_it_ends_at_a_minimum_and_reports_the_anchor() -> None:
    result = minimize(quadratic(np.diag([1.0, 2.0])), method.get("perturbed_gd"), x0=np.ones(2), steps=1000)
    assert result.status is Status.CONVERGED
    assert np.linalg.norm(result.x) <= 1e-3
    np.testing.assert_array_equal(result.x, result.state.anchor)


def test_the_perturbation_is_within_its_ball_and_another_for_every_seed() -> None:
    perturbed = method.get("perturbed_gd")
    f = quadratic(np.eye(3))
    moves = []
    for seed in range(20):
        x, _ = perturbed.step(f, np.zeros(3), perturbed.init(np.zeros(3), seed=seed), lr=0.0, radius=0.5)
        moves.append(x)
    lengths = np.linalg.norm(moves, axis=1)
    assert np.all(lengths <= 0.5)
    assert np.ptp(lengths) > 0.1


def test_curvature_steps_take_the_lowest_direction_downhill() -> None:
    descend = method.get("negative_curvature_descent")
    A = np.diag([-1.0, -0.2, 3.0])
    x = np.array([1e-7, 1e-7, 0.0])
    new, state = descend.step(quadratic(A), x, descend.init(x))
    assert state.status is Status.NEGATIVE_CURVATURE
    np.testing.assert_allclose(new - x, [state.a, 0.0, 0.0], atol=1e-6)
    assert state.a == 1.0
