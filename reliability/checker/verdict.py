"""What a check is told beforehand, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reliability.history import History, Record, shortened, text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerRule:
    """What a handler was registered with that the checker must know; `judges`: a backoff or `no_retry_on`."""

    max_retries: int | None = None
    judges: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the checker lets pass. Times are seconds.

    `tolerance` is what clocks and their rounding to milliseconds may differ by, beyond the workers' own
    `clock_offset`. `emit_wait` is how long an emit may wait before it is sent, and for its answer once its own requests
    are answered. `slack` is what a busy machine and a backlog add to the time in which progress must resume,
    `longest_backoff` the pause after errors that a worker may still be in when the last fault ends. Calls: so many
    for each emit, claim, renewal and recovery, and so many in each second of each worker's life.
    """

    tolerance: float = 0.01
    emit_wait: float = 0.05
    slack: float = 1.0
    longest_backoff: float = 30.0
    refused_claims: int = 20
    calls_per_step: float = 4.0
    calls_per_second: float = 20.0
    handlers: Mapping[str, HandlerRule] = field(default_factory=dict[str, HandlerRule])

    def rule_of(self, handler: str) -> HandlerRule:
        """Find what is known of a handler."""
        return self.handlers.get(handler, HandlerRule())


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """An invariant that a history breaks: its letter, whose event, how, and the records that show it."""

    invariant: str
    event_id: str | None
    sentence: str
    records: tuple[Record, ...] = ()

    def __str__(self) -> str:
        of = "" if self.event_id is None else f" {self.event_id}"
        return f"{self.invariant}{of}: {self.sentence}"

    def told(self, history: History) -> str:
        """Tell of it with the records of its event, and the life of the workers around them."""
        kept = shortened(history, event_id=self.event_id) if self.event_id is not None else list(self.records)
        return f"{self}\n{text_of(kept)}"
