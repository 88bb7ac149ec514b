"""optax.contrib.schedule_free weighs its average by the lr of the next step; the authors' code by that of this one."""

import jax.numpy as jnp
import optax

lr = optax.piecewise_constant_schedule(1.0, {1: 3.0, 2: 1 / 3})  # 1, 3, 1
method = optax.contrib.schedule_free(optax.sgd(lr), lr, b1=0.9, weight_lr_power=2.0)
y = jnp.zeros(1)
state = method.init(y)
for _ in range(2):
    update, state = method.update(jnp.ones(1), state, y)
    y = optax.apply_updates(y, update)
x = float(optax.contrib.schedule_free_eval_params(state, y)[0])
print(f"z = -1, -4; weights 1, 9: x = {(-1 - 9 * 4) / 10}, optax has {x:.4f}")
print("mended" if abs(x + 3.7) < 1e-5 else "differs")
