"""optax.rprop emits the update that was due a step before (optax PR #1725)."""

import jax.numpy as jnp
import optax

rprop = optax.rprop(0.01)
state = rprop.init(jnp.zeros(1))
steps = []
for g in (1.0, 1.0, 1.0, -1.0, 1.0, 1.0):
    update, state = rprop.update(jnp.array([g]), state)
    steps.append(round(-float(update[0]), 5))
due = [0.01, 0.012, 0.0144, 0.0, 0.0072, 0.00864]
print(f"steps {steps}\n  due {due}")
print("mended" if steps == due else "differs")
