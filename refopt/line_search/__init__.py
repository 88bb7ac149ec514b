"""How far to go along a direction: one condition a file, each with a function `search`.

A search is handed an objective, a point, a direction, and the value and gradient there; it returns a `LineSearch`.
"""

from __future__ import annotations

from refopt.line_search import armijo, hager_zhang, more_thuente, stochastic_armijo, strong_wolfe
from refopt.line_search.outcome import LineSearch

__all__ = ["LineSearch", "armijo", "hager_zhang", "more_thuente", "stochastic_armijo", "strong_wolfe"]
