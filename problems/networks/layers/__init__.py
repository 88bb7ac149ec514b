"""Layers that know their own derivatives, written out: one layer a file, the passes they share in `layer`."""

from problems.networks.layers.activation import ACTIVATIONS, Activation, logistic, softplus
from problems.networks.layers.conv2d import Conv2d
from problems.networks.layers.dense import Dense
from problems.networks.layers.layer import NetworkLayer, Parts
from problems.networks.layers.linear_map import AveragePool, Flatten, GlobalAveragePool
from problems.networks.layers.residual import Residual
from problems.networks.layers.scalar import Bias, Multiplier
from problems.networks.layers.stack import Stack

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "AveragePool",
    "Bias",
    "Conv2d",
    "Dense",
    "Flatten",
    "GlobalAveragePool",
    "Multiplier",
    "NetworkLayer",
    "Parts",
    "Residual",
    "Stack",
    "logistic",
    "softplus",
]
