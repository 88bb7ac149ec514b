"""v starts at 0 in torch, optax and keras, at 1 in TF1 and timm's copy of it: optax' initial_scale has both."""

import jax.numpy as jnp
import optax

g, steps = jnp.array([1e-3]), []
for v0 in (0.0, 1.0):
    rmsprop = optax.rmsprop(1.0, decay=0.9, eps=1e-8, initial_scale=v0)
    update, _ = rmsprop.update(g, rmsprop.init(g), g)
    steps.append(-float(update[0]))
print(f"g = 1e-3: the first step is {steps[0]:.2f} lr from 0, {steps[1]:.4f} lr from 1")
print("holds" if steps[0] > 2000 * steps[1] else "no longer")
