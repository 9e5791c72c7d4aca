"""The mutants, in the order of the table of faults in docs/reliability.md."""

from __future__ import annotations

from typing import Final

from reliability.mutants.catalogue.faults import FAULTS
from reliability.mutants.catalogue.use import USE
from reliability.mutants.mutant import Mutant

MUTANTS: Final[tuple[Mutant, ...]] = (*FAULTS, *USE)
