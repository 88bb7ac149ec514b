"""torch's first L-BFGS step is min(1, 1 / |g|_1) lr g."""

import torch

found = []
for g in ([3.0, -4.0], [0.3, -0.4]):
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    lbfgs = torch.optim.LBFGS([x], lr=1.0, max_iter=1)

    def closure(x=x, g=g):
        x.grad = torch.tensor(g, dtype=torch.float64)
        return x @ x.grad

    lbfgs.step(closure)
    found.append(x.detach().abs().sum().item())
print(f"|g|_1 = 7, 0.7: steps of |x|_1 = {found[0]:.4g} and {found[1]:.4g}")
print("holds" if abs(found[0] - 1.0) < 1e-12 and abs(found[1] - 0.7) < 1e-12 else "no longer")
