"""Is this torch optimizer right? Needs torch."""

import torch

from refopt.conformance.check import check


class MyAdam(torch.optim.Optimizer):
    """Adam with the classical slip: eps inside the square root."""

    def __init__(self, params, lr=1e-3):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self):
        """Take one step."""
        for group in self.param_groups:
            for p in group["params"]:
                s = self.state[p]
                if not s:
                    s.update(t=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
                s["t"] += 1
                s["m"].mul_(0.9).add_(p.grad, alpha=0.1)
                s["v"].mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
                m_hat, v_hat = s["m"] / (1 - 0.9 ** s["t"]), s["v"] / (1 - 0.999 ** s["t"])
                p.sub_(group["lr"] * m_hat / (v_hat + 1e-8).sqrt())


print(check(torch.optim.Adam, "adam", dialect="torch"))
print(check(MyAdam, "adam", dialect="torch"))
