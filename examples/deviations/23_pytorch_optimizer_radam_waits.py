"""pytorch_optimizer's RAdam waits while the variance is intractable; torch and optax step as SGD with momentum."""

import pytorch_optimizer
import torch

moved = []
for make in (pytorch_optimizer.RAdam, torch.optim.RAdam):
    x = torch.nn.Parameter(torch.zeros(1))
    radam = make([x], lr=1.0)
    for _ in range(5):
        x.grad = torch.ones(1)
        radam.step()
    moved.append(abs(x.item()))
print(f"five gradients of 1 move it by {moved[0]:g} lr, torch's by {moved[1]:g} lr")
print("holds" if moved[0] == 0.0 and abs(moved[1] - 5.0) < 1e-3 else "no longer")
