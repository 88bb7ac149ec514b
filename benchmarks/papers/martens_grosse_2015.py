"""K-FAC against stochastic gradients with momentum (Martens and Grosse, 2015)."""

from __future__ import annotations

from papers.claim import RATES, Claim, Entrant, Finding, Found, count, end, of, place, shown, times_fewer
from refopt.method import LogUniform, Uniform

PROBLEM, BUDGET = "autoencoder_digits", 400


def kfac(**fixed: float | str) -> Entrant:
    return Entrant(PROBLEM, "kfac", BUDGET, fixed=fixed, search={"lam": LogUniform(1e-4, 1e1)})


def judge(found: Found) -> Finding:
    """Compare iterations to the value that Nesterov's method ends at."""
    target = end(found["Nesterov"])
    k = {name: place(outcomes, "k", target) for name, outcomes in found.items()}
    ge = {name: place(outcomes, "gradient_equivalents", target) for name, outcomes in found.items()}
    number = (
        f"to f = {shown(target)}: Nesterov {count(k['Nesterov'], ' iterations')}; K-FAC {count(k['K-FAC'])}, without "
        f"momentum {count(k['K-FAC, no momentum'])}, block-tridiagonal {count(k['K-FAC, block-tridiagonal'])}: "
        f"{times_fewer(k['K-FAC'], k['Nesterov'])}, and "
        f"{times_fewer(ge['K-FAC'], ge['Nesterov'], ' gradient equivalents')}"
    )
    return Finding(number, of([3 * k["K-FAC"] <= k["Nesterov"], k["K-FAC"] < k["K-FAC, no momentum"]]))


CLAIM = Claim(
    paper="Martens, Grosse 2015, arXiv:1503.05671",
    claim="K-FAC takes many times fewer iterations (here: at least 3) to a training error than SGD with Nesterov's "
    "momentum, and momentum in its quadratic model helps.",
    setting="Their autoencoders and growing batches are replaced by the digits' autoencoder on the full batch, so that "
    "there is no noise that would slow K-FAC down; the target is where Nesterov's method, tuned, ends.",
    entrants={
        "Nesterov": Entrant(PROBLEM, "nesterov", 2 * BUDGET, search={**RATES, "momentum": Uniform(0.8, 0.99)}),
        "K-FAC": kfac(),
        "K-FAC, no momentum": kfac(momentum=0.0),
        "K-FAC, block-tridiagonal": kfac(structure="block_tridiagonal"),
    },
    judge=judge,
    against=("Nesterov",),
)
