"""A method of your own in a few lines: checked against a reference, raced at equal cost, plotted."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from refopt.cli import main
from refopt.conformance import assert_matches


def update(x, g, state, *, lr=1e-3):
    """Adam, as you would write it yourself."""
    t, m, v = state or (0, np.zeros_like(x), np.zeros_like(x))
    t, m, v = t + 1, 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
    return x - lr * m_hat / (np.sqrt(v_hat) + 1e-8), (t, m, v)


if __name__ == "__main__":
    assert_matches(update, "adam", dialect="torch")
    with TemporaryDirectory() as folder:
        out = Path(folder) / "race"
        methods = f"sgd,adam,lbfgs,{__file__}:update"
        try:
            main(["race", "rosenbrock", "--methods", methods, "--budget", "100ge", "--tune", "3", "--out", str(out)])
        except SystemExit as end:
            print("exit status", end.code, "with", sorted(path.name for path in out.iterdir()))
