"""The passes of a dense network beside jax's, beside their own matrix products, and an SGD step beside torch's.

    python benchmarks/networks.py [--rounds 25] [--json PATH]

784-400-400-10, tanh, softmax cross-entropy, batch 256; autoencoder 784-1000-500-250-30 and back, logistic, batch 512;
all float32. OMP_NUM_THREADS is for all sides alike. They take turns within each round; the ratios are of their best
times. The floor of a Gauss-Newton product is its matrix products alone, and beside them the elementwise operations
that it cannot do without, both into arrays made before.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from problems.networks.layers import Stack
from problems.networks.losses import BinaryCrossEntropy, SoftmaxCrossEntropy
from problems.networks.mlp import mlp
from problems.networks.network import network_objective
from refopt.layout import Layout

WIDTHS, BATCH = (784, 400, 400, 10), 256
CODE, IMAGES = (784, 1000, 500, 250, 30), 512

Sides = dict[str, Callable[[], Any]]


def best(sides: Sides, rounds: int) -> dict[str, float]:
    """Return the least wall time in ms of each side, all sides taking turns."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(rounds + 2):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            if i >= 2:  # the first rounds compile and warm the caches
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: min(t) for name, t in times.items()}


def classifier(rounds: int) -> dict[str, dict[str, float]]:
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    net = mlp(WIDTHS)
    layout = Layout(net.shapes)
    inputs = rng.uniform(size=(BATCH, 784)).astype(np.float32)
    targets = np.eye(10, dtype=np.float32)[rng.integers(0, 10, BATCH)]
    x, v = layout.join(net.init(inputs, 0)), rng.standard_normal(layout.n).astype(np.float32)
    objective = network_objective(net, SoftmaxCrossEntropy(), inputs, targets)

    jax_inputs, jax_targets, jax_x, jax_v = map(jnp.asarray, (inputs, targets, x, v))

    def outputs(x: Any) -> Any:
        a = jax_inputs
        parts = [jnp.reshape(x[where], layout.shapes[name]) for name, where in layout.slices.items()]
        for W, b in zip(parts[:-2:2], parts[1:-2:2], strict=True):
            a = jnp.tanh(a @ W + b)
        return a @ parts[-2] + parts[-1]

    def loss(z: Any) -> Any:
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.sum(z * jax_targets, axis=1))

    gradient = jax.jit(jax.value_and_grad(lambda x: loss(outputs(x))))
    _, tangent = jax.linearize(jax.grad(lambda x: loss(outputs(x))), jax_x)
    product = jax.jit(tangent)
    ours = objective.linearize(x)[2]
    G = objective.ggn(x)
    np.testing.assert_allclose(objective.grad(x), gradient(jax_x)[1], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(ours(v), product(jax_v), rtol=1e-2, atol=1e-4)
    matmuls, elementwise = floor(layout, net, x, v, inputs)
    return {
        "gradient": best(
            {
                "ours": lambda: objective.value_and_grad(x),
                "jax": lambda: gradient(jax_x)[1].block_until_ready(),
            },
            rounds,
        ),
        "Hessian product": best({"ours": lambda: ours(v), "jax": lambda: product(jax_v).block_until_ready()}, rounds),
        "Gauss-Newton product": best(
            {"ours": lambda: G(v), "matrix products": matmuls, "elementwise": elementwise}, rounds
        ),
    }


def floor(layout: Layout, net: Stack, x: Any, v: Any, inputs: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return the matrix products of G v, and its elementwise operations, each into arrays made before."""
    W1, _, W2, _, W3, _ = layout.split(x).values()
    V1, b1, V2, b2, V3, b3 = layout.split(v).values()
    A1 = np.tanh(inputs @ W1)
    A2 = np.tanh(A1 @ W2)
    hidden, others = np.empty_like(A1), np.empty_like(A1)
    z, out = np.empty((BATCH, 10), np.float32), np.empty_like(v)
    spare2, spare3, parts = np.empty_like(A2), np.empty_like(z), layout.split(out)

    def matmuls() -> None:
        np.matmul(inputs, V1, out=hidden)
        for A, RA, W, V, R, spare in ((A1, hidden, W2, V2, others, spare2), (A2, others, W3, V3, z, spare3)):
            np.matmul(RA, W, out=R)
            np.matmul(A, V, out=spare)
        for A, g, W, back, name in ((A2, z, W3, hidden, "dense3.W"), (A1, hidden, W2, others, "dense2.W")):
            np.matmul(A.T, g, out=parts[name])
            np.matmul(g, W.T, out=back)
        np.matmul(inputs.T, others, out=parts["dense1.W"])

    def elementwise() -> None:
        for bias, R in ((b1, hidden), (b2, others)):  # forward: the bias, what came through the weights, the slope
            np.add(R, bias, out=R)
            np.multiply(A1, R, out=R)
        np.add(others, A2, out=others)
        np.add(z, b3, out=z)
        for g, name in ((hidden, "dense2.b"), (others, "dense1.b")):  # backward: the slope, the bias
            np.multiply(A1, g, out=g)
            np.sum(g, axis=0, out=parts[name])

    return matmuls, elementwise


def autoencoder(rounds: int) -> dict[str, dict[str, float]]:
    import torch

    rng = np.random.default_rng(0)
    widths = (*CODE, *CODE[-2::-1])
    encoder, decoder = mlp(CODE, "logistic"), mlp(CODE[::-1], "logistic")
    net = Stack(*encoder.layers.values(), *decoder.layers.values())
    layout = Layout(net.shapes)
    images = rng.uniform(size=(IMAGES, 784)).astype(np.float32)
    x = layout.join(net.init(images, 0))
    objective = network_objective(net, BinaryCrossEntropy(), images, images)

    modules: list[Any] = []
    for i, (d_in, d_out) in enumerate(pairwise(widths)):
        modules += [torch.nn.Linear(d_in, d_out), torch.nn.Identity() if i in (3, 7) else torch.nn.Sigmoid()]
    model = torch.nn.Sequential(*modules)
    with torch.no_grad():
        for part, own in zip(model.parameters(), layout.split(x).values(), strict=True):
            part.copy_(torch.from_numpy(own.T.copy()))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    torch_images = torch.from_numpy(images)

    def torch_step() -> Any:
        optimizer.zero_grad()
        z = model(torch_images)
        value = torch.nn.functional.binary_cross_entropy_with_logits(z, torch_images, reduction="sum") / IMAGES
        value.backward()
        optimizer.step()
        return value

    def our_step() -> None:
        nonlocal x
        _, g = objective.value_and_grad(x)
        x = x - np.float32(1e-3) * g

    np.testing.assert_allclose(objective.value(x), torch_step().item(), rtol=1e-4)
    return {"SGD step of the autoencoder": best({"ours": our_step, "torch": torch_step}, rounds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    results = {**classifier(arguments.rounds), **autoencoder(arguments.rounds)}
    for name, times in results.items():
        ours, *others = times.values()
        said = ", ".join(f"{side} {t:.2f} ms" for side, t in times.items())
        print(f"{name:30s} {said}; ratio {ours / sum(others):.2f}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
