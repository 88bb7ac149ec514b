"""A laboratory of one small study, in the folder and with the seeds named: what tests kill, and run twice at once."""

import sys
from dataclasses import replace
from pathlib import Path

from refopt.lab import laboratory
from refopt.lab.studies import robustness
from refopt.race.engine import Pool

if __name__ == "__main__":
    out, seeds, races = Path(sys.argv[1]), int(sys.argv[2]), robustness.races
    robustness.PROBLEMS = ("beale", "saddle", "himmelblau", "wood")
    robustness.methods.names = lambda: ["sgd", "adam", "lbfgs", "newton_cg", "newton", "bfgs"]
    robustness.races = lambda scale: [replace(race, seeds=seeds) for race in races(scale)]
    with Pool(2) as engine:
        laboratory.run(["robustness"], "reduced", out, engine, lambda stage, total: lambda: None)
