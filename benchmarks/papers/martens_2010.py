"""Hessian-free optimisation against tuned momentum (Martens, 2010)."""

from __future__ import annotations

import numpy as np

from papers.claim import Claim, Entrant, Finding, Found, end
from problems import data
from problems.networks.mlp import autoencoder
from problems.problem import Problem

BUDGET = 1500
HESSIAN_FREE = Entrant("curves_14x14", "hessian_free", BUDGET)


def find(text: str, seed: int, dtype: str) -> Problem:
    """Return the autoencoder of 300 images like CURVES, at half their resolution, from Martens' sparse start."""
    pixels = data.curves_like(360).reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196)
    like = np.empty(0, dtype=dtype)
    shape = {"hidden": (60, 30, 15, 6), "activation": "logistic", "l2": 2e-5, "incoming": 15}
    return autoencoder(text, "curves", pixels[:300], pixels[300:], like, seed=seed, **shape)


def judge(found: Found) -> Finding:
    """Compare the ends at the same cost."""
    hf, nesterov = end(found["Hessian-free"]), end(found["Nesterov"])
    return Finding(f"f = {hf:.4g} against {nesterov:.4g}", "holds" if hf < nesterov else "does not hold")


CLAIM = Claim(
    paper="Martens, ICML 2010",
    claim="From a random start, without pre-training, Hessian-free optimisation reaches a lower training error on deep "
    "autoencoders than first-order methods do.",
    setting=f"Images like their CURVES, 300 of 14 x 14 pixels; a 196-60-30-15-6 autoencoder, mirrored, of logistic "
    f"units; their sparse start and l2 = 2e-5; full batch; both tuned, {BUDGET} gradient equivalents each. The paper's "
    f"networks are larger and deeper, and its first-order methods were not as well tuned.",
    entrants={"Hessian-free": HESSIAN_FREE, "Nesterov": Entrant("curves_14x14", "nesterov", BUDGET)},
    judge=judge,
    find=find,
)
