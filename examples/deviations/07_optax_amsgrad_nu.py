"""optax.amsgrad(bias_correction_nu=False) corrects v nowhere; torch does, after the maximum."""

import jax.numpy as jnp
import optax

g = jnp.array([1.0])
steps = []
for options in ({}, {"bias_correction_nu": False}):
    amsgrad = optax.amsgrad(1.0, **options)
    update, _ = amsgrad.update(g, amsgrad.init(g), g)
    steps.append(-float(update[0]))
print(f"the first step is {steps[1]:.1f} lr; torch's, and optax' by default, {steps[0]:.1f} lr")
print("holds" if abs(steps[1] - 1e-3**-0.5) < 0.1 and abs(steps[0] - 1.0) < 1e-3 else "no longer")
