"""torch's ASGD averages from step t0 = 1e6 on: until then its average is the last iterate."""

import torch

apart = []
for t0 in (1e6, 1):
    x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    asgd = torch.optim.ASGD([x], lr=0.1, t0=t0)
    for _ in range(1000):
        x.grad = torch.ones_like(x)
        asgd.step()
    apart.append(abs(asgd.state[x]["ax"] - x.detach()).item())
print(f"|average - x| after 1000 steps: {apart[0]:g} with the default t0, {apart[1]:.3g} with t0 = 1")
print("holds" if apart[0] == 0.0 < apart[1] else "no longer")
