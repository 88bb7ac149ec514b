"""scipy's trust-exact goes on with the Cholesky factor of an earlier damping, and solves for the wrong one (#20244)."""

import numpy as np
from scipy.optimize._trustregion_exact import IterativeSubproblem

H, rng, errors, most = np.diag([15.0, 5.0]), np.random.default_rng(0), [], 0
for _ in range(500):
    g = 10 * rng.normal(size=2)
    model = IterativeSubproblem(np.zeros(2), lambda x: 0.0, lambda x, g=g: g, lambda x: H, k_easy=1e-6, k_hard=1e-9)
    p, _ = model.solve(1.0)
    errors.append(np.linalg.norm((H + model.lambda_current * np.eye(2)) @ p + g) / np.linalg.norm(g))
    most = max(most, model.niter)
wrong = sum(error > 1e-3 for error in errors)
print(f"(H + lambda) p = -g is off by up to {max(errors):.2g} |g|, in {wrong} of 500 cases; up to {most} iterations")
print("differs" if wrong else "mended")
