"""The times of the calls that records tell of."""

from __future__ import annotations

from typing import Any


def began(record: Any) -> float:
    """Return when the call began whose answer a record shows."""
    began_at: float | None = getattr(record, "began_at", None)
    at: float = record.at
    return at if began_at is None else began_at
