"""How things end: a numerical outcome is a `Status`, a misuse is an exception raised by `require`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import Enum


class Status(Enum):
    """The outcome of a run, of a step or of a linear solve, in words.

    `str(status)` is a sentence for people; `status.failed` says whether the outcome is trouble.
    """

    RUNNING = "still running"
    CONVERGED = "converged: the tolerance asked for is met"
    MAX_STEPS = "stopped: all steps or iterations are used"
    BUDGET_SPENT = "stopped: the budget of gradient equivalents is spent"
    TIME_SPENT = "stopped: the time limit is reached"
    CALLBACK = "stopped: the callback asked for it"
    BOUNDARY = "stopped on the trust-region boundary"
    NEGATIVE_CURVATURE = "a direction of negative curvature was met"
    STAGNATED = "failed: no further progress in this precision"
    BREAKDOWN = "failed: a division by zero, or a quantity that is not finite, inside the solver"
    LINE_SEARCH_FAILED = "failed: the line search found no acceptable step"
    NOT_A_DESCENT_DIRECTION = "failed: the search direction does not descend"
    DIVERGED = "failed: the objective grew beyond the divergence bound"
    NOT_FINITE = "failed: a value, gradient or iterate is nan or infinite"

    def __init__(self, words: str) -> None:
        self.failed = words.startswith("failed")  # trouble rather than an ordinary end

    def __str__(self) -> str:
        return self.value


def require(condition: bool, rule: str, value: object) -> None:
    """Raise ``ValueError("<rule>, got <value>")`` unless `condition` holds.

    >>> require(0 <= 1.2 < 1, "momentum must be in [0, 1)", 1.2)
    Traceback (most recent call last):
    ValueError: momentum must be in [0, 1), got 1.2
    """
    if not condition:
        raise ValueError(f"{rule}, got {value!r}")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint, "; did you mean 'adam'?", or the whole list where nothing comes near."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
