"""Polling: when to poll for due events, and how many to claim."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, TypeGuard

import anyio

from dynamodb_outbox.claims import Claim
from dynamodb_outbox.handlers import HandlerRegistry
from dynamodb_outbox.observers import Polled
from dynamodb_outbox.outcome import Outcome, Released, Retry
from dynamodb_outbox.port import Outbox
from dynamodb_outbox.reporting import Report
from dynamodb_outbox.storage_calls import noting_attempts, observed
from dynamodb_outbox.worker.backoff import idle_delay, jittered
from dynamodb_outbox.worker.hold_gate import HoldGate
from dynamodb_outbox.worker.vitals import Vitals

POLLING_SHARE: Final = 4
"""One slot in four is kept for polling, so that a backlog is worked off also while this process emits much."""


class Slots:
    """The slots of a worker: an event has one from its claim until it is settled."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._taken: set[str] = set()
        self._reserved_for_poll = 0
        self._is_shared = False
        self._changed: anyio.Event | None = None

    @property
    def taken(self) -> int:
        """The number of events in flight."""
        return len(self._taken)

    @property
    def free(self) -> int:
        """The number of events that may still be taken."""
        return self.total - len(self._taken)

    def take(self, token: str) -> None:
        """Take a slot for a claim."""
        self._taken.add(token)

    def try_take(self, token: str) -> bool:
        """Take a slot for an event that is emitted here, unless only those are free that are kept for polling."""
        self._is_shared = True
        kept = max(self.total // POLLING_SHARE, 1) if self.total > 1 else 0
        if self.free <= max(kept, self._reserved_for_poll):
            return False
        self._taken.add(token)
        return True

    @contextmanager
    def for_poll(self, most: int) -> Generator[int]:
        """Keep free slots for a poll while its claim is under way; yields their number.

        If emits have asked for slots since the last poll, the poll gets at most half of all slots: 25 of 50.
        """
        shared = max(self.total // 2, 1) if self._is_shared else self.total
        self._is_shared = False
        self._reserved_for_poll = min(most, self.free, shared)
        try:
            yield self._reserved_for_poll
        finally:
            self._reserved_for_poll = 0

    def give_back(self, token: str) -> None:
        """Give back the slot of a claim; a second time changes nothing."""
        self._taken.discard(token)
        # Usually nothing waits, and this is called for every event.
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def wait_for_one(self) -> None:
        """Wait until a slot is free."""
        while self.free <= 0:
            self._changed = self._changed or anyio.Event()
            await self._changed.wait()


def is_polled_for(outcome: Outcome) -> TypeGuard[Retry | Released]:
    """Return whether this worker polls for the event once it is due. Events without a handler are for others."""
    if isinstance(outcome, Released):
        return outcome.delay > 0 and outcome.unhandled_since is None
    return isinstance(outcome, Retry)


class Poller:
    """Claims as many due events as slots are free, a batch at a time."""

    def __init__(
        self,
        outbox: Outbox,
        registry: HandlerRegistry,
        slots: Slots,
        gate: HoldGate,
        vitals: Vitals,
        *,
        on_claim: Callable[[Claim], None],
        report: Report,
    ) -> None:
        self._outbox = outbox
        self._registry = registry
        self._announced_revision = -1
        self._report = report
        self._slots = slots
        self._gate = gate
        self._on_claim = on_claim
        self._on_attempt = vitals.loops["polling"].step
        self._empty_polls = 0

    def reset_idle_delay(self) -> None:
        """Poll at the poll interval again, because there is something to do."""
        self._empty_polls = 0

    async def claim(self, limit: int) -> list[Claim]:
        """Claim up to `limit` due events. Raises `StorageError`."""
        outbox = self._outbox
        with noting_attempts(self._on_attempt):
            claims = await observed(outbox.observers, "claim", 0, outbox.claim, limit, report=self._report)
        self._note_success(len(claims))
        return claims

    def _note_success(self, claims: int) -> None:
        if observers := self._outbox.observers:
            slots = self._slots
            observers.notify(Polled(claims=claims, slots=slots.total, slots_taken=slots.taken + claims))

    async def poll(self) -> float:
        """Poll once; returns the seconds until the next poll: 0 after a full batch, because more may be due."""
        options = self._outbox.options
        if self._gate.holds_all:
            await self._gate.refresh()
            if self._gate.holds_all:
                if self._gate.is_fresh:
                    self._note_success(0)
                return jittered(options.poll_interval, options.random)
        if self._registry.revision != self._announced_revision:
            self._announced_revision = self._registry.revision
            self._outbox.announce_handlers(self._registry.names())
        with self._slots.for_poll(options.batch_size) as limit:
            claims = await self.claim(limit) if limit > 0 else []
            for claim in claims:
                self._on_claim(claim)
        if len(claims) >= limit:
            return 0.0
        self._empty_polls = 1 if claims else self._empty_polls + 1
        delay = idle_delay(self._empty_polls, interval=options.poll_interval, longest=options.max_poll_interval)
        return jittered(delay, options.random)
