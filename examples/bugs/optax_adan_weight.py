"""optax.adan weighs the difference of gradients by 1 - b2 = 0.08, not by b2 = 0.92 (optax PR #1715)."""

import jax.numpy as jnp
import optax

adan = optax.adan(1.0, b1=0.0, b2=0.92, b3=0.0, eps=0.0, eps_root=0.0)
state = adan.init(jnp.zeros(1))
for g in (1.0, 3.0):
    update, state = adan.update(jnp.array([g]), state, jnp.zeros(1))
d_hat = 0.08 * 2.0 / (1 - 0.92**2)  # the mean of the differences 0 and 2, its bias corrected
due = (3.0 + 0.92 * d_hat) / (3.0 + 0.92 * 2.0)
print(f"second step {-float(update[0]):.4f}, due {due:.4f}")
print("mended" if abs(float(update[0]) + due) < 1e-3 else "differs")
