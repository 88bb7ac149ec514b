"""Candidates are found by name; what cannot be found is said in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refopt.conformance.candidates import find
from refopt.first_order import adam

FILE = """
import neighbour

def update(x, g, state, lr=0.1, factor=1.0):
    return x - lr * factor * g, state

class Holder:
    update = staticmethod(update)
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "neighbour.py").write_text("")
    return str(tmp_path / "mine.py")


def test_modules_attributes_files_and_options(file: str) -> None:
    assert find("refopt.first_order.adam") is adam
    assert find("refopt.first_order:adam") is adam
    assert find(f"{file}:Holder.update")(3.0, 1.0, None, lr=1.0) == (2.0, None)
    halved: Any = find(f"{file}:update:factor=0.5,lr=2")
    assert halved(3.0, 1.0, None) == (2.0, None)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("FILE:updat", ValueError, "has no 'updat'; did you mean 'update'?"),
        ("nowhere.py:update", ValueError, "must name a file that exists, got 'nowhere.py'"),
        ("no_such_module:f", ModuleNotFoundError, "no_such_module"),
        (":f", ValueError, "must be written module:attribute"),
        ("FILE:update:0.5", ValueError, "options must be written NAME=VALUE"),
        ("nowhere.npz", FileNotFoundError, "nowhere.npz"),
    ],
)
def test_what_cannot_be_found_is_named(text: str, error: type[Exception], message: str, file: str) -> None:
    with pytest.raises(error, match=message.replace("?", r"\?")):
        find(text.replace("FILE", file))
