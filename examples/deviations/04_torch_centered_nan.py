"""Centred RMSprop in float32: v - m^2 falls below 0 on a constant gradient, and torch has no guard inside the root."""

import torch

x = torch.nn.Parameter(torch.zeros(1000))
rmsprop = torch.optim.RMSprop([x], centered=True)
g = torch.rand(1000, generator=torch.Generator().manual_seed(0)) + 0.5
for _ in range(2000):
    x.grad = g
    rmsprop.step()
lost = int(torch.isnan(x).sum())
print(f"{lost} of 1000 coordinates are nan after 2000 equal gradients")
print("holds" if lost else "no longer")
