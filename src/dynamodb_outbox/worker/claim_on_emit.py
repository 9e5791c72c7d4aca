"""Events claimed at emit_claim: stored as claimed by this worker, and handled once their write is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from secrets import token_hex
from typing import Any, Final

from dynamodb_outbox.event import Event
from dynamodb_outbox.handlers import HandlerRegistry
from dynamodb_outbox.observers import Observers, Published
from dynamodb_outbox.port import Claim, EmitClaim, OutboxOptions
from dynamodb_outbox.worker.poll import Slots

LEAST_LEASE: Final = 0.5
"""The part of its lease that an event must have left when its write is acknowledged, to be handled under it."""


class EmitClaims:
    """Reserves places for events before they are written, and takes them over afterwards."""

    def __init__(
        self,
        registry: HandlerRegistry,
        slots: Slots,
        *,
        options: OutboxOptions,
        observers: Observers,
        on_claim: Callable[[Claim], None],
        on_late: Callable[[Claim], None],
        on_orphans: Callable[[Sequence[Claim]], Awaitable[None]],
    ) -> None:
        self._registry = registry
        self._slots = slots
        self._options = options
        self._observers = observers
        self._on_claim = on_claim
        self._on_late = on_late
        self._on_orphans = on_orphans
        self._orphans: dict[str, Claim] = {}
        self._closed = False
        self._taken_over: set[str] = set()
        self._writing: set[asyncio.Task[None]] = set()
        self._sent: set[frozenset[str]] = set()

    def reserve(self, events: Sequence[Event]) -> EmitClaim | None:
        """Take places for events that have a handler here, as many as are free."""
        tokens: dict[str, str] = {}
        for event in events:
            # An id that comes twice is refused by the write; it takes one place.
            if event.id not in tokens and self._registry.of(event.type):
                token = token_hex(16)
                if not self._slots.try_take(token):
                    break
                tokens[event.id] = token
        if not tokens:
            return None
        return EmitClaim(
            tokens=tokens, claimed=self._claimed, sending=partial(self._sent.add, frozenset(tokens.values()))
        )

    async def write_shielded(self, emit_claim: EmitClaim, write: Coroutine[Any, Any, None]) -> None:
        """Await the write. Once an event was sent, no cancellation of the caller ends it: the event may be stored."""
        task = asyncio.create_task(self._write(emit_claim, write), name="dynamodb-outbox emit")
        self._writing.add(task)
        task.add_done_callback(partial(self._written, emit_claim, write))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if frozenset(emit_claim.tokens.values()) not in self._sent:
                task.cancel()
            raise

    async def finish(self) -> None:
        """Wait until every write that is under way is answered."""
        while self._writing:
            await asyncio.wait(self._writing)

    def close(self) -> None:
        """Hand on no more claims: nobody would settle them. Those of writes under way are given back by these."""
        self._closed = True

    async def _write(self, emit_claim: EmitClaim, write: Coroutine[Any, Any, None]) -> None:
        try:
            await write
        finally:
            tokens = frozenset(emit_claim.tokens.values())
            for token in emit_claim.tokens.values():
                if token not in self._taken_over:
                    self._slots.give_back(token)
                self._taken_over.discard(token)
            orphans = [self._orphans.pop(token) for token in emit_claim.tokens.values() if token in self._orphans]
            try:
                if orphans:
                    # They are given back, whether or not the caller still waits.
                    self._sent.add(tokens)
                    await self._on_orphans(orphans)
            finally:
                self._sent.discard(tokens)

    def _claimed(self, claim: Claim) -> None:
        self._taken_over.add(claim.token)
        if self._observers:
            event = claim.event
            self._observers.notify(Published(event_id=event.id, event_type=event.type, due_at=None))
        left = claim.lease_expires_at - self._options.clock()
        if self._closed:
            self._orphans[claim.token] = claim
        elif left < LEAST_LEASE * self._options.processing_timeout:
            self._on_late(claim)
        else:
            self._on_claim(claim)

    def _written(self, emit_claim: EmitClaim, write: Coroutine[Any, Any, None], task: asyncio.Task[None]) -> None:
        self._writing.discard(task)
        if task.cancelled():
            # Before its first step, perhaps: then nothing of it has run.
            write.close()
            for token in emit_claim.tokens.values():
                self._slots.give_back(token)
        else:
            task.exception()  # raised to the caller, if it still waits
