"""Fixup: depth without normalisation (Zhang, Dauphin and Ma, 2019)."""

from __future__ import annotations

from papers.claim import Claim, Entrant, Finding, Found, end, of, shown
from refopt.method import LogUniform

DEPTHS, BUDGET, BATCH = (4, 16, 64), 15, 128
TRAINED = 0.5  # f, which is log 10 = 2.3 where nothing is known


def entrant(depth: int, init: str, method: str) -> Entrant:
    fixed = {"momentum": 0.9} if method == "heavy_ball" else {}
    problem = f"resnet_digits:depth={depth},init={init}"
    return Entrant(problem, method, BUDGET, BATCH, fixed=fixed, search={"lr": LogUniform(1e-5, 1e0)})


def judge(found: Found) -> Finding:
    """Ask Fixup to train at every depth, and to matter at the largest."""
    f = {name: end(outcomes) for name, outcomes in found.items()}
    deepest = DEPTHS[-1]
    parts = [
        all(f[f"{depth} layers, fixup"] < TRAINED for depth in DEPTHS),
        not f[f"{deepest} layers, standard"] < TRAINED,
    ]
    said = ", ".join(f"{name} {shown(last)}" for name, last in f.items())
    return Finding(f"f: {said}", of(parts))


CLAIM = Claim(
    paper="Zhang, Dauphin, Ma, ICLR 2019, arXiv:1901.09321",
    claim="Residual networks without normalisation train at any depth from Fixup's start, at the same rates, where "
    "from the standard start deep ones do not.",
    setting=f"Dense residual networks of width 32 on digits, 4 to 64 layers where they went to 10000; {BUDGET} epochs "
    f"in batches of {BATCH}; heavy ball with momentum 0.9, and Adam at the largest depth, rates tuned down to 1e-5. "
    f"Trained means f < {TRAINED}.",
    entrants={
        **{
            f"{depth} layers, {init}": entrant(depth, init, "heavy_ball")
            for depth in DEPTHS
            for init in ("standard", "fixup")
        },
        **{f"{DEPTHS[-1]} layers, {init}, Adam": entrant(DEPTHS[-1], init, "adam") for init in ("standard", "fixup")},
    },
    judge=judge,
)
