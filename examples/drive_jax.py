"""A method of refopt minimises a jax function: jax makes the derivatives, refopt the steps. Needs jax."""

import jax
import jax.numpy as jnp
import numpy as np

from refopt import minimize
from refopt.newton import trust_region
from refopt.objective import Objective

jax.config.update("jax_enable_x64", True)


def loss(x):
    """A sum of squares with a curved valley."""
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


value_and_grad = jax.jit(jax.value_and_grad(loss))
product = jax.jit(lambda x, v: jax.jvp(jax.grad(loss), (x,), (v,))[1])


def host(pair):
    """Return (value, gradient) as the host's numbers."""
    return float(pair[0]), np.array(pair[1])


f = Objective(
    value=lambda x: float(loss(x)),
    value_and_grad=lambda x: host(value_and_grad(x)),
    hvp=lambda x, v: np.array(product(x, v)),
)
r = minimize(f, trust_region, x0=np.zeros(100), steps=500, stop={"grad_norm": 1e-6})
print(r.status, f"f = {r.value:.2e} after {r.steps} steps, {r.ledger.counts}")
