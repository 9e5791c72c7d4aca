"""The port of an outbox, with a recorder that sees everything that passes it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dynamodb_outbox.errors import (
    ConfigurationError,
    DuplicateEventError,
    InvalidEventError,
    LeaseLostError,
    OutboxError,
    PartialPublishError,
    StorageError,
    TransactionCancelledError,
    TransactionTooLargeError,
    UsageError,
)
from dynamodb_outbox.event import Event, EventStatus, FailedEvent
from dynamodb_outbox.observers import Observers
from dynamodb_outbox.outcome import OUTCOME_NAMES, Outcome, Released, Retry
from dynamodb_outbox.port import Claim, EmitClaim, HandlerDone, Outbox, OutboxOptions, Recovered
from dynamodb_outbox.reporting import Report
from dynamodb_outbox.transaction import TransactionWrite
from reliability import history
from reliability.history import (
    Claimed,
    EmitAcknowledged,
    EmitAsked,
    EmitRefused,
    EmitUnknown,
    LeaseLost,
    LeaseRenewed,
    Redriven,
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
    TransactionTooLargeError,
    UsageError,
)


class RecordedOutbox:
    """An outbox that does what another does, and has it recorded."""

    def __init__(self, outbox: Outbox, recorder: Recorder) -> None:
        self.outbox = outbox
        self._recorder = recorder

    @property
    def options(self) -> OutboxOptions:
        """How events of this outbox are delivered."""
        return self.outbox.options

    @property
    def observers(self) -> Observers:
        """The registered observers."""
        return self.outbox.observers

    async def prepare(self) -> None:
        """Get ready for a worker."""
        await self.outbox.prepare()

    def announce_handlers(self, handlers: Mapping[str, Collection[str]]) -> None:
        """Make the handlers of a worker known."""
        self.outbox.announce_handlers(handlers)

    async def retire(self) -> None:
        """Withdraw what was made known to other workers."""
        await self.outbox.retire()

    async def publish(
        self, events: Sequence[Event], *, due_at: float | None = None, emit_claim: EmitClaim | None = None
    ) -> None:
        """Store events; see `Outbox.publish`."""
        began_at = self._asked((event, due_at) for event in events)
        try:
            await self.outbox.publish(events, due_at=due_at, emit_claim=self._recorded(emit_claim, began_at))
        except PartialPublishError as error:
            self._acknowledged(error.published)
            for event in error.failed:
                self._not_acknowledged([event], error.causes.get(event.id, error))
            raise
        except BaseException as error:
            self._not_acknowledged(events, error)
            raise
        self._acknowledged(events)

    async def transact(
        self,
        writes: Sequence[TransactionWrite],
        events: Sequence[tuple[Event, float | None]],
        *,
        done: HandlerDone | None = None,
        emit_claim: EmitClaim | None = None,
    ) -> None:
        """Make writes, store events and record a handler as done, all or nothing; see `Outbox.transact`."""
        began_at = self._asked(events)
        stored = [event for event, _ in events]
        try:
            await self.outbox.transact(writes, events, done=done, emit_claim=self._recorded(emit_claim, began_at))
        except BaseException as error:
            self._not_acknowledged(stored, error)
            if done is not None:
                self._settled(done.claim, _outcome_of(done), began_at, error=error, by_handler=True)
            raise
        self._acknowledged(stored)
        if done is not None:
            self._settled(done.claim, _outcome_of(done), began_at, by_handler=True)

    async def claim(self, limit: int, *, report: Report | None = None) -> list[Claim]:
        """Claim due events; see `Outbox.claim`."""
        began_at = self._recorder.now()
        claims = await self.outbox.claim(limit, report=report)
        for claim in claims:
            self._claimed(claim, began_at)
        return claims

    async def settle(self, settlements: Sequence[tuple[Claim, Outcome]]) -> list[OutboxError | None]:
        """Write outcomes; see `Outbox.settle`."""
        began_at = self._recorder.now()
        errors: list[OutboxError | None]
        try:
            errors = await self.outbox.settle(settlements)
        except BaseException as error:
            for claim, outcome in settlements:
                self._settled(claim, _name_of(outcome), began_at, error=error)
            raise
        for (claim, outcome), answer in zip(settlements, errors, strict=True):
            delay = outcome.delay if isinstance(outcome, (Retry, Released)) else 0.0
            self._settled(claim, _name_of(outcome), began_at, error=answer, delay=delay)
        return errors

    async def renew(self, renewals: Sequence[tuple[Claim, float]]) -> list[OutboxError | None]:
        """Move leases to new deadlines; see `Outbox.renew`."""
        began_at = self._recorder.now()
        errors = await self.outbox.renew(renewals)
        for (claim, expires_at), error in zip(renewals, errors, strict=True):
            at, worker, event_id = self._recorder.now(), self._recorder.worker, claim.event.id
            if error is None:
                self._recorder.write(
                    LeaseRenewed(
                        at=at,
                        event_id=event_id,
                        worker=worker,
                        token=claim.token,
                        lease_expires_at=expires_at,
                        began_at=began_at,
                    )
                )
            elif isinstance(error, LeaseLostError):
                self._recorder.write(
                    LeaseLost(at=at, event_id=event_id, worker=worker, token=claim.token, began_at=began_at)
                )
        return errors

    async def recover(self, *, max_retries: int | None = None) -> Recovered:
        """Reset the events whose lease ran out; see `Outbox.recover`."""
        began_at = self._recorder.now()
        recovered = await self.outbox.recover(max_retries=max_retries)
        for ids, failed in ((recovered.reset, False), (recovered.failed, True)):
            for event_id in ids:
                self._recorder.write(
                    history.Recovered(
                        at=self._recorder.now(),
                        event_id=event_id,
                        worker=self._recorder.worker,
                        failed=failed,
                        began_at=began_at,
                    )
                )
        return recovered

    async def count(self, status: EventStatus | str) -> int:
        """Count the events of a status."""
        return await self.outbox.count(status)

    async def failed_events(self, *, type: str | None, limit: int) -> list[FailedEvent]:
        """List the dead letters."""
        return await self.outbox.failed_events(type=type, limit=limit)

    async def redrive(self, ids: Sequence[str]) -> int:
        """Make FAILED events PENDING again.

        The call is recorded before it is sent, because its response may be lost.
        """
        for event_id in ids:
            self._recorder.write(Redriven(at=self._recorder.now(), event_id=event_id, worker=self._recorder.worker))
        return await self.outbox.redrive(ids)

    # Records

    def _asked(self, events: Iterable[tuple[Event, float | None]]) -> float:
        at = self._recorder.now()
        for event, due_at in events:
            self._recorder.write(EmitAsked(at=at, event_id=event.id, worker=self._recorder.worker, due_at=due_at))
        return at

    def _acknowledged(self, events: Iterable[Event]) -> None:
        for event in events:
            self._recorder.write(
                EmitAcknowledged(at=self._recorder.now(), event_id=event.id, worker=self._recorder.worker)
            )

    def _not_acknowledged(self, events: Iterable[Event], error: BaseException) -> None:
        kind = EmitRefused if _is_surely_refused(error) else EmitUnknown
        for event in events:
            self._recorder.write(
                kind(at=self._recorder.now(), event_id=event.id, worker=self._recorder.worker, error=_text_of(error))
            )

    def _recorded(self, emit_claim: EmitClaim | None, began_at: float) -> EmitClaim | None:
        if emit_claim is None:
            return None

        def claimed(claim: Claim) -> None:
            self._claimed(claim, began_at, born=True)
            emit_claim.claimed(claim)

        return replace(emit_claim, claimed=claimed)

    def _claimed(self, claim: Claim, began_at: float, *, born: bool = False) -> None:
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
                born=born,
            )
        )

    def _settled(
        self,
        claim: Claim,
        outcome: history.Outcome,
        began_at: float,
        *,
        error: BaseException | None = None,
        delay: float = 0.0,
        by_handler: bool = False,
    ) -> None:
        recorder, event_id, token = self._recorder, claim.event.id, claim.token
        at, worker = recorder.now(), recorder.worker
        if error is None:
            recorder.write(
                Settled(
                    at=at,
                    event_id=event_id,
                    worker=worker,
                    token=token,
                    outcome=outcome,
                    attempt=claim.attempt,
                    delay=delay,
                    began_at=began_at,
                    by_handler=by_handler,
                )
            )
        elif isinstance(error, LeaseLostError):
            recorder.write(
                SettleRefused(
                    at=at,
                    event_id=event_id,
                    worker=worker,
                    token=token,
                    outcome=outcome,
                    began_at=began_at,
                    by_handler=by_handler,
                )
            )
        else:
            recorder.write(
                SettleFailed(
                    at=at,
                    event_id=event_id,
                    worker=worker,
                    token=token,
                    outcome=outcome,
                    error=_text_of(error),
                    began_at=began_at,
                    by_handler=by_handler,
                    maybe_applied=not _is_surely_refused(error),
                )
            )


def _is_surely_refused(error: BaseException) -> bool:
    if isinstance(error, (StorageError, TransactionCancelledError)):
        return not error.maybe_applied
    return isinstance(error, _REFUSED)


def _name_of(outcome: Outcome) -> history.Outcome:
    return history.Outcome(OUTCOME_NAMES[type(outcome)])


def _outcome_of(done: HandlerDone) -> history.Outcome:
    return history.Outcome.COMPLETE if done.completes else history.Outcome.HANDLER_DONE


def _text_of(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]
