"""Adam on one flat vector: the elementwise paths against plain NumPy, torch, optax and the memory bandwidth.

    python benchmarks/elementwise.py [--sizes 100 10000 1000000 30000000] [--rounds 15] [--memory] [--json PATH]

Every figure is the median over rounds that visit all contenders of one size, each round in another order. The
yardstick is the same arithmetic as one C loop in place (gcc -O3), on two threads (2t) above 1e5 elements, where
memory bandwidth bounds it, and on one below. With --memory a process of its own takes a donated step
at 1e8 elements of float32, and reports what it needed beside x, m, v and the gradient.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import importlib.util
import itertools
import json
import multiprocessing
import random
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from backends.elementwise import donating, using
from refopt.first_order import adam
from refopt.objective import Objective

SOURCE = """
#include <math.h>
#define ADAM(T, NAME, SQRT) \\
    void NAME(T *x, T *m, T *v, const T *g, long n, T alpha, T beta1, T beta2, T eps) { \\
        for (long i = 0; i < n; i++) { \\
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]; \\
            v[i] = beta2 * v[i] + (1 - beta2) * (g[i] * g[i]); \\
            x[i] -= alpha * m[i] / (SQRT(v[i]) + eps); \\
        } \\
    }
ADAM(float, adam_float32, sqrtf)
ADAM(double, adam_float64, sqrt)
"""
LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8

Step = Callable[[], Any]
Contender = tuple[Callable[[], Any], Step]


@functools.cache
def compiled() -> ctypes.CDLL | None:
    """Compile the yardstick; None without gcc."""
    if shutil.which("gcc") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, part, library = (Path(folder, f"adam.{kind}") for kind in ("c", "o", "so"))
        source.write_text(SOURCE)
        flags = ["-O3", "-march=native", "-ffast-math", "-fPIC"]
        subprocess.run(["gcc", *flags, "-c", str(source), "-o", str(part)], check=True)
        # Linked with -ffast-math, the library would flush subnormals to zero in the whole process that loads it.
        subprocess.run(["gcc", "-shared", str(part), "-o", str(library), "-lm"], check=True)
        return ctypes.CDLL(str(library))


def c_loop(x: Any, m: Any, v: Any, g: Any, threads: int) -> Step:
    """The yardstick: in place, an equal part for each thread."""
    real = ctypes.c_float if x.dtype == np.float32 else ctypes.c_double
    loop = getattr(compiled(), f"adam_{x.dtype}")
    pool = ThreadPoolExecutor(threads)
    parts = list(zip(*(np.array_split(a, threads) for a in (x, m, v, g)), strict=True))

    def call(part: tuple[Any, ...]) -> None:
        pointers = (ctypes.c_void_p(a.ctypes.data) for a in part)
        loop(*pointers, ctypes.c_long(part[0].size), *map(real, (LR, BETA1, BETA2, EPS)))

    return (lambda: call(parts[0])) if threads == 1 else (lambda: list(pool.map(call, parts)))


def naive(x: Any, m: Any, v: Any, g: Any) -> Step:
    """The plain expression in NumPy, with fresh arrays."""
    arrays = [x, m, v]

    def step() -> None:
        x, m, v = arrays
        m = BETA1 * m + (1 - BETA1) * g
        v = BETA2 * v + (1 - BETA2) * (g * g)
        arrays[:] = x - LR * m / (np.sqrt(v) + EPS), m, v

    return step


def buffered(x: Any, m: Any, v: Any, g: Any) -> Step:
    """The plain expression in NumPy, in place, over two buffers."""
    a, b = np.empty_like(x), np.empty_like(x)

    def step() -> None:
        np.multiply(m, BETA1, out=m)
        np.multiply(g, 1 - BETA1, out=a)
        np.add(m, a, out=m)
        np.multiply(g, g, out=a)
        np.multiply(a, 1 - BETA2, out=a)
        np.multiply(v, BETA2, out=v)
        np.add(v, a, out=v)
        np.sqrt(v, out=a)
        np.add(a, EPS, out=a)
        np.multiply(m, LR, out=b)
        np.divide(b, a, out=b)
        np.subtract(x, b, out=x)

    return step


def refopt_adam(x: Any, m: Any, v: Any, g: Any) -> Step:
    """The whole functional step of the method, its own Python included."""
    objective = Objective(value=lambda x: 0.0, grad=lambda x: g)
    now = [x, adam.State(0, m, v)]

    def step() -> None:
        now[:] = adam.step(objective, *now, lr=LR)

    return step


@contextmanager
def settings(path: Any, threads: int, donate: bool) -> Iterator[None]:
    """Open what `minimize` opens around its steps."""
    with using(path, threads=threads), donating() if donate else nullcontext():
        yield


def torch_adam(x: Any, m: Any, v: Any, g: Any, threads: int) -> Step:
    """torch.optim.Adam with fused=True, in place."""
    import torch

    torch.set_num_threads(threads)
    p = torch.nn.Parameter(torch.from_numpy(x))
    p.grad = torch.from_numpy(g)
    optimizer = torch.optim.Adam([p], lr=LR, betas=(BETA1, BETA2), eps=EPS, fused=True)
    return optimizer.step


def optax_adam(x: Any, m: Any, v: Any, g: Any) -> Step:
    """optax.adam under jit, with its arguments donated, in place."""
    import jax
    import optax

    jax.config.update("jax_enable_x64", x.dtype == np.float64)
    optimizer = optax.adam(LR, BETA1, BETA2, EPS)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(x: Any, state: Any, g: Any) -> tuple[Any, Any]:
        change, state = optimizer.update(g, state, x)
        return optax.apply_updates(x, change), state

    gradient = jax.numpy.asarray(g)
    now = [jax.numpy.array(x), optimizer.init(jax.numpy.asarray(x))]

    def step() -> None:
        now[:] = jax.block_until_ready(update(*now, gradient))

    return step


def contenders(n: int, dtype: str) -> dict[str, Contender]:
    """Return the steps to compare at one size, each with the context to take it in."""
    rng = np.random.default_rng(0)
    g = rng.standard_normal(n, dtype=dtype)

    def state() -> tuple[Any, ...]:
        x, m = (rng.standard_normal(n, dtype=dtype) for _ in range(2))
        return x, m, rng.random(n, dtype=dtype), g

    steps: dict[str, Contender] = {}

    def add(name: str, step: Step, context: Callable[[], Any] = nullcontext) -> None:
        steps[name] = (context, step)

    counts = (1, 2) if n > 100_000 else (1,)
    for threads in counts if compiled() else ():
        add(f"C loop in place, {threads}t", c_loop(*state(), threads))
    add("NumPy, plain", naive(*state()))
    add("NumPy, out= buffers", buffered(*state()))
    add("refopt, plain", refopt_adam(*state()), lambda: using("plain"))
    for path in [*["blocks"] * (n > 100_000), *["numba"] * bool(importlib.util.find_spec("numba"))]:
        for threads, donate in itertools.product(counts, (False, True)):
            name = f"refopt, {path}, {'donated' if donate else 'fresh'}, {threads}t"
            add(name, refopt_adam(*state()), functools.partial(settings, path, threads, donate))
    if importlib.util.find_spec("torch"):
        add("torch, fused", torch_adam(*state(), counts[-1]))
    if importlib.util.find_spec("optax"):
        add("optax, jit, donated", optax_adam(*state()))
    return steps


def measure(steps: dict[str, Contender], rounds: int, repeat: int) -> dict[str, list[float]]:
    """Return the seconds of each step in each round; `repeat` calls are timed together."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for k in range(rounds + 1):
        for name in random.sample(list(steps), len(steps)):
            context, step = steps[name]
            with context():
                start = time.perf_counter()
                for _ in range(repeat):
                    step()
                if k > 0:  # the first round warms up
                    times[name].append((time.perf_counter() - start) / repeat)
    return times


def peak_memory(n: int) -> float:
    """Return the MiB that donated steps need beside x, m, v and the gradient. Run it in a fresh process."""
    x, m, v, g = (np.full(n, 0.1, np.float32) for _ in range(4))
    step = refopt_adam(x, m, v, g)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with donating():
        step()
        step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def goals(n: int, dtype: str, seconds: dict[str, float]) -> Iterator[tuple[str, float, float]]:
    """Yield the goals that concern this size: (what, found, at most)."""
    if dtype != "float32":
        return
    if n == 100:
        yield "N=100, microseconds of a whole step", seconds["refopt, plain"] * 1e6, 10
    if n == 10_000:
        yield "N=1e4, step / NumPy with out= buffers", seconds["refopt, plain"] / seconds["NumPy, out= buffers"], 1.2
    if n >= 10_000_000:
        ours = "refopt, blocks, donated, 2t"
        yield f"N={n:.0e}, {ours} / C loop", seconds[ours] / seconds.get("C loop in place, 2t", float("nan")), 2.5
        ours = "refopt, numba, donated, 2t"
        for peer, at_most in (("C loop in place, 2t", 1.3), ("torch, fused", 1), ("optax, jit, donated", 1)):
            if ours in seconds and peer in seconds:
                yield f"N={n:.0e}, {ours} / {peer}", seconds[ours] / seconds[peer], at_most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 10_000, 1_000_000, 30_000_000])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    parser.add_argument("--rounds", type=int, default=15, help="at the largest sizes; twenty times as many below 1e7")
    parser.add_argument("--memory", action="store_true", help="measure the peak memory at 1e8 elements, too")
    parser.add_argument("--json", type=Path, help="write the results there")
    arguments = parser.parse_args()

    console = Console()
    results: list[dict[str, Any]] = []
    checked: list[tuple[str, float, float]] = []
    if compiled() is None:
        console.print("no gcc: no yardstick, no ratios")
    if arguments.memory:  # first, for a process takes over the peak of the one that starts it
        with multiprocessing.get_context("spawn").Pool(1) as fresh:
            mebibytes = fresh.apply(peak_memory, (100_000_000,))
        checked.append(("N=1e8 float32, MiB beside the state and a gradient", mebibytes, 64))
    for n in arguments.sizes:
        for dtype in arguments.dtypes:
            rounds = arguments.rounds if n >= 10_000_000 else 20 * arguments.rounds
            times = measure(contenders(n, dtype), rounds, repeat=max(1, 100_000 // max(n, 5000)))
            seconds = {name: statistics.median(each) for name, each in times.items()}
            yardstick = f"C loop in place, {2 if n > 100_000 else 1}t"
            table = Table(
                "Adam step", "us, median", "us, least", "ns / element", "/ yardstick", title=f"N = {n:,}, {dtype}"
            )
            for name, s in seconds.items():
                ratio = s / seconds.get(yardstick, float("nan"))
                table.add_row(
                    name, f"{s * 1e6:.1f}", f"{min(times[name]) * 1e6:.1f}", f"{s / n * 1e9:.3f}", f"{ratio:.2f}"
                )
                results.append(
                    {"n": n, "dtype": dtype, "step": name, "seconds": s, "least": min(times[name]), "ratio": ratio}
                )
            console.print(table)
            checked += goals(n, dtype, seconds)
    table = Table("goal", "found", "at most", "met", title="Goals")
    for what, found, at_most in checked:
        table.add_row(what, f"{found:.2f}", f"{at_most:g}", "yes" if found <= at_most else "no")
    console.print(table)
    if arguments.json:
        report = {"steps": results, "goals": [dict(zip(("goal", "found", "at_most"), c, strict=True)) for c in checked]}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
