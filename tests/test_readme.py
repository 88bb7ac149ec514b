"""What the README shows is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_docs import hooked

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_scripts_run(capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(block, scope)  # the second script goes on where the first ended
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["CONVERGED", "CONVERGED"]
    assert len(re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0].strip().splitlines()) <= 10


def test_the_table_of_methods_is_fresh() -> None:
    assert hooked().readme(README) == README, "run python docs/hooks.py"


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_it_names_the_test_command_that_ci_runs() -> None:
    assert "pytest -n auto" in README
    assert "pytest -n auto" in (ROOT / ".ci" / "run").read_text()
