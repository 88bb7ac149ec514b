"""Race methods on a loss of your own at equal cost."""

import numpy as np

from refopt import minimize
from refopt.first_order import adam, nesterov
from refopt.gradient_regression import parabola
from refopt.newton import newton_cg
from refopt.objective import Objective
from refopt.quasi_newton import lbfgs


def loss(x, xp):
    """A logistic fit of made-up data; any function of array operations will do."""
    return xp.mean(xp.logaddexp(0.0 * y, -y * (A @ x))) + 1e-3 * (x @ x)


rng = np.random.default_rng(0)
A = rng.standard_normal((200, 20)) * np.logspace(0, 1.5, 20)  # badly scaled columns
y = np.sign(A @ rng.standard_normal(20) + rng.standard_normal(200))
f = Objective.from_function(loss)  # derivatives come from the tape

for method in (adam, nesterov, parabola, lbfgs, newton_cg):
    lr = {"lr": 1e-4} if method is nesterov else {}
    r = minimize(f, method, x0=np.zeros(20), steps=10_000, stop={"gradient_equivalents": 300}, **lr)
    name = method.__name__.rpartition(".")[2]
    print(f"{name:10} f = {r.value:.6f}  |g| = {np.linalg.norm(r.grad):.1e}  {r.ledger.gradient_equivalents:.0f} ge")
