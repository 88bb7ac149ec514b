"""Methods made from methods: averaged iterates, clipped gradients, added noise, groups of parameters.

A wrapper takes a method and returns one, so wrappers nest and go wherever a method goes:

>>> import problems
>>> from refopt import minimize
>>> from refopt.first_order import adam
>>> from refopt.wrappers import clip_by_norm, ema
>>> result = minimize(problems.get("rosenbrock"), ema(clip_by_norm(adam, 1.0), decay=0.9), steps=100, lr=0.01)
>>> result.steps
100

The keywords of the wrapped method stay those of the method.
"""

from refopt.wrappers.averaging import ema, polyak_ruppert, suffix
from refopt.wrappers.clipping import clip_by_norm, clip_by_value
from refopt.wrappers.groups import groups
from refopt.wrappers.noise import gradient_noise
from refopt.wrappers.on_matrices import on_matrices

__all__ = [
    "clip_by_norm",
    "clip_by_value",
    "ema",
    "gradient_noise",
    "groups",
    "on_matrices",
    "polyak_ruppert",
    "suffix",
]
