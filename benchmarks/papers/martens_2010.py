"""Hessian-free optimisation against tuned momentum (Martens, 2010)."""

from __future__ import annotations

from statistics import median

import numpy as np

from papers.claim import RATES, Claim, Entrant, Finding, Found, end, shown
from problems import data
from problems.networks.autoencoder import autoencoder
from problems.problem import Problem
from refopt.method import Choice, LogUniform, Uniform

BUDGET = 3000
HESSIAN_FREE = Entrant(
    "curves_14x14",
    "hessian_free",
    BUDGET,
    fixed={"preconditioner": "gauss-newton", "decay": 0.95},
    search={"lam": LogUniform(1e0, 1e2), "maxiter": Choice((30, 100, 250))},
)
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
    """Compare the ends at the same cost, and say how it stood half way."""
    hf, nesterov = found["Hessian-free"], found["Nesterov"]
    seconds = [median(outcome.spent("seconds") for outcome in outcomes) for outcomes in (hf, nesterov)]
    half = [
        median(o.value_at("gradient_equivalents", o.run.budget.amount / 2) for o in outcomes)
        for outcomes in (hf, nesterov)
    ]
    number = (
        f"f = {shown(end(hf))} against {shown(end(nesterov))} with Nesterov's method, in {seconds[0]:.2g} and "
        f"{seconds[1]:.2g} s; after half the budget {shown(half[0])} against {shown(half[1])}"
    )
    return Finding(number, "holds" if end(hf) < end(nesterov) else "does not hold")


CLAIM = Claim(
    paper="Martens, ICML 2010",
    claim="From a random start, without pre-training, Hessian-free optimisation reaches a lower training error on deep "
    "autoencoders than first-order methods do.",
    setting=f"Images like their CURVES, 300 of 14 x 14 pixels; a 196-60-30-15-6 autoencoder, mirrored, of logistic "
    f"units; their sparse start and l2 = 2e-5; full batch; {BUDGET} gradient equivalents each. Both have two "
    f"knobs tuned: Nesterov's method its rate and momentum, Hessian-free its first damping and the most iterations of "
    f"CG; it starts each solve from 0.95 of the last and is preconditioned by diag G. No f goes "
    f"below 10.03, the pixels' own entropy. The paper's networks are larger and deeper, and its first-order methods "
    f"had neither its start nor a tuned momentum: Sutskever et al. (2013) closed most of the gap by these.",
    entrants={"Hessian-free": HESSIAN_FREE, "Nesterov": NESTEROV},
    judge=judge,
    against=("Nesterov",),
    find=find,
)
