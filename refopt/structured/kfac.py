r"""K-FAC: natural gradient with a Kronecker-factored Fisher matrix (Martens and Grosse, 2015).

A dense layer s = W^T a (a carries the constant 1 of the bias), g being the gradient of one example's loss by s, has the
gradient matrix V = E[a g^T]. Its block of the Fisher matrix is approximated by A (x) G,

    A = E[a a^T],   G = E[g g^T]                   targets drawn from the model's own distribution (section 5)
    A, G = eps_k old + (1 - eps_k) new,            eps_k = min(1 - 1/k, decay)

    Delta = -(A + pi gamma I)^{-1} V (G + gamma / pi I)^{-1}          layer by layer, damped (sections 4.2, 6.3) with
    pi = sqrt( (tr A / d_in) / (tr G / d_out) )

    delta = alpha Delta + mu delta_0               delta_0 is the step before; (alpha, mu) minimise (sections 6.4, 7)
    M(delta) = 1/2 delta^T (F + (lam + l2) I) delta + grad^T delta,   F the exact Fisher matrix of the batch
    x = x + delta

    every T1 steps, where M(delta) < 0:   rho = (f(x + delta) - f(x)) / M(delta)
                                          lam *= w1 if rho > 3/4,  lam /= w1 if rho < 1/4
    every T2 steps:   gamma = the best by M(delta) of gamma, w2 gamma, gamma / w2
    every T3 steps, and the first three:   the inverses

with w1 = (19/20)^T1, w2 = (19/20)^(T2/2) (sections 6.5, 6.6). Where alpha or mu is fixed, M(delta) may be positive: a
step that climbs in the model says nothing about lam. `structure="block_tridiagonal"` joins each layer with its
neighbours (section 4.3); `refopt.curvature.kronecker` has its formulas, and those for weights shared over positions.
Source: J. Martens, R. Grosse, ICML 2015, arXiv:1503.05671, Algorithm 2; convolutions after R. Grosse, J. Martens, ICML
2016, arXiv:1602.01407 ("expand") and R. Eschenhagen et al., NeurIPS 2023, arXiv:2311.00636 ("reduce").
Cost: 1 gradient, a forward and a backward pass with model-sampled targets, 2 exact Fisher products, a value every T1
steps; 2 d_in d_out (d_in + d_out) + batch (d_in^2 + d_out^2) flops a layer; every T3 steps 2 d^3 flops a factor of
size d, three times that with every T2.
Memory: 1 vector and 2 (d_in^2 + d_out^2) a layer; "block_tridiagonal" takes another vector, and
2 (d_in d_in' + d_out d_out') for each pair of neighbours.
Differs: the paper's first lam is 150, for losses summed over pixels; 1 suits a mean over examples. Its tau1 = 1/8 and
tau2 = 1/4 are for batches of thousands; here all examples are used unless told. Ports to PyTorch fix alpha (`lr`) and
mu (`momentum`), so they need no Fisher product and adapt nothing, and often take the data's targets for the model's:
the empirical Fisher matrix, `estimate="empirical"`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

from backends import random
from backends.arrays import Array, all_finite, namespace
from refopt.curvature import kronecker
from refopt.curvature.kronecker import BlockDiagonal, BlockTridiagonal, Factors, Shared, Sums
from refopt.curvature.reduction_ratio import reduction_ratio
from refopt.method import Dialects, LogUniform, Spec
from refopt.objective import Objective
from refopt.status import Status, require


class State(NamedTuple):
    """The factors, their damped inverse and the last update after k steps."""

    k: int
    seed: int
    delta: Array  # (n,) the step before
    lam: float  # damping of the quadratic model
    gamma: float  # damping of the factors
    factors: Factors | None = None
    inverse: BlockDiagonal | BlockTridiagonal | None = None
    status: Status = Status.RUNNING
    info: dict[str, Any] = {}


SPEC = Spec(
    title="K-FAC",
    source="Martens, Grosse 2015, arXiv:1503.05671, Algorithm 2",
    needs=("value_and_grad", "layers", "fisher"),
    cost="1 gradient, 2/3 for the layers with sampled targets, 2 Fisher products",
    gradient_equivalents=(4.6, 7.7),
    memory=None,
    memory_note="1 vector and 2 (d_in^2 + d_out^2) a layer",
    search={"lam": LogUniform(1e-4, 1e1)},
)

DIALECTS: Dialects = {
    "paper": {"lam": 150.0, "tau1": 1 / 8, "tau2": 1 / 4},
    "ports": {"lr": 0.1, "momentum": 0.9, "estimate": "empirical"},
}


class Structure(NamedTuple):
    """How the Fisher matrix is inverted, and what that costs."""

    inverse: Callable[..., BlockDiagonal | BlockTridiagonal]
    inverse_flops: float  # times d^3 a factor
    times_flops: float  # times d_in d_out (d_in + d_out) a layer


STRUCTURES = {
    "block_diagonal": Structure(kronecker.block_diagonal, 2.0, 2.0),
    "block_tridiagonal": Structure(kronecker.block_tridiagonal, 19.0, 8.0),
}


def init(x: Array, *, seed: int = 0, lam: float = 1.0, l2: float = 0.0) -> State:
    """Return the state before the first step, `lam` being the first damping. ValueError for lam <= 0 or l2 < 0."""
    require(lam > 0, "lam must be positive", lam)
    require(l2 >= 0, "l2 must be at least 0", l2)
    return State(0, seed, delta=namespace(x).zeros_like(x), lam=lam, gamma=math.sqrt(lam + l2))


def step(
    objective: Objective,
    x: Array,
    state: State,
    *,
    lr: float | None = None,
    momentum: float | None = None,
    l2: float = 0.0,
    decay: float = 0.95,
    structure: Literal["block_diagonal", "block_tridiagonal"] = "block_diagonal",
    estimate: Literal["sampled", "empirical"] = "sampled",
    shared: Shared = "expand",
    T1: int = 5,
    T2: int = 20,
    T3: int = 20,
    tau1: float = 1.0,
    tau2: float = 1.0,
    workers: int = 1,
) -> tuple[Array, State]:
    """Take one step. `l2` is the weight of 1/2 |x|^2 that the objective already contains: it is known curvature.

    `lr` and `momentum` fix alpha and mu; with both fixed, lam and gamma stay as they are. `tau1` and `tau2` are the
    shares of the batch that the factors and the Fisher products see. `workers` threads share the factors at inversion.
    Ends as BREAKDOWN, with x as it was, where the model is not finite. Raises ValueError for a knob out of its range,
    or where the layers do not cover all parameters.
    """
    require(lr is None or lr >= 0, "lr must be None or at least 0", lr)
    require(momentum is None or 0 <= momentum < 1, "momentum must be None or in [0, 1)", momentum)
    require(l2 >= 0, "l2 must be at least 0", l2)
    require(0 <= decay < 1, "decay must be in [0, 1)", decay)
    require(structure in STRUCTURES, f"structure must be one of {', '.join(STRUCTURES)}", structure)
    require(estimate in ("sampled", "empirical"), "estimate must be 'sampled' or 'empirical'", estimate)
    require(min(T1, T2, T3) >= 1, "T1, T2 and T3 must be at least 1", (T1, T2, T3))
    require(0 < tau1 <= 1 and 0 < tau2 <= 1, "tau1 and tau2 must be in (0, 1]", (tau1, tau2))
    require(workers >= 1, "workers must be at least 1", workers)
    k = state.k + 1
    value, grad = objective.value_and_grad(x)
    S1 = _share(objective, tau1, state.seed, k, "factors")
    drawn = {"seed": state.seed, "k": state.k} if estimate == "sampled" else {}
    sums = partial(kronecker.sums, n=x.shape[0], shared=shared, neighbours=structure == "block_tridiagonal")
    S = kronecker.total(sums, S1.layers(x, **drawn))
    new = kronecker.moments(S)
    old = state.factors or new
    factors = kronecker.running_mean(old, new, min(1.0 - 1.0 / k, decay))

    delta_0, lam = state.delta, state.lam
    adaptive = lr is None or momentum is None
    w1, w2 = (19.0 / 20.0) ** T1, (19.0 / 20.0) ** (T2 / 2)
    search = adaptive and k % T2 == 0
    refresh = search or k % T3 == 0 or k <= 3 or state.inverse is None
    V = kronecker.matrices(grad, factors)
    if adaptive:
        F = _share(objective, tau2, state.seed, k, "products").fisher(x)
        F_delta_0 = F(delta_0) if k > 1 and momentum != 0.0 else 0.0 * delta_0
    tried: list[tuple[float, float, Array, BlockDiagonal | BlockTridiagonal]] = []
    for gamma in (state.gamma, w2 * state.gamma, state.gamma / w2) if search else (state.gamma,):
        inverse = STRUCTURES[structure].inverse(factors, gamma, workers=workers) if refresh else state.inverse
        assert inverse is not None
        Delta = -kronecker.flat(inverse.times(V))
        if lr is not None and momentum is not None:
            M, delta = 0.0, lr * Delta + momentum * delta_0
        else:
            M, delta = model_minimum(grad, Delta, F(Delta), delta_0, F_delta_0, lam + l2, lr, momentum)
        tried.append((M, gamma, delta, inverse))
    M, gamma, delta, inverse = min(tried, key=lambda one: (math.isnan(one[0]), one[0]))

    flops = _flops(STRUCTURES[structure], S, len(tried), refresh)
    info = {"M": M if adaptive else None, "rho": None, "flops": flops}
    if not all_finite(delta):
        return x, state._replace(k=k, status=Status.BREAKDOWN, info=info)
    if k % T1 == 0 and M < 0.0:
        rho = reduction_ratio(value, objective.value(x + delta), -M, x)
        lam = lam * w1 if rho > 0.75 else lam / w1 if not rho >= 0.25 else lam
        info["rho"] = rho
    return x + delta, State(k, state.seed, delta, lam, gamma, factors, inverse, info=info)


def _share(objective: Objective, tau: float, seed: int, k: int, purpose: str) -> Objective:
    """Return the mean over the share `tau` of the examples of `objective`, drawn anew at each step."""
    if tau == 1.0:
        return objective
    n = objective.batch_size
    if n is None:
        raise ValueError(f"tau1 and tau2 must be 1 where the objective is no finite sum, got {tau}")
    chosen = random.choice(n, max(1, round(tau * n)), seed=seed, k=k, purpose=purpose)
    return objective.minibatch(chosen if objective.indices is None else objective.indices[chosen])


def model_minimum(
    grad: Array,
    Delta: Array,
    F_Delta: Array,
    delta_0: Array,
    F_delta_0: Array,
    damping: float,
    alpha: float | None = None,
    mu: float | None = None,
) -> tuple[float, Array]:
    """Return the least M over delta = alpha Delta + mu delta_0, and that delta; a coefficient given stays fixed."""
    a = float(Delta @ F_Delta) + damping * float(Delta @ Delta)
    b = float(Delta @ F_delta_0) + damping * float(Delta @ delta_0)
    c = float(delta_0 @ F_delta_0) + damping * float(delta_0 @ delta_0)
    u, v = float(grad @ Delta), float(grad @ delta_0)
    if alpha is None and mu is None:
        det = a * c - b * b
        # There is one direction at the first step and, but for rounding, where the two are parallel.
        rounding = 1e3 * float(namespace(grad).finfo(grad.dtype).eps) * a * c
        mu = -(a * v - b * u) / det if det > rounding else 0.0
    if alpha is None:
        assert mu is not None
        alpha = -(u + b * mu) / a if a > 0.0 else 0.0
    elif mu is None:
        mu = -(v + b * alpha) / c if c > 0.0 else 0.0
    M = 0.5 * (a * alpha * alpha + 2.0 * b * alpha * mu + c * mu * mu) + alpha * u + mu * v
    return M, alpha * Delta + mu * delta_0


def _flops(structure: Structure, S: Sums, tried: int, refresh: bool) -> float:
    """Return the flops outside the objective: moments, inverses and products with them."""
    total = 0.0
    for name, N in S.N.items():
        d_in, d_out = S.A[name].shape[0], S.G[name].shape[0]
        total += N * (d_in**2 + d_out**2)
        total += tried * structure.times_flops * d_in * d_out * (d_in + d_out)
        total += tried * refresh * structure.inverse_flops * (d_in**3 + d_out**3)
    return total
