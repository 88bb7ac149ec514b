"""A wrong optimizer and the truth about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

Update: TypeAlias = Callable[..., tuple[Any, Any]]


class Mutant(NamedTuple):
    """What it was to be, with which options, and what was done wrong, in the words of the diagnosis."""

    update: Update
    method: str
    causes: tuple[str, ...]
    options: Mapping[str, Any] = {}
