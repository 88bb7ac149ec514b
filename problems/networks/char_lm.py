"""A small character language model: a transformer on a text that the user names."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from backends.arrays import Array, array_like, device, namespace
from problems.catalogue import problem
from problems.data import HostArray
from problems.networks.layers import ACTIVATIONS, Attention, Dense, Embedding, LayerNorm, PerPosition, Residual, Stack
from problems.networks.losses import SoftmaxCrossEntropy
from problems.networks.network import network_objective
from problems.problem import Problem
from refopt.layout import Layout
from refopt.status import require

CODES = 128
"""At most so many characters are told apart."""


def transformer(codes: int, context: int, width: int, heads: int, blocks: int) -> Stack:
    """Return a causal transformer, from codes (batch, T) to logits (batch, T, codes), T being at most `context`.

        a = E[code] + P;    blocks times:  a += Dense(Attention(Dense(norm a)));  a += Dense(gelu(Dense(norm a)))
        z = Dense(norm a)

    The inner layer of a block has 4 `width` units. The norms come first in a branch (R. Xiong et al., ICML 2020,
    arXiv:2002.04745), unlike in A. Vaswani et al., NeurIPS 2017, arXiv:1706.03762.
    Raises ValueError unless blocks and heads are at least 1, and width is a multiple of heads.
    """
    require(blocks >= 1, "blocks must be at least 1", blocks)
    require(heads >= 1, "heads must be at least 1", heads)
    require(width >= 1 and width % heads == 0, f"width must be a positive multiple of heads = {heads}", width)
    norm = LayerNorm(width)
    attention = Residual(
        *(PerPosition(norm), PerPosition(Dense(width, 3 * width)), Attention(heads), PerPosition(Dense(width, width)))
    )
    mlp = PerPosition(
        Residual(norm, Dense(width, 4 * width), ACTIVATIONS["gelu"], Dense(4 * width, width)),
    )
    head = (PerPosition(norm), PerPosition(Dense(width, codes)))
    return Stack(Embedding(codes, context, width), *(attention, mlp) * blocks, *head)


@problem
def char_lm(
    like: Array,
    *,
    path: str = "",
    context: int = 32,
    width: int = 32,
    heads: int = 2,
    blocks: int = 1,
    examples: int = 512,
    l2: float = 0.0,
    seed: int = 0,
) -> Problem:
    r"""A character language model, a small transformer, on your own text file.

        f(x) = mean_i sum_t ( log sum_j exp z_itj - z_it,next ) + l2/2 |x|^2,    z_i = net(x, characters of window i)

    An example is a window of `context` characters, of which each is to give the next one: f is in nats a window, minus
    the log-likelihood of its characters. `path` names a text in UTF-8; without one it is Python's own help,
    `pydoc_data.topics` in sorted order, which changes with Python's version. Codes number the characters from the most
    frequent one; all after the 127th share a code. The text is cut into windows, of which at most 5/4 `examples`,
    evenly spread, are used: every fifth is kept apart, and `test(x)` is {"bits per character", "error": the share of
    wrong characters} there. x0 is drawn with `seed`: weights of variance 1/d_in (2/d_in before gelu), zero biases.
    """
    require(context >= 1, "context must be at least 1", context)
    require(examples >= 4, "examples must be at least 4", examples)
    windows, codes = _windows(_read(path), context, examples * 5 // 4)
    tested = np.arange(len(windows)) % 5 == 4
    net = transformer(codes, context, width, heads, blocks)
    layout, loss = Layout(net.shapes), SoftmaxCrossEntropy(axes=3)
    xp = namespace(like)

    def examples_of(rows: HostArray) -> tuple[Array, Array]:
        """Return the inputs (examples, context), integers, and the targets (examples, context, codes), one-hot."""
        return xp.asarray(rows[:, :-1], device=device(like)), array_like(np.eye(codes)[rows[:, 1:]], like)

    test_inputs, test_targets = examples_of(windows[tested])

    def test(x: Array) -> dict[str, float]:
        z = net.apply(layout.split(x), test_inputs)
        nats, _ = loss.value_and_grads(z, test_targets)
        wrong = xp.astype(xp.argmax(z, axis=-1) != xp.argmax(test_targets, axis=-1), like.dtype)
        return {"bits per character": float(nats) / (context * math.log(2.0)), "error": float(xp.mean(wrong))}

    return Problem(
        name="char_lm",
        title=f"next of {context} characters, {Path(path).name or 'pydoc_data.topics'}, {blocks} transformer blocks of "
        f"{width}, n = {layout.n}",
        objective=network_objective(net, loss, *examples_of(windows[~tested]), l2=l2),
        x0=layout.join(net.init(like, seed)),
        layout=layout,
        test=test,
    )


def _read(path: str) -> str:
    """Return the text in the file, or Python's help. Raises ValueError where there is none, or it is not UTF-8."""
    if not path:
        from pydoc_data.topics import topics

        return "".join(topics[name] for name in sorted(topics))
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text in UTF-8: {error}") from None


def _windows(text: str, context: int, most: int) -> tuple[HostArray, int]:
    """Return windows (at most `most`, context + 1) of codes, evenly spread over the text, and the number of codes.

    Each begins where the one before it ends. Raises ValueError for fewer than five.
    """
    whole = max(len(text) - 1, 0) // context
    rule = f"path must name a text of at least {5 * context + 1} characters, five windows"
    require(whole >= 5, rule, len(text))
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    characters, found, counts = np.unique(points, return_inverse=True, return_counts=True)
    rank = np.empty(len(characters), dtype=np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(characters))
    codes = np.minimum(rank, CODES - 1)[found]
    starts = context * np.linspace(0, whole - 1, min(whole, most)).astype(np.int64)
    return codes[starts[:, None] + np.arange(context + 1)], min(len(characters), CODES)
