"""optax.adadelta() without a learning rate adds its step to x instead of subtracting it: f climbs."""

import jax
import jax.numpy as jnp
import optax

x, adadelta = jnp.ones(1), optax.adadelta()
state = adadelta.init(x)
for _ in range(100):
    update, state = adadelta.update(jax.grad(lambda x: jnp.sum(x * x))(x), state, x)
    x = optax.apply_updates(x, update)
print(f"f = x^2 from 1 to {float(x[0] ** 2):.6f} in 100 steps")
print("mended" if x[0] < 1 else "differs")
