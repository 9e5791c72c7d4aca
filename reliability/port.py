"""An outbox that records the calls of its port."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from dynamodb_outbox.claims import Claim, EmitClaim, HandlerDone, Recovered
from dynamodb_outbox.errors import (
    LeaseLostError,
    OutboxError,
    PartialPublishError,
    RepairRefusedError,
)
from dynamodb_outbox.event import Event, EventStatus, FailedEvent
from dynamodb_outbox.observers import Observers
from dynamodb_outbox.outcome import OUTCOME_NAMES, Outcome, Released, Retry
from dynamodb_outbox.port import Outbox, OutboxOptions, Settled
from dynamodb_outbox.repairs import Hold, Repaired
from dynamodb_outbox.reporting import Report
from dynamodb_outbox.stored_events import EventState, Page, Sample, StoredEvent
from dynamodb_outbox.transaction import TransactionWrite
from reliability import history
from reliability.history import (
    Discarded,
    HoldAsked,
    HoldStored,
    HoldsUnread,
    LeaseLost,
    LeaseRenewed,
    Redriven,
    ResumeAsked,
    Skipped,
)
from reliability.port_records import PortRecords

if TYPE_CHECKING:
    from reliability.recording import Recorder


class RecordedOutbox:
    """Wraps an outbox, and records its calls."""

    def __init__(self, outbox: Outbox, recorder: Recorder) -> None:
        self.outbox = outbox
        self._recorder = recorder
        self._records = PortRecords(recorder)

    @property
    def options(self) -> OutboxOptions:
        """The delivery options of the outbox."""
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

    async def keep_leases(self, *, report: Report) -> None:
        """Renew the leases that claims share."""
        await self.outbox.keep_leases(report=report)

    async def retire(self) -> None:
        """Withdraw the announcement to other workers."""
        await self.outbox.retire()

    async def publish(
        self, events: Sequence[Event], *, due_at: float | None = None, emit_claim: EmitClaim | None = None
    ) -> None:
        """Store events; see `Outbox.publish`."""
        began_at = self._records.asked((event, due_at) for event in events)
        try:
            await self.outbox.publish(events, due_at=due_at, emit_claim=self._records.on_emit(emit_claim, began_at))
        except PartialPublishError as error:
            self._records.acknowledged(error.published)
            for event in error.failed:
                self._records.not_acknowledged([event], error.causes.get(event.id, error))
            raise
        except BaseException as error:
            self._records.not_acknowledged(events, error)
            raise
        self._records.acknowledged(events)

    async def transact(
        self,
        writes: Sequence[TransactionWrite],
        events: Sequence[tuple[Event, float | None]],
        *,
        done: HandlerDone | None = None,
        emit_claim: EmitClaim | None = None,
    ) -> None:
        """Make writes, store events and record a handler as done, all or nothing; see `Outbox.transact`."""
        began_at = self._records.asked(events)
        stored = [event for event, _ in events]
        try:
            await self.outbox.transact(
                writes, events, done=done, emit_claim=self._records.on_emit(emit_claim, began_at)
            )
        except BaseException as error:
            self._records.not_acknowledged(stored, error)
            if done is not None:
                self._records.settled(done.claim, _outcome_of(done), began_at, error=error, by_handler=True)
            raise
        self._records.acknowledged(stored)
        if done is not None:
            self._records.settled(done.claim, _outcome_of(done), began_at, by_handler=True)

    async def claim(self, limit: int, *, report: Report | None = None) -> list[Claim]:
        """Claim due events; see `Outbox.claim`."""
        began_at = self._recorder.now()
        claims = await self.outbox.claim(limit, report=report)
        for claim in claims:
            self._records.claimed(claim, began_at)
        return claims

    async def settle(
        self, settlements: Sequence[tuple[Claim, Outcome]], *, keep_keys: bool = False
    ) -> Sequence[Settled]:
        """Write outcomes; see `Outbox.settle`."""
        began_at = self._recorder.now()
        try:
            settled = self.outbox.settle(settlements, keep_keys=True) if keep_keys else self.outbox.settle(settlements)
            answers = await settled
        except BaseException as error:
            for claim, outcome in settlements:
                self._records.settled(claim, _name_of(outcome), began_at, error=error)
            raise
        for (claim, outcome), answer in zip(settlements, answers, strict=True):
            delay = outcome.delay if isinstance(outcome, (Retry, Released)) else 0.0
            refusal = answer if isinstance(answer, OutboxError) else None
            self._records.settled(claim, _name_of(outcome), began_at, error=refusal, delay=delay)
            if isinstance(answer, Claim):
                self._records.claimed(answer, began_at)
        return answers

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
        """Reset the events with an expired lease; see `Outbox.recover`."""
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

    async def get(self, id: str) -> StoredEvent | None:
        """Read an event."""
        return await self.outbox.get(id)

    async def get_front(self, ordering_key: str) -> StoredEvent | None:
        """Read the event at the front of a line."""
        return await self.outbox.get_front(ordering_key)

    async def list_events(
        self, state: EventState | str, *, type: str | None = None, after: str | None = None, limit: int = 50
    ) -> Page:
        """List the events of a state."""
        return await self.outbox.list_events(state, type=type, after=after, limit=limit)

    async def sample(self, *, count_limit: int = 1_000) -> Sample:
        """Count the events of each state."""
        return await self.outbox.sample(count_limit=count_limit)

    async def redrive(self, ids: Sequence[str], *, fences: Mapping[str, str] | None = None) -> Repaired:
        """Make FAILED events PENDING again.

        The call is recorded before it is sent, because its response may be lost.
        """
        for event_id in ids:
            self._recorder.write(Redriven(at=self._recorder.now(), event_id=event_id, worker=self._recorder.worker))
        return await self.outbox.redrive(ids, fences=fences)

    async def skip(self, ids: Sequence[str]) -> Repaired:
        """Set events aside that block their keys. The call is recorded before it is sent, as a redrive is."""
        for event_id in ids:
            self._recorder.write(Skipped(at=self._recorder.now(), event_id=event_id, worker=self._recorder.worker))
        return await self.outbox.skip(ids)

    async def discard(
        self, ids: Sequence[str], *, reason: str, by: str, fences: Mapping[str, str] | None = None
    ) -> Repaired:
        """Make events DISCARDED. The call is recorded before it is sent, as a redrive is."""
        self._discarded(ids)
        return await self.outbox.discard(ids, reason=reason, by=by, fences=fences)

    async def replace(self, id: str, event: Event, *, reason: str, by: str) -> Repaired:
        """Store an event in place of another one. The discard and the emit are recorded before the call."""
        self._records.asked([(event, None)], replaces=id)
        self._discarded([id])
        try:
            repaired = await self.outbox.replace(id, event, reason=reason, by=by)
        except BaseException as error:
            self._records.not_acknowledged([event], error)
            raise
        if repaired:
            self._records.acknowledged([event])
        else:
            refused = RepairRefusedError(event_id=id, status=repaired.refused.get(id))
            self._records.not_acknowledged([event], refused)
        return repaired

    async def hold(self, type: str | None, *, reason: str, by: str, until: datetime | None) -> None:
        """Hold a type. The call is recorded before it is sent, and when it is answered: then workers have to obey."""
        began_at = self._recorder.now()
        self._recorder.write(HoldAsked(at=began_at, type=type or ""))
        await self.outbox.hold(type, reason=reason, by=by, until=until)
        end = None if until is None else until.timestamp()
        self._recorder.write(HoldStored(at=self._recorder.now(), type=type or "", until=end, began_at=began_at))

    async def resume(self, type: str | None) -> int:
        """End a hold. The call is recorded before it is sent, because its response may be lost."""
        self._recorder.write(ResumeAsked(at=self._recorder.now(), type=type or ""))
        return await self.outbox.resume(type)

    async def holds(self) -> list[Hold]:
        """List the holds that are in force. A read that failed is recorded: the worker goes by what it read before."""
        try:
            return await self.outbox.holds()
        except BaseException:
            self._recorder.write(HoldsUnread(at=self._recorder.now(), worker=self._recorder.worker))
            raise

    def _discarded(self, ids: Sequence[str]) -> None:
        for event_id in ids:
            self._recorder.write(Discarded(at=self._recorder.now(), event_id=event_id, worker=self._recorder.worker))


def _name_of(outcome: Outcome) -> history.Outcome:
    return history.Outcome(OUTCOME_NAMES[type(outcome)])


def _outcome_of(done: HandlerDone) -> history.Outcome:
    return history.Outcome.COMPLETE if done.completes else history.Outcome.HANDLER_DONE
