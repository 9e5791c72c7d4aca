"""The records of a recorded outbox: emits, claims, and the outcomes of claims."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dynamodb_outbox.claims import Claim, EmitClaim
from dynamodb_outbox.errors import (
    ConfigurationError,
    DuplicateEventError,
    InvalidEventError,
    LeaseLostError,
    RepairRefusedError,
    StorageError,
    TransactionCancelledError,
    TransactionTooLargeError,
    UsageError,
)
from dynamodb_outbox.event import Event
from reliability import history
from reliability.history import (
    Claimed,
    EmitAcknowledged,
    EmitAsked,
    EmitRefused,
    EmitUnknown,
    Settled,
    SettleFailed,
    SettleRefused,
)

if TYPE_CHECKING:
    from reliability.recording import Recorder

_REFUSED = (
    ConfigurationError,
    DuplicateEventError,
    InvalidEventError,
    LeaseLostError,
    RepairRefusedError,
    TransactionTooLargeError,
    UsageError,
)


class PortRecords:
    """Writes the records of one worker. `began_at` is the start of the call that a record is about."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._calls = 0

    def asked(self, events: Iterable[tuple[Event, float | None]], *, replaces: str = "") -> float:
        """Record that the storing of events, with their due times, was requested; return the time."""
        at = self._recorder.now()
        self._calls += 1
        for number, (event, due_at) in enumerate(events):
            asked = EmitAsked(
                at=at,
                event_id=event.id,
                worker=self._recorder.worker,
                due_at=due_at,
                event_type=event.type,
                ordering_key=event.ordering_key or "",
                call=self._calls,
                number=number,
                replaces=replaces,
            )
            self._recorder.write(asked)
        return at

    def acknowledged(self, events: Iterable[Event]) -> None:
        """Record that events were stored."""
        for event in events:
            self._recorder.write(
                EmitAcknowledged(at=self._recorder.now(), event_id=event.id, worker=self._recorder.worker)
            )

    def not_acknowledged(self, events: Iterable[Event], error: BaseException) -> None:
        """Record that events were refused, or that it is unknown whether they are stored."""
        kind = EmitRefused if _is_surely_refused(error) else EmitUnknown
        for event in events:
            self._recorder.write(
                kind(at=self._recorder.now(), event_id=event.id, worker=self._recorder.worker, error=_text_of(error))
            )

    def on_emit(self, emit_claim: EmitClaim | None, began_at: float) -> EmitClaim | None:
        """Wrap a claim on emit, so that its claims are recorded."""
        if emit_claim is None:
            return None

        def claimed(claim: Claim) -> None:
            self.claimed(claim, began_at, on_emit=True)
            emit_claim.claimed(claim)

        return replace(emit_claim, claimed=claimed)

    def claimed(self, claim: Claim, began_at: float, *, on_emit: bool = False) -> None:
        """Record a claim."""
        self._recorder.claimed(claim.event.id, claim.attempt, claim.token)
        self._recorder.write(
            Claimed(
                at=self._recorder.now(),
                event_id=claim.event.id,
                worker=self._recorder.worker,
                token=claim.token,
                attempt=claim.attempt,
                lease_expires_at=claim.lease_expires_at,
                began_at=began_at,
                on_emit=on_emit,
            )
        )

    def settled(
        self,
        claim: Claim,
        outcome: history.Outcome,
        began_at: float,
        *,
        error: BaseException | None = None,
        delay: float = 0.0,
        by_handler: bool = False,
    ) -> None:
        """Record an outcome that was written, refused, or failed with an error."""
        facts: dict[str, Any] = {
            "at": self._recorder.now(),
            "event_id": claim.event.id,
            "worker": self._recorder.worker,
            "token": claim.token,
            "outcome": outcome,
            "began_at": began_at,
            "by_handler": by_handler,
        }
        if error is None:
            self._recorder.write(Settled(**facts, attempt=claim.attempt, delay=delay))
        elif isinstance(error, LeaseLostError):
            self._recorder.write(SettleRefused(**facts))
        else:
            maybe_applied = not _is_surely_refused(error)
            self._recorder.write(SettleFailed(**facts, error=_text_of(error), maybe_applied=maybe_applied))


def _is_surely_refused(error: BaseException) -> bool:
    if isinstance(error, (StorageError, TransactionCancelledError)):
        return not error.maybe_applied
    return isinstance(error, _REFUSED)


def _text_of(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]
