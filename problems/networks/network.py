"""A network, a loss and data make an objective that has every part: products, Fisher, examples and layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from backends.arrays import Array, device, namespace
from problems.networks.layers import Stack
from problems.networks.layers.layer import lacking
from problems.networks.losses import Loss
from refopt.layout import Layout
from refopt.objective import Layer, MatVec, MissingPart, Objective
from refopt.status import require


def network_objective(net: Stack, loss: Loss, inputs: Array, targets: Array, *, l2: float = 0.0) -> Objective:
    r"""Return f(x) = loss(net(x, inputs), targets) + l2/2 |x|^2 with all its parts.

    `inputs` is (B, d_in), (B, height, width, c) or whatever else the first layer takes, `targets` (B, d_out), or
    (B, T, d_out) with a loss over T positions, and x (n,) as `Layout(net.shapes)` names it.
    With J_i the Jacobian of example i's outputs, d_i and C_i the gradient and the Hessian of its own loss there,

        grad = 1/B sum_i J_i^T d_i + l2 x
        H v    by Pearlmutter's R-passes: at a linearised point at most 2 gradients' matrix products
        G v  = 1/B sum_i J_i^T C_i J_i v + l2 v
        F v  = G v - l2 v, exactly, as the loss is a log-likelihood in natural parameters; given a seed, its estimate
               1/B sum_i J_i^T d_i d_i^T J_i v with d_i of one target drawn from the model

    `ggn_diagonal(x)` is diag G where C_i is diagonal and there is one hidden layer or none; with more of them, with
    softmax outputs, shared weights or residual blocks, it leaves out what two units, positions or paths share.

    Products take one direction (n,) or k of them (n, k). `layers(x)` has the inputs (B, d_in + 1), the constant 1 of a
    bias last, and the output gradients (B, d_out) of each layer with weights, with the data's targets, or drawn ones
    given a seed; (B, T, d_in + 1) and (B, T, d_out) where T positions share them; and (B, 1) twice for one scalar. l2
    is no part of them. `per_example_grads(x)` is (B, n), and holds it.

    Raises ValueError where l2 is negative or the numbers of rows differ, TypeError where two libraries meet; a part
    raises MissingPart, a TypeError, with the names of the layers that lack what it takes.
    """
    require(l2 >= 0, "l2 must be at least 0", l2)
    B = inputs.shape[0]
    require(targets.shape[0] == B, f"targets must have {B} rows, as inputs", targets.shape)
    namespace(inputs, targets)
    layout = Layout(net.shapes)

    def forward(x: Array) -> tuple[Array, Any]:
        namespace(x, inputs)
        return net.forward(layout.split(x), inputs)

    def penalised(mean: Any, x: Array) -> Any:
        return mean + 0.5 * l2 * (x @ x) if l2 else mean

    def ridge(g: Array, x: Array) -> Array:
        return g + l2 * x if l2 else g

    def need(*passes: str) -> None:
        for which in passes:
            names = list(lacking(net, which))
            if names:
                raise MissingPart(f"this needs {which} of every layer; there is none in {', '.join(names)}")

    def value(x: Array) -> Any:
        namespace(x, inputs)
        z = net.apply(layout.split(x), inputs)
        return penalised(loss.value_and_grads(z, targets)[0], x)

    def value_and_grad(x: Array) -> tuple[Any, Array]:
        z, cache = forward(x)
        mean, d = loss.value_and_grads(z, targets)
        _, back = net.backward(cache, d / B, to_input=False)
        return penalised(mean, x), ridge(_join(layout, net.gradients(cache, back)), x)

    def linearize(x: Array) -> tuple[Any, Array, MatVec]:
        need("r_forward", "r_backward")
        z, cache = forward(x)
        mean, d = loss.value_and_grads(z, targets)
        _, back = net.backward(cache, d / B, to_input=False)
        g = ridge(_join(layout, net.gradients(cache, back)), x)
        C = loss.hessians(z)

        def mv(v: Array) -> Array:
            rz, r_cache = net.r_forward(cache, _split(layout, v), None)
            _, rgp = net.r_backward(cache, back, r_cache, C(rz) / B)
            return ridge(_join(layout, rgp), v)

        return penalised(mean, x), g, _by_columns(mv)

    def gauss_newton(cache: Any, C: MatVec) -> MatVec:
        need("r_forward")

        def mv(v: Array) -> Array:
            Jv, _ = net.r_forward(cache, _split(layout, v), None)
            _, back = net.backward(cache, C(Jv) / B, to_input=False)
            return _join(layout, net.gradients(cache, back))

        return _by_columns(mv)

    def ggn(x: Array) -> MatVec:
        z, cache = forward(x)
        G = gauss_newton(cache, loss.hessians(z))
        return lambda v: ridge(G(v), v)

    def ggn_diagonal(x: Array) -> Array:
        need("squared_backward")
        z, cache = forward(x)
        _, hp = net.squared_backward(cache, loss.hessian_diagonals(z) / B, to_input=False)
        return _join(layout, hp) + l2

    def fisher(x: Array, *, seed: int | None = None, k: int = 0) -> MatVec:
        z, cache = forward(x)
        if seed is None:
            return gauss_newton(cache, loss.hessians(z))
        mean = loss.mean(z)
        d = mean - loss.draw(mean, seed, k)
        xp = namespace(d)
        of_one = tuple(range(1 - d.ndim, 0))  # the axes of one example's outputs
        return gauss_newton(cache, lambda Jv: d * xp.sum(d * Jv, axis=of_one, keepdims=True))

    def per_example_grads(x: Array) -> Array:
        xp = namespace(x, inputs)
        # Batches of one along a leading axis: the same passes then keep the examples apart.
        z, cache = net.forward(layout.split(x), xp.expand_dims(inputs, axis=1))
        d = loss.mean(z) - xp.expand_dims(targets, axis=1)
        _, back = net.backward(cache, d, to_input=False)
        return ridge(_join(layout, net.gradients(cache, back)), x)

    def layers(x: Array, *, seed: int | None = None, k: int = 0) -> dict[str, Layer]:
        need("factors")
        z, cache = forward(x)
        mean = loss.mean(z)
        d = mean - (targets if seed is None else loss.draw(mean, seed, k))
        _, back = net.backward(cache, d, to_input=False)
        factors = net.factors(cache, back)
        covered = tuple(f"{name}." for name in factors)
        bare = [part for part in layout.names if not part.startswith(covered)]
        if bare:
            raise MissingPart(
                f"this needs factors of every layer with parameters; there are none for {', '.join(bare)}"
            )
        return {name: Layer(_where(layout, name), a, gz) for name, (a, gz) in factors.items()}

    def restrict(indices: np.ndarray[Any, Any]) -> Objective:
        xp = namespace(inputs)
        rows = xp.asarray(indices, device=device(inputs))
        return network_objective(net, loss, xp.take(inputs, rows, axis=0), xp.take(targets, rows, axis=0), l2=l2)

    return Objective(
        value=value,
        value_and_grad=value_and_grad,
        linearize=linearize,
        ggn=ggn,
        ggn_diagonal=ggn_diagonal,
        fisher=fisher,
        per_example_grads=per_example_grads,
        layers=layers,
        n_examples=B,
        restrict=restrict,
    )


def _split(layout: Layout, v: Array) -> dict[str, Array]:
    """Return the parts of directions v (..., n), each (..., *its shape)."""
    require(v.shape[-1] == layout.n, f"a direction must have {layout.n} entries", v.shape[-1])
    xp = namespace(v)
    return {
        name: xp.reshape(v[..., where], (*v.shape[:-1], *layout.shapes[name])) for name, where in layout.slices.items()
    }


def _join(layout: Layout, parts: Mapping[str, Array]) -> Array:
    """Return the flat vectors (..., n) whose parts are given; the inverse of `_split`."""
    xp = namespace(*parts.values())
    lead = {name: parts[name].shape[: parts[name].ndim - len(shape)] for name, shape in layout.shapes.items()}
    return xp.concat([xp.reshape(parts[name], (*lead[name], -1)) for name in layout.names], axis=-1)


def _by_columns(mv: MatVec) -> MatVec:
    """Let a product that takes directions along a leading axis take them as columns, (n,) or (n, k)."""
    return lambda v: mv(v) if v.ndim == 1 else mv(v.T).T


def _where(layout: Layout, name: str) -> slice:
    """Return the range of a layer's parameters in the flat vector."""
    slices = [s for part, s in layout.slices.items() if part.startswith(f"{name}.")]
    return slice(slices[0].start, slices[-1].stop)
