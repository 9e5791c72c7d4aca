"""One attempt at an event: its handlers run side by side, and each is settled on its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from dynamodb_outbox.emit_options import EmitOptions
from dynamodb_outbox.errors import OutboxError
from dynamodb_outbox.event import Event
from dynamodb_outbox.handlers import Registration
from dynamodb_outbox.middleware import Middleware
from dynamodb_outbox.observers import Observers
from dynamodb_outbox.port import Claim, HandlerDone, OutboxOptions
from dynamodb_outbox.transaction import Transaction
from dynamodb_outbox.worker.handling.handler_task import CancelReason, HandlerTask
from dynamodb_outbox.worker.handling.lease import Lease, LeaseKeeper


class Host(Protocol):
    """What an attempt needs around it."""

    options: OutboxOptions
    middleware: Sequence[Middleware]
    observers: Observers
    keeper: LeaseKeeper

    @property
    def is_ending(self) -> bool:
        """Whether the process or the worker is being cancelled from outside."""
        ...

    def report(self, error: OutboxError) -> None:
        """Have an error reported."""
        ...

    def permits_of(self, registration: Registration) -> asyncio.Semaphore | None:
        """Find the places of a handler with limited concurrency."""
        ...

    async def emit(self, events: Sequence[Event], options: EmitOptions) -> list[Event]:
        """Store child events."""
        ...

    async def commit(self, transaction: Transaction, done: HandlerDone) -> None:
        """Commit a transaction of a delivery."""
        ...

    def succeeded(self, event_type: str, registration: Registration) -> None:
        """Note a success."""
        ...

    def keep_abandoned(self, task: asyncio.Task[None]) -> None:
        """Keep a task that did not end."""
        ...

    def concluded(self, attempt: Attempt) -> None:
        """Take over an attempt of which every handler is accounted for."""
        ...


class Attempt:
    """The handling of one claim, from its first handler to its last."""

    __slots__ = (
        "calls",
        "completed",
        "failures",
        "given_up",
        "host",
        "interrupted",
        "lease",
        "registered",
        "succeeded",
        "unfinished",
    )

    def __init__(self, host: Host, lease: Lease, registered: Sequence[Registration]) -> None:
        self.host = host
        self.lease = lease
        self.registered = registered
        self.calls: list[HandlerTask] = []
        self.unfinished = 0
        self.succeeded: set[str] = set()
        self.failures: dict[str, BaseException] = {}
        self.given_up: list[Registration] = []
        self.interrupted: dict[str, CancelReason] = {}
        self.completed = False

    @property
    def claim(self) -> Claim:
        """The claim, with its lease as it is now."""
        return self.lease.claim

    @property
    def handled_by(self) -> frozenset[str]:
        """The names of the handlers that succeeded, in this attempt and before."""
        return self.claim.handled_by.union(self.succeeded)

    @property
    def wanted_until(self) -> float:
        """Until when the lease is wanted (event loop time)."""
        return max((call.limit for call in self.calls if not call.is_over), default=0.0)

    def begin(self) -> None:
        """Call the handlers that have neither succeeded nor used up their retries."""
        claim = self.claim
        for registration in self.registered:
            if registration.name in claim.handled_by:
                continue
            if claim.attempt > self.host.options.retries_of(registration.max_retries) + 1:
                self.given_up.append(registration)
            else:
                self.calls.append(HandlerTask(self, registration))
        self.unfinished = len(self.calls)
        for call in self.calls:
            call.begin()
        if not self.calls:
            self.host.concluded(self)

    def release(self) -> None:
        """Cancel what runs, for the worker stops."""
        for call in self.calls:
            call.cancel(CancelReason.STOP)

    def lose(self) -> None:
        """Cancel what runs: the lease is not ours any more."""
        self.lease.lost = True
        for call in self.calls:
            call.cancel(CancelReason.LEASE_LOST)

    def would_complete(self, call: HandlerTask) -> bool:
        """Tell whether every other handler is done."""
        return not self.given_up and all(
            other is call.registration or other.name in self.claim.handled_by or other.name in self.succeeded
            for other in self.registered
        )

    def finished(self, call: HandlerTask) -> None:
        """Count a handler that is accounted for."""
        self.unfinished -= 1
        if not self.unfinished:
            self.host.keeper.let_go(self)
            self.host.concluded(self)
