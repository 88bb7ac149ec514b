"""Wrong optimizers, each written as its author might have, with the truth beside it."""

from __future__ import annotations

from tests.conformance.mutants import adam, adaptive, asking, matrices, momentum, signs
from tests.conformance.mutants.mutant import Mutant

MUTANTS: dict[str, Mutant] = {
    **momentum.MUTANTS,
    **adaptive.MUTANTS,
    **adam.MUTANTS,
    **signs.MUTANTS,
    **matrices.MUTANTS,
    **asking.MUTANTS,
}
