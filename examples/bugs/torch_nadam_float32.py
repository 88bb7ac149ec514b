"""torch.optim.NAdam multiplies its momenta up in float32 where the parameters are in float64."""

import torch

x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
nadam = torch.optim.NAdam([x], lr=1.0, eps=0.0)
x.grad = torch.ones(1, dtype=torch.float64)
nadam.step()
mu1, mu2 = (0.9 * (1 - 0.5 * 0.96 ** (t * 4e-3)) for t in (1, 2))
due = -((1 - mu1) / (1 - mu1) + mu2 * 0.1 / (1 - mu1 * mu2))
print(f"first step {x.item()!r}, in double precision {due!r}; mu_product is {nadam.state[x]['mu_product'].dtype}")
print("mended" if abs(x.item() - due) < 1e-12 else "differs")
