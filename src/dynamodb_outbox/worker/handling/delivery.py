"""What a delivery can do, as a part of the call it is for: extend its lease, commit, and emit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from dynamodb_outbox.emit_options import EmitOptions
from dynamodb_outbox.errors import UsageError
from dynamodb_outbox.event import Event
from dynamodb_outbox.port import HandlerDone
from dynamodb_outbox.transaction import Transaction

if TYPE_CHECKING:
    from dynamodb_outbox.worker.handling.handler_task import HandlerTask

COMMIT_SECONDS: Final = 2.0
"""How long a handler that is cancelled while it commits waits for the answer."""


class WorkerDelivery:
    """The side of `Delivery` that is the worker's."""

    __slots__ = ("_call",)

    def __init__(self, call: HandlerTask) -> None:
        self._call = call

    @property
    def lease_expires_at(self) -> float:
        """When the claim ends (epoch seconds)."""
        return self._call.attempt.claim.lease_expires_at

    async def emit(self, events: Sequence[Event], options: EmitOptions) -> list[Event]:
        """Store child events."""
        self._check_open()
        return await self._call.attempt.host.emit(events, options)

    async def extend(self, seconds: float) -> None:
        """Have the lease, and the time of the handler, last so many seconds from now on."""
        self._check_open()
        attempt = self._call.attempt
        limit = asyncio.get_running_loop().time() + seconds
        await attempt.host.keeper.extend(attempt, seconds + attempt.lease.margin)
        self._call.prolong(limit)

    async def commit(self, transaction: Transaction) -> None:
        """Commit a transaction, and with it that the handler is done."""
        call, attempt, name = self._call, self._call.attempt, self._call.registration.name
        self._check_open()
        if call.commit is not None and not _has_failed(call.commit):
            what = "has committed" if call.commit.done() else "is committing"
            raise UsageError(
                f"handler {name!r} {what} a transaction of this delivery already, and is done by it. Put everything "
                "into one, or use bus.transaction() for what may happen more than once"
            )
        done = HandlerDone(claim=attempt.claim, handler=name, completes=attempt.would_complete(call))

        def committed(task: asyncio.Task[None]) -> None:
            if not _has_failed(task) and not call.is_over:
                call.has_committed(completes=done.completes)

        # In a task of its own: a handler that is cancelled now has to know whether it has committed.
        task = call.commit = asyncio.create_task(attempt.host.commit(transaction, done), name="dynamodb-outbox commit")
        task.add_done_callback(committed)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            attempt.host.keep_abandoned(task)
            await asyncio.wait([task], timeout=COMMIT_SECONDS)
            raise
        if call.has_ended:
            # The handler's own success was being written meanwhile: either of the two may be what is recorded.
            raise UsageError(
                f"handler {name!r} ended before its transaction was answered: whether it was written is not known; "
                "await what belongs to a delivery before the handler returns"
            )

    def _check_open(self) -> None:
        if self._call.is_over or self._call.has_ended:
            raise UsageError(
                f"handler {self._call.registration.name!r} has ended, and its delivery with it: await what belongs to "
                "it before it returns"
            )


def _has_failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
