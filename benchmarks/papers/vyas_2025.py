"""SOAP and Shampoo against Adam (Vyas et al., 2025; Gupta et al., 2018)."""

from __future__ import annotations

from typing import Any

from papers.claim import RATES, Claim, Entrant, Finding, Found, count, end, of, place, shown
from refopt.structured import shampoo, soap

PROBLEM, BUDGET, BATCH = "autoencoder_digits", 300, 512


def entrant(method: str, **fixed: Any) -> Entrant:
    return Entrant(PROBLEM, method, BUDGET, BATCH, fixed=fixed, search=RATES)


def judge(found: Found) -> Finding:
    """Compare the steps to the value that Adam ends at."""
    target = end(found["Adam"])
    k = {name: place(outcomes, "k", target) for name, outcomes in found.items()}
    seconds = {name: place(outcomes, "seconds", target) for name, outcomes in found.items()}
    parts = [k["Shampoo"] < k["Adam"], k["SOAP"] <= 0.6 * k["Adam"], k["SOAP"] < 0.8 * k["Shampoo"]]
    steps = ", ".join(f"{name} {count(k[name], ' steps')} ({count(seconds[name], ' s')})" for name in found)
    return Finding(f"to f = {shown(target)}: {steps}", of(parts))


CLAIM = Claim(
    paper="Gupta et al. 2018, arXiv:1802.09568; Vyas et al. 2025, arXiv:2409.11321",
    claim="Shampoo needs fewer steps than Adam; SOAP at least 40 % fewer than AdamW, and about 20 % fewer than "
    "Shampoo.",
    setting="The digits' autoencoder, batches of 512 of 1437 examples: the claim is about large batches. The paper "
    "trains language models of 360 and 660 million parameters with decaying rates; here the rate is constant, tuned. "
    "Shampoo by its practical recipe (running mean, grafted to Adagrad, roots every 20 steps), SOAP by the paper's.",
    entrants={
        "Adam": entrant("adam"),
        "Shampoo": entrant("shampoo", **shampoo.DIALECTS["practical"]),
        "SOAP": entrant("soap", skip_first=soap.DIALECTS["paper"]["skip_first"]),
    },
    judge=judge,
    against=("Adam",),
)
