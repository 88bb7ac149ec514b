"""What a stack asks of a layer.

A layer maps a batch a (..., batch, *features) to z (..., batch, *features'). With p its parameters by name, g_ the
gradient of the loss, and R the derivative along a direction Rp of the parameters, R{z} = d/dt z(p + t Rp) at t = 0,
it has

    apply(p, a)                           z
    forward(p, a)                         z, cache         what the other passes need of p and a
    backward(cache, gz)                   ga, back         what they need of gz; linear in gz
    gradients(cache, back)                gp               the parameters'
    squared_backward(cache, hz)           ha, hp           curvatures for gradients, every weight and slope squared
    r_forward(cache, Rp, Ra)              Rz, r_cache
    r_backward(cache, back, r_cache, Rgz) Rga, Rgp
    factors(cache, back)                  {name: (inputs, gz)}

Forward, backward and gradients give a gradient; the two R-passes after them a Hessian product; r_forward, backward and
gradients a Gauss-Newton product; squared_backward, from the outputs' own curvatures, the diagonal of the Gauss-Newton
matrix, short of what two units, positions or paths share on the way to the loss. All axes are counted from the right: a
leading axis carries several directions, or batches of one example, through the same code. Where the input is data,
`to_input=False` spares ga, and Ra is None; up to the first weights so are Rz and Rgz.

Only a part of an objective that takes a pass asks for it: a layer that lacks it, or has parameters and no factors, is
then named in a TypeError. A layer made of others has them, by name, as `layers`.
Sources: B. A. Pearlmutter, Neural Computation 6(1), 1994; S. Becker, Y. LeCun, Proc. 1988 Connectionist Models Summer
School, 1989, without their term in f''.
"""

# ruff: noqa: D102 (the passes are described once, above)

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeAlias

from backends.arrays import Array

Parts: TypeAlias = Mapping[str, Array]


class NetworkLayer(Protocol):
    """The passes; the module's text says what each returns."""

    @property
    def kind(self) -> str:
        """The word from which a stack makes the layer's name."""

    @property
    def gain(self) -> float | None:
        """What keeps the spread from layer to layer, as a factor of the weights before; None: ask the next layer."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the parameters by name, in the order in which they lie in the flat vector."""

    def init(self, like: Array, seed: int, purpose: str, gain: float) -> dict[str, Array]:
        """Draw the initial parameters, keyed by (seed, purpose)."""

    def apply(self, p: Parts, a: Array) -> Array: ...

    def forward(self, p: Parts, a: Array) -> tuple[Array, Any]: ...

    def backward(self, cache: Any, gz: Array, *, to_input: bool = True) -> tuple[Array | None, Any]: ...

    def gradients(self, cache: Any, back: Any) -> Parts: ...

    def squared_backward(self, cache: Any, hz: Array, *, to_input: bool = True) -> tuple[Array | None, Parts]: ...

    def r_forward(self, cache: Any, rp: Parts, ra: Array | None) -> tuple[Array | None, Any]: ...

    def r_backward(self, cache: Any, back: Any, r_cache: Any, rgz: Array | None) -> tuple[Array | None, Parts]: ...

    def factors(self, cache: Any, back: Any) -> dict[str, tuple[Array, Array]]:
        """Return {name: (inputs, gz)} of each layer inside that has weights: what Kronecker methods ask for.

        inputs are (batch, d_in + 1), the constant 1 of a bias last, and gz (batch, d_out), so that the gradients of the
        batch sum to inputs^T gz; where T positions share the weights, (batch, T, d_in + 1) and (batch, T, d_out).
        """


def lacking(layer: NetworkLayer, which: str, name: str = "") -> Iterator[str]:
    """Yield the names, in the layer called `name`, of the layers that lack a pass."""
    if not hasattr(layer, which):
        yield name
    for inner, own in getattr(layer, "layers", {}).items():
        yield from lacking(own, which, ".".join(part for part in (name, inner) if part))
