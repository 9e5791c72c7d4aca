"""What the library promises of its cost, and whether a run kept it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TOLERANCE: Final = 1.5
"""A quick run fails only where a promise is missed by more than half: it shares its machine with others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """A figure and its limit. `number` groups those that belong together; `exact` ones have no tolerance."""

    number: int
    promise: str
    figure: float
    limit: float
    exact: bool = False

    @property
    def kept(self) -> bool:
        """Whether the promise was kept."""
        return self.figure == self.limit if self.exact else self.figure <= self.limit

    @property
    def failed(self) -> bool:
        """Whether it was missed by more than half."""
        return not self.kept if self.exact else self.figure > self.limit * TOLERANCE
