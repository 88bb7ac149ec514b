"""Krylov subspace descent against Hessian-free optimisation (Vinyals and Povey, 2012)."""

from __future__ import annotations

from dataclasses import replace

from papers.claim import Claim, Entrant, Finding, Found, count, end, place, shown
from papers.martens_2010 import HESSIAN_FREE, find

KSD = Entrant("curves_14x14", "krylov_subspace_descent", HESSIAN_FREE.budget)


def judge(found: Found) -> Finding:
    """Compare the ends at the same cost, and the cost of the worse end."""
    ends = {name: end(outcomes) for name, outcomes in found.items()}
    best = min(ends["KSD"], ends["KSD, Gauss-Newton"])
    target = max(best, ends["Hessian-free"])
    costs = ", ".join(f"{name} {count(place(o, 'gradient_equivalents', target))}" for name, o in found.items())
    said = ", ".join(f"{name} {shown(f)}" for name, f in ends.items())
    return Finding(
        f"f: {said}; gradient equivalents to f = {shown(target)}: {costs}",
        "holds" if best < ends["Hessian-free"] else "does not hold",
    )


CLAIM = Claim(
    paper="Vinyals, Povey 2012, arXiv:1111.4259",
    claim="Krylov subspace descent, which needs no damping, gets further than Hessian-free optimisation at the same "
    "cost.",
    setting="The problem of Martens (2010) above, full batch. Where the paper draws separate batches for the gradient, "
    "the curvature and the inner BFGS, all three see all examples here. Not comparable: cross-validation errors.",
    entrants={
        "Hessian-free": HESSIAN_FREE,
        "KSD": KSD,
        "KSD, Gauss-Newton": replace(KSD, fixed={"matrix": "gauss-newton"}),
    },
    judge=judge,
    against=("Hessian-free",),
    find=find,
)
