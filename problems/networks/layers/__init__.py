"""Layers that know their own derivatives, written out: each kind in a file, the passes they share in `layer`."""

from problems.networks.layers.activation import ACTIVATIONS, Activation, logistic, softmax, softplus
from problems.networks.layers.attention import Attention
from problems.networks.layers.conv2d import Conv2d
from problems.networks.layers.dense import Dense
from problems.networks.layers.embedding import Embedding
from problems.networks.layers.layer import NetworkLayer, Parts
from problems.networks.layers.layer_norm import LayerNorm
from problems.networks.layers.linear_map import AveragePool, Flatten, GlobalAveragePool
from problems.networks.layers.per_position import PerPosition
from problems.networks.layers.residual import Residual
from problems.networks.layers.scalar import Bias, Multiplier
from problems.networks.layers.stack import Stack

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Attention",
    "AveragePool",
    "Bias",
    "Conv2d",
    "Dense",
    "Embedding",
    "Flatten",
    "GlobalAveragePool",
    "LayerNorm",
    "Multiplier",
    "NetworkLayer",
    "Parts",
    "PerPosition",
    "Residual",
    "Stack",
    "logistic",
    "softmax",
    "softplus",
]
