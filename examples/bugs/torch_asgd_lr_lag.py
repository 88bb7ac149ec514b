"""torch.optim.ASGD takes each step with the learning rate of the step before."""

import torch

x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
asgd = torch.optim.ASGD([x], lr=0.1, lambd=0.0)
before, steps = 0.0, []
for lr in (0.1, 1.0, 1.0, 0.1):
    asgd.param_groups[0]["lr"] = lr
    x.grad = torch.ones(1, dtype=torch.float64)
    asgd.step()
    steps.append(round(before - x.item(), 6))
    before = x.item()
print(f"lr 0.1, 1, 1, 0.1; g = 1; steps {steps}")
print("mended" if steps[1] > 0.9 else "differs")
