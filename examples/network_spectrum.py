"""The Hessian of a digits network at its start and after training: what a second-order method would have to face."""

import numpy as np

import problems
from refopt import minimize
from refopt.curvature import spectral_density, thick_restart_lanczos, trace
from refopt.first_order import adam

problem = problems.get("mlp_digits")
trained = minimize(problem, adam, steps=300, batch_size=64, lr=1e-2).x

for where, x in (("start", problem.x0), ("trained", trained)):
    value, _, hv = problem.objective.linearize(x)
    top = thick_restart_lanczos(hv, x, top=5, rtol=1e-4)
    spread = spectral_density(hv, x, steps=40, probes=2)
    total = trace(hv, x, products=100)
    print(f"{where}: f = {float(value):.3f}, {top.products} products for the largest eigenvalues")
    print("  eigenvalues", np.round(top.values, 3), f"trace {total.value:.2f} +- {total.error:.2f}")
    print(f"  the density covers [{spread.nodes.min():.2f}, {spread.nodes.max():.2f}]")
