"""Is an optimizer right? Its updates are replayed beside the reference's, step by step, on gradients that tell.

>>> from refopt.conformance import assert_matches, compare
>>> def mine(x, g, state, lr):
...     v = 0.9 * (0.0 if state is None else state) + g
...     return x - lr * v, v
>>> assert_matches(mine, "heavy_ball", dialect="torch")
>>> compare(mine, "heavy_ball", dialect="keras").first.stream  # lr inside the velocity, seen under a schedule
'schedule'
"""

from refopt.conformance.adapters import adapt
from refopt.conformance.check import assert_matches
from refopt.conformance.recording import Path, Recording, load, record, save
from refopt.conformance.replay import Comparison, Difference, compare

__all__ = [
    "Comparison",
    "Difference",
    "Path",
    "Recording",
    "adapt",
    "assert_matches",
    "compare",
    "load",
    "record",
    "save",
]
