"""Hessian-free optimisation against tuned momentum (Martens, 2010)."""

from __future__ import annotations

from papers.claim import Claim, Entrant, Finding, Found, end

PROBLEM = "autoencoder_curves:examples=200,hidden=[40,25,12,6]"
BUDGET = 1500
HESSIAN_FREE = Entrant(PROBLEM, "hessian_free", BUDGET)


def judge(found: Found) -> Finding:
    """Compare the ends at the same cost."""
    hf, nesterov = end(found["Hessian-free"]), end(found["Nesterov"])
    return Finding(
        f"f = {hf:.4g} with Hessian-free, {nesterov:.4g} with Nesterov, after {BUDGET} gradient equivalents",
        "holds" if hf < nesterov else "does not hold",
    )


CLAIM = Claim(
    paper="Martens, ICML 2010",
    claim="From a random start, without pre-training, Hessian-free optimisation reaches a lower training error on deep "
    "autoencoders than first-order methods do.",
    setting="Images like their CURVES, 200 of them, a 784-40-25-12-6 autoencoder, mirrored, of logistic units, full "
    "batch. The start is dense with variance 1/d_in, theirs is sparse. Both are tuned, at equal gradient equivalents.",
    entrants={"Hessian-free": HESSIAN_FREE, "Nesterov": Entrant(PROBLEM, "nesterov", BUDGET)},
    judge=judge,
)
