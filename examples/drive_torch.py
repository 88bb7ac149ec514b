"""A method of refopt trains a torch module: the module's parameters become one flat vector. Needs torch."""

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from refopt import minimize
from refopt.newton import newton_cg
from refopt.objective import Objective

torch.manual_seed(0)
inputs = torch.linspace(-3, 3, 100, dtype=torch.float64)[:, None]
targets = torch.sin(inputs)
net = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).double()
shapes = {name: p.shape for name, p in net.named_parameters()}


def loss(x):
    """The mean squared error as a function of the flat vector."""
    parts = torch.split(x, [shape.numel() for shape in shapes.values()])
    named = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
    return torch.mean((torch.func.functional_call(net, named, (inputs,)) - targets) ** 2)


grad = torch.func.grad(loss)
f = Objective(
    value=lambda x: loss(torch.from_numpy(x)).item(),
    grad=lambda x: grad(torch.from_numpy(x)).numpy(),
    hvp=lambda x, v: torch.func.jvp(grad, (torch.from_numpy(x),), (torch.from_numpy(v),))[1].numpy(),
)
x0 = parameters_to_vector(net.parameters()).detach().numpy()
r = minimize(f, newton_cg, x0=x0, steps=100)
vector_to_parameters(torch.from_numpy(np.array(r.x)), net.parameters())
print(f"loss {loss(torch.from_numpy(x0)).item():.4f} -> {r.value:.2e} in {r.steps} steps, {r.ledger.counts}")
