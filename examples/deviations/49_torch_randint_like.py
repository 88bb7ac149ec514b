"""torch.randint_like(x, 0, 1) is always 0: a 'Rademacher' probe 2 z - 1 made of it is always -1, and sums rows."""

import torch

A = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
torch.manual_seed(0)
means = []
for high in (1, 2):
    z = 2 * torch.randint_like(torch.zeros(500, 2), 0, high) - 1
    means.append((z * (z @ A)).mean(0))
print(f"A = [[2, 1], [1, 3]], 500 probes: {means[0].tolist()} for the diagonal, with randint_like(x, 0, 2)", end=" ")
print([round(value, 2) for value in means[1].tolist()])
print("holds" if means[0].tolist() == [3.0, 4.0] else "no longer")
