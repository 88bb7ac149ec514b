"""Wrong optimizers, each written as its author might have, with the truth beside it."""

from __future__ import annotations

from tests.conformance.mutants import (
    adam,
    adaptive,
    asking,
    averaged,
    matrices,
    moments,
    momentum,
    parts,
    searching,
    signs,
)
from tests.conformance.mutants.mutant import Mutant

MUTANTS: dict[str, Mutant] = {
    **momentum.MUTANTS,
    **adaptive.MUTANTS,
    **adam.MUTANTS,
    **moments.MUTANTS,
    **averaged.MUTANTS,
    **parts.MUTANTS,
    **signs.MUTANTS,
    **matrices.MUTANTS,
    **asking.MUTANTS,
    **searching.MUTANTS,
}
