"""Newton-CG on a GPU: the arrays that you pass choose the library. Without CuPy it says so and runs on NumPy."""

try:
    import cupy as xp
except ImportError:
    import numpy as xp

    print("no CuPy here, so NumPy")

from refopt import minimize
from refopt.newton import newton_cg
from refopt.objective import Objective


def rosenbrock(x, xp):
    """The chained Rosenbrock valley."""
    return xp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


r = minimize(Objective.from_function(rosenbrock), newton_cg, x0=xp.zeros(200), steps=500, stop={"grad_norm": 1e-6})
print(type(r.x).__module__, r.status, f"{float(r.value):.2e} after {r.steps} steps, {r.ledger.counts}")
