"""optax.contrib.sophia refreshes h after the step, so its first step is a sign step whatever the curvature is."""

import jax.numpy as jnp
import optax

h = jnp.array([2.0, 80.0])
sophia = optax.contrib.sophia(1.0, weight_decay=0.0, b2=0.0, gamma=1.0)
x = jnp.array([1e-3, 1e-3])
update, _ = sophia.update(h * x, sophia.init(x), x, obj_fn=lambda x: jnp.sum(h * x * x) / 2)
print(f"f = x.h x / 2 at {x}: the first step is {update}; with h known before it, {-x}")
print("mended" if abs(update[0]) < 0.1 else "differs")
