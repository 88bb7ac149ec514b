"""The explorer's paths, run in a browser, are refopt's own; its page works with the keyboard and on a phone."""

from __future__ import annotations

import itertools
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends import random
from refopt import bind, iterate, method
from refopt.objective import Objective
from tests.browser import SPILL, browse, said, shown

ASSETS = Path(__file__).parent.parent / "docs" / "assets"
STEPS = 40
STARTS = {
    "quadratic": (-2.0, 0.6),
    "saddle": (0.02, 1.4),
    "monkey_saddle": (0.8, 0.05),
    "rosenbrock": (-1.2, 1.0),
    "himmelblau": (-0.4, -0.6),
}
OPTIONS: dict[str, dict[str, Any]] = {"rmsprop": {"rho": 0.95}, "parabola": {"gamma": 0.2}}

pytestmark = pytest.mark.browser


def f(name: str, x: Any, xp: Any) -> Any:
    """The explorer's functions, whose derivatives come from the tape here and are written by hand there."""
    a, b = x[0], x[1]
    return {
        "quadratic": lambda: (11.0 * a * a + 18.0 * a * b + 11.0 * b * b) / 4.0,
        "saddle": lambda: a**4 / 4.0 - a * a / 2.0 + b * b / 2.0,
        "monkey_saddle": lambda: a * (a * a - 3.0 * b * b) / 3.0 + (a * a + b * b) ** 2 / 4.0,
        "rosenbrock": lambda: 100.0 * (b - a * a) ** 2 + (1.0 - a) ** 2,
        "himmelblau": lambda: (a * a + b - 11.0) ** 2 + (a + b * b - 7.0) ** 2,
    }[name]()


SPEAK = """
    const map = document.querySelector("#explore svg[tabindex]");
    const start = () => document.querySelector(".start").getAttribute("transform");
    const table = () => document.querySelector("#explore tbody").textContent;
    const told = { before: start(), rows: document.querySelectorAll("#explore tbody tr").length, first: table() };
    map.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", shiftKey: true, cancelable: true }));
    told.after = start();
    document.querySelectorAll("fieldset.methods input")[6].click();
    told.more = document.querySelectorAll("#explore tbody tr").length;
    const lr = document.querySelector(".knobs input");
    lr.value = 0;
    lr.dispatchEvent(new Event("input"));
    told.slid = table() !== told.first;
    const labels = [...document.querySelectorAll("#explore label")];
    const noise = labels.find((label) => label.textContent.startsWith("noise, sd"));
    const quiet = table();
    noise.control.value = noise.control.max;
    noise.control.dispatchEvent(new Event("input"));
    told.noisy = table() !== quiet;
    told.unnamed = [...document.querySelectorAll("input, select")].filter((input) => !input.labels.length).length;
    told.over = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    map.dispatchEvent(new PointerEvent("pointerdown", { clientX: 200.3, clientY: 100.7, pointerId: 1 }));
    for (let k = 0; k < 400 && !start().startsWith("translate(300 "); k++) {
      const left = parseFloat(start().slice(10)) > 300;
      map.dispatchEvent(new KeyboardEvent("keydown", { key: left ? "ArrowLeft" : "ArrowRight", cancelable: true }));
    }
    told.ridge = start();
"""


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_used_by_keyboard_and_fits_a_phone(width: int, tmp_path: Path) -> None:
    scripts = [(ASSETS / name).read_text() for name in ("explorer.js", "explorer-page.js")]
    style = (ASSETS / "explorer.css").read_text()
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", "".join([*scripts, style])), "nothing is fetched"
    page = f'<!doctype html><meta charset="utf-8"><style>{style}</style><div id="explore"></div>'
    page += "".join(f"<script>{script}</script>" for script in (*scripts, SPEAK + SPILL))
    told = shown(page, width, tmp_path)
    assert told["width"] == width
    assert told["before"] != told["after"], "an arrow key moves the start"
    assert (told["rows"], told["more"]) == (4, 5)
    assert told["slid"], "a slider changes the outcome"
    assert told["noisy"], "noise changes the outcome"
    assert told["unnamed"] == 0, "every control has a label"
    assert told["over"] <= 0, "nothing sticks out to the side"
    assert told["spill"] == []
    assert told["ridge"].startswith("translate(300 "), "the arrow keys meet x = 0 exactly, from anywhere"


def paths(folder: Path, noise: dict[str, float]) -> dict[str, Any]:
    """Return the browser's runs, by the names of function and method."""
    code = f"""
        const out = {{}};
        const options = {json.dumps(OPTIONS)};
        for (const [name, start] of Object.entries({json.dumps(STARTS)}))
          for (const method of Object.keys(Explorer.methods)) {{
            const hyper = {{ ...Explorer.defaults(method, name), ...options[method] }};
            const noise = {json.dumps(noise)};
            noise.sd *= Explorer.functions[name].noise;
            const path = Explorer.run(name, method, hyper, start, {STEPS}, noise);
            out[name + " " + method] = {{ hyper, sd: noise.sd, path }};
          }}
        document.getElementById("out").textContent = JSON.stringify(out);
    """
    script = (ASSETS / "explorer.js").read_text()
    (folder / "page.html").write_text(f'<pre id="out"></pre><script>{script}{code}</script>')
    runs = said(browse(folder / "page.html", "--dump-dom"))
    assert len(runs) == len(STARTS) * 9
    return runs


def test_the_paths_are_those_of_refopt(tmp_path: Path) -> None:
    for label, run in paths(tmp_path, {"sd": 0.0}).items():
        name, chosen = label.split()
        objective = Objective.from_function(partial(f, name))
        steps = iterate(objective, method.get(chosen), x0=np.asarray(STARTS[name]), **run["hyper"])
        path = np.asarray(run["path"])
        expected = np.stack([x for _, x, *_ in itertools.islice(steps, len(path))])
        assert len(path) == STEPS + 1 or np.linalg.norm(objective.grad(path[-1])) <= 1e-7, f"{label} ended too early"
        np.testing.assert_allclose(path, expected, rtol=1e-9, atol=1e-9, err_msg=label)


def test_the_noisy_paths_are_those_of_refopt_in_the_noise_of_its_own_stream(tmp_path: Path) -> None:
    for label, run in paths(tmp_path, {"sd": 0.5, "seed": 3}).items():
        name, chosen = label.split()
        init, step = bind(method.get(chosen), **run["hyper"])
        path = np.asarray(run["path"])
        state = init(path[0])
        for k, (x, expected) in enumerate(itertools.pairwise(path)):  # by the step, as in noise rounding grows fast
            found, state = step(tilted(name, run["sd"] * normal(seed=3, k=k)), x, state)
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9, err_msg=f"{label}, step {k}")
        assert len(path) == STEPS + 1, f"{label} ended too early"


def test_the_page_says_how_the_noise_is_drawn() -> None:
    found = re.search(r"```python\n(.*?)```", (ASSETS.parent / "explorer.md").read_text(), re.DOTALL)
    assert found is not None
    scope: dict[str, Any] = {}
    exec(found.group(1), scope)
    assert np.array_equal(scope["z"], normal(seed=0, k=0))


def tilted(name: str, xi: Any) -> Objective:
    """Return the function as a step sees it: with the noise xi in its gradient."""
    return Objective.from_function(lambda x, xp: f(name, x, xp) + xi[0] * x[0] + xi[1] * x[1])


def normal(seed: int, k: int) -> Any:
    """Return two standard normal numbers by Box and Muller's formula."""
    u = random.uniform(2, seed=seed, k=k, purpose="explorer", like=np.empty(0))
    return np.sqrt(-2.0 * np.log(1.0 - u[0])) * np.array([np.cos(2.0 * np.pi * u[1]), np.sin(2.0 * np.pi * u[1])])
