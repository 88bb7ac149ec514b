"""optax.lbfgs keeps pairs of negative curvature: at g = 2, H g is negative, a direction of ascent (optax #1708)."""

import jax.numpy as jnp
import optax

lbfgs = optax.scale_by_lbfgs(memory_size=1)
state = lbfgs.init(jnp.zeros(1))
for x, g in ((0.0, 3.0), (1.0, 2.0)):  # x rises by 1 while the gradient falls by 1: y.s = -1
    Hg, state = lbfgs.update(jnp.array([g]), state, jnp.array([x]))
print(f"g = {g}, H g = {float(Hg[0])}: x - lr H g climbs")
print("mended" if Hg[0] > 0 else "differs")
