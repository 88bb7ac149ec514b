r"""Residual networks, and Fixup: an initialisation that lets them be deep without normalisation.

Each of the L blocks is act(a + branch(a)), with m = 2 weight layers in its branch. Fixup (section 3) asks for

    1. the classifier and the last layer of each branch to start at 0,
    2. the other layers of the branches to start at L^{-1/(2m-2)} times their standard values,
    3. a scalar multiplier, 1 at first, in each branch, and a scalar bias, 0 at first, before each linear layer and each
       activation.

Then a step of gradient descent of size lr on the weights changes the outputs by an amount in proportion to lr, whatever
L: each branch adds 1/L of it. The biases of the branches are not scaled, and add up in proportion to L once the
classifier has left 0.
Source: H. Zhang, Y. N. Dauphin, T. Ma, ICLR 2019, arXiv:1901.09321. As there, scalars are the only biases but for the
classifier's. Differs: no scalar stands before the first layer. The standard values are those of K. He, X. Zhang, S.
Ren, J. Sun, ICCV 2015, arXiv:1502.01852.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from backends.arrays import Array
from problems import data
from problems.catalogue import problem
from problems.networks.convnet import maps
from problems.networks.layers import (
    Bias,
    Conv2d,
    Dense,
    GlobalAveragePool,
    Multiplier,
    NetworkLayer,
    Residual,
    Stack,
)
from problems.networks.mlp import activation_layer, classifier
from problems.problem import Problem
from refopt.status import nearest, require

INITS = ("standard", "fixup")


def resnet(
    layer: Callable[[int], NetworkLayer], head: list[NetworkLayer], depth: int, activation: str, axes: int
) -> Stack:
    """Return a residual network of `depth` linear layers: the first, two in each of (depth - 2) / 2 blocks, the head's.

    `layer(i)` makes the i-th linear layer but the head's, which needs no bias; `axes` are those of its outputs, as in
    `Bias`. The scalars of Fixup are there whatever the initialisation.
    Raises ValueError unless depth is even and at least 4, or for an unknown activation.
    """
    require(depth >= 4 and depth % 2 == 0, "depth must be even and at least 4", depth)
    f, bias = activation_layer(activation), Bias(axes)
    layers: list[NetworkLayer] = [layer(0), bias, f]
    for i in range(1, depth - 1, 2):
        layers += [Residual(bias, layer(i), bias, f, bias, layer(i + 1), Multiplier(axes), bias), f]
    return Stack(*layers, *head)


def fixup(net: Stack, parts: Mapping[str, Array]) -> dict[str, Array]:
    """Return the initial parameters of `net`, standard ones by name, changed by Fixup's rules 1 and 2.

    The branches are those of the residual layers of `net`, the classifier is its last layer with weights.
    """
    branches = [
        [part for part in parts if part.startswith(f"{name}.") and part.endswith(".W")]
        for name, layer in net.layers.items()
        if isinstance(layer, Residual)
    ]
    L = len(branches)
    scale: dict[str, float] = {}
    for *inner, last in branches:
        for part in inner:
            scale[part] = L ** (-1.0 / (2 * len(inner)))  # m - 1 of them
        scale[last] = 0.0
    scale[[part for part in net.shapes if part.endswith(".W")][-1]] = 0.0
    return {name: scale.get(name, 1.0) * part for name, part in parts.items()}


@problem
def resnet_digits(
    like: Array,
    *,
    depth: int = 10,
    width: int = 32,
    activation: str = "relu",
    init: str = "fixup",
    l2: float = 0.0,
    seed: int = 0,
) -> Problem:
    r"""A residual network of dense layers on handwritten digits: 10 layers, 32 units, Fixup.

    The loss, the data and `test(x)` are those of `mlp_digits`. `depth` counts the dense layers: the first, the last and
    two in each residual block. `init` is "fixup" (Zhang, Dauphin, Ma, arXiv:1901.09321) or "standard": weights of
    variance 2/d_in before a relu, with which the outputs and their gradients grow with depth. The network is the same.
    """
    dataset = data.digits()
    head: list[NetworkLayer] = [Bias(2), Dense(width, 10)]

    def layer(i: int) -> NetworkLayer:
        return Dense(width if i else dataset.inputs.shape[1], width, bias=False)

    net = resnet(layer, head, depth, activation, axes=2)
    title = f"digits, {depth} dense layers of {width}, residual, {activation}, {init}"
    return _start(classifier("resnet_digits", title, net, dataset, like, l2=l2, seed=seed), net, init)


@problem
def conv_resnet_digits(
    like: Array,
    *,
    depth: int = 6,
    channels: int = 8,
    activation: str = "relu",
    init: str = "fixup",
    l2: float = 0.0,
    seed: int = 0,
) -> Problem:
    r"""A residual network of convolutions on handwritten digits: 6 layers, 8 channels, Fixup.

    As `resnet_digits`, with 3 x 3 convolutions: the first, of stride 2, makes maps of 4 x 4, the others keep them; the
    last layer, which is dense, sees their mean.
    """
    head: list[NetworkLayer] = [GlobalAveragePool(), Bias(2), Dense(channels, 10)]

    def layer(i: int) -> NetworkLayer:
        return Conv2d(channels if i else 1, channels, stride=1 if i else 2, padding=1, bias=False)

    net = resnet(layer, head, depth, activation, axes=4)
    title = f"digits, {depth} layers, 3 x 3 convolutions of {channels} channels, residual, {activation}, {init}"
    return _start(classifier("conv_resnet_digits", title, net, maps(data.digits()), like, l2=l2, seed=seed), net, init)


def _start(standard: Problem, net: Stack, init: str) -> Problem:
    """Return the problem, started as `init` says."""
    if init not in INITS:
        raise ValueError(f"unknown init {init!r}{nearest(init, INITS)}")
    if init == "standard":
        return standard
    layout = standard.layout
    return replace(standard, x0=layout.join(fixup(net, layout.split(standard.x0))))
