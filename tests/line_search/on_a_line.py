"""Functions of one variable for line searches, and the conditions re-checked from outside."""

from __future__ import annotations

import math

import numpy as np

from refopt.objective import Objective
from refopt.status import Status


def first(a, beta=2.0):
    return -a / (a * a + beta), (a * a - beta) / (a * a + beta) ** 2


def second(a, beta=0.004):
    t = a + beta
    return t**5 - 2 * t**4, 5 * t**4 - 8 * t**3


def third(a, beta=0.01, waves=39):
    """Return a smoothed |1 - a| with small oscillations."""
    if a <= 1 - beta:
        base, slope = 1 - a, -1.0
    elif a >= 1 + beta:
        base, slope = a - 1, 1.0
    else:
        base, slope = (a - 1) ** 2 / (2 * beta) + beta / 2, (a - 1) / beta
    wave = waves * math.pi / 2
    return base + 2 * (1 - beta) / (waves * math.pi) * math.sin(wave * a), slope + (1 - beta) * math.cos(wave * a)


def _yanai(a, beta1, beta2):
    def gamma(beta):
        return math.sqrt(1 + beta * beta) - beta

    left, right = math.sqrt((1 - a) ** 2 + beta2**2), math.sqrt(a * a + beta1**2)
    value = gamma(beta1) * left + gamma(beta2) * right
    return value, gamma(beta1) * (a - 1) / left + gamma(beta2) * a / right


def fourth(a):
    return _yanai(a, 0.001, 0.001)


def fifth(a):
    return _yanai(a, 0.01, 0.001)


def sixth(a):
    return _yanai(a, 0.001, 0.01)


# The test functions of J. J. More and D. J. Thuente, ACM TOMS 20 (1994) 286-307: (phi and its slope, c1, c2).
MORE_THUENTE = {
    "first": (first, 1e-3, 0.1),
    "second": (second, 0.0999, 0.1),
    "third": (third, 0.0999, 0.1),
    "fourth": (fourth, 1e-3, 1.1e-3),
    "fifth": (fifth, 1e-3, 1.1e-3),
    "sixth": (sixth, 1e-3, 1.1e-3),
}


def on_a_line(phi, dtype=float):
    """Return the objective x -> phi(x_1), which counts its calls in `.points`."""
    points = []

    def value_and_grad(x):
        points.append(x)
        value, slope = phi(float(x[0]))
        return np.asarray(value, dtype=dtype)[()], np.asarray([slope], dtype=dtype)

    objective = Objective(value_and_grad=value_and_grad)
    objective.points = points
    return objective


def search_line(search, phi, *, dtype=float, **options):
    """Search phi from 0 with a module's `search`. Returns what was found and the objective."""
    x, p = np.zeros(1, dtype=dtype), np.ones(1, dtype=dtype)
    value, slope = phi(0.0)
    objective = on_a_line(phi, dtype)
    found = search(objective, x, p, value, np.asarray([slope], dtype=dtype), **options)
    assert found.evaluations == len(objective.points)
    return found, objective


def assert_wolfe(phi, found, c1=1e-4, c2=0.9):
    (value, slope), (value_0, slope_0) = phi(found.alpha), phi(0.0)
    assert found.status is Status.CONVERGED
    assert value <= value_0 + c1 * found.alpha * slope_0
    assert abs(slope) <= c2 * abs(slope_0)


def assert_one_of_both(phi, found, c1=0.1, c2=0.9, eps=1e-6):
    (value, slope), (value_0, slope_0) = phi(found.alpha), phi(0.0)
    assert found.status is Status.CONVERGED
    assert slope >= c2 * slope_0
    wolfe = value <= value_0 + c1 * found.alpha * slope_0
    assert wolfe or ((2 * c1 - 1) * slope_0 >= slope and value <= value_0 + eps * abs(value_0))
