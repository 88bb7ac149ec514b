"""Race methods on a loss of your own: at equal cost, each tuned by as many trials."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from refopt.race import answer, contest, engine
from refopt.race.plan import Settings, make_plan
from refopt.race.standing import standings

rng = np.random.default_rng(0)
A = rng.standard_normal((200, 20)) * np.logspace(0, 1.5, 20)  # badly scaled columns
y = np.sign(A @ rng.standard_normal(20) + rng.standard_normal(200))
x0 = np.zeros(20)


def loss(x, xp):
    """A logistic fit of made-up data; any function of array operations will do."""
    return xp.mean(xp.logaddexp(0.0 * y, -y * (A @ x))) + 1e-3 * (x @ x)


def watch(stage, runs):
    """Say what is to be done; a function to call after each run is asked for."""
    print(f"{stage}: {runs} runs")
    return lambda: None


if __name__ == "__main__":  # the workers import this file
    methods = ("adam", "nesterov", "parabola", "lbfgs", "newton_cg")
    plan = make_plan(Settings((f"{__file__}:loss",), methods, budget="200ge", seeds=1, tune=4))
    with TemporaryDirectory() as folder, engine.make(workers=2) as pool:
        race = contest.hold(plan, Path(folder), pool, watch)
    found = standings(race, plan.problems)
    for row in found[0].leaders:
        print(f"{row.method:10} f = {row.end.median:.6f}  {dict(row.hyper)}")
    print(*answer.sentences(race, found, plan.problems))
