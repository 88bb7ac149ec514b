"""K-FAC against stochastic gradients with momentum (Martens and Grosse, 2015)."""

from __future__ import annotations

from papers.claim import RATES, Claim, Entrant, Finding, Found, count, end, of, place, shown, times_fewer
from papers.sutskever_2013 import schedule
from refopt.method import LogUniform

PROBLEM, BATCH, STEPS, STAGE = "autoencoder_digits", 512, 800, 10
BUDGET = STEPS * BATCH / 1437
FIRST_ORDER = ("Nesterov", "Adam")


def first_order(method: str, **fixed: str) -> Entrant:
    return Entrant(PROBLEM, method, BUDGET, BATCH, fixed=fixed, search=RATES)


def kfac(**fixed: float | str) -> Entrant:
    return Entrant(PROBLEM, "kfac", 200, BATCH, fixed=fixed, search={"lam": LogUniform(1e-4, 1e1)})


def judge(found: Found) -> Finding:
    """Compare iterations to the lowest value that a first-order method ends at."""
    target = min(end(found[name]) for name in FIRST_ORDER)
    k = {name: place(outcomes, "k", target) for name, outcomes in found.items()}
    ge = {name: place(outcomes, "gradient_equivalents", target) for name, outcomes in found.items()}
    rival = min(FIRST_ORDER, key=k.__getitem__)
    number = (
        f"to f = {shown(target)}: Nesterov {count(k['Nesterov'], ' iterations')}, Adam {count(k['Adam'])}; K-FAC "
        f"{count(k['K-FAC'])}, without momentum {count(k['K-FAC, no momentum'])}, block-tridiagonal "
        f"{count(k['K-FAC, block-tridiagonal'])}: {times_fewer(k['K-FAC'], k[rival])} than {rival}, and "
        f"{times_fewer(ge['K-FAC'], ge[rival], ' gradient equivalents')}"
    )
    return Finding(number, of([3 * k["K-FAC"] <= k[rival], k["K-FAC"] < k["K-FAC, no momentum"]]))


CLAIM = Claim(
    paper="Martens, Grosse 2015, arXiv:1503.05671",
    claim="K-FAC takes many times fewer iterations (here: at least 3) to a training error than SGD with Nesterov's "
    "momentum, and momentum in its quadratic model helps.",
    setting=f"Their autoencoders are replaced by the digits', and their growing batches by {BATCH} of 1437 examples "
    f"for everybody: on the full batch Nesterov's method ends on a plateau, f = 27, from most starts, and that is a "
    f"poor target. Its momentum has the schedule of Sutskever et al. (2013), to 0.99, by stages of {STAGE} steps; Adam "
    f"runs beside it, and both have their rates tuned. The target is the lower of the values that these two end at "
    f"after {STEPS} iterations, and K-FAC is compared with the one that is there first.",
    entrants={
        "Nesterov": first_order("nesterov", momentum=schedule(0.99, STEPS, STAGE)),
        "Adam": first_order("adam"),
        "K-FAC": kfac(),
        "K-FAC, no momentum": kfac(momentum=0.0),
        "K-FAC, block-tridiagonal": kfac(structure="block_tridiagonal"),
    },
    judge=judge,
    against=FIRST_ORDER,
)
