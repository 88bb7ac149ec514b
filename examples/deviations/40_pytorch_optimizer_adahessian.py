"""AdaHessian's defaults: lr 0.15 and eps 1e-4 (its authors), lr 0.1 and eps 1e-16 (pytorch_optimizer)."""

import pytorch_optimizer
import torch

h = torch.tensor([1.0, 1e-5], dtype=torch.float64)  # the first step is lr g / (|h| + eps), g = h x
x = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
method = pytorch_optimizer.AdaHessian([x])
(h * x * x / 2).sum().backward(create_graph=True)
method.step()
theirs = (1 - x).tolist()
authors = (0.15 * h / (h + 1e-4)).tolist()
print(f"f = h x^2 / 2, h = 1, 1e-5: first steps {theirs[0]:.3f} and {theirs[1]:.3f} of the way to the minimum,")
print(f"its authors' {authors[0]:.3f} and {authors[1]:.3f}")
print("holds" if max(abs(theirs[0] - 0.1), abs(theirs[1] - 0.1)) < 1e-6 else "no longer")
