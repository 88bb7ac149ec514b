"""nesterov=True of optax' adam, radam and adabelief corrects m for step t + 1 and g for step t, as its nadam does."""

import jax.numpy as jnp
import optax

made = {"adam": optax.adam, "radam": optax.radam, "adabelief": optax.adabelief}
ratios = {}
for name, make in made.items():
    steps = []
    for nesterov in (True, False):
        method = make(1.0, nesterov=nesterov)
        state = method.init(jnp.zeros(1))
        update, _ = method.update(jnp.ones(1), state, jnp.zeros(1))
        steps.append(float(update[0]))
    ratios[name] = steps[0] / steps[1]
due = 0.9 * 0.1 / (1 - 0.9**2) + 0.1 / (1 - 0.9)
print(", ".join(f"{name} {ratio:.4f}" for name, ratio in ratios.items()) + f" of the plain first step, due {due:.4f}")
print("holds" if all(abs(ratio - due) < 1e-3 for ratio in ratios.values()) else "no longer")
