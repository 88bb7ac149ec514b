"""optax.matrix_inverse_pth_root is wrong unless p is a power of two, and reports a small error (optax PR #1735)."""

import jax.numpy as jnp
import numpy as np
import optax

B = np.random.default_rng(0).normal(size=(5, 5))
A = B @ B.T + np.eye(5)
errors = {}
for p in range(1, 9):
    root, reported = optax.matrix_inverse_pth_root(jnp.asarray(A), p)
    power = np.linalg.matrix_power(np.asarray(root, dtype=float), p)
    errors[p] = float(np.abs(power @ A - np.eye(5)).max())
    print(f"p = {p}: |X^p A - I| = {errors[p]:.0e}, reported {float(reported):.0e}")
print("mended" if max(errors.values()) < 0.01 else "differs")
