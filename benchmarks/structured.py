"""Steps of Shampoo, SOAP and Muon in steps of Adam, and in the matrix algebra that they cannot do without.

    python benchmarks/structured.py [--rounds 5] [--json PATH]

On the matrices and biases of the network 784-400-400-10, float32, one thread, without the gradient's own time. A figure
is the CPU time of a step averaged over a cycle of its interval, the least of rounds that visit all contenders; beside
it in steps of Adam, and in its floor: the bare products, eigendecompositions and QR of the same shapes in the same run.
Where torch is installed, Muon on the matrices alone takes turns with torch.optim.Muon, as it is, in bfloat16, and made
to iterate in float32; and the largest difference of the parameters is told, in parts of the largest of them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from rich.console import Console
from rich.table import Table

from refopt import Layout, bind
from refopt.first_order import adam, adamw
from refopt.objective import Objective
from refopt.structured import muon, shampoo, soap
from refopt.wrappers import groups

WIDTHS = (784, 400, 400, 10)
LAYOUT = Layout(
    {
        name: shape
        for i in range(3)
        for name, shape in ((f"W{i}", (WIDTHS[i], WIDTHS[i + 1])), (f"b{i}", (WIDTHS[i + 1],)))
    }
)
MATRICES = [shape for shape in LAYOUT.shapes.values() if len(shape) == 2]
HostArray = np.ndarray[Any, Any]


class Contender(NamedTuple):
    """A method, the steps of its interval, and what it costs on bare matrices: operation and count a cycle."""

    method: Any
    options: dict[str, Any]
    cycle: int = 1
    floor: dict[str, int] = {}


def is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == 2


def any_part(name: str, shape: tuple[int, ...]) -> bool:
    return True


def contenders() -> dict[str, Contender]:
    with_layout: dict[str, Any] = {"layout": LAYOUT}
    by_muon = groups(LAYOUT, {"matrices": (is_matrix, muon, {}), "rest": (any_part, adamw, {})})
    found = {"Adam": Contender(adam, {}), "Muon, AdamW on the biases": Contender(by_muon, {}, 1, {"newton-schulz": 1})}
    for interval in (1, 10, 50):
        options = {**with_layout, "graft": "adagrad", "interval": interval}
        floor = {"products": 2 * interval, "eigh": 1, "eigh, biases": 1}
        found[f"Shampoo, eigh every {interval}"] = Contender(shampoo, options, interval, floor)
    options = {**with_layout, "graft": "adagrad", "interval": 50, "roots": "newton", "beta2": 0.999, "ridge": 1e-6}
    found["Shampoo, coupled Newton every 50"] = Contender(shampoo, options, 50)
    for interval, basis in ((10, "qr"), (10, "eigh"), (50, "qr")):
        options = {**with_layout, "interval": interval, "basis": basis}
        floor = {"products": 4 * interval, basis: 1}
        found[f"SOAP, {basis} every {interval}"] = Contender(soap, options, interval, floor)
    return found


def algebra(kind: str) -> Callable[[], None]:
    """Return what does one kind of algebra once on every matrix: of its sizes, or on both its sides."""
    rng = np.random.default_rng(0)
    G = [rng.normal(size=shape).astype("float32") for shape in MATRICES]
    sides = [[A @ A.T, A.T @ A] for A in G]

    def products() -> None:
        for A, (L, R) in zip(G, sides, strict=True):
            L @ A, A @ R

    def newton_schulz() -> None:
        for A in G:
            X = A if A.shape[0] <= A.shape[1] else A.T
            for _ in range(5):
                S = X @ X.T
                S @ S, S @ X

    def eigh() -> None:
        for L, R in sides:
            np.linalg.eigh(L), np.linalg.eigh(R)

    def eigh_of_biases() -> None:
        for _, R in sides:
            np.linalg.eigh(R)

    def qr() -> None:
        for L, R in sides:
            np.linalg.qr(L), np.linalg.qr(R)

    return {
        "products": products,
        "newton-schulz": newton_schulz,
        "eigh": eigh,
        "qr": qr,
        "eigh, biases": eigh_of_biases,
    }[kind]


def cpu_seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def given(g: HostArray, _: HostArray) -> HostArray:
    return g


def step_seconds(contender: Contender, gradients: list[HostArray]) -> float:
    """Return the CPU time of a step, over one cycle after a first one."""
    init, step = bind(contender.method, **contender.options)
    x = np.zeros(LAYOUT.n, dtype="float32")
    state = init(x)
    seconds = 0.0
    for k in range(2 * contender.cycle + 2):
        objective = Objective(grad=partial(given, gradients[k % len(gradients)]))
        start = time.process_time()
        x, state = step(objective, x, state)
        if k >= contender.cycle + 2:
            seconds += time.process_time() - start
    return seconds / contender.cycle


def muon_beside_torch(gradients: list[HostArray], rounds: int) -> dict[str, dict[str, float]]:
    """Return for each precision that torch iterates in the seconds of a step, its and ours, and the difference."""
    import torch

    torch.set_num_threads(1)
    layout = Layout({name: shape for name, shape in LAYOUT.shapes.items() if len(shape) == 2})
    ours = [layout.join({name: LAYOUT.split(g)[name] for name in layout.names}) for g in gradients]
    theirs = [[torch.from_numpy(G.T.copy()) for G in layout.split(g).values()] for g in ours]
    init, step = bind(muon, layout=layout, **muon.DIALECTS["torch"])
    x = np.zeros(layout.n, dtype="float32")
    parts: list[Any] = []

    def our_steps() -> None:
        nonlocal x
        x = np.zeros_like(x)
        state = init(x)
        for g in ours:
            x, state = step(Objective(grad=partial(given, g)), x, state)

    def torch_steps() -> None:
        parts[:] = [torch.zeros_like(G, requires_grad=True) for G in theirs[0]]
        optimizer: Any = torch.optim.Muon(parts)
        for grads in theirs:
            for part, G in zip(parts, grads, strict=True):
                part.grad = G
            optimizer.step()

    results = {}
    for precision, convert in (("bfloat16", torch.Tensor.bfloat16), ("float32", torch.Tensor.clone)):
        own = its = float("inf")
        with patch.object(torch.Tensor, "bfloat16", convert):
            # Once in bfloat16: it is there for its difference, and slow where the processor has no such products.
            for _ in range(rounds if precision == "float32" else 1):
                own = min(own, cpu_seconds(our_steps) / len(ours))
                its = min(its, cpu_seconds(torch_steps) / len(ours))
        y = layout.join({name: W.detach().numpy().T for name, W in zip(layout.names, parts, strict=True)})
        difference = float(np.max(np.abs(x - y)) / np.max(np.abs(y)))
        results[precision] = {"seconds": own, "torch": its, "times": own / its, "difference": difference}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=LAYOUT.n).astype("float32") for _ in range(5)]
    chosen = contenders()
    kinds = sorted({kind for contender in chosen.values() for kind in contender.floor})
    bare, steps = dict.fromkeys(kinds, float("inf")), dict.fromkeys(chosen, float("inf"))
    for _ in range(args.rounds):
        for kind in kinds:
            bare[kind] = min(bare[kind], cpu_seconds(algebra(kind)))
        for name, contender in chosen.items():
            steps[name] = min(steps[name], step_seconds(contender, gradients))

    table = Table(title=f"{'-'.join(map(str, WIDTHS))}, n = {LAYOUT.n}, float32, one thread, the gradient aside")
    for column in ("method", "ms a step", "Adam steps", "bare algebra, ms", "times it"):
        table.add_column(column, justify="left" if column == "method" else "right")
    results = {}
    for name, contender in chosen.items():
        floor = sum(count * bare[kind] for kind, count in contender.floor.items()) / contender.cycle
        ratio = steps[name] / floor if floor else None
        results[name] = {"seconds": steps[name], "adam": steps[name] / steps["Adam"], "floor": floor, "times": ratio}
        shown = (f"{1e3 * floor:.1f}", f"{ratio:.2f}") if ratio else ("", "")
        table.add_row(name, f"{1e3 * steps[name]:.1f}", f"{steps[name] / steps['Adam']:.1f}", *shown)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    beside = muon_beside_torch(gradients, args.rounds) if importlib.util.find_spec("torch") else {}
    for precision, found in beside.items():
        console.print(
            f"Muon, the matrices alone: {1e3 * found['seconds']:.1f} ms a step, {found['times']:.2f} times that of "
            f"torch.optim.Muon iterating in {precision}; after {len(gradients)} steps the parameters differ by "
            f"{found['difference']:.1e} of the largest"
        )
    if args.json:
        args.json.write_text(json.dumps({"steps": results, "bare": bare, "muon beside torch": beside}, indent=1))


if __name__ == "__main__":
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "REFOPT_THREADS": "1"}
    if any(os.environ.get(name) != count for name, count in one.items()):  # read when NumPy is imported
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **one})
    main()
