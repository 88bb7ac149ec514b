"""SOAP decays the point after its step (its authors' code, pytorch_optimizer), torch's AdamW the point before it."""

import pytorch_optimizer
import torch

share = {}
for name, make in (("SOAP", pytorch_optimizer.SOAP), ("AdamW", torch.optim.AdamW)):
    ends = []
    for weight_decay in (0.0, 1.0):
        x = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))
        method = make([x], lr=1e-3, weight_decay=weight_decay)
        for _ in range(2 if name == "SOAP" else 1):  # its first step is spent on the basis
            x.grad = torch.tensor([[1.0, 2.0], [3.0, 5.0]], dtype=torch.float64)
            method.step()
        ends.append(x.detach().clone())
    share[name] = ((ends[0] - ends[1]).norm() / ends[0].norm()).item()
print(f"lr weight_decay = 1e-3, from 0: a step shorter by {share['SOAP']:.1e} of SOAP, {share['AdamW']:.1e} of AdamW")
print("holds" if abs(share["SOAP"] - 1e-3) < 1e-9 and share["AdamW"] == 0.0 else "no longer")
