"""The worker's part of a `Delivery`: extending the lease, emitting, and committing a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from dynamodb_outbox.claims import HandlerDone
from dynamodb_outbox.delivery import Delivery
from dynamodb_outbox.emit_options import EmitOptions
from dynamodb_outbox.errors import OutboxError, UsageError
from dynamodb_outbox.event import Event
from dynamodb_outbox.fingerprint import Fingerprint
from dynamodb_outbox.handlers import Registration
from dynamodb_outbox.transaction import Transaction
from dynamodb_outbox.worker.handling.context import HandlingContext
from dynamodb_outbox.worker.handling.lease import Lease


class WorkerDelivery:
    """The backend of one handler's `Delivery`.

    `completes` tells whether the event is completed by this handler's success. `on_extend` gets the new time limit
    (event loop time). `on_commit` is called when a transaction was committed, with what it has recorded.
    """

    __slots__ = (
        "_commit_task",
        "_completes",
        "_context",
        "_has_ended",
        "_is_closed",
        "_lease",
        "_on_commit",
        "_on_extend",
        "_registration",
        "_unanswered",
    )

    def __init__(
        self,
        registration: Registration,
        lease: Lease,
        *,
        context: HandlingContext,
        completes: Callable[[Registration], bool],
        on_extend: Callable[[float], None],
        on_commit: Callable[[HandlerDone], None],
    ) -> None:
        self._registration = registration
        self._lease = lease
        self._context = context
        self._completes = completes
        self._on_extend = on_extend
        self._on_commit = on_commit
        self._commit_task: asyncio.Task[None] | None = None
        self._unanswered: list[Fingerprint | None] = []
        """The fingerprints of the transactions that have failed, and may have been applied nevertheless."""
        self._is_closed = False
        self._has_ended = False

    @property
    def _name(self) -> str:
        return self._registration.name

    def close(self, *, has_ended: bool) -> None:
        """Refuse further calls: the handler has returned, or the worker goes on without it."""
        self._is_closed = True
        self._has_ended = self._has_ended or has_ended

    def delivery(self) -> Delivery:
        """Make the second argument of the handler."""
        claim, registration = self._lease.claim, self._registration
        return Delivery(
            claim.event,
            attempt=claim.attempt,
            max_attempts=self._context.options.retries_of(registration.max_retries) + 1,
            handler=registration.name,
            backend=self,
            emit=self.emit,
        )

    @property
    def lease_expires_at(self) -> float:
        """When the claim ends (epoch seconds)."""
        return self._lease.claim.lease_expires_at

    @property
    def outbox(self) -> object:
        """The outbox of the event."""
        return self._context.emitter.outbox

    async def emit(self, events: Sequence[Event], options: EmitOptions) -> list[Event]:
        """Store child events."""
        self._check_open()
        return await self._context.emitter.emit(events, options, call="delivery.emit")

    def prepare(self, event: Event) -> Event:
        """Prepare a child event that a transaction collects."""
        return self._context.emitter.prepare(event)

    async def extend(self, seconds: float) -> None:
        """Let the lease and the handler's time limit last this many seconds from now."""
        self._check_open()
        limit = asyncio.get_running_loop().time() + seconds
        await self._context.keeper.extend(self._lease, seconds + self._lease.margin)
        self._on_extend(limit)

    async def commit(self, transaction: Transaction) -> None:
        """Commit a transaction, which also records that the handler is done."""
        self._check_open()
        self._refuse_second_commit()
        done = HandlerDone(
            claim=self._lease.claim,
            handler=self._name,
            completes=self._completes(self._registration),
            is_other=any(earlier is None or earlier != transaction.fingerprint() for earlier in self._unanswered),
            written=lambda: self._on_commit(done),
        )
        # In its own task: a handler that is cancelled meanwhile has to know whether it has committed.
        commit = self._context.emitter.commit(transaction, done=done)
        task = self._commit_task = asyncio.create_task(commit, name="dynamodb-outbox commit")
        task.add_done_callback(partial(self._on_answer, transaction, done))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            self._context.abandoned.keep(task)
            await asyncio.wait([task], timeout=self._context.timing.commit_seconds)
            raise
        if self._has_ended:
            # The settle of the handler's success is under way as well, and either write may win.
            raise UsageError(
                f"handler {self._name!r} ended before its transaction was answered, so that it is not known whether "
                "the transaction was written; await every call of a delivery before the handler returns"
            )

    def _on_answer(self, transaction: Transaction, done: HandlerDone, task: asyncio.Task[None]) -> None:
        if not _has_failed(task):
            self._on_commit(done)
        elif _may_be_applied(task):
            self._unanswered.append(transaction.fingerprint())

    def _refuse_second_commit(self) -> None:
        task = self._commit_task
        if task is not None and not _has_failed(task):
            what = "has already committed" if task.done() else "is already committing"
            raise UsageError(
                f"handler {self._name!r} {what} a transaction of this delivery, which records that the handler is "
                "done; put all writes into one transaction, or use bus.transaction() for writes that may repeat"
            )

    def _check_open(self) -> None:
        if self._is_closed:
            raise UsageError(
                f"handler {self._name!r} has ended, so that its delivery can do nothing more; await every call of a "
                "delivery before the handler returns"
            )


def _has_failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _may_be_applied(task: asyncio.Task[None]) -> bool:
    """Tell whether a transaction that failed may have been applied."""
    error = None if task.cancelled() else task.exception()
    return not isinstance(error, OutboxError) or bool(getattr(error, "maybe_applied", False))
