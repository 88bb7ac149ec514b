"""Small stacks of every kind of layer, with data, for the tests of `problems.networks.layers`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from problems.networks.layers import (
    ACTIVATIONS,
    Attention,
    AveragePool,
    Bias,
    Conv2d,
    Dense,
    Embedding,
    Flatten,
    GlobalAveragePool,
    LayerNorm,
    Multiplier,
    PerPosition,
    Residual,
    Stack,
)
from problems.networks.losses import SoftmaxCrossEntropy
from problems.networks.network import network_objective
from refopt.layout import Layout
from refopt.objective import Objective

tanh, gelu, softplus = (ACTIVATIONS[name] for name in ("tanh", "gelu", "softplus"))
MAPS = (4, 4, 2)  # height, width, channels
T, CODES, D = 3, 3, 4  # positions, codes, features
OF_MAPS = {
    "convolutions": Stack(
        *(Conv2d(2, 3, kernel=3, padding=1), tanh, AveragePool(2), Conv2d(3, 2, kernel=2), softplus, Flatten()),
        Dense(2, 3),
    ),
    "strides": Stack(
        *(Conv2d(2, 2, kernel=3, stride=2, padding=2), gelu, Conv2d(2, 2, kernel=1), GlobalAveragePool(), Dense(2, 3))
    ),
    "dense residual": Stack(
        *(Flatten(), Dense(32, 2), Bias(), softplus),
        Residual(Bias(), Dense(2, 3), Bias(), tanh, Bias(), Dense(3, 2), Multiplier(), Bias()),
        *(tanh, Bias(), Dense(2, 3)),
    ),
    "convolutional residual": Stack(
        Conv2d(2, 2, kernel=2),
        Residual(Bias(4), tanh, Conv2d(2, 2, padding=1), Multiplier(4), tanh),
        *(gelu, AveragePool(3), Flatten(), Dense(2, 3)),
    ),
    "without biases": Stack(
        *(Conv2d(2, 2, kernel=3, bias=False), Bias(4), tanh, Conv2d(2, 3, kernel=2, bias=False), Flatten()),
        Dense(3, 3, bias=False),
    ),
    "begins without weights": Stack(
        Residual(tanh, Bias(4)),
        AveragePool(2),
        Multiplier(4),
        Residual(Conv2d(2, 2, padding=1)),
        Flatten(),
        Dense(8, 3),
    ),
}
CODED = {
    "transformer": Stack(
        Embedding(CODES, T, D),
        Residual(PerPosition(LayerNorm(D)), PerPosition(Dense(D, 3 * D)), Attention(2), PerPosition(Dense(D, D))),
        Residual(PerPosition(Stack(LayerNorm(D), Dense(D, 3), gelu, Dense(3, D)))),
        *(PerPosition(LayerNorm(D)), PerPosition(Dense(D, CODES))),
    ),
    "one head": Stack(Embedding(CODES, T + 1, 6), Attention(), tanh, PerPosition(Dense(2, CODES))),
}
ONE_HOT = {
    "dense first": Stack(PerPosition(Dense(CODES, 6)), Attention(), PerPosition(Dense(2, CODES))),
    "norm first": Stack(PerPosition(LayerNorm(CODES, eps=0.1)), Residual(Attention(), PerPosition(Dense(1, CODES)))),
    "begins without weights": Stack(Attention(), PerPosition(Stack(tanh, Dense(1, CODES)))),
    "begins without weights at each position": Stack(PerPosition(tanh), PerPosition(Dense(CODES, CODES))),
    "begins with a branch without weights": Stack(Residual(PerPosition(tanh)), PerPosition(Dense(CODES, CODES))),
}
_rng = np.random.default_rng(8)
B = 5
IMAGES, CLASSES = _rng.normal(size=(B, *MAPS)), np.eye(3)[_rng.integers(0, 3, B)]
CODE, REAL = _rng.integers(0, CODES, (B, T)), _rng.normal(size=(B, T, CODES))
NEXT = np.eye(CODES)[_rng.integers(0, CODES, (B, T))]
OF_ONE, OF_SEQUENCES = SoftmaxCrossEntropy(), SoftmaxCrossEntropy(axes=3)


class Case(NamedTuple):
    """A stack with its loss and data, NumPy arrays."""

    net: Stack
    loss: SoftmaxCrossEntropy
    inputs: Any
    targets: Any

    def on(self, backend: Any) -> tuple[Objective, Any, Any, Any]:
        """Return the objective, inputs, targets and a point as arrays of a backend."""
        inputs, targets = backend.array(self.inputs, self.inputs.dtype.name), backend.array(self.targets)
        return network_objective(self.net, self.loss, inputs, targets), inputs, targets, backend.array(point(self.net))


CASES = {
    **{name: Case(net, OF_ONE, IMAGES, CLASSES) for name, net in OF_MAPS.items()},
    **{name: Case(net, OF_SEQUENCES, CODE, NEXT) for name, net in CODED.items()},
    **{f"sequence, {name}": Case(net, OF_SEQUENCES, REAL, NEXT) for name, net in ONE_HOT.items()},
}


def point(net: Stack) -> np.ndarray:
    """Return parameters of spread 1/2."""
    return 0.5 * np.random.default_rng(0).normal(size=Layout(net.shapes).n)


def directions(net: Stack) -> np.ndarray:
    """Return three directions, as columns."""
    return np.random.default_rng(1).normal(size=(Layout(net.shapes).n, 3))
