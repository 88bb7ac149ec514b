"""Every script in examples/ is short and runs, where what it needs is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SAYS = {
    "race_my_loss": "newton_cg",
    "newton_cg_gpu": "converged",
    "network_spectrum": "trained",
    "own_method": "exit status 0",
    "check_torch_optimizer": "eps inside the root",
    "drive_torch": "loss",
    "drive_jax": "converged",
    "distributed_sweep": "ahead",
}
NEEDS = {
    "check_torch_optimizer": "torch",
    "drive_torch": "torch",
    "drive_jax": "jax",
    "distributed_sweep": "distributed",
    "network_spectrum": "sklearn",
}


def test_every_script_is_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_it_runs(name: str, tmp_path: Path) -> None:
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    script = EXAMPLES / f"{name}.py"
    assert len(script.read_text().splitlines()) <= 40
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout
    assert "Warning" not in done.stderr


def test_the_table_names_them_all() -> None:
    table = (EXAMPLES / "README.md").read_text()
    assert all(f"({name}.py)" in table for name in SAYS)
