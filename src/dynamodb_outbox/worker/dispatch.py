"""Dispatch: claims become attempts, attempts become outcomes. Touches no storage itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import anyio

from dynamodb_outbox.emit_options import EmitOptions
from dynamodb_outbox.emitter import Emitter
from dynamodb_outbox.errors import LeaseLostError, NoHandlerError, OutboxError, WorkerError
from dynamodb_outbox.event import Event
from dynamodb_outbox.handlers import HandlerRegistry, Registration
from dynamodb_outbox.middleware import Middleware
from dynamodb_outbox.observers import Claimed
from dynamodb_outbox.outcome import Completed, Outcome, Released, Retry
from dynamodb_outbox.port import Claim, HandlerDone, Outbox
from dynamodb_outbox.reporting import Report
from dynamodb_outbox.transaction import Transaction
from dynamodb_outbox.worker.handling.attempt import Attempt
from dynamodb_outbox.worker.handling.lease import Lease, LeaseKeeper
from dynamodb_outbox.worker.handling.outcomes import decide_outcome, outcome_of_internal_error, outcome_without_handler
from dynamodb_outbox.worker.unhandled import UnhandledTypes


class Commit(Protocol):
    """Where outcomes go."""

    def put(self, claim: Claim, outcome: Outcome) -> None:
        """Have an outcome written."""
        ...

    def skip(self, claim: Claim, outcome: Outcome, error: OutboxError | None) -> None:
        """Take note of an outcome that is written already, or never can be."""
        ...


class Dispatcher:
    """Runs the handlers of claims, and hands the outcomes on. It is the host of the attempts."""

    def __init__(
        self,
        registry: HandlerRegistry,
        outbox: Outbox,
        *,
        emitter: Emitter,
        middleware: Sequence[Middleware],
        commit: Commit,
        unhandled: UnhandledTypes,
        report: Report,
        is_ending: Callable[[], bool],
    ) -> None:
        self.options = outbox.options
        self.observers = outbox.observers
        self.middleware = middleware
        self.keeper = LeaseKeeper(outbox, report=report)
        self._registry = registry
        self._emitter = emitter
        self._commit = commit
        self._unhandled = unhandled
        self._report = report
        self._is_ending = is_ending
        self._places: dict[Registration, asyncio.Semaphore] = {}
        self._attempts: dict[Attempt, None] = {}
        self._idle = anyio.Event()
        self.stuck: set[asyncio.Task[None]] = set()
        """The handlers that were left behind. They are held here, so that they are not collected while they run."""

    def start(self, claim: Claim) -> None:
        """Call the handlers of a claim; the outcome goes to the commit when all of them are accounted for."""
        event = claim.event
        if observers := self.observers:
            observers.notify(
                Claimed(
                    event_id=event.id,
                    event_type=event.type,
                    attempt=claim.attempt,
                    lease_expires_at=claim.lease_expires_at,
                )
            )
        registered = self._registry.of(event.type)
        if not registered:
            if self._unhandled.meet(event.type):
                fails_after = self.options.unhandled_timeout
                self._report(NoHandlerError(event_id=event.id, event_type=event.type, fails_after=fails_after))
            self._commit.put(claim, outcome_without_handler(claim, self.options))
            return
        options = self.options
        loop_time = asyncio.get_running_loop().time()
        lease = Lease(claim, now=options.clock(), loop_time=loop_time, length=options.processing_timeout)
        attempt = Attempt(self, lease, registered)
        self._attempts[attempt] = None
        attempt.begin()

    async def wait_until_idle(self) -> None:
        """Wait until no attempt is left."""
        while self._attempts:
            self._idle = anyio.Event()
            await self._idle.wait()

    def release_all(self) -> None:
        """Cancel what runs, and have its claims released."""
        for attempt in list(self._attempts):
            attempt.release()

    # What attempts need

    @property
    def is_ending(self) -> bool:
        """Whether the process or the worker is being cancelled from outside."""
        return self._is_ending()

    def report(self, error: OutboxError) -> None:
        """Have an error reported."""
        self._report(error)

    def permits_of(self, registration: Registration) -> asyncio.Semaphore | None:
        """Find the places of a handler with limited concurrency."""
        if registration.concurrency is None:
            return None
        return self._places.setdefault(registration, asyncio.Semaphore(registration.concurrency))

    async def emit(self, events: Sequence[Event], options: EmitOptions) -> list[Event]:
        """Store child events."""
        return await self._emitter.emit(events, options, call="delivery.emit")

    async def commit(self, transaction: Transaction, done: HandlerDone) -> None:
        """Commit a transaction of a delivery."""
        await self._emitter.commit(transaction, done=done)

    def succeeded(self, event_type: str, registration: Registration) -> None:
        """Note a success: a handler that was registered for one is removed."""
        if registration.once:
            self._registry.remove_registration(event_type, registration)

    def keep_abandoned(self, task: asyncio.Task[None]) -> None:
        """Keep a task that did not end."""
        self.stuck.add(task)
        task.add_done_callback(self._ended_at_last)

    def _ended_at_last(self, task: asyncio.Task[None]) -> None:
        self.stuck.discard(task)
        if not task.cancelled():
            task.exception()  # nobody waits for it any more

    def concluded(self, attempt: Attempt) -> None:
        """Judge an attempt, and hand its outcome on."""
        self._attempts.pop(attempt, None)
        self._idle.set()
        claim = attempt.claim
        try:
            outcome = decide_outcome(attempt, self.options, self._report)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as unforeseen:  # whatever it is: the claim must be settled, and its place given back
            self._report(WorkerError(loop="dispatch", cause=unforeseen))
            known = replace(claim, handled_by=attempt.handled_by)
            outcome = outcome_of_internal_error(known, WorkerError(loop="dispatch", cause=unforeseen), self.options)
        if attempt.completed:
            self._commit.skip(claim, Completed(), None)
        elif attempt.lease.lost and isinstance(outcome, (Retry, Released)):
            # Its write would be refused, and billed. That the lease was lost is reported already.
            event = claim.event
            error = LeaseLostError(event_id=event.id, event_type=event.type, outcome="settling")
            self._commit.skip(claim, outcome, error)
        else:
            self._commit.put(claim, outcome)
