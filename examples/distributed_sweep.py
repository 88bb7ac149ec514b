"""A race on a cluster: the same command, another engine. Needs refopt[dask]; here two local workers stand in for it."""

from pathlib import Path
from tempfile import TemporaryDirectory

from distributed import LocalCluster

from refopt.cli import main

RACE = ["race", "rosenbrock", "saddle", "--methods", "adam,lbfgs,newton_cg", "--budget", "100ge", "--tune", "4"]

if __name__ == "__main__":
    two = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with TemporaryDirectory() as folder, two as cluster:
        out = str(Path(folder) / "race")
        try:
            main([*RACE, "--engine", "dask", "--scheduler", cluster.scheduler_address, "--out", out])
        except SystemExit as end:
            print("exit status", end.code)
