"""optax.adafactor() without a learning rate scales by the size of x alone; torch's lr is 0.01 by default."""

import jax.numpy as jnp
import optax
import torch

x, g = jnp.ones((4, 2)), jnp.ones((4, 2))
adafactor = optax.adafactor()
update, _ = adafactor.update(g, adafactor.init(x), x)
y = torch.nn.Parameter(torch.ones(4, 2))
y.grad = torch.ones(4, 2)
torch.optim.Adafactor([y]).step()
theirs, other = float(jnp.abs(update).max()), float((1 - y).abs().max())
print(f"the first step of weights of size 1: optax {theirs:.3g}, torch {other:.3g}")
print("holds" if 90 < theirs / other < 110 else "no longer")
