"""Emitting: events pass the middleware, and are then stored, alone or with the writes of a transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from dynamodb_outbox.bound_loop import BoundLoop
from dynamodb_outbox.claims import Claim, EmitClaim, HandlerDone
from dynamodb_outbox.emit_chain import pass_middleware
from dynamodb_outbox.emit_options import EmitOptions, event_of
from dynamodb_outbox.errors import (
    ConfigurationError,
    DuplicateEventError,
    InvalidEventError,
    OutboxError,
    PartialPublishError,
    UsageError,
)
from dynamodb_outbox.event import Event
from dynamodb_outbox.instrumentation import Guarded
from dynamodb_outbox.middleware import Middleware
from dynamodb_outbox.observers import Published, PublishFailed
from dynamodb_outbox.port import Outbox, raise_unless_stored
from dynamodb_outbox.storage_calls import observed
from dynamodb_outbox.transaction import Transaction, TransactionEmit, TransactionWrite
from dynamodb_outbox.typed.event_types import EventType
from dynamodb_outbox.wording import shape

_NOTHING_WAS_SENT: Final = (InvalidEventError, ConfigurationError, UsageError)


class LocalWorker(Protocol):
    """The worker of this process, as an emit sees it."""

    def wake(self, due_at: float | None) -> None:
        """Poll now, or at `due_at` (epoch seconds)."""
        ...

    def reserve(self, events: Sequence[Event]) -> EmitClaim | None:
        """Reserve slots for the events that this worker can handle now; None if it can handle none of them."""
        ...

    async def write_shielded(self, emit_claim: EmitClaim, write: Coroutine[Any, Any, None]) -> None:
        """Await the write of events that are claimed on emit. The write goes on if the caller is cancelled."""
        ...


class Emitter:
    """Stores events that have passed the middleware, and wakes the worker for them."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        worker: Callable[[], LocalWorker | None],
        loop: BoundLoop,
        on_emitted: Callable[[Sequence[Event]], None],
    ) -> None:
        self._outbox = outbox
        self._loop = loop
        self._worker = worker
        self._on_emitted = on_emitted
        self.middleware: list[Middleware] = []

    @property
    def outbox(self) -> Outbox:
        """The outbox that stores the events."""
        return self._outbox

    async def emit(
        self,
        events: Iterable[object],
        options: EmitOptions,
        *,
        transaction: Transaction | None = None,
        call: str = "bus.emit",
    ) -> list[Event]:
        """Store events, or add them to a transaction. Returns the events that passed the middleware.

        `call` is the name of the user's call, for errors.
        """
        self._loop.check(call)
        listed = _listed(events)
        options.refuse_for(listed)
        if transaction is not None:
            transaction.refuse_for(self._outbox)
            options.refuse_in_transaction()
        instrumentation = self._outbox.observers.instrumentation
        if instrumentation is None or not listed:
            return await self._emit(listed, options, transaction)
        with Guarded(lambda: instrumentation.emitting(listed, stores=transaction is None)) as prepared:
            return await self._emit(list(prepared or listed), options, transaction)

    def prepare(self, event: Event) -> Event:
        """Prepare an event that a transaction collects, in the context of its emit."""
        instrumentation = self._outbox.observers.instrumentation
        if instrumentation is None:
            return event
        with Guarded(lambda: instrumentation.emitting([event], stores=False)) as prepared:
            return prepared[0] if prepared else event

    async def _emit(self, events: list[Event], options: EmitOptions, transaction: Transaction | None) -> list[Event]:
        accepted = events
        if self.middleware:
            passed = await pass_middleware(events, self.middleware, in_transaction=transaction is not None)
            accepted = [event for event in passed if event is not None]
        if transaction is not None:
            for event in accepted:
                transaction.join(TransactionEmit(event=event, options=options, accepted=True))
        elif accepted:
            return await self._publish(accepted, options)
        return accepted

    async def commit(self, transaction: Transaction, *, done: HandlerDone | None = None) -> None:
        """Commit the writes and events of a transaction; `done` also records a handler as done."""
        # Advise to hand the whole block to the other loop, because the commit at its end cannot be handed alone.
        self._loop.check("the end of a transaction", handed="your_function_with_the_block()")
        now = self._outbox.options.clock()
        unaccepted = [emit.event for emit in transaction.emits if not emit.accepted]
        passed = iter(await pass_middleware(unaccepted, self.middleware, in_transaction=True))
        accepted = [(emit.event if emit.accepted else next(passed), emit) for emit in transaction.emits]
        for event, emit in accepted:
            if event is not None:
                emit.options.refuse_for([event])
        events = [(event, emit.options.due_at(now)) for event, emit in accepted if event is not None]
        if not events and not transaction.writes and done is None:
            return
        instrumentation = self._outbox.observers.instrumentation
        if instrumentation is None or not events:
            await self._transact(transaction.writes, events, done)
            return
        with Guarded(lambda: instrumentation.committing([event for event, _ in events])):
            await self._transact(transaction.writes, events, done)

    async def _transact(
        self,
        writes: Sequence[TransactionWrite],
        events: Sequence[tuple[Event, float | None]],
        done: HandlerDone | None,
    ) -> None:
        # The delivery holds the queue of its own key. A child event of that key waits there, and is not claimed.
        held = None if done is None else done.claim.event.ordering_key
        due_now = [event for event, due_at in events if due_at is None]
        emit_claim, claimed = self._reserve(
            [event for event in _first_of_each_key(due_now) if held is None or event.ordering_key != held]
        )
        outbox = self._outbox
        write = observed(
            outbox.observers, "transact", len(events), outbox.transact, writes, events, done=done, emit_claim=emit_claim
        )
        try:
            await self._write(write, emit_claim, {event.id: due_at for event, due_at in events})
        except OutboxError as error:
            self._notify_failed({event.id: error for event, _ in events}, [event for event, _ in events])
            raise
        for event, due_at in events:
            self._notify_published([event], due_at, claimed)

    async def _publish(self, events: Sequence[Event], options: EmitOptions) -> list[Event]:
        """Store events. Returns the stored events, also the events that were stored before this call."""
        options.refuse_for(events)
        due_at = options.due_at(self._outbox.options.clock())
        duplicates: dict[str, DuplicateEventError] = {}
        emit_claim, claimed = self._reserve(_first_of_each_key(events) if due_at is None else [])
        outbox = self._outbox
        write = observed(
            outbox.observers, "publish", len(events), outbox.publish, events, due_at=due_at, emit_claim=emit_claim
        )
        try:
            await self._write(write, emit_claim, {event.id: due_at for event in events})
        except PartialPublishError as error:
            self._notify_published(error.published, due_at, claimed)
            causes: Mapping[str, OutboxError] = error.causes
            if options.if_exists == "ignore":
                duplicates = {key: cause for key, cause in causes.items() if isinstance(cause, DuplicateEventError)}
                causes = {key: cause for key, cause in causes.items() if key not in duplicates}
            self._notify_failed(causes, error.failed)
            if options.if_exists == "raise":
                raise
            raise_unless_stored(events, causes)
        except OutboxError as error:
            # If there are several events, two of them have the same id, and nothing was sent.
            if options.if_exists == "raise" or len(events) > 1 or not isinstance(error, DuplicateEventError):
                self._notify_failed({event.id: error for event in events}, events)
                raise
            duplicates = {error.event_id: error}
        else:
            self._notify_published(events, due_at, claimed)
        return [_as_stored(event, duplicates.get(event.id)) for event in events]

    def _reserve(self, events: Sequence[Event]) -> tuple[EmitClaim | None, Collection[str]]:
        """Reserve slots for events; also return the ids of claimed events: empty before the write."""
        worker, claimed = self._worker(), set[str]()
        if worker is None or not events or not self._outbox.options.claim_on_emit:
            return None, claimed
        reserved = worker.reserve(events)
        if reserved is None:
            return None, claimed

        def note(claim: Claim) -> None:
            claimed.add(claim.event.id)
            reserved.claimed(claim)

        return replace(reserved, claimed=note), claimed

    async def _write(
        self, write: Coroutine[Any, Any, None], emit_claim: EmitClaim | None, due: Mapping[str, float | None]
    ) -> None:
        worker = self._worker()
        if worker is None:
            await write
            return
        try:
            await (write if emit_claim is None else worker.write_shielded(emit_claim, write))
        finally:
            # Wake also after an error, because some events may be stored. Events claimed on emit need no poll.
            for due_at in {
                due_at for event_id, due_at in due.items() if emit_claim is None or event_id not in emit_claim.tokens
            }:
                worker.wake(due_at)

    def _notify_published(self, events: Sequence[Event], due_at: float | None, claimed: Collection[str]) -> None:
        self._on_emitted(events)
        if observers := self._outbox.observers:
            for event in events:
                # The worker notifies observers of events claimed on emit, before it calls their handlers.
                if event.id not in claimed:
                    observers.notify(Published(event_id=event.id, event_type=event.type, due_at=due_at))

    def _notify_failed(self, causes: Mapping[str, OutboxError], events: Sequence[Event]) -> None:
        """Notify observers of events that were sent, and for which the emit raises."""
        if observers := self._outbox.observers:
            for event in events:
                error = causes.get(event.id)
                if error is not None and not isinstance(error, _NOTHING_WAS_SENT):
                    observers.notify(PublishFailed(event_id=event.id, event_type=event.type, error=error))


def _first_of_each_key(events: Sequence[Event]) -> list[Event]:
    """Leave out the events that wait behind another one of the list, since only the first of a key can be claimed."""
    firsts: dict[str, str] = {}
    return [
        event
        for event in events
        if event.ordering_key is None or firsts.setdefault(event.ordering_key, event.id) == event.id
    ]


def _listed(events: Iterable[object]) -> list[Event]:
    """List the events of an emit; instances of registered classes become events.

    Raises `InvalidEventError` for any other value.
    """
    if not isinstance(events, Iterable):
        raise InvalidEventError(f"emit_many takes several events, not {shape(events)}; emit takes one")
    return [event if isinstance(event, Event) else _event_of(event) for event in events]


def _event_of(instance: object) -> Event:
    if type(instance).__module__ == "builtins" or isinstance(instance, EventType):
        raise InvalidEventError(
            f"emit_many takes Event objects and instances of registered classes, not {shape(instance)}; "
            "for a type and a payload, write Event(type, payload)"
        )
    return event_of(instance)


def _as_stored(event: Event, duplicate: DuplicateEventError | None) -> Event:
    if duplicate is None:
        return event
    return (duplicate.stored or event).as_already_stored()
