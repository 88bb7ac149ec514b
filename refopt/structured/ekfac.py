r"""EKFAC: K-FAC's eigenbasis, with the second moments measured in it (George et al., 2018).

A dense layer s = W^T a (a carries the constant 1 of the bias), g being the gradient of one example's loss by s, has the
gradient matrix V = E[a g^T]; the factors A = E[a a^T] and G = E[g g^T] are K-FAC's, running means with

    eps_k = min(1 - 1/k, decay),   decay = 0.95

    every `interval` steps, and the first three:   A = U_A diag(s_A) U_A^T,  G = U_G diag(s_G) U_G^T,  s = s_A s_G^T
    s = eps_k s + (1 - eps_k) E[ (U_A^T a g^T U_G)^2 ]                    squares elementwise, E over the batch
    Delta = -U_A [ (U_A^T V U_G) / (s + damping) ] U_G^T                  / elementwise
    delta = lr Delta + momentum delta
    x = x + delta

s_A s_G^T is what K-FAC has for the second moments; the measured ones are the best diagonal in this basis, so the
approximation of the Fisher matrix is never further from it in Frobenius norm. The costly basis is amortised, while the
moments follow every batch. Weights shared over positions have the sum over positions of a g^T for a g^T.
Source: T. George, C. Laurent, X. Bouthillier, N. Ballas, P. Vincent, NeurIPS 2018, arXiv:1806.03884, with its running
average of the moments.
Cost: 1 gradient, a forward and a backward pass with model-sampled targets; 3 batch (d_in^2 + d_out^2) +
2 batch d_in d_out + 4 d_in d_out (d_in + d_out) flops a layer; every `interval` steps 9 d^3 flops a factor of size d.
Memory: 2 vectors and 2 (d_in^2 + d_out^2) a layer.
Differs: a new basis starts from the second moments that the old factors have in it, and not from the batch alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

from backends.arrays import Array, all_finite, namespace
from refopt.curvature import kronecker
from refopt.curvature.kronecker import DenseLayer, Factors, Matrices, Shared, Sums
from refopt.method import Dialects, LogUniform, Spec
from refopt.objective import Objective
from refopt.status import Status, require


class State(NamedTuple):
    """The factors, their eigenbasis, the moments in it and the last update after k steps."""

    k: int
    seed: int
    delta: Array  # (n,) the step before
    factors: Factors | None = None
    U_A: Matrices = {}  # (d_in, d_in)
    U_G: Matrices = {}  # (d_out, d_out)
    s: Matrices = {}  # (d_in, d_out)
    status: Status = Status.RUNNING
    info: dict[str, Any] = {}


SPEC = Spec(
    title="EKFAC",
    source="George, Laurent, Bouthillier, Ballas, Vincent 2018, arXiv:1806.03884",
    needs=("grad", "layers"),
    cost="1 gradient, 2/3 for the layers with sampled targets",
    gradient_equivalents=(5 / 3, 5 / 3),
    memory=None,
    memory_note="2 vectors and 2 (d_in^2 + d_out^2) a layer",
    search={"lr": LogUniform(1e-3, 1e0), "damping": LogUniform(1e-4, 1e1)},
)

DIALECTS: Dialects = {"paper": {"momentum": 0.0, "interval": 50}}


def init(x: Array, *, seed: int = 0) -> State:
    """Return the state before the first step."""
    return State(0, seed, delta=namespace(x).zeros_like(x))


def step(
    objective: Objective,
    x: Array,
    state: State,
    *,
    lr: float = 0.03,
    momentum: float = 0.9,
    damping: float = 0.1,
    decay: float = 0.95,
    estimate: Literal["sampled", "empirical"] = "sampled",
    shared: Shared = "expand",
    interval: int = 10,
) -> tuple[Array, State]:
    """Take one step. `estimate="empirical"` takes the data's targets: moments of the empirical Fisher matrix.

    Ends as BREAKDOWN, with x as it was, where the step is not finite. Raises ValueError for a knob out of its range, or
    where the layers do not cover all parameters.
    """
    require(lr >= 0, "lr must be at least 0", lr)
    require(0 <= momentum < 1, "momentum must be in [0, 1)", momentum)
    require(damping > 0, "damping must be positive", damping)
    require(0 <= decay < 1, "decay must be in [0, 1)", decay)
    require(estimate in ("sampled", "empirical"), "estimate must be 'sampled' or 'empirical'", estimate)
    require(interval >= 1, "interval must be at least 1", interval)
    k = state.k + 1
    eps_k = min(1.0 - 1.0 / k, decay)
    grad = objective.grad(x)
    drawn = {"seed": state.seed, "k": state.k} if estimate == "sampled" else {}
    layers = objective.layers(x, **drawn)
    S = kronecker.total(partial(kronecker.sums, n=x.shape[0], shared=shared), layers)
    new = kronecker.moments(S)
    factors = kronecker.running_mean(state.factors or new, new, eps_k)

    U_A, U_G, s = state.U_A, state.U_G, state.s
    refresh = k % interval == 0 or k <= 3 or not U_A
    if refresh:
        s_A, U_A = _eigenbases(factors.A)
        s_G, U_G = _eigenbases(factors.G)
        s = {name: namespace(grad).linalg.outer(s_A[name], s_G[name]) for name in S.A}
    squares = kronecker.total(sums_of_squares, layers, U_A, U_G)
    s = {name: eps_k * s[name] + (1.0 - eps_k) * squares[name] / S.batch for name in S.A}
    V = kronecker.matrices(grad, factors)
    Delta = {name: -U_A[name] @ ((U_A[name].T @ V[name] @ U_G[name]) / (s[name] + damping)) @ U_G[name].T for name in V}
    delta = lr * kronecker.flat(Delta) + momentum * state.delta
    info = {"flops": _flops(S, refresh)}
    if not all_finite(delta):
        return x, state._replace(k=k, status=Status.BREAKDOWN, info=info)
    return x + delta, State(k, state.seed, delta, factors, U_A, U_G, s, info=info)


def _eigenbases(M: Matrices) -> tuple[Matrices, Matrices]:
    """Return the eigenvalues, those that rounding made negative as zero, and the eigenvectors, layer by layer."""
    pairs = {name: kronecker.eigh(matrix) for name, matrix in M.items()}
    return (
        {name: namespace(values).clip(values, 0.0, None) for name, (values, _) in pairs.items()},
        {name: vectors for name, (_, vectors) in pairs.items()},
    )


def sums_of_squares(layers: Mapping[str, DenseLayer], U_A: Matrices, U_G: Matrices) -> Matrices:
    """Return, layer by layer, the sum over the examples of (U_A^T a g^T U_G)^2, squares elementwise, (d_in, d_out)."""
    return {name: _sum_of_squares(layers[name], U_A[name], U_G[name]) for name in U_A}


def _sum_of_squares(layer: DenseLayer, U_A: Array, U_G: Array) -> Array:
    xp = namespace(U_A)
    a, g = layer.inputs @ U_A, layer.output_grads @ U_G
    if a.ndim == 2:  # one row an example: the square of a product is the product of squares
        return (a * a).T @ (g * g)
    total = xp.zeros_like(U_A[:, :1] * U_G[:1, :])
    for i in range(a.shape[0]):  # as all gradients at once would be as many matrices
        own = xp.reshape(a[i, ...], (-1, a.shape[-1])).T @ xp.reshape(g[i, ...], (-1, g.shape[-1]))
        total = total + own * own
    return total


def _flops(S: Sums, refresh: bool) -> float:
    """Return the flops outside the objective: moments in both bases, the eigenbasis and products with it."""
    total = 0.0
    for name, N in S.N.items():
        d_in, d_out = S.A[name].shape[0], S.G[name].shape[0]
        total += 3.0 * N * (d_in**2 + d_out**2) + 2.0 * N * d_in * d_out
        total += 4.0 * d_in * d_out * (d_in + d_out) + refresh * 9.0 * (d_in**3 + d_out**3)
    return total
