"""A laboratory of one small study in the folder that is named: what the tests kill, and run twice at once."""

import sys
from pathlib import Path

from refopt.lab import laboratory
from refopt.lab.studies import robustness
from refopt.race.engine import Pool

if __name__ == "__main__":
    robustness.PROBLEMS = ("beale", "saddle", "himmelblau", "wood")
    robustness.methods.names = lambda: ["sgd", "adam", "lbfgs", "newton_cg", "newton", "bfgs"]
    with Pool(2) as engine:
        laboratory.run(["robustness"], "reduced", Path(sys.argv[1]), engine, lambda stage, total: lambda: None)
