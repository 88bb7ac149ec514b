"""Losses of a network's outputs: minus the log-likelihood of an exponential family, in its natural parameters.

    loss(z, y) = mean_i ( A(z_i) - <y_i, z_i> ),    grad_i = E[y | z_i] - y_i,    Hessian_i = Cov[y | z_i]

z and y are (..., batch, d): a class is given one-hot. As the Hessian does not depend on y, the Fisher matrix of the
model is its Gauss-Newton matrix exactly (J. Martens, JMLR 21, 2020).
"""

# ruff: noqa: D102 (the methods are described once, in Loss)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from backends import random
from backends.arrays import Array, array_like, namespace
from problems.networks.layers import logistic, softmax, softplus
from refopt.objective import MatVec


class Loss(Protocol):
    """What a network asks of a loss."""

    def value_and_grads(self, z: Array, y: Array) -> tuple[Any, Array]:
        """Return the mean loss and, shape (..., batch, d), the gradient of each example's own loss."""

    def hessians(self, z: Array) -> MatVec:
        """Return v -> the Hessian of each example's own loss times its row of v (..., batch, d)."""

    def hessian_diagonals(self, z: Array) -> Array:
        """Return the diagonals of those Hessians, shape (..., batch, d)."""

    def mean(self, z: Array) -> Array:
        """Return E[y | z] (..., batch, d)."""

    def draw(self, mean: Array, seed: int, k: int) -> Array:
        """Draw y (..., batch, d) from the model's own distribution, which has that mean, keyed by (seed, k)."""


@dataclass(frozen=True)
class SoftmaxCrossEntropy:
    """loss = mean_i ( log sum_j exp z_ij - z_i,class ); the classes y are one-hot.

    `axes` are 2 for rows (batch, d), 3 for sequences (batch, T, d): the loss of an example is then the sum over its T
    positions, minus the log-likelihood of the whole sequence.
    """

    axes: int = 2

    def value_and_grads(self, z: Array, y: Array) -> tuple[Any, Array]:
        xp = namespace(z, y)
        shifted = z - xp.max(z, axis=-1, keepdims=True)  # so that exp cannot overflow
        e = xp.exp(shifted)
        total = xp.sum(e, axis=-1, keepdims=True)
        losses = xp.log(total) - xp.sum(y * shifted, axis=-1, keepdims=True)
        own = xp.sum(losses, axis=tuple(range(1 - self.axes, 0)))  # each example's, (..., batch)
        return xp.mean(own, axis=-1), e / total - y

    def hessians(self, z: Array) -> MatVec:
        xp = namespace(z)
        p = softmax(z)

        def mv(v: Array) -> Array:
            pv = p * v
            return pv - p * xp.sum(pv, axis=-1, keepdims=True)

        return mv

    def hessian_diagonals(self, z: Array) -> Array:
        p = softmax(z)
        return p * (1.0 - p)

    def mean(self, z: Array) -> Array:
        return softmax(z)

    def draw(self, mean: Array, seed: int, k: int) -> Array:
        xp = namespace(mean)
        u = random.uniform((*mean.shape[:-1], 1), seed=seed, k=k, purpose="model targets", like=mean)
        below = xp.cumulative_sum(mean, axis=-1)[..., :-1]
        labels = xp.sum(xp.astype(u >= below, xp.int64), axis=-1)
        return one_hot(labels, mean.shape[-1], like=mean)


class BinaryCrossEntropy:
    """loss = mean_i sum_j ( log(1 + exp z_ij) - y_ij z_ij ),  y in [0, 1]; drawn targets are 0 or 1."""

    def value_and_grads(self, z: Array, y: Array) -> tuple[Any, Array]:
        xp = namespace(z, y)
        # log(1 + exp z) - y z, with the large terms cancelled before they are rounded.
        losses = xp.where(z > 0, (1.0 - y) * z, -y * z) + softplus(-xp.abs(z))
        return xp.mean(xp.sum(losses, axis=-1), axis=-1), logistic(z) - y

    def hessians(self, z: Array) -> MatVec:
        variance = self.hessian_diagonals(z)
        return lambda v: variance * v

    def hessian_diagonals(self, z: Array) -> Array:
        return logistic(z) * logistic(-z)

    def mean(self, z: Array) -> Array:
        return logistic(z)

    def draw(self, mean: Array, seed: int, k: int) -> Array:
        u = random.uniform(mean.shape, seed=seed, k=k, purpose="model targets", like=mean)
        return namespace(mean).astype(u < mean, mean.dtype)


class SquaredError:
    """loss = mean_i 1/2 |z_i - y_i|^2; drawn targets have unit variance."""

    def value_and_grads(self, z: Array, y: Array) -> tuple[Any, Array]:
        xp = namespace(z, y)
        r = z - y
        return 0.5 * xp.mean(xp.sum(r * r, axis=-1), axis=-1), r

    def hessians(self, z: Array) -> MatVec:
        return lambda v: v

    def hessian_diagonals(self, z: Array) -> Array:
        return namespace(z).ones_like(z)

    def mean(self, z: Array) -> Array:
        return z

    def draw(self, mean: Array, seed: int, k: int) -> Array:
        return mean + random.normal(mean.shape, seed=seed, k=k, purpose="model targets", like=mean)


def one_hot(labels: Array, classes: int, like: Array) -> Array:
    """Return an array (..., classes) of the dtype of `like`: 1 at each label, an integer in [0, classes), else 0."""
    xp = namespace(labels, like)
    each = xp.astype(array_like(range(classes), like), labels.dtype)
    return xp.astype(xp.expand_dims(labels, axis=-1) == each, like.dtype)
