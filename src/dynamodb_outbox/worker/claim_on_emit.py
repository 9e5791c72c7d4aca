"""Claim on emit: events are stored already claimed by this worker, and handled once their write is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from secrets import token_hex
from typing import Any

from dynamodb_outbox.claims import Claim, EmitClaim
from dynamodb_outbox.event import Event
from dynamodb_outbox.observers import Published
from dynamodb_outbox.worker.phase import Phase, Phases
from dynamodb_outbox.worker.poll import Slots
from dynamodb_outbox.worker.setup import WorkerSetup


class EmitClaims:
    """Takes slots for events before they are written, and hands their claims on afterwards.

    `is_held` tells whether events of a type are held, as far as is known.

    `on_claim` gets the claim of an acknowledged event, `on_late` a claim whose lease is nearly used up by a slow write,
    or lost meanwhile.
    `on_orphans` gets the claims of writes that were acknowledged too late in a stop to be settled otherwise.
    `on_unclaimed` is called when an event with an ordering key was perhaps stored without a claim, or released.
    """

    def __init__(
        self,
        setup: WorkerSetup,
        slots: Slots,
        *,
        is_held: Callable[[str], bool],
        phases: Phases,
        on_claim: Callable[[Claim], None],
        on_late: Callable[[Claim], None],
        on_orphans: Callable[[Sequence[Claim]], Coroutine[Any, Any, None]],
        on_unclaimed: Callable[[], None],
    ) -> None:
        self._registry = setup.registry
        self._observers = setup.outbox.observers
        self._clock = setup.outbox.options.clock
        self._least_lease = setup.timing.emit_lease_part * setup.outbox.options.processing_timeout
        self._slots = slots
        self._is_held = is_held
        self._phases = phases
        self._on_claim = on_claim
        self._on_late = on_late
        self._on_orphans = on_orphans
        self._on_unclaimed = on_unclaimed
        self._open: set[str] = set()  # the tokens of events whose write has not ended
        self._orphans: dict[str, Claim] = {}
        self._acknowledged: set[str] = set()
        self._of_keys: set[str] = set()
        self._writing: set[asyncio.Task[None]] = set()
        self._releasing: set[asyncio.Task[None]] = set()
        self._sent: set[frozenset[str]] = set()

    def reserve(self, events: Sequence[Event]) -> EmitClaim | None:
        """Take slots for events that have a handler here, as many as are free; None if no event gets one."""
        tokens: dict[str, str] = {}
        for event in events:
            # The write refuses an id that comes twice, so that one slot is enough for it.
            if event.id not in tokens and self._registry.of(event.type) and not self._is_held(event.type):
                token = token_hex(16)
                if not self._slots.try_take(token):
                    break
                tokens[event.id] = token
                if event.ordering_key is not None:
                    self._of_keys.add(token)
        if not tokens:
            return None
        self._open.update(tokens.values())
        on_send = partial(self._on_send, frozenset(tokens.values()))
        return EmitClaim(tokens=tokens, claimed=self._on_acknowledged, sending=on_send, released=self._on_unclaimed)

    async def write_shielded(self, emit_claim: EmitClaim, write: Coroutine[Any, Any, None]) -> None:
        """Await the write of events. Once an event was sent, the write goes on though its caller is cancelled."""
        task = asyncio.create_task(self._write(emit_claim, write), name="dynamodb-outbox emit")
        self._writing.add(task)
        task.add_done_callback(partial(self._on_written, emit_claim, write))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if frozenset(emit_claim.tokens.values()) not in self._sent:
                task.cancel()
            raise

    async def wait_until_written(self) -> None:
        """Wait until every write that is under way is answered."""
        while self._writing:
            await asyncio.wait(self._writing)

    async def _write(self, emit_claim: EmitClaim, write: Coroutine[Any, Any, None]) -> None:
        tokens = emit_claim.tokens.values()
        try:
            await write
        finally:
            self._open.difference_update(tokens)
            self._give_back([token for token in tokens if token not in self._acknowledged])
            self._acknowledged.difference_update(tokens)
            orphans = [self._orphans.pop(token) for token in tokens if token in self._orphans]
            try:
                if orphans:
                    # Marked as sent, so that these releases go on though the caller is cancelled.
                    self._sent.add(frozenset(tokens))
                    await self._on_orphans(orphans)
            finally:
                self._sent.discard(frozenset(tokens))

    def _on_send(self, tokens: frozenset[str]) -> None:
        if not tokens.isdisjoint(self._open):
            self._sent.add(tokens)

    def _on_acknowledged(self, claim: Claim) -> None:
        is_open = claim.token in self._open
        if is_open:
            self._acknowledged.add(claim.token)
        self._of_keys.discard(claim.token)
        if self._observers:
            event = claim.event
            self._observers.notify(Published(event_id=event.id, event_type=event.type, due_at=None))
        if self._is_too_late():
            if is_open:
                self._orphans[claim.token] = claim
            else:
                self._release(claim)
        elif self._is_late(claim):
            self._on_late(claim)
        else:
            self._on_claim(claim)

    def _is_late(self, claim: Claim) -> bool:
        left = claim.current_end - self._clock()
        if (shared := claim.shared_lease) is not None:
            # By both clocks: that of the event loop stands still while a virtual machine is suspended.
            left = 0.0 if shared.is_lost else min(left, shared.ends - asyncio.get_running_loop().time())
        return left < self._least_lease

    def _is_too_late(self) -> bool:
        """Return whether the settle queue takes no more outcomes. Then a write releases its events itself."""
        return self._phases.now >= Phase.SETTLING

    def _release(self, claim: Claim) -> None:
        """Release an event in a task, because its write has ended without the answer: its task was cancelled."""
        task = asyncio.create_task(self._on_orphans([claim]), name="dynamodb-outbox release")
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    def _on_written(self, emit_claim: EmitClaim, write: Coroutine[Any, Any, None], task: asyncio.Task[None]) -> None:
        self._writing.discard(task)
        if task.cancelled():
            # Perhaps before its first step, so that `_write` has not run at all.
            write.close()
            never_written = self._open.intersection(emit_claim.tokens.values())
            self._open -= never_written
            self._give_back(list(never_written))
        else:
            task.exception()  # raised to the caller, if it still waits

    def _give_back(self, tokens: Sequence[str]) -> None:
        for token in tokens:
            self._slots.give_back(token)
        if not self._of_keys.isdisjoint(tokens):
            self._of_keys.difference_update(tokens)
            self._on_unclaimed()
