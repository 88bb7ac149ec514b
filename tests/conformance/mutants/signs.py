"""Lion and Rprop, wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.conformance.mutants.mutant import Mutant, Update


def lion(
    beta1: float = 0.9,
    beta2: float = 0.99,
    late: bool = False,
    decay: float = 0.0,
    after: bool = False,
    l2: float = 0.0,
) -> Update:
    def update(x: Any, g: Any, m: Any, lr: float) -> tuple[Any, Any]:
        g = g + l2 * x
        m = 0 * x if m is None else m
        new = beta2 * m + (1 - beta2) * g
        ahead = x - lr * np.sign(beta1 * (new if late else m) + (1 - beta1) * g)
        return ahead - lr * decay * (ahead if after else x), new

    return update


def rprop(lag: bool = False, forgets: bool = True, up: float = 1.2, down: float = 0.5, bounded: bool = True) -> Update:
    def update(x: Any, g: Any, state: Any, lr: float) -> tuple[Any, Any]:
        delta, last, waiting = state or (0 * x + lr, 0 * x, 0 * x)
        turn = np.sign(g) * np.sign(last)
        delta = np.where(turn > 0, up * delta, np.where(turn < 0, down * delta, delta))
        delta = np.clip(delta, 1e-6 if bounded else 1e-3, 50.0)
        g = np.where((turn < 0) & forgets, 0.0, g)
        d = np.sign(g) * delta
        now, waiting = (waiting, d) if lag else (d, waiting)
        return x - now, (delta, g, waiting)

    return update


DECAY = {"weight_decay": 0.1}

MUTANTS = {
    "Lion: m first": Mutant(lion(late=True), "lion", ("the mean updated before the sign",)),
    "Lion: betas swapped": Mutant(lion(0.99, 0.9), "lion", ("beta1 and beta2 swapped",)),
    "Lion: one beta": Mutant(lion(0.9, 0.9), "lion", ("beta2=0.9",)),
    "Lion: decays the new x": Mutant(lion(decay=0.1, after=True), "lion", ("decay of the new x",), DECAY),
    "Lion: L2": Mutant(lion(l2=0.1), "lion", ("L2 in place of the decay",), DECAY),
    "Lion: no decay": Mutant(lion(), "lion", ("weight_decay=0.0",), DECAY),
    "Rprop: lags": Mutant(rprop(lag=True), "rprop", ("the update lagging one step",)),
    "Rprop: remembers": Mutant(rprop(forgets=False), "rprop", ("the step taken where the sign turned",)),
    "Rprop: grows faster": Mutant(rprop(up=1.3), "rprop", ("eta_plus=1.3",)),
    "Rprop: shrinks less": Mutant(rprop(down=0.6), "rprop", ("eta_minus=0.6",)),
    "Rprop: bound 1e-3": Mutant(rprop(bounded=False), "rprop", ("min_step_size=0.001",)),
}
