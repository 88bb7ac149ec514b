"""optax.adagrad gives 0 where the sum of squares is 0, whatever eps is; torch divides by eps."""

import jax.numpy as jnp
import optax
import torch

adagrad = optax.adagrad(1.0, initial_accumulator_value=0.0, eps=0.0)
update, _ = adagrad.update(jnp.zeros(1), adagrad.init(jnp.zeros(1)), jnp.zeros(1))
x = torch.nn.Parameter(torch.zeros(1))
x.grad = torch.zeros(1)
torch.optim.Adagrad([x], lr=1.0, eps=0.0).step()
print(f"g = G = eps = 0: optax steps {abs(float(update[0]))}, torch {x.item()}")
print("holds" if float(update[0]) == 0.0 and torch.isnan(x).item() else "no longer")
