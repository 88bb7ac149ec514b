"""Small networks and a second, naive way of writing them, for the tests of `problems.networks`."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np

from problems.networks.layers import Stack
from problems.networks.losses import BinaryCrossEntropy, Loss, SoftmaxCrossEntropy, SquaredError
from problems.networks.mlp import mlp
from problems.networks.network import network_objective
from refopt.objective import Objective

WIDTHS = (3, 4, 2, 3)
N = 16 + 10 + 9
B = 7
ACTIVATIONS = ("tanh", "relu", "softplus", "logistic", "gelu")
LOSSES: dict[str, Loss] = {
    "softmax": SoftmaxCrossEntropy(),
    "binary": BinaryCrossEntropy(),
    "squared": SquaredError(),
}

_rng = np.random.default_rng(3)
X = _rng.normal(size=(B, WIDTHS[0]))
x0 = 0.8 * _rng.normal(size=N)
V = _rng.normal(size=(N, 5))
Y = {
    "softmax": np.eye(3)[_rng.integers(0, 3, B)],
    "binary": _rng.integers(0, 2, (B, 3)).astype(float),
    "squared": _rng.normal(size=(B, 3)),
}


def net(activation: str = "tanh") -> Stack:
    return mlp(WIDTHS, activation)


def objective(backend: Any, activation: str, loss: str, dtype: str = "float64", l2: float = 0.0) -> Objective:
    inputs, targets = backend.array(X, dtype), backend.array(Y[loss], dtype)
    return network_objective(net(activation), LOSSES[loss], inputs, targets, l2=l2)


def naive_model(x: Any, inputs: Any, xp: Any, activation: str) -> Any:
    """The network from its definition, with none of the stable formulas."""
    f = {
        "tanh": xp.tanh,
        "relu": lambda a: (a + xp.abs(a)) / 2.0,
        "softplus": lambda a: xp.log(1.0 + xp.exp(a)),
        "logistic": lambda a: 1.0 / (1.0 + xp.exp(-a)),
        "gelu": lambda a: 0.5 * a * (1.0 + xp.tanh(math.sqrt(2.0 / math.pi) * (a + 0.044715 * a**3))),
    }[activation]
    a, start = inputs, 0
    for i, (d_in, d_out) in enumerate(pairwise(WIDTHS)):
        W = xp.reshape(x[start : start + d_in * d_out], (d_in, d_out))
        b = x[start + d_in * d_out : start + (d_in + 1) * d_out]
        start += (d_in + 1) * d_out
        a = (f(a) if i else a) @ W + b
    return a


def naive_loss(z: Any, y: Any, xp: Any, loss: str) -> Any:
    if loss == "softmax":
        return -xp.sum(y * (z - xp.log(xp.sum(xp.exp(z), axis=-1, keepdims=True)))) / B
    if loss == "binary":
        p = 1.0 / (1.0 + xp.exp(-z))
        return -xp.sum(y * xp.log(p) + (1.0 - y) * xp.log(1.0 - p)) / B
    return xp.sum((z - y) ** 2) / (2.0 * B)
