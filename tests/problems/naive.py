"""Layers from their definitions, in operations that a tape has rules for, for the tests of their passes."""

from __future__ import annotations

import math
from typing import Any

from problems.networks.layers import (
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
    NetworkLayer,
    PerPosition,
    Residual,
    Stack,
)
from refopt.layout import Layout


def naive_outputs(net: Stack, inputs: Any, xp: Any) -> Any:
    """Return the network as a function of its parameters (n,); integer codes become one-hot."""
    layout = Layout(net.shapes)
    if xp.isdtype(inputs.dtype, "integral"):
        codes = layout.shapes["embedding1.E"][0]
        inputs = xp.astype(inputs[..., None] == xp.arange(codes, device=inputs.device), xp.float64)

    def outputs(x: Any, xp: Any) -> Any:
        parts = {name: xp.reshape(x[where], layout.shapes[name]) for name, where in layout.slices.items()}
        return naive(net, parts, inputs, xp)

    return outputs


def cross_entropy(targets: Any) -> Any:
    """Return the loss as a function of logits: summed over positions, meaned over examples."""
    return lambda z, xp: -xp.sum(targets * (z - xp.log(xp.sum(xp.exp(z), axis=-1, keepdims=True)))) / targets.shape[0]


def naive(layer: NetworkLayer, p: dict[str, Any], a: Any, xp: Any) -> Any:
    """Return z of one layer."""
    if isinstance(layer, Stack):
        for name, inner in layer.layers.items():
            a = naive(inner, {part: p[f"{name}.{part}"] for part in inner.shapes}, a, xp)
        return a
    match layer:
        case PerPosition():
            return naive(layer.layer, p, a, xp)
        case Residual():
            return a + naive(layer.branch, p, a, xp)
        case Dense():
            return a @ p["W"] + p["b"] if layer.bias else a @ p["W"]
        case Conv2d():
            return naive_convolution(layer, p, a, xp)
        case Bias():
            return a + p["b"]
        case Multiplier():
            return a * p["m"]
        case Flatten():
            return xp.reshape(a, (a.shape[0], -1))
        case GlobalAveragePool():
            return xp.sum(a, axis=(1, 2)) / (a.shape[1] * a.shape[2])
        case AveragePool(s):
            corners = [
                xp.stack([a[:, i : i + s, j : j + s, :] for j in range(0, a.shape[2], s)], axis=1)
                for i in range(0, a.shape[1], s)
            ]
            return xp.sum(xp.stack(corners, axis=1), axis=(3, 4)) / s**2
        case Embedding():
            return a @ p["E"] + p["P"][: a.shape[1], :]
        case LayerNorm():
            mean = xp.sum(a, axis=-1, keepdims=True) / layer.d
            variance = xp.sum(a * a, axis=-1, keepdims=True) / layer.d - mean**2
            return p["g"] * (a - mean) / (variance + layer.eps) ** 0.5 + p["b"]
        case Attention():
            return naive_attention(a, layer.heads, xp)
    if layer.kind == "gelu":
        return 0.5 * a * (1.0 + xp.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))
    return xp.tanh(a) if layer.kind == "tanh" else xp.log(1.0 + xp.exp(a))


def naive_convolution(layer: Conv2d, p: dict[str, Any], a: Any, xp: Any) -> Any:
    """Every patch gathered pixel by pixel; outside the map lies one more pixel, which is 0."""
    batch, height, width, c = a.shape
    flat = xp.concat([xp.reshape(a, (batch, -1)), xp.zeros_like(xp.reshape(a, (batch, -1))[:, :1])], axis=1)
    outside = height * width * c
    corners = [range(-layer.padding, d + layer.padding - layer.kernel + 1, layer.stride) for d in (height, width)]
    places = [
        (i * width + j) * c + channel if 0 <= i < height and 0 <= j < width else outside
        for top in corners[0]
        for left in corners[1]
        for i in range(top, top + layer.kernel)
        for j in range(left, left + layer.kernel)
        for channel in range(c)
    ]
    patches = xp.concat([flat[:, k : k + 1] for k in places], axis=1)
    patches = xp.reshape(patches, (batch, *map(len, corners), layer.kernel**2 * c))
    return patches @ p["W"] + p["b"] if layer.bias else patches @ p["W"]


def naive_attention(a: Any, heads: int, xp: Any) -> Any:
    """Position by position and head by head, from the past alone: no mask."""
    d = a.shape[-1] // 3
    size = d // heads
    outputs = []
    for t in range(a.shape[1]):
        for h in range(heads):
            q, k, v = (a[:, : t + 1, i * d + h * size : i * d + (h + 1) * size] for i in range(3))
            e = xp.exp(xp.sum(q[:, t : t + 1, :] * k, axis=-1, keepdims=True) / math.sqrt(size))
            outputs.append(xp.sum(e * v, axis=1) / xp.sum(e, axis=1))
    return xp.reshape(xp.stack(outputs, axis=1), (a.shape[0], a.shape[1], d))
