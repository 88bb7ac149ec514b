"""optax' first L-BFGS direction is min(1, 1 / |g|_2) g."""

import jax.numpy as jnp
import optax

lbfgs, found = optax.scale_by_lbfgs(), []
for g in (jnp.array([3.0, 4.0]), jnp.array([0.3, 0.4])):
    direction, _ = lbfgs.update(g, lbfgs.init(g), jnp.zeros(2))
    found.append(float(jnp.linalg.norm(direction)))
print(f"|g| = 5, 0.5: lengths {found[0]:.4g} and {found[1]:.4g}")
print("holds" if abs(found[0] - 1.0) < 1e-5 and abs(found[1] - 0.5) < 1e-5 else "no longer")
