"""pytorch_optimizer's Lamb takes no length of weights above 10, and clips gradients to norm 1 with pre_norm alone."""

import pytorch_optimizer
import torch


def step(length: float, scale: float, **options: bool) -> float:
    x = torch.nn.Parameter(torch.tensor([length, 0.0], dtype=torch.float64))
    x.grad = torch.tensor([0.0, scale], dtype=torch.float64)
    pytorch_optimizer.Lamb([x], lr=1.0, **options).step()
    return abs(x[1].item())


long, short = step(100.0, 1.0), step(5.0, 1.0)
plain, clipped = step(5.0, 1e-5, pre_norm=False), step(5.0, 1e3, pre_norm=True)
print(f"|x| = 5, 100: steps {short:.3g} lr, {long:.3g} lr; clipped or not, {clipped:.3g} and {plain:.3g} lr")
print("holds" if abs(long - 10.0) < 1e-3 and abs(short - 5.0) < 1e-3 else "no longer")
