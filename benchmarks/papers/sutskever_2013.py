"""The momentum schedule (Sutskever, Martens, Dahl and Hinton, 2013)."""

from __future__ import annotations

from papers.claim import Claim, Entrant, Finding, Found, end, of, shown
from refopt.method import LogUniform

PROBLEM = "autoencoder_digits:incoming=15"
BATCH, STEPS, STAGE = 200, 2000, 20
BUDGET = STEPS * BATCH / 1437


def schedule(maximum: float, steps: int = STEPS, stage: int = STAGE) -> str:
    """Return the formula of mu_k = min(1 - 1/(2 (k // stage + 1)), maximum), and 0.9 for the last tenth of `steps`."""
    stages = [0.5]
    while stages[-1] < maximum:
        stages.append(round(min(1 - 0.5 / (len(stages) + 1), maximum), 4))
    starts = [stage * i for i in range(1, len(stages))]
    return f"piecewise({[*stages, 0.9]}, {[*starts, steps - steps // 10]})"


def entrant(method: str, **fixed: float | str) -> Entrant:
    return Entrant(PROBLEM, method, BUDGET, BATCH, fixed=fixed, search={"lr": LogUniform(3e-4, 1e-1)})


def judge(found: Found) -> Finding:
    """Ask for a larger mu to end lower, Nesterov's form too, and the schedule not to hurt."""
    f = {name: end(outcomes) for name, outcomes in found.items()}
    parts = [
        f["Nesterov, to 0.99"] < f["Nesterov, to 0.9"] < f["SGD"],
        f["Nesterov, to 0.99"] <= f["classical, to 0.99"],
        f["Nesterov, to 0.99"] < f["Nesterov, 0.99 at once"],
    ]
    return Finding("f: " + ", ".join(f"{name} {shown(end)}" for name, end in f.items()), of(parts))


CLAIM = Claim(
    paper="Sutskever et al., ICML 2013",
    claim="With a good start and a schedule that raises the momentum, first-order methods train deep autoencoders: the "
    "larger the final momentum the better, far better than SGD, and Nesterov's form at least as good as the classical.",
    setting=f"The digits' autoencoder from the sparse start, batches of {BATCH}, {STEPS} steps where they took 750000; "
    f"so a stage of the schedule has {STAGE} steps, not 250, and the momentum is 0.9 in the last tenth. The learning "
    f"rate is tuned for each line. That the schedule beats its maximum from the first step on is asked for as well.",
    entrants={
        "SGD": entrant("sgd"),
        "Nesterov, to 0.9": entrant("nesterov", momentum=schedule(0.9)),
        "Nesterov, to 0.99": entrant("nesterov", momentum=schedule(0.99)),
        "Nesterov, 0.99 at once": entrant("nesterov", momentum=0.99),
        "classical, to 0.99": entrant("heavy_ball", momentum=schedule(0.99)),
    },
    judge=judge,
    against=("SGD", "Nesterov, to 0.9", "Nesterov, 0.99 at once", "classical, to 0.99"),
)
