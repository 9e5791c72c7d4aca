"""The read units that several requests have cost together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ReadUnits:
    """Adds up the read units of responses. `total` is None if the backend did not say them for one of the responses."""

    def __init__(self) -> None:
        self.total: float | None = 0.0

    def add(self, response: Mapping[str, Any]) -> None:
        """Add the units of a response to a request with `ReturnConsumedCapacity`."""
        capacity = response.get("ConsumedCapacity")
        for each in capacity if isinstance(capacity, list) and capacity else [capacity]:
            units: Any = each.get("CapacityUnits") if isinstance(each, Mapping) else None
            if self.total is not None:
                self.total = self.total + units if isinstance(units, (int, float)) else None
