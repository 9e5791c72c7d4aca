"""The limits of a check, and the violations that it reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reliability.history import History, Record, shortened, text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerRule:
    """The options of a handler that matter to the checker. `judges` is true with a backoff or `no_retry_on`."""

    max_retries: int | None = None
    judges: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The tolerances of the checker. Times are seconds.

    `tolerance` is the difference of clocks beyond the `clock_offset` of the workers, including the rounding to
    milliseconds. `emit_wait` limits the time of an emit before its request, and after the response to its request.
    `slack` is the extra time for a busy machine and a backlog before progress must resume. `longest_backoff` is the
    longest pause after errors that may still run when the last fault ends. `calls_per_step` counts for each emit,
    claim, renewal, recovery and repair, `calls_per_second` for each second that a worker lives.
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
        """Return the rule of a handler."""
        return self.handlers.get(handler, HandlerRule())


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A broken invariant: its letter, the event, a description, and the records that show it."""

    invariant: str
    event_id: str | None
    sentence: str
    records: tuple[Record, ...] = ()

    def __str__(self) -> str:
        of = "" if self.event_id is None else f" {self.event_id}"
        return f"{self.invariant}{of}: {self.sentence}"

    def told(self, history: History) -> str:
        """Describe the violation with the records of its event and of the workers involved."""
        kept = shortened(history, event_id=self.event_id) if self.event_id is not None else list(self.records)
        return f"{self}\n{text_of(kept)}"
