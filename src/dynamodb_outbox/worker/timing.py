"""The times and parts of a lease that no option sets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a worker waits for what. Seconds; a name that ends with `_part` is a part of a lease's length.

    Tests give a worker shorter times.
    """

    # Holds
    holds_seconds: float = 5.0
    """The holds are read again when claims come later than this after the last read."""
    holds_read_seconds: float = 2.0
    """A claim waits this long for the holds, and at most a third of its lease."""

    # Stopping
    claim_seconds: float = 2.0
    """A claim or an emit that is under way at the deadline of a stop may still be answered."""
    settle_seconds: float = 5.0
    """Outcomes may still be written after the deadline of a stop."""
    retire_seconds: float = 1.0
    """A stop waits for the worker's announcement to be withdrawn."""
    close_seconds: float = 5.0
    """A stop waits for handlers that close what they opened."""
    report_seconds: float = 5.0
    """A stop waits for calls of an async `on_error`, which may never return."""

    # Handlers
    cancel_seconds: float = 5.0
    """A cancelled handler may clean up; then the worker goes on without it."""
    commit_seconds: float = 2.0
    """A handler that is cancelled while it commits waits for the answer."""
    permit_part: float = 0.5
    """An event waits for a permit of a handler with limited concurrency; then it is released."""

    # Leases
    margin_part: float = 0.1
    """Handlers are cancelled this long before their lease ends, so that there is time to settle."""
    longest_margin: float = 1.0
    renew_part: float = 2 / 3
    """A lease is renewed once less than this is left of it."""
    together_part: float = 1 / 12
    """Leases that are due for renewal within this time go in one request. A failed renewal is repeated after it."""
    emit_lease_part: float = 0.5
    """An event that was claimed on emit is handled if this much of its lease is left when its write is acknowledged."""
