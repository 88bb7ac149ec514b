"""scipy's BFGS in float32 ends with 'precision loss' where its line search can find nothing lower."""

import numpy as np
from scipy.optimize import minimize, rosen, rosen_der

x0 = np.array([-1.2] + [1.0] * 9)
ends = {}
for dtype in (np.float64, np.float32):

    def f(x, dtype=dtype):
        x = x.astype(dtype)
        return dtype(rosen(x)), rosen_der(x).astype(dtype)

    ends[np.dtype(dtype).name] = minimize(f, x0, jac=True, method="BFGS")
for name, end in ends.items():
    print(f"{name}: success {end.success}, status {end.status}, |g| = {np.abs(end.jac).max():.0e}")
print("holds" if ends["float64"].success and ends["float32"].status == 2 else "no longer")
