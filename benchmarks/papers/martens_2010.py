"""Hessian-free optimisation against tuned momentum (Martens, 2010)."""

from __future__ import annotations

from statistics import median

import numpy as np

from papers.claim import RATES, Claim, Entrant, Finding, Found, end
from problems import data
from problems.networks.mlp import autoencoder
from problems.problem import Problem
from refopt.method import Uniform

BUDGET = 1500
HESSIAN_FREE = Entrant("curves_14x14", "hessian_free", BUDGET, fixed={"preconditioner": "gauss-newton"})
NESTEROV = Entrant("curves_14x14", "nesterov", BUDGET, search={**RATES, "momentum": Uniform(0.8, 0.99)})


def find(text: str, seed: int, dtype: str) -> Problem:
    """Return the autoencoder of 300 images like CURVES, at half their resolution, from Martens' sparse start."""
    pixels = data.curves_like(360).reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196)
    return autoencoder(
        *(text, "curves", pixels[:300], pixels[300:], np.empty(0, dtype=dtype)),
        hidden=(60, 30, 15, 6),
        activation="logistic",
        l2=2e-5,
        seed=seed,
        incoming=15,
    )


def judge(found: Found) -> Finding:
    """Compare the ends at the same cost."""
    hf, nesterov = end(found["Hessian-free"]), end(found["Nesterov"])
    seconds = [median(outcome.spent("seconds") for outcome in outcomes) for outcomes in found.values()]
    number = f"f = {hf:.4g} against {nesterov:.4g} with Nesterov's method, in {seconds[0]:.2g} and {seconds[1]:.2g} s"
    return Finding(number, "holds" if hf < nesterov else "does not hold")


CLAIM = Claim(
    paper="Martens, ICML 2010",
    claim="From a random start, without pre-training, Hessian-free optimisation reaches a lower training error on deep "
    "autoencoders than first-order methods do.",
    setting=f"Images like their CURVES, 300 of 14 x 14 pixels; a 196-60-30-15-6 autoencoder, mirrored, of logistic "
    f"units; their sparse start and l2 = 2e-5; full batch; both tuned, {BUDGET} gradient equivalents each. No f goes "
    f"below 10.03, the pixels' own entropy. The paper's networks are larger and deeper, and its first-order methods "
    f"had neither its start nor a tuned momentum: Sutskever et al. (2013) closed most of the gap by these.",
    entrants={"Hessian-free": HESSIAN_FREE, "Nesterov": NESTEROV},
    judge=judge,
    find=find,
)
