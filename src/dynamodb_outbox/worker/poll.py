"""Polling: when to look for due events, and how many to take."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

import anyio

from dynamodb_outbox.handlers import HandlerRegistry
from dynamodb_outbox.port import Claim, Outbox
from dynamodb_outbox.reporting import Report
from dynamodb_outbox.worker.backoff import idle_delay, jittered

POLLING_SHARE: Final = 4
"""One place in so many stays with polling."""


class Slots:
    """The places for events in flight; one is taken from the claim to the settle."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken: set[str] = set()
        self._reserved_for_poll = 0
        self._is_shared = False
        self._changed: anyio.Event | None = None
        self._closed = False

    @property
    def taken(self) -> int:
        """The number of events in flight."""
        return len(self._taken)

    @property
    def free(self) -> int:
        """The number of events that may still be taken."""
        return self._total - len(self._taken)

    def take(self, token: str) -> None:
        """Take a place for a claim."""
        self._taken.add(token)

    def try_take(self, token: str) -> bool:
        """Take a place for an event that is emitted here; polling keeps a part, for the backlog of others."""
        self._is_shared = True
        kept = max(self._total // POLLING_SHARE, 1) if self._total > 1 else 0
        if self._closed or self.free <= max(kept, self._reserved_for_poll):
            return False
        self._taken.add(token)
        return True

    @contextmanager
    def for_poll(self, most: int) -> Generator[int]:
        """Keep free places for a look that is under way, as nobody knows yet how many it takes; tells how many.

        Where events are emitted here that want places meanwhile, it is half of all at most.
        """
        shared = max(self._total // 2, 1) if self._is_shared else self._total
        self._is_shared = False
        self._reserved_for_poll = 0 if self._closed else min(most, self.free, shared)
        try:
            yield self._reserved_for_poll
        finally:
            self._reserved_for_poll = 0

    def give_back(self, token: str) -> None:
        """Give back the place of a claim; a second time changes nothing."""
        self._taken.discard(token)
        self._tell()

    def close(self) -> None:
        """Give out no more places."""
        self._closed = True
        self._tell()

    def _tell(self) -> None:
        # Mostly nobody waits, and this is called for every event.
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def wait_for_one(self) -> None:
        """Wait until a place is free, or none will be."""
        while self.free <= 0 and not self._closed:
            self._changed = self._changed or anyio.Event()
            await self._changed.wait()


class Poller:
    """Takes as many due events as there are free slots, a batch at a time."""

    def __init__(
        self,
        outbox: Outbox,
        registry: HandlerRegistry,
        slots: Slots,
        *,
        on_claim: Callable[[Claim], None],
        report: Report,
    ) -> None:
        self._outbox = outbox
        self._registry = registry
        self._announced = -1
        self._report = report
        self._slots = slots
        self._on_claim = on_claim
        self._scope = anyio.CancelScope(shield=True)
        self._empty_polls = 0

    def reset_idle_delay(self) -> None:
        """Look at the poll interval again: there is something to do."""
        self._empty_polls = 0

    def abandon_at(self, deadline: float) -> None:
        """Give up a claim that is not answered by then (event loop time)."""
        self._scope.deadline = deadline

    async def poll(self) -> float:
        """Look once; returns 0 after a full page, for more may be due, else the seconds until the next look."""
        options = self._outbox.options
        await self._slots.wait_for_one()
        if self._registry.revision != self._announced:
            self._announced = self._registry.revision
            self._outbox.announce_handlers(self._registry.names())
        claims: list[Claim] = []
        # Under a shield: what was claimed when a stop cancels us has to be handed on, to be released.
        with anyio.CancelScope(shield=True) as self._scope, self._slots.for_poll(options.batch_size) as limit:
            claims = await self._outbox.claim(limit, report=self._report) if limit else []
            for claim in claims:
                self._on_claim(claim)
        if len(claims) >= limit:
            return 0.0
        self._empty_polls = 1 if claims else self._empty_polls + 1
        delay = idle_delay(self._empty_polls, interval=options.poll_interval, longest=options.max_poll_interval)
        return jittered(delay, options.random)
