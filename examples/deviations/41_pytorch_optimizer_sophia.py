"""SophiaH of pytorch_optimizer clips m / h to p = 0.01, where the paper clips m / (gamma h) to 1: its lr is 1/100."""

import pytorch_optimizer
import torch

x = torch.nn.Parameter(torch.full((1,), 1e3, dtype=torch.float64))
sophia = pytorch_optimizer.SophiaH([x], lr=1.0)
(x * x / 2).sum().backward(create_graph=True)
sophia.step()
step = 1e3 - x.item()
print(f"far from the minimum the first step is {step:g} lr; the paper's is 1 lr")
print("holds" if abs(step - 0.01) < 1e-6 else "no longer")
