"""Data and helpers that all attempts of one worker share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from dynamodb_outbox.emitter import Emitter
from dynamodb_outbox.handlers import HandlerRegistry, Registration
from dynamodb_outbox.middleware import Middleware
from dynamodb_outbox.observers import Observers
from dynamodb_outbox.port import OutboxOptions
from dynamodb_outbox.reporting import Report
from dynamodb_outbox.worker.handling.lease import LeaseKeeper
from dynamodb_outbox.worker.timing import Timing


class Permits:
    """Limits how many calls of a handler run at once, where the handler has a `concurrency`."""

    def __init__(self) -> None:
        self._permits: dict[Registration, asyncio.Semaphore] = {}

    def of(self, registration: Registration) -> asyncio.Semaphore | None:
        """Find the permits of a handler; None if it has no limit."""
        if registration.concurrency is None:
            return None
        return self._permits.setdefault(registration, asyncio.Semaphore(registration.concurrency))


class AbandonedTasks:
    """Holds tasks that nothing waits for any more, so that they are not collected while they run."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold a task until it ends."""
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, because asyncio logs an exception that nothing retrieves


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlingContext:
    """The neighbours of an attempt.

    `is_cancelled` tells whether the worker is being cancelled from outside, `is_held` whether a type is held by now.
    """

    options: OutboxOptions
    timing: Timing
    registry: HandlerRegistry
    middleware: Sequence[Middleware]
    observers: Observers
    emitter: Emitter
    keeper: LeaseKeeper
    report: Report
    is_cancelled: Callable[[], bool]
    is_held: Callable[[str], Awaitable[bool]]
    permits: Permits = field(default_factory=Permits)
    abandoned: AbandonedTasks = field(default_factory=AbandonedTasks)
