"""LAMB, NovoGrad and Adafactor, which look at each tensor as a whole, wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from refopt.conformance.streams import LAYOUT
from tests.conformance.mutants.mutant import Mutant, Update


def by_part(f: Callable[..., Any], *vectors: Any) -> Any:
    """Return the vector of f(w, ...) of each tensor."""
    parts = [LAYOUT.split(v) for v in vectors]
    return LAYOUT.join({name: f(*(part[name] for part in parts)) for name in parts[0]})


def length(w: Any) -> Any:
    return np.sqrt(np.sum(w * w))


def trust(w: Any, u: Any) -> Any:
    return length(w) / length(u) if length(w) > 0 and length(u) > 0 else w.dtype.type(1)


def lamb(
    eps: float = 1e-6,
    place: str = "outside",
    corrected: tuple[bool, bool] = (True, True),
    decay: float = 0.0,
    decay_outside: float = 0.0,
    ratio: Callable[[Any, Any], Any] = trust,
    whole: bool = False,
    l2: float = 0.0,
    stale: bool = False,
) -> Update:
    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        g = g + l2 * x
        t, m, v = state or (0, 0 * x, 0 * x)
        old = v
        t, m, v = t + 1, 0.9 * m + (1 - 0.9) * g, 0.999 * v + (1 - 0.999) * g * g
        c1 = 1 - 0.9**t if corrected[0] else 1.0
        c2 = float(1 - 0.999**t) if corrected[1] else 1.0
        if place == "hat":
            d = m / c1 * c2**0.5 / (np.sqrt(v) + eps)
        else:
            v_hat = (old if stale else v) / c2
            d = m / c1 / (np.sqrt(v_hat + eps) if place == "inside" else np.sqrt(v_hat) + eps)
        u = d + decay * x
        moved = ratio(x, u) * u if whole else by_part(lambda w, u: ratio(w, u) * u, x, u)
        return x - lr * moved - lr * decay_outside * x, (t, m, v)

    return update


def novograd(
    beta1: float = 0.95,
    mean: bool = False,
    from_0: bool = False,
    squares: Callable[[Any], Any] = lambda g: by_part(lambda g: np.full_like(g, np.sum(g * g)), g),
    inside: bool = False,
    decay: float = 0.0,
    decay_outside: float = 0.0,
    root: bool = True,
    eps: float = 1e-8,
    beta2: float = 0.98,
    l2: float = 0.0,
    lag: bool = False,
) -> Update:
    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        g = g + l2 * x
        k, m, v = state or (0, 0 * x, 0 * x)
        v = squares(g) if k == 0 and not from_0 else beta2 * v + (1 - beta2) * squares(g)
        d = g / (np.sqrt(v + eps) if inside else (np.sqrt(v) if root else v) + eps)
        old, m = m, beta1 * m + (1 - beta1 if mean else 1.0) * (d + decay * x)
        return x - lr * ((old if lag else m) + decay_outside * x), (k + 1, m, v)

    return update


def rms(w: Any) -> Any:
    return np.sqrt(np.mean(w * w))


def adafactor(
    power: float = 0.8,
    eps1: float = 1e-30,
    eps2: float = 1e-3,
    clip: float = 1.0,
    relative: bool = True,
    scaled: bool = True,
    factored: bool = True,
    off: int = 0,
    normed: bool = True,
    summed: bool = False,
    constant: float | None = None,
) -> Update:
    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        t: int = 1 + (state[0] if state else 0)
        moments: dict[str, Any] = state[1] if state else {}
        beta2 = 1 - (t + off) ** -power if constant is None else constant
        rho = min(lr, t**-0.5) if relative else lr
        gather = np.sum if summed else np.mean
        moved, new = {}, {}
        for name, w in LAYOUT.split(x).items():
            g_w = LAYOUT.split(g)[name]
            squares = g_w * g_w + eps1
            matrix = factored and w.ndim == 2
            now = [gather(squares, axis=axis, keepdims=True) for axis in (1, 0)] if matrix else [squares]
            old = moments.get(name, [0 * a for a in now])
            new[name] = [beta2 * a + (1 - beta2) * b for a, b in zip(old, now, strict=True)]
            v = new[name][0]
            if matrix:
                v = v * new[name][1] / (np.mean(v) if normed else 1.0)
            u = g_w / np.sqrt(v)
            u = u / max(1.0, rms(u) / clip)
            moved[name] = w - rho * (max(eps2, rms(w)) if scaled else 1.0) * u
        return LAYOUT.join(moved).astype(x.dtype), (t, new)

    return update


OPTAX = {"dialect": "optax"}
DECAY = {"weight_decay": 0.1}

RIGHT: dict[str, tuple[Update, dict[str, Any]]] = {
    "lamb": (lamb(), {}),
    "lamb with decay": (lamb(decay=0.1), DECAY),
    "novograd": (novograd(), {}),
    "novograd with decay": (novograd(decay=0.1), DECAY),
    "adafactor": (adafactor(), {}),
    "adafactor of optax": (adafactor(relative=False), {**OPTAX, "min_dim": 1, "lr": 0.01}),
}

MUTANTS = {
    "LAMB: eps inside": Mutant(lamb(place="inside"), "lamb", ("eps inside the root",)),
    "LAMB: eps hat": Mutant(lamb(place="hat"), "lamb", ("eps beside the uncorrected root",)),
    "LAMB: v uncorrected": Mutant(
        lamb(corrected=(True, False)), "lamb", ("bias correction of the second moment missing",)
    ),
    "LAMB: uncorrected": Mutant(lamb(corrected=(False, False)), "lamb", ("bias_correction=False",)),
    "LAMB: one ratio": Mutant(lamb(whole=True), "lamb", ("all tensors taken as one",)),
    "LAMB: decay outside": Mutant(lamb(decay_outside=0.1), "lamb", ("decoupled decay",), DECAY),
    "LAMB: L2": Mutant(lamb(l2=0.1), "lamb", ("L2 in place of the decay",), DECAY),
    "LAMB: no ratio": Mutant(lamb(ratio=lambda w, u: w.dtype.type(1)), "lamb", ("no trust ratio",)),
    "LAMB: ratio upside down": Mutant(
        lamb(ratio=lambda w, u: 1 / trust(w, u)), "lamb", ("the trust ratio upside down",)
    ),
    "LAMB: phi clipped": Mutant(
        lamb(ratio=lambda w, u: trust(w, u) * min(1.0, 1.0 / max(length(w), 1e-30))), "lamb", ("max_norm=1.0",)
    ),
    "LAMB: eps 1e-8, one ratio": Mutant(lamb(eps=1e-8, whole=True), "lamb", ("eps=1e-08", "all tensors taken as one")),
    "NovoGrad: mean": Mutant(novograd(mean=True), "novograd", ("m as a running mean",)),
    "NovoGrad: v from 0": Mutant(novograd(from_0=True), "novograd", ("v starting at 0",)),
    "NovoGrad: v of each coordinate": Mutant(
        novograd(squares=lambda g: g * g), "novograd", ("each coordinate taken as a tensor",)
    ),
    "NovoGrad: one norm": Mutant(
        novograd(squares=lambda g: np.full_like(g, np.sum(g * g))), "novograd", ("all tensors taken as one",)
    ),
    "NovoGrad: mean of squares": Mutant(
        novograd(squares=lambda g: by_part(lambda g: np.full_like(g, np.mean(g * g)), g)),
        "novograd",
        ("the mean of g^2 in place of |g|^2",),
    ),
    "NovoGrad: eps inside": Mutant(novograd(inside=True), "novograd", ("eps inside the root",)),
    "NovoGrad: decay outside": Mutant(novograd(decay_outside=0.1), "novograd", ("decoupled decay",), DECAY),
    "NovoGrad: no root": Mutant(novograd(root=False), "novograd", ("no square root",)),
    "LAMB: old v": Mutant(lamb(stale=True), "lamb", ("the second moment of the step before",)),
    "LAMB: ratio at most 1": Mutant(lamb(ratio=lambda w, u: min(trust(w, u), w.dtype.type(1))), "lamb", ()),
    "LAMB: eps inside, v uncorrected": Mutant(
        lamb(place="inside", corrected=(True, False)),
        "lamb",
        ("eps inside the root", "bias correction of the second moment missing"),
    ),
    "LAMB: L2, one ratio": Mutant(
        lamb(l2=0.1, whole=True), "lamb", ("L2 in place of the decay", "all tensors taken as one"), DECAY
    ),
    "LAMB: no ratio, eps 1e-8": Mutant(
        lamb(ratio=lambda w, u: w.dtype.type(1), eps=1e-8), "lamb", ("no trust ratio", "eps=1e-08")
    ),
    "NovoGrad: L2": Mutant(novograd(l2=0.1), "novograd", ("L2 in place of the decay",), DECAY),
    "NovoGrad: eps 1e-6": Mutant(novograd(eps=1e-6), "novograd", ("eps=1e-06",)),
    "NovoGrad: old m": Mutant(novograd(lag=True), "novograd", ("the first moment of the step before",)),
    "NovoGrad: beta2 0.999": Mutant(novograd(beta2=0.999), "novograd", ("beta2=0.999",)),
    "NovoGrad: mean, one norm": Mutant(
        novograd(mean=True, squares=lambda g: np.full_like(g, np.sum(g * g))),
        "novograd",
        ("m as a running mean", "all tensors taken as one"),
    ),
    "NovoGrad: beta1 0.9": Mutant(novograd(0.9), "novograd", ("beta1=0.9",)),
    "Adafactor: no clipping": Mutant(adafactor(clip=np.inf), "adafactor", ("clip=inf",)),
    "Adafactor: t from 2": Mutant(
        adafactor(off=1, relative=False), "adafactor", ("t starting at 2",), OPTAX | {"min_dim": 1, "lr": 0.01}
    ),
    "Adafactor: power 0.5": Mutant(adafactor(0.5), "adafactor", ("power=0.5",)),
    "Adafactor: beta2 0.999": Mutant(adafactor(constant=0.999), "adafactor", ("beta2 = 0.999 throughout",)),
    "Adafactor: absolute step": Mutant(adafactor(scaled=False), "adafactor", ("steps not in proportion to w",)),
    "Adafactor: not factored": Mutant(adafactor(factored=False), "adafactor", ("every tensor taken as a vector",)),
    "Adafactor: not divided": Mutant(adafactor(normed=False), "adafactor", ("row col not divided by its mean",)),
    "Adafactor: clip 2": Mutant(adafactor(clip=2.0), "adafactor", ("clip=2.0",)),
    "Adafactor: constant step": Mutant(adafactor(relative=False), "adafactor", ("relative_step=False",), {"lr": 0.3}),
    "Adafactor: not factored, no clipping": Mutant(
        adafactor(factored=False, clip=np.inf), "adafactor", ("every tensor taken as a vector", "clip=inf")
    ),
    "Adafactor: absolute step, beta2 0.99": Mutant(
        adafactor(scaled=False, constant=0.99),
        "adafactor",
        ("steps not in proportion to w", "beta2 = 0.99 throughout"),
    ),
    "Adafactor: sums": Mutant(adafactor(summed=True), "adafactor", ()),
    "Adafactor: eps1 1e-8": Mutant(adafactor(eps1=1e-8), "adafactor", ("eps1=1e-08",)),
    "Adafactor: eps2 1e-2": Mutant(adafactor(eps2=1e-2), "adafactor", ("eps2=0.01",)),
}
