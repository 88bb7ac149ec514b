"""torch's L-BFGS leaves out a pair with y.s <= 1e-10, however small its y and s are."""

import torch

kept = []
for scale in (1e-4, 1e-6):  # f = x^2 / 2: y = s, y.s about scale^2
    x = torch.nn.Parameter(torch.full((1,), scale, dtype=torch.float64))
    lbfgs = torch.optim.LBFGS([x], lr=0.5, max_iter=4, tolerance_grad=0.0, tolerance_change=0.0)

    def closure(x=x):
        x.grad = x.detach().clone()
        return (x * x).sum() / 2

    lbfgs.step(closure)
    kept.append(len(lbfgs.state[x]["old_dirs"]) > 0)
print(f"x = 1e-4, 1e-6: are pairs kept? {kept[0]} and {kept[1]}")
print("holds" if kept == [True, False] else "no longer")
