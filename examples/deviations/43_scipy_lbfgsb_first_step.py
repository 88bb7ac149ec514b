"""scipy's L-BFGS-B first tries a step of length 1, however long g is."""

import numpy as np
from scipy.optimize import minimize

found = []
for scale in (1e3, 1.0, 1e-2):
    points = []

    def f(x, scale=scale, points=points):
        points.append(x.copy())
        return scale * np.sum(x * x) / 2, scale * x

    minimize(f, np.array([30.0, 40.0]), jac=True, method="L-BFGS-B")
    found.append(float(np.linalg.norm(points[1] - points[0])))
print(f"|g| = 5e4, 50, 0.5: the first trial is {', '.join(f'{length:.4g}' for length in found)} away")
print("holds" if np.allclose(found, 1.0) else "no longer")
