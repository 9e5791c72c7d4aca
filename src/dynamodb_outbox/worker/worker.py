"""The worker: one owner task that hosts the loops, from start to the end of the drain."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Final

import anyio
from anyio.abc import TaskGroup

from dynamodb_outbox.errors import OutboxError, WorkerError
from dynamodb_outbox.handlers import HandlerRegistry
from dynamodb_outbox.middleware import Middleware
from dynamodb_outbox.outbox import Claim, Outbox
from dynamodb_outbox.outcome import Outcome, Released, Retry
from dynamodb_outbox.reporting import ErrorReporter
from dynamodb_outbox.worker.cycle import Alarm, Cycle
from dynamodb_outbox.worker.deliver import deliver
from dynamodb_outbox.worker.dispatch import Dispatcher
from dynamodb_outbox.worker.poll import Poller, Slots
from dynamodb_outbox.worker.recover import Recoverer
from dynamodb_outbox.worker.settle import GroupCommit

GRACE: Final = 5.0
"""Seconds after the deadline of a stop in which the last outcomes may be written, and errors be reported."""
CLAIM_GRACE: Final = 2.0
"""Seconds after the deadline of a stop in which a claim under way may still be answered."""

OnSettled = Callable[[Claim, Outcome], None]

_inside: ContextVar[Worker | None] = ContextVar("dynamodb_outbox_worker", default=None)
"""The worker whose task this is: a handler, or a callback that is told of an error."""


class Worker:
    """Polls, recovers, dispatches and settles, between `start` and `stop`. Used once.

    The task group lives in a task of its own: a group must be left in the task that entered it, while
    `start` and `stop` may be called from any (two cells of a notebook, a fixture and its finalizer).
    """

    def __init__(
        self,
        outbox: Outbox,
        registry: HandlerRegistry,
        *,
        middleware: Sequence[Middleware],
        reporter: ErrorReporter,
        on_settled: OnSettled,
    ) -> None:
        options = outbox.options
        self._outbox = outbox
        self._reporter = reporter
        self._on_settled = on_settled
        self._slots = Slots(options.slots)
        self._dispatcher = Dispatcher(
            registry,
            options=options,
            middleware=middleware,
            report=self._report,
            is_ending=lambda: self._task is not None and self._task.cancelling() > 0,
        )
        self._commit = GroupCommit(outbox, on_settled=self._settled, report=self._report)
        self._alarm = Alarm(options.clock)
        recovery_alarm = Alarm(options.clock)
        self._poller = poller = Poller(outbox, self._slots, on_claim=self._take)
        recoverer = Recoverer(outbox, poller=self._alarm)
        interval = options.poll_interval
        self._polling = Cycle("polling", poller.look, alarm=self._alarm, interval=interval, report=self._report)
        self._recovery = Cycle("recovery", recoverer.look, alarm=recovery_alarm, interval=interval, report=self._report)
        self._task: asyncio.Task[None] | None = None
        self._settling: TaskGroup | None = None
        self._handling: TaskGroup | None = None
        self._started = anyio.Event()
        self._stop_requested = anyio.Event()
        self._drain = anyio.CancelScope()
        self._active = 0
        self._quiet = anyio.Event()
        self._reporting = 0
        self._reported = anyio.Event()

    @property
    def running(self) -> bool:
        """Whether the loops run: true from `start` until a stop is asked for."""
        return self._task is not None and not self._task.done() and not self._stop_requested.is_set()

    @property
    def ended(self) -> bool:
        """Whether nothing of the worker is left."""
        return self._task is None or self._task.done()

    @property
    def busy(self) -> bool:
        """Whether events are in flight in this worker."""
        return self._slots.taken > 0

    async def start(self) -> None:
        """Start the owner task; returns once the loops run."""
        await self._outbox.prepare()
        self._task = asyncio.create_task(self._own(), name="dynamodb-outbox worker")
        try:
            await self._started.wait()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.stop(0)
            raise

    async def stop(self, timeout: float | None) -> None:
        """Stop polling, let handlers finish until the timeout (seconds), release the rest.

        May be called again, to wait for the same end with a shorter timeout. A cancelled wait changes
        nothing: the drain goes on. From inside of the worker it asks for the stop, and does not wait for it.
        """
        if timeout is not None:
            self._drain.deadline = min(self._drain.deadline, anyio.current_time() + timeout)
        self._stop_requested.set()
        if self._task is not None and _inside.get() is not self:
            await asyncio.wait([self._task])

    def wake(self, due_at: float | None = None) -> None:
        """Look for events now, or at a time (epoch seconds)."""
        if due_at is None:
            self._alarm.ring()
        else:
            self._alarm.ring_at(due_at)

    async def _own(self) -> None:
        _inside.set(self)
        try:
            async with anyio.create_task_group() as settling:
                self._settling = settling
                self._commit.open(settling)
                await self._handle_until_stopped()
                await self._finish_settling(settling)
        except BaseException as error:
            if not self._stop_requested.is_set():
                # Not by our doing: the host cancelled us, or a handler raised what has to end the process.
                with anyio.move_on_after(GRACE, shield=True):
                    await self._reporter.report(WorkerError(loop="the worker's own task", cause=error, ended=True))
            raise

    async def _handle_until_stopped(self) -> None:
        async with anyio.create_task_group() as handling:
            self._handling = handling
            for cycle in (self._polling, self._recovery):
                self._spawn(cycle.run)
            self._started.set()
            await self._stop_requested.wait()
            self._slots.close()
            self._polling.stop()
            self._recovery.stop()
            with self._drain:
                while self._active:
                    self._quiet = anyio.Event()
                    await self._quiet.wait()
            self._poller.abandon_at(anyio.current_time() + CLAIM_GRACE)
            handling.cancel_scope.cancel()

    async def _finish_settling(self, settling: TaskGroup) -> None:
        """Wait for the last outcomes and reports; for those of a user's callback not without an end."""
        if not math.isinf(self._drain.deadline):
            self._commit.abandon_at(max(self._drain.deadline, anyio.current_time()) + GRACE)
        await self._commit.finish()
        with anyio.move_on_after(GRACE):
            while self._reporting:
                self._reported = anyio.Event()
                await self._reported.wait()
        settling.cancel_scope.cancel()

    def _spawn(self, run: Callable[..., Awaitable[None]], *args: object) -> None:
        """Run something that a stop waits for."""

        async def counted() -> None:
            try:
                await run(*args)
            finally:
                self._active -= 1
                self._quiet.set()

        if self._handling is not None:
            self._active += 1
            self._handling.start_soon(counted)

    def _take(self, claim: Claim) -> None:
        self._slots.take(claim.token)
        if self._stop_requested.is_set():
            # Claimed while the stop was asked for: nothing has begun, another worker may have it at once.
            self._commit.put(claim, Released())
        else:
            self._spawn(deliver, claim, self._dispatcher, self._commit, self._report)

    def _settled(self, claim: Claim, outcome: Outcome, error: OutboxError | None) -> None:
        self._slots.give_back(claim.token)
        if error is None:
            if isinstance(outcome, Retry):
                self._alarm.ring_at(self._outbox.options.clock() + outcome.delay)
            self._on_settled(claim, outcome)

    def _report(self, error: OutboxError) -> None:
        # In a task of its own: a slow callback of the user's must not hold up a loop.
        if self._settling is not None:
            self._reporting += 1
            self._settling.start_soon(self._tell, error)

    async def _tell(self, error: OutboxError) -> None:
        try:
            await self._reporter.report(error)
        finally:
            self._reporting -= 1
            self._reported.set()
