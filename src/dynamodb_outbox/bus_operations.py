"""What an operator asks of a bus: what is stored, dead letters, repairs and holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from dynamodb_outbox import holding, repairing
from dynamodb_outbox.bound_loop import BoundLoop
from dynamodb_outbox.errors import InvalidEventError, RepairRefusedError, StoredEventError
from dynamodb_outbox.event import Event, FailedEvent
from dynamodb_outbox.port import Outbox
from dynamodb_outbox.repairing import OnProgress
from dynamodb_outbox.repairs import DISCARDABLE, FailedSelector, Hold, Repaired
from dynamodb_outbox.stored_events import EventState, Page, Sample, StoredEvent
from dynamodb_outbox.typed.event_types import TypeOrClass, registered_type, selected_type
from dynamodb_outbox.typed.stored_form import to_stored
from dynamodb_outbox.validation import check_event_id, check_int, check_ordering_key
from dynamodb_outbox.wording import shape

REPLACES = "replaces"
"""The key of the metadata that has the id of the event that an event replaces."""


class BusOperations(ABC):
    """The methods of a bus for operators. They only use the port, and run with or without a worker."""

    _outbox: Outbox
    _loop: BoundLoop

    @abstractmethod
    def notify(self) -> None:
        """Wake the worker; see `OutboxEventBus.notify`."""

    @abstractmethod
    def _forget_holds(self) -> None:
        """Have the worker of this bus read the holds again, before it starts another event."""

    @property
    def outbox(self) -> Outbox:
        """The outbox that the bus was made with."""
        return self._outbox

    async def get_failed_events(self, *, type: TypeOrClass | None = None, limit: int = 100) -> list[FailedEvent]:
        """List the events that are FAILED, the latest first, 1 to 1,000,000 of them.

        `type` is the name of a type, its class, or an `EventType`. Raises `ConfigurationError` and `StorageError`.
        """
        self._loop.check("bus.get_failed_events")
        check_int("limit", limit, 1, 1_000_000)
        return await self._outbox.failed_events(type=selected_type(type), limit=limit)

    async def get_event(self, id: str) -> StoredEvent | None:
        """Read an event as it is stored now; None if there is no event with the id. Raises `StorageError`."""
        self._loop.check("bus.get_event")
        return await self._outbox.get(check_event_id(id))

    async def get_front(self, ordering_key: str) -> StoredEvent | None:
        """Read the event at the front of the line of an ordering key: what the later events of the key wait for.

        Its `waiting_behind` tells how many wait, and `blocks_key` whether they wait for a repair. An event that is
        done, and has no `waiting_behind`, is taken from the line by the next claim of a worker. Returns None if the
        line is empty, or somebody has deleted the event. Raises `ConfigurationError` for a key that no event can have,
        and `StorageError`.
        """
        self._loop.check("bus.get_front")
        return await self._outbox.get_front(check_ordering_key(ordering_key))

    async def list_events(
        self, state: EventState | str, *, type: TypeOrClass | None = None, after: str | None = None, limit: int = 50
    ) -> Page:
        """List the events of a state, up to 1,000: the longest due first, or the latest failure first.

        The next page follows with `after=page.after`, until that is None. With a `type`, a page reads at most 1,000
        events, and may have few of that type or none. COMPLETED and DISCARDED events cannot be listed,
        nor the events that wait behind an earlier one of their ordering key. Raises `ConfigurationError` and
        `StorageError`.
        """
        self._loop.check("bus.list_events")
        return await self._outbox.list_events(state, type=selected_type(type), after=after, limit=limit)

    async def sample(self, *, count_limit: int = 1_000) -> Sample:
        """Count the events in each state, up to `count_limit`, and find the oldest ones, at a bounded cost.

        Raises `StorageError`.
        """
        self._loop.check("bus.sample")
        return await self._outbox.sample(count_limit=count_limit)

    async def retry_events(
        self,
        ids: Iterable[str] | FailedSelector,
        *,
        rate: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Repaired:
        """Make FAILED events PENDING again, with all their retries. Handlers that succeeded do not run again.

        `ids` names the events, or selects them. A selector never meets an event that failed after its `before`, which
        defaults to now: the call ends, even if the handlers fail again. `rate` is the most events a second.
        `on_progress` is called with the number of events that were changed until now. Events with another status do
        not change. An event that blocks its ordering key is retried in its place; one that was set aside goes to the
        end of its line. A call that was cancelled or failed can be made again. Raises `StorageError`.
        """
        self._loop.check("bus.retry_events")
        repaired = await repairing.redrive(self._outbox, ids, rate=rate, on_progress=on_progress)
        if repaired:
            self.notify()
        return repaired

    async def skip_events(self, ids: Iterable[str]) -> Repaired:
        """Set events aside that block their ordering keys, so that the next event of each key is due.

        The events stay FAILED: `retry_events` puts them at the end of their line. An event that does not block its key
        is refused. A call that was cancelled or failed can be made again. Raises `StorageError`.
        """
        self._loop.check("bus.skip_events")
        repaired = await repairing.skip(self._outbox, ids)
        if repaired:
            self.notify()
        return repaired

    async def discard_events(
        self,
        ids: Iterable[str] | FailedSelector,
        *,
        reason: str,
        by: str | None = None,
        rate: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Repaired:
        """Make events DISCARDED that are FAILED, PENDING, HELD or QUEUED: they are never delivered again.

        The events keep the reason (up to 500 characters), who did it, and when; `by` defaults to USER@HOST. They stay
        stored, so that their ids cannot be emitted again, until the `retention` of the outbox is over. A PROCESSING
        event is refused: a worker has it. If an event blocks its ordering key, the next event of the key is due. See
        `retry_events` for the other arguments. Raises `StorageError`.
        """
        self._loop.check("bus.discard_events")
        repaired = await repairing.discard(self._outbox, ids, reason=reason, by=by, rate=rate, on_progress=on_progress)
        if repaired:
            self.notify()  # the next event of an ordering key may be due
        return repaired

    async def replace_event(self, id: str, payload: Any, *, reason: str, by: str | None = None) -> Event:
        """Store an event with another payload in place of one, and return the new event.

        The payload is plain, in the form of the version of the old one, or an instance of the class of the type. The
        old event is FAILED, PENDING, HELD or QUEUED. One transaction stores the new event, due now, and discards the
        old one. The new event has its own id, the type, the time, the metadata and the ordering key of the old one, and
        `metadata["replaces"]`. It takes the place of an event that is at the front of its line, or blocks its key; in
        place of another one, it goes to the end of the line. All handlers run for it, also if they succeeded with the
        old payload. Emit middleware does not run. Raises `RepairRefusedError` if the old event is
        not there or has another status, `InvalidEventError` for a payload that cannot be stored, and `StorageError`.
        If its `maybe_applied` is true, `bus.get_event(id)` tells by `replaced_by` whether the event was replaced.
        """
        self._loop.check("bus.replace_event")
        reason, by = repairing.check_reason(reason), repairing.check_by(by)
        old = await self._outbox.get(id)
        if old is None or old.status not in DISCARDABLE:
            raise RepairRefusedError(
                event_id=id,
                status=None if old is None else old.status,
                replaced_by=None if old is None else old.replaced_by,
            )
        if old.unreadable is not None:
            raise StoredEventError(event_id=id, reason=old.unreadable)
        payload, metadata = _of_type(old.type, payload, old.metadata)
        event = Event(
            old.type,
            payload,
            occurred_at=old.occurred_at,
            metadata={**metadata, REPLACES: id},
            ordering_key=old.ordering_key,
        )
        repaired = await self._outbox.replace(id, event, reason=reason, by=by)
        if not repaired:
            raise RepairRefusedError(event_id=id, status=repaired.refused.get(id))
        self.notify()
        return event

    async def hold(
        self, type: TypeOrClass | None = None, *, reason: str, until: datetime | None = None, by: str | None = None
    ) -> None:
        """Have all workers of the table start no event of a type, or of any type, until `until` or `resume`.

        A worker starts no such event more than five seconds later; handlers that run may finish. An event of a held
        type that a worker claims becomes HELD, for two write units, and no attempt is counted. If all types are
        held, events stay PENDING, and workers do not poll. `by` defaults to USER@HOST. A second hold of a type replaces
        the first. Raises `StorageError`.
        """
        self._loop.check("bus.hold")
        await holding.hold(self._outbox, type, reason=reason, until=until, by=by)
        self._forget_holds()

    async def resume(self, type: TypeOrClass | None = None) -> int:
        """End the hold of a type, and make its HELD events PENDING, due as before; return how many there were.

        Without a type, only the hold of all types ends; types that are held, too, stay held. A call that was cancelled
        or failed can be made again. Workers resume events that one of them holds a moment later. Raises `StorageError`.
        """
        self._loop.check("bus.resume")
        resumed = await holding.resume(self._outbox, type)
        self._forget_holds()
        self.notify()
        return resumed

    async def holds(self) -> list[Hold]:
        """List the holds that are in force, that of all types first. Raises `StorageError`."""
        self._loop.check("bus.holds")
        return await self._outbox.holds()


def _of_type(type: str, payload: Any, metadata: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """Return the plain payload of an instance, and the metadata with the version of its class.

    Raises `InvalidEventError` for an instance of the class of another type.
    """
    registered = registered_type(payload.__class__)
    if registered is None:
        return payload, metadata
    if registered.name != type:
        reason = f"{shape(payload)} is the payload of {registered.name!r} events, and the event is a {type!r} one"
        raise InvalidEventError(f"payload: {reason}")
    _, plain, described = to_stored(payload, None, dict(metadata))
    return plain, described
