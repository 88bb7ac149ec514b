"""The function to be minimised, as the parts that methods ask it for.

    value(x)                 f(x), a scalar
    grad(x)                  grad f(x), shape (n,)
    value_and_grad(x)        both at the price of the gradient
    hvp(x, v)                H(x) v, shape (n,)
    linearize(x)             (value, grad, mv) with mv(v) = H(x) v at the price of the tangent program alone
    ggn(x)                   mv with mv(v) = G(x) v, the (generalised) Gauss-Newton matrix of Schraudolph (2002)
    ggn_diagonal(x)          diag G (n,), approximated where a network makes it dear, by squared backpropagation
    fisher(x, seed=, k=)     mv with mv(v) = F(x) v; exact without a seed, with model-sampled targets given one
    residuals(x)             r(x) of a least-squares problem, value = 1/2 |r|^2
    per_example_grads(x)     shape (examples, n); their mean is grad(x)
    layers(x, seed=, k=)     {name: each layer's inputs and output gradients}, for Kronecker methods

A part that a problem lacks is absent: `hasattr` says so, and asking for it raises a TypeError in words.
Parameters are real and unconstrained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from backends import autodiff, random
from backends.arrays import Array, device, namespace
from refopt.status import require

MatVec: TypeAlias = Callable[[Array], Array]

PARTS = (
    "value",
    "grad",
    "value_and_grad",
    "hvp",
    "linearize",
    "ggn",
    "ggn_diagonal",
    "fisher",
    "residuals",
    "per_example_grads",
    "layers",
)


_NO_SUM = "this objective is no finite sum, or one minibatch of it was given for the whole"


class Prices(NamedTuple):
    """What each call costs, in gradients of the same batch.

    The defaults are the matrix-product counts of a deep network: a forward pass is one third of a gradient.
    """

    value: float = 1 / 3
    grad: float = 1.0
    hvp: float = 3.0  # value, gradient and their tangents, all afresh
    linearize: float = 1.0
    product: float = 2.0  # the tangent program alone, at a linearised point
    ggn_product: float = 4 / 3
    ggn_diagonal: float = 1.0  # backpropagation with every weight squared
    fisher: float = 1 / 3  # set-up of a Gauss-Newton or Fisher product: one forward pass
    residuals: float = 1 / 3
    per_example_grads: float = 1.0
    layers: float = 2 / 3  # forward and backward, without the gradients of the parameters


NETWORK_PRICES = Prices()


class MissingPart(AttributeError, TypeError):
    """A method asked an objective for a part that it does not have."""


class Layer(NamedTuple):
    """One dense layer as Kronecker methods see it: the gradient of W is ``inputs.T @ output_grads / batch``.

    `where` is the layer's range in the flat vector; its entries are a matrix (d_in, d_out) in row-major order,
    the bias being the last row where the inputs carry a constant 1.
    """

    where: slice
    inputs: Array  # (batch, d_in)
    output_grads: Array  # (batch, d_out): gradients of each example's own loss


class Objective:
    """A function of a flat vector x (n,) and whatever else is known of it; see the module's text for the parts.

    Give the callables you have: torch, JAX or hand-written code serve alike. `value_and_grad` and `linearize` are
    completed from the others. A finite sum gives `n_examples` and `restrict(indices)`, which returns the mean over
    the examples named; `minibatch`, `sample` and `full` then appear.

    Raises TypeError unless at least `value`, `grad` or `value_and_grad` is given.
    """

    def __init__(
        self,
        *,
        value: Callable[[Array], Any] | None = None,
        grad: Callable[[Array], Array] | None = None,
        value_and_grad: Callable[[Array], tuple[Any, Array]] | None = None,
        hvp: Callable[[Array, Array], Array] | None = None,
        linearize: Callable[[Array], tuple[Any, Array, MatVec]] | None = None,
        ggn: Callable[[Array], MatVec] | None = None,
        ggn_diagonal: Callable[[Array], Array] | None = None,
        fisher: Callable[..., MatVec] | None = None,
        residuals: Callable[[Array], Array] | None = None,
        per_example_grads: Callable[[Array], Array] | None = None,
        layers: Callable[..., dict[str, Layer]] | None = None,
        n_examples: int | None = None,
        restrict: Callable[[Any], Objective] | None = None,
        prices: Prices = NETWORK_PRICES,
    ) -> None:
        if value is None and grad is None and value_and_grad is None:
            raise TypeError("an Objective needs value, grad or value_and_grad")
        require((n_examples is None) == (restrict is None), "n_examples and restrict go together", n_examples)
        self.joint = value_and_grad is not None  # one call gives both, so a value comes free with a gradient
        self.prices = prices
        if value_and_grad is not None:
            joint = value_and_grad
            value = value or (lambda x: joint(x)[0])
            grad = grad or (lambda x: joint(x)[1])
        elif value is not None and grad is not None:
            f, g = value, grad
            value_and_grad = lambda x: (f(x), g(x))  # noqa: E731
        if linearize is not None:
            at = linearize
            hvp = hvp or (lambda x, v: at(x)[2](v))
        elif hvp is not None and value_and_grad is not None:
            product, pair = hvp, value_and_grad
            linearize = lambda x: (*pair(x), lambda v: product(x, v))  # noqa: E731
            self.prices = prices._replace(product=prices.hvp)  # nothing is kept between products
        given = (
            value,
            grad,
            value_and_grad,
            hvp,
            linearize,
            ggn,
            ggn_diagonal,
            fisher,
            residuals,
            per_example_grads,
            layers,
        )
        for name, part in zip(PARTS, given, strict=True):
            if part is not None:
                setattr(self, name, part)
        self.n_examples = n_examples
        self.indices: np.ndarray[Any, Any] | None = None  # of this batch; None: all examples
        self._restrict = restrict
        self._full: Objective = self

    def __getattr__(self, name: str) -> Any:
        """Explain the absence of a part; called only where ordinary look-up found nothing."""
        if name in PARTS:
            raise MissingPart(
                f"this objective has no {name}; it has {', '.join(self.parts)}. "
                "Objective.from_function, from_model and from_residuals derive more from one function"
            )
        raise AttributeError(f"Objective has no attribute {name!r}")

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts that this objective has."""
        return tuple(name for name in PARTS if name in self.__dict__)

    # ------------------------------------------------------------------------------------------ finite sums

    @property
    def full(self) -> Objective:
        """The mean over all examples; the objective itself where it is that already, or no finite sum."""
        return self._full

    @property
    def batch_size(self) -> int | None:
        """The number of examples that this objective averages over; None where it is no finite sum."""
        return self.n_examples if self.indices is None else len(self.indices)

    @property
    def fraction(self) -> float:
        """The share of all examples that one evaluation reads, in (0, 1]."""
        return 1.0 if self.indices is None else len(self.indices) / self.n_examples  # type: ignore[operator]

    def minibatch(self, indices: Any) -> Objective:
        """Return the mean over the examples `indices`, host integers of shape (batch,).

        Raises TypeError where the objective is no finite sum, ValueError for an empty batch or an index out of
        [0, n_examples).
        """
        whole = self._full
        if whole._restrict is None or whole.n_examples is None:
            raise MissingPart(f"{_NO_SUM}, so it has no minibatches; see Objective.from_model")
        indices = np.asarray(indices)
        require(indices.ndim == 1 and indices.size > 0, "indices must be a non-empty vector", indices)
        if not np.issubdtype(indices.dtype, np.integer):
            raise TypeError(f"indices must be integers, got dtype {indices.dtype}")
        low, high = int(indices.min()), int(indices.max())
        require(low >= 0 and high < whole.n_examples, f"indices must be in [0, {whole.n_examples})", (low, high))
        batch = whole._restrict(indices)
        batch.n_examples, batch.indices, batch._full = whole.n_examples, indices, whole
        return batch

    def sample(self, size: int, seed: int, k: int, purpose: str = "batch") -> Objective:
        """Return the mean over `size` examples drawn without replacement, keyed by (seed, k, purpose).

        The draw is from all examples, whatever batch this objective is: a second batch is independent of the first.
        """
        whole = self._full
        if whole.n_examples is None:
            raise MissingPart(f"{_NO_SUM}, so it cannot be sampled; see Objective.from_model")
        require(1 <= size <= whole.n_examples, f"batch size must be in [1, {whole.n_examples}]", size)
        return whole.minibatch(random.choice(whole.n_examples, size, seed=seed, k=k, purpose=purpose))

    def map_grad(self, change: Callable[[Array], Array]) -> Objective:
        """Return this objective with every gradient g replaced by ``change(g)``: clipped, say, or made noisy.

        Values and curvature products stay as they are; minibatches and `full` are changed alike.
        """
        parts = {name: getattr(self, name) for name in self.parts}
        if "grad" in parts:
            parts["grad"] = lambda x: change(self.grad(x))
        if "value_and_grad" in parts:

            def value_and_grad(x: Array) -> tuple[Any, Array]:
                value, g = self.value_and_grad(x)
                return value, change(g)

            parts["value_and_grad"] = value_and_grad
        if "linearize" in parts:

            def linearize(x: Array) -> tuple[Any, Array, MatVec]:
                value, g, mv = self.linearize(x)
                return value, change(g), mv

            parts["linearize"] = linearize
        sums: dict[str, Any] = {}
        if self.n_examples is not None:
            sums["n_examples"] = self.n_examples
            sums["restrict"] = lambda indices: self.minibatch(indices).map_grad(change)
        changed = Objective(**parts, **sums, prices=self.prices)
        changed.joint, changed.indices = self.joint, self.indices
        if self._full is not self:
            changed._full = self._full.map_grad(change)
        return changed

    # ------------------------------------------------------------------------------------------ constructors

    @classmethod
    def from_function(cls, f: Callable[[Array, Any], Any], *, prices: Prices = NETWORK_PRICES) -> Objective:
        """Derive everything but Gauss-Newton from ``f(x, xp)``, array code that runs on every backend.

        >>> import numpy as np
        >>> bowl = Objective.from_function(lambda x, xp: xp.sum(x**4))
        >>> float(bowl.value(np.array([1.0, 2.0]))), bowl.hvp(np.array([1.0, 2.0]), np.array([1.0, 1.0]))
        (17.0, array([12., 48.]))
        """
        return cls(
            value=lambda x: f(x, autodiff.namespace_for(x)),
            value_and_grad=autodiff.value_and_grad(f),
            hvp=lambda x, v: autodiff.hvp(f, x, v),
            linearize=lambda x: autodiff.hessian(f, x),
            prices=prices,
        )

    @classmethod
    def from_autograd(cls, f: Callable[[Array], Any], *, prices: Prices = NETWORK_PRICES) -> Objective:
        """Derive everything but Gauss-Newton from ``f(x)`` written with `autograd.numpy` (NumPy arrays only)."""
        from autograd import make_hvp
        from autograd import value_and_grad as make_value_and_grad

        value_and_grad = make_value_and_grad(f)

        def linearize(x: Array) -> tuple[Any, Array, MatVec]:
            mv, g = make_hvp(f)(x)  # pulls back through grad f: H is symmetric
            return f(x), g, mv

        return cls(value=f, value_and_grad=value_and_grad, linearize=linearize, prices=prices)

    @classmethod
    def from_residuals(cls, r: Callable[[Array, Any], Array], *, prices: Prices = NETWORK_PRICES) -> Objective:
        """Derive everything from ``r(x, xp)`` of shape (m,): the value is 1/2 |r|^2, Gauss-Newton is J^T J."""

        def half_square(residual: Array, xp: Any) -> Any:
            return 0.5 * xp.sum(residual * residual)

        smooth = cls.from_function(lambda x, xp: half_square(r(x, xp), xp))
        return cls(
            value=smooth.value,
            value_and_grad=smooth.value_and_grad,
            hvp=smooth.hvp,
            linearize=smooth.linearize,
            ggn=lambda x: autodiff.ggn(r, half_square, x)[2],
            residuals=lambda x: r(x, autodiff.namespace_for(x)),
            prices=prices,
        )

    @classmethod
    def from_model(
        cls,
        model: Callable[[Array, Array, Any], Array],
        loss: Callable[[Array, Array, Any], Any],
        inputs: Array,
        targets: Array,
        *,
        sample_targets: Callable[[Array, int, int], Array] | None = None,
        prices: Prices = NETWORK_PRICES,
    ) -> Objective:
        """Derive everything but `layers` from ``model(x, inputs, xp)`` and ``loss(outputs, targets, xp)``.

        `inputs` and `targets` have one row an example; outputs are (examples, d); the loss is the mean over the
        examples. With ``sample_targets(outputs, seed, k)``, which draws targets from the model's own distribution,
        `fisher` is there too: its Monte Carlo estimate, so it needs a seed.
        """
        n_examples = targets.shape[0]
        require(inputs.shape[0] == n_examples, f"inputs must have {n_examples} rows, as targets", inputs.shape)
        namespace(inputs, targets)

        def rows(array: Array, indices: np.ndarray[Any, Any]) -> Array:
            xp = namespace(array)
            return xp.take(array, xp.asarray(indices, device=device(array)), axis=0)

        def outputs(x: Array, xp: Any) -> Array:
            return model(x, inputs, xp)

        def restrict(indices: np.ndarray[Any, Any]) -> Objective:
            chosen = (rows(inputs, indices), rows(targets, indices))
            return cls.from_model(model, loss, *chosen, sample_targets=sample_targets, prices=prices)

        def per_example_grads(x: Array) -> Array:
            singles = (restrict(np.asarray([i])) for i in range(n_examples))
            return namespace(x).stack([single.grad(x) for single in singles])

        def fisher(x: Array, *, seed: int | None = None, k: int = 0) -> MatVec:
            if seed is None:
                raise TypeError("the exact Fisher matrix of this model is unknown: give a seed for its estimate")
            sampled = sample_targets(model(x, inputs, autodiff.namespace_for(x)), seed, k)  # type: ignore[misc]
            _, jv = autodiff.linearize(outputs, x)
            z, pull = autodiff.vjp(outputs, x)
            # Row i of D is 1/N of the gradient of example i's loss: F v = J^T (N D_i (D_i . (J v)_i))_i.
            D = autodiff.grad(lambda outs, xp: loss(outs, sampled, xp))(z)
            xp = namespace(x)
            return lambda v: pull(n_examples * D * xp.sum(D * jv(v), axis=-1, keepdims=True))

        smooth = cls.from_function(lambda x, xp: loss(model(x, inputs, xp), targets, xp))
        return cls(
            value=smooth.value,
            value_and_grad=smooth.value_and_grad,
            hvp=smooth.hvp,
            linearize=smooth.linearize,
            ggn=lambda x: autodiff.ggn(outputs, lambda outs, xp: loss(outs, targets, xp), x)[2],
            fisher=fisher if sample_targets is not None else None,
            per_example_grads=per_example_grads,
            n_examples=n_examples,
            restrict=restrict,
            prices=prices,
        )
