"""torch's Muon iterates in bfloat16 whatever x is in."""

import importlib

import torch

muon = importlib.import_module("torch.optim._muon")
G = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
half = muon._zeropower_via_newtonschulz(G, (3.4445, -4.7750, 2.0315), 5, 1e-7).double()
X = G.T / G.norm()
for _ in range(5):
    A = X @ X.T
    X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
error = ((half - X.T).norm() / X.norm()).item()
print(f"a 6 x 4 matrix: {error:.1e} from the same iteration in float64")
print("holds" if 1e-3 < error < 0.1 else "no longer")
