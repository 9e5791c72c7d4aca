"""The mutants, in the order of the table of faults in docs/reliability.md."""

from __future__ import annotations

from typing import Final

from reliability.mutants.catalogue.appending import APPENDING
from reliability.mutants.catalogue.callers import CALLERS
from reliability.mutants.catalogue.faults import FAULTS
from reliability.mutants.catalogue.handlers import HANDLERS
from reliability.mutants.catalogue.items import ITEMS
from reliability.mutants.catalogue.operators import OPERATORS
from reliability.mutants.catalogue.ordering import ORDERING
from reliability.mutants.catalogue.queue_conditions import QUEUE_CONDITIONS
from reliability.mutants.catalogue.reading import READING
from reliability.mutants.catalogue.windows import WINDOWS
from reliability.mutants.mutant import Mutant

MUTANTS: Final[tuple[Mutant, ...]] = (
    *FAULTS,
    *CALLERS,
    *ITEMS,
    *HANDLERS,
    *WINDOWS,
    *OPERATORS,
    *READING,
    *ORDERING,
    *QUEUE_CONDITIONS,
    *APPENDING,
)
