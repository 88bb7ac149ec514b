"""pytorch_optimizer's Lamb takes |x| for 10 at most, corrects m's bias in lr, after the ratio, and not v's."""

import pytorch_optimizer
import torch

steps = []
for length in (5.0, 100.0):
    x = torch.nn.Parameter(torch.tensor([length, 0.0], dtype=torch.float64))
    x.grad = torch.tensor([0.0, 1.0], dtype=torch.float64)
    pytorch_optimizer.Lamb([x], lr=1.0).step()
    steps.append(abs(x[1].item()))
print(f"|x| = 5, 100: first steps of {steps[0]:.4g} lr and {steps[1]:.4g} lr; optax' and the paper's are |x| lr")
print("holds" if abs(steps[0] - 50.0) < 0.01 and abs(steps[1] - 100.0) < 0.01 else "no longer")
