"""pytorch_optimizer's NovoGrad, LARS and ScheduleFreeAdamW write into p.grad, which a closure or a log reads later."""

import pytorch_optimizer
import torch

changed = []
for name in ("NovoGrad", "LARS", "ScheduleFreeAdamW", "AdaBelief"):
    x = torch.nn.Parameter(torch.ones(2, 2))
    method = getattr(pytorch_optimizer, name)([x], lr=0.1)
    getattr(method, "train", lambda: None)()
    x.grad = torch.full((2, 2), 3.0)
    method.step()
    changed += [name] if x.grad[0, 0] != 3.0 else []
print(f"g = 3 is another number after the step of: {', '.join(changed) or 'none'}")
print("differs" if changed else "mended")
