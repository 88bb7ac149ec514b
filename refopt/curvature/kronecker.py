r"""Fisher matrices of dense layers in Kronecker factors: moments of a batch, damping, two inverses, an eigenbasis.

Layer i has s_i = W_i^T a_i, a_i carrying the constant 1 of the bias; g_i is the gradient of one example's loss by s_i,
so a_i g_i^T (d_in, d_out) is that by W_i. Vectors are flattened row by row: (A (x) G) vec(V) = vec(A V G^T).

    F_ij = E[vec(a_i g_i^T) vec(a_j g_j^T)^T]  ~=  A_ij (x) G_ij,      A_ij = E[a_i a_j^T],   G_ij = E[g_i g_j^T]

Damped (section 6.3):  A_ii += pi gamma I,   G_ii += gamma / pi I,     pi = sqrt( (tr A_ii / d_in) / (tr G_ii / d_out) )

Block-diagonal inverse (4.2): F_ii^{-1} = A_ii^{-1} (x) G_ii^{-1}. Block-tridiagonal inverse (4.3), of the one matrix
that has the F_ij with |i - j| <= 1 and whose inverse has no other blocks:

    F^{-1} ~= Xi^T Lambda Xi,              Xi = I with -Psi_i at block (i, i+1),   Lambda = diag(Sigma_i^{-1})
    Psi_i = F_{i,i+1} F_{i+1,i+1}^{-1}  =  (A_{i,i+1} A_{i+1,i+1}^{-1}) (x) (G_{i,i+1} G_{i+1,i+1}^{-1})
    Sigma_i = F_ii - Psi_i F_{i+1,i+1} Psi_i^T  =  A_ii (x) G_ii - C_i (x) D_i,           Sigma_l = F_ll
    Sigma_i^{-1} vec(V) = vec( K_A [ (K_A^T V K_G) / (1 - s_A s_G^T) ] K_G^T )            / elementwise
    K_A^T A_ii K_A = I,   K_A^T C_i K_A = diag(s_A);   K_G, s_G of G_ii and D_i likewise

s_A are the squared canonical correlations of a_i with a_{i+1}, so they lie in [0, 1).

Weights shared over T positions of an example, as a convolution's, have a_t g_t^T summed over t. "expand" takes the
positions for independent: A = E[sum_t a_t a_t^T], G = 1/T E[sum_t g_t g_t^T]. "reduce" takes one row an example:
the mean of a_t, the sum of g_t.
Sources: J. Martens, R. Grosse, ICML 2015, arXiv:1503.05671; for shared weights R. Grosse, J. Martens, ICML 2016,
arXiv:1602.01407 (KFC), and R. Eschenhagen et al., NeurIPS 2023, arXiv:2311.00636; for the eigenbasis T. George et al.,
NeurIPS 2018, arXiv:1806.03884.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from backends.arrays import Array, namespace
from refopt.status import require

Matrices: TypeAlias = dict[str, Array]
"""One matrix a layer by its name, in the order in which the layers lie in the flat vector."""

Shared: TypeAlias = Literal["expand", "reduce"]
T = TypeVar("T")


class DenseLayer(Protocol):
    """What the factors ask of a layer; `refopt.objective.Layer` is one."""

    @property
    def where(self) -> slice:
        """The layer's range in the flat vector."""

    @property
    def inputs(self) -> Array:
        """Shape (batch, d_in), or (batch, T, d_in) where the weights are shared."""

    @property
    def output_grads(self) -> Array:
        """Shape (batch, d_out) or (batch, T, d_out): gradients of each example's own loss."""


def in_order(layers: Mapping[str, DenseLayer], n: int) -> dict[str, DenseLayer]:
    """Return the layers as they lie in the flat vector; ValueError unless each of its n entries is in one of them."""
    ordered = dict(sorted(layers.items(), key=lambda item: item[1].where.start))
    ends = [0, *(layer.where.stop for layer in ordered.values())]
    starts = [*(layer.where.start for layer in ordered.values()), n]
    for end, start in zip(ends, starts, strict=True):
        if end != start:
            where = f"{end}:{start} belongs to none" if end < start else f"{start}:{end} belongs to two"
            raise ValueError(f"the layers must cover each of the {n} parameters once; {where}")
    return ordered


def total(f: Callable[..., T], layers: Mapping[str, DenseLayer], *arguments: object) -> T:
    """Return f(layers, *arguments), a sum over the examples: taken where they are, if `layers` has a `total` for that.

    So have those of `refopt.sharded`, whose rows then stay where they are. There f is a function of a module, or a
    `partial` of one, and `arguments` and result are matrices, or dictionaries and tuples of them.
    """
    own: Callable[..., T] | None = getattr(layers, "total", None)
    return f(layers, *arguments) if own is None else own(f, *arguments)


def flat(V: Matrices) -> Array:
    """Return the flat vector (n,) of the layers' matrices."""
    xp = namespace(*V.values())
    return xp.concat([xp.reshape(matrix, (-1,)) for matrix in V.values()])


class Sums(NamedTuple):
    """Sums over the examples of a batch: the moments times their numbers; see `Factors`."""

    A: Matrices
    G: Matrices
    A_next: Matrices
    G_next: Matrices
    N: dict[str, int]  # rows of each layer
    batch: int


class Factors(NamedTuple):
    """The moments of a batch, or their running mean; those of neighbours, A_{i,i+1}, under the name of layer i."""

    A: Matrices  # (d_in, d_in)
    G: Matrices  # (d_out, d_out)
    A_next: Matrices  # (d_in, d_in of the next layer)
    G_next: Matrices  # (d_out, d_out of the next layer)


def rows(layer: DenseLayer, shared: Shared) -> tuple[Array, Array]:
    """Return the rows a (N, d_in) and g (N, d_out) from which the moments are taken: N is the batch, or T times it."""
    a, g = layer.inputs, layer.output_grads
    if a.ndim == 2:
        return a, g
    xp = namespace(a)
    if shared == "reduce":
        positions = tuple(range(1, a.ndim - 1))
        return xp.mean(a, axis=positions), xp.sum(g, axis=positions)
    return xp.reshape(a, (-1, a.shape[-1])), xp.reshape(g, (-1, g.shape[-1]))


def sums(layers: Mapping[str, DenseLayer], n: int, *, shared: Shared = "expand", neighbours: bool = False) -> Sums:
    """Return sum a a^T and sum g g^T of the layers, put in order, of n parameters; of neighbours too if asked for.

    Costs N (d_in^2 + d_out^2) flops a layer. Raises ValueError for an unknown word, where the layers do not cover the
    n parameters, and, naming the layer, where neighbours are asked for and a layer has several rows an example.
    """
    require(shared in ("expand", "reduce"), "shared must be 'expand' or 'reduce'", shared)
    layers = in_order(layers, n)
    a, g = {}, {}
    for name, layer in layers.items():
        a[name], g[name] = rows(layer, shared)
        several = a[name].shape[0] > layer.inputs.shape[0]
        rule = "block_tridiagonal needs one row an example: layers that share weights need shared='reduce'"
        require(not (neighbours and several), rule, name)
    pairs = list(pairwise(layers)) if neighbours else []
    return Sums(
        A={name: a[name].T @ a[name] for name in layers},
        G={name: g[name].T @ g[name] for name in layers},
        A_next={name: a[name].T @ a[after] for name, after in pairs},
        G_next={name: g[name].T @ g[after] for name, after in pairs},
        N={name: int(a[name].shape[0]) for name in layers},
        batch=int(next(iter(layers.values())).inputs.shape[0]),
    )


def moments(S: Sums) -> Factors:
    """Return the moments of the batch: means over its examples, G over its rows."""
    return Factors(
        A={name: M / S.batch for name, M in S.A.items()},
        G={name: M / S.N[name] for name, M in S.G.items()},
        A_next={name: M / S.batch for name, M in S.A_next.items()},
        G_next={name: M / S.batch for name, M in S.G_next.items()},
    )


def running_mean(old: Factors, new: Factors, eps: float) -> Factors:
    """Return eps old + (1 - eps) new, matrix by matrix."""
    return Factors(
        *({name: eps * M[name] + (1.0 - eps) * N[name] for name in N} for M, N in zip(old, new, strict=True))
    )


def matrices(v: Array, factors: Factors) -> Matrices:
    """Return the parts of the flat vector `v` (n,) as the layers' matrices (d_in, d_out): `flat` undone."""
    V, start = {}, 0
    for name, A in factors.A.items():
        d_in, d_out = A.shape[0], factors.G[name].shape[0]
        V[name] = namespace(v).reshape(v[start : start + d_in * d_out], (d_in, d_out))
        start += d_in * d_out
    return V


def damped(factors: Factors, gamma: float) -> Factors:
    """Return the factors with A_ii + pi gamma I and G_ii + gamma / pi I; pi = 1 where a factor is zero."""
    A, G = {}, {}
    for name in factors.A:
        spread_A, spread_G = (_mean_eigenvalue(M[name]) for M in (factors.A, factors.G))
        pi = math.sqrt(spread_A / spread_G) if spread_A > 0.0 and spread_G > 0.0 else 1.0
        A[name] = _plus_diagonal(factors.A[name], pi * gamma)
        G[name] = _plus_diagonal(factors.G[name], gamma / pi)
    return factors._replace(A=A, G=G)


class BlockDiagonal(NamedTuple):
    """The inverses of the damped factors; see `block_diagonal`."""

    A_inv: Matrices  # (d_in, d_in)
    G_inv: Matrices  # (d_out, d_out)

    def times(self, V: Matrices) -> Matrices:
        """Return A_ii^{-1} V_i G_ii^{-1} for each layer, at 2 d_in d_out (d_in + d_out) flops."""
        return {name: self.A_inv[name] @ V[name] @ self.G_inv[name] for name in V}


def block_diagonal(factors: Factors, gamma: float, *, workers: int = 1) -> BlockDiagonal:
    """Return the inverse of the diagonal blocks, damped by `gamma`; nan where they are not positive definite.

    Costs 2 d^3 flops a factor. `workers` threads share the factors, to the same bits as one.
    """
    A, G, _, _ = damped(factors, gamma)
    inverses = _spread(_inverse, [(M,) for M in (*A.values(), *G.values())], workers)
    return BlockDiagonal(
        dict(zip(A, inverses[: len(A)], strict=True)),
        dict(zip(G, inverses[len(A) :], strict=True)),
    )


class BlockTridiagonal(NamedTuple):
    """Xi and Lambda in factors; see `block_tridiagonal`. The last layer has no Psi, and gap 1."""

    Psi_A: Matrices  # (d_in, d_in of the next layer)
    Psi_G: Matrices  # (d_out, d_out of the next layer)
    K_A: Matrices  # (d_in, d_in)
    K_G: Matrices  # (d_out, d_out)
    gap: Matrices  # (d_in, d_out) 1 - s_A s_G^T

    def times(self, V: Matrices) -> Matrices:
        """Return Xi^T Lambda Xi V, at some four times the flops of the block-diagonal one."""
        U = dict(V)  # Xi V
        for name, after in pairwise(V):
            U[name] = V[name] - self.Psi_A[name] @ V[after] @ self.Psi_G[name].T
        for name, gap in self.gap.items():  # Lambda Xi V
            K_A, K_G = self.K_A[name], self.K_G[name]
            U[name] = K_A @ ((K_A.T @ U[name] @ K_G) / gap) @ K_G.T
        out = dict(U)  # Xi^T Lambda Xi V
        for name, after in pairwise(V):
            out[after] = U[after] - self.Psi_A[name].T @ U[name] @ self.Psi_G[name]
        return out


def block_tridiagonal(factors: Factors, gamma: float, *, workers: int = 1) -> BlockTridiagonal:
    """Return the inverse that joins neighbours, its diagonal blocks damped by `gamma`; nan as `block_diagonal`.

    `factors` must hold the moments of neighbours. Costs an eigendecomposition, about 9 d^3 flops, and 8 d^3 more, a
    factor.
    """
    A, G, A_next, G_next = damped(factors, gamma)
    Psi_A, K_A, s_A = _regressions(A, A_next, workers)
    Psi_G, K_G, s_G = _regressions(G, G_next, workers)
    gap = {name: 1.0 - namespace(s_A[name]).linalg.outer(s_A[name], s_G[name]) for name in A}
    return BlockTridiagonal(Psi_A, Psi_G, K_A, K_G, gap)


def _regressions(M: Matrices, M_next: Matrices, workers: int) -> tuple[Matrices, Matrices, Matrices]:
    """Return Psi, K and s of one side, A or G, of the chain.

    With B_i^T B_i = M_ii^{-1}:  R = B_{i+1} M_{i,i+1}^T,  Psi = R^T B_{i+1},  C = R^T R,  K = B_i^T E,  where E and s
    are the eigenpairs of B_i C B_i^T = Y^T Y,  Y = R B_i^T.
    """
    B = dict(zip(M, _spread(whitening, [(matrix,) for matrix in M.values()], workers), strict=True))

    def one(name: str, after: str) -> tuple[Array, Array, Array]:
        R = B[after] @ M_next[name].T
        Y = R @ B[name].T
        s, E = eigh(Y.T @ Y)
        xp = namespace(s)
        return R.T @ B[after], B[name].T @ E, xp.clip(s, 0.0, 1.0 - float(xp.finfo(s.dtype).eps))

    found = dict(zip(M_next, _spread(one, list(pairwise(M)), workers), strict=True))
    last = next(reversed(M))
    Psi = {name: psi for name, (psi, _, _) in found.items()}
    K = {name: k for name, (_, k, _) in found.items()} | {last: B[last].T}
    s = {name: own for name, (_, _, own) in found.items()} | {last: namespace(B[last]).zeros_like(B[last][0, :])}
    return Psi, K, s


def eigh(M: Array) -> tuple[Array, Array]:
    """Return the eigenvalues, ascending, and eigenvectors of a symmetric matrix; nan where it is not finite."""
    xp = namespace(M)
    try:
        values, vectors = xp.linalg.eigh(M)
    except ValueError:  # LinAlgError: NumPy refuses what CuPy fills with nan
        return xp.full_like(M[0, :], math.nan), xp.full_like(M, math.nan)
    return values, vectors


def whitening(M: Array) -> Array:
    """Return the lower triangular B with B^T B = M^{-1}, the inverse of the Cholesky factor, by halves.

    The halves leave the work to matrix products, 7/6 d^3 flops of them: on one core that is several times faster than
    the factorisation and a general inverse, at the price of a factor sqrt(cond M) in accuracy. nan where M is not
    positive definite.
    """
    xp = namespace(M)
    half = M.shape[0] // 2
    if M.shape[0] <= 64:
        try:
            return xp.linalg.inv(xp.linalg.cholesky(M))
        except ValueError:  # LinAlgError, as in `eigh`
            return xp.full_like(M, math.nan)
    first = whitening(M[:half, :half])
    L = M[half:, :half] @ first.T
    second = whitening(M[half:, half:] - L @ L.T)
    B = xp.zeros_like(M)
    B[:half, :half] = first
    B[half:, half:] = second
    B[half:, :half] = -(second @ L @ first)
    return B


def _inverse(M: Array) -> Array:
    B = whitening(M)
    return B.T @ B


def _mean_eigenvalue(M: Array) -> float:
    return float(namespace(M).linalg.trace(M)) / int(M.shape[0])


def _plus_diagonal(M: Array, damping: float) -> Array:
    xp = namespace(M)
    entries = xp.reshape(xp.asarray(M, copy=True), (-1,))
    entries[:: M.shape[0] + 1] = entries[:: M.shape[0] + 1] + damping
    return xp.reshape(entries, M.shape)


def _spread(f: Callable[..., T], arguments: Iterable[tuple[object, ...]], workers: int) -> list[T]:
    """Return f(*each) in order; with several workers on threads, as the linear algebra lets go of the interpreter."""
    if workers == 1:
        return [f(*each) for each in arguments]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda each: f(*each), arguments))
