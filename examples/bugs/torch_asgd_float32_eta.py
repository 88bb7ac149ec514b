"""torch.optim.ASGD keeps its step size in float32 where the parameters are in float64."""

import torch

x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
asgd = torch.optim.ASGD([x], lr=0.1, lambd=0.0)
for _ in range(2):
    x.grad = torch.ones(1, dtype=torch.float64)
    asgd.step()
print(f"two steps of 0.1: x = {x.item()!r}; eta is {asgd.state[x]['eta'].dtype}")
print("mended" if abs(x.item() + 0.2) < 1e-12 else "differs")
