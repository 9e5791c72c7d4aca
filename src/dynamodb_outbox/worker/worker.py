"""The worker: one owner task that hosts the loops, from start to the end of the drain."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Sequence
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, Final, TypeGuard

import anyio

from dynamodb_outbox.cancellation import wait_until_done
from dynamodb_outbox.errors import OutboxError, WorkerError
from dynamodb_outbox.event import Event
from dynamodb_outbox.outcome import Outcome, Released, Retry
from dynamodb_outbox.port import Claim, EmitClaim
from dynamodb_outbox.worker.claim_on_emit import EmitClaims
from dynamodb_outbox.worker.handling.quarantine import Quarantine, is_suspected_poison
from dynamodb_outbox.worker.loop import PollingLoop, Step, Wakeup
from dynamodb_outbox.worker.poll import Poller, Slots
from dynamodb_outbox.worker.recover import Recoverer
from dynamodb_outbox.worker.reports import GRACE
from dynamodb_outbox.worker.setup import WorkerSetup

CLAIM_GRACE: Final = 2.0
"""Seconds after the deadline of a stop in which a claim under way may still be answered."""
RETIRE_SECONDS: Final = 1.0
"""Seconds that a stop waits at most for the worker's announcement to be withdrawn."""

_inside: ContextVar[Worker | None] = ContextVar("dynamodb_outbox_worker", default=None)
"""The worker whose task this is: a handler, or a callback that is told of an error."""


class Worker:
    """Polls, recovers, dispatches and settles, between `start` and `stop`. Used once.

    The task group lives in a task of its own: a group must be left in the task that entered it, while
    `start` and `stop` may be called from any (two cells of a notebook, a fixture and its finalizer).
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._outbox = outbox = setup.outbox
        options = outbox.options
        self._slots = Slots(options.slots)
        self._reports, self._commit, self._dispatcher = setup.stages(
            on_settled=self._settled,
            is_cancelled=lambda: self._task is not None and self._task.cancelling() > 0,
        )
        self._wakeup = Wakeup(options.clock)
        self._poller = poller = Poller(
            outbox, setup.registry, self._slots, on_claim=self._take, report=self._reports.report
        )
        self._emit_claims = EmitClaims(
            setup.registry,
            self._slots,
            options=options,
            observers=outbox.observers,
            # In a copy: an eager handler may emit while the event it is for is still being taken.
            on_claim=lambda claim: self._context.copy().run(self._take, claim),
            on_late=lambda claim: self._commit.submit(claim, Released()),
            on_orphans=self._commit.release,
        )
        recoverer = Recoverer(outbox, setup.registry, poller=self._wakeup, report=self._reports.report)
        self._polling = self._loop("polling", poller.poll, self._wakeup)
        self._recovery = self._loop("recovery", recoverer.poll, Wakeup(options.clock))
        self._task: asyncio.Task[None] | None = None
        self._context = copy_context()
        self._started = anyio.Event()
        self._stop_requested = anyio.Event()
        self._is_ending = False
        self._is_settling_only = False
        self._drain = anyio.CancelScope()
        self._quarantine = Quarantine(options, begin=self._begin, release=self._commit.submit)

    def _loop(self, name: str, step: Step, wakeup: Wakeup) -> PollingLoop:
        outbox = self._outbox
        interval, report = outbox.options.poll_interval, self._reports.report
        return PollingLoop(name, step, wakeup=wakeup, interval=interval, report=report, observers=outbox.observers)

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
        except BaseException:  # also when cancelled: the loops may run already
            await self.end(0)
            raise

    async def stop(self, timeout: float | None) -> None:
        """Stop polling, let handlers finish until the timeout (seconds), release the rest.

        May be called again, to wait for the same end with a shorter timeout. A cancelled wait changes
        nothing: the drain goes on. From inside of the worker it asks for the stop, and does not wait for it.
        """
        self._ask_to_stop(timeout)
        if self._task is not None and _inside.get() is not self:
            await asyncio.wait([self._task])

    async def end(self, timeout: float | None, *, shielded: bool = False) -> None:
        """Stop, and return when nothing of the worker is left, whatever cancels the wait.

        A cancellation meanwhile has the handlers cancelled and released at once, and is raised at the end. `shielded`
        keeps out the scopes around, as they have been cancelled before.
        """
        self._ask_to_stop(timeout)
        if self._task is not None and _inside.get() is not self:
            await wait_until_done(self._task, on_cancel=partial(self._ask_to_stop, 0), shielded=shielded)

    def _ask_to_stop(self, timeout: float | None) -> None:
        if timeout is not None:
            self._drain.deadline = min(self._drain.deadline, anyio.current_time() + timeout)
        self._stop_requested.set()
        self._is_ending = True
        if self._is_settling_only:
            self._abandon_settles()

    def wake(self, due_at: float | None = None) -> None:
        """Look for events now, or at a time (epoch seconds)."""
        self._poller.reset_idle_delay()
        if due_at is None:
            self._wakeup.wake()
        else:
            self._wakeup.wake_at(due_at)

    def reserve(self, events: Sequence[Event]) -> EmitClaim | None:
        """Take places for events that can be handled here and now; None if there are none."""
        return self._emit_claims.reserve(events) if self.running else None

    async def write_shielded(self, emit_claim: EmitClaim, write: Coroutine[Any, Any, None]) -> None:
        """Await the write of events that are claimed on emit; it goes on when the caller is cancelled."""
        await self._emit_claims.write_shielded(emit_claim, write)

    async def _own(self) -> None:
        _inside.set(self)
        self._setup.enter()
        # Handlers of events that are emitted here run in it, and not in the context of who emits.
        self._context = copy_context()
        try:
            async with anyio.create_task_group() as reporting:
                self._reports.open(reporting)
                await self._settle_until_stopped()
                with anyio.move_on_after(RETIRE_SECONDS):
                    await self._outbox.retire()
                with anyio.move_on_after(GRACE):
                    await self._reports.finish()
                reporting.cancel_scope.cancel()
        except BaseException as error:
            if not self._stop_requested.is_set():
                # Not by our doing: the host cancelled us, or a handler raised what has to end the process.
                with anyio.move_on_after(GRACE, shield=True):
                    await self._setup.reporter.report(
                        WorkerError(loop="the worker's own task", cause=error, ended=True)
                    )
            raise

    async def _settle_until_stopped(self) -> None:
        async with anyio.create_task_group() as settling:
            self._commit.open(settling)
            try:
                await self._handle_until_stopped()
            finally:
                self._is_settling_only = True
                self._abandon_settles()
                self._emit_claims.close()
                self._commit.close()

    def _abandon_settles(self) -> None:
        """Give up what is not written soon after the deadline of a stop."""
        if not math.isinf(self._drain.deadline):
            self._commit.abandon_at(max(self._drain.deadline, anyio.current_time()) + GRACE)

    async def _handle_until_stopped(self) -> None:
        async with anyio.create_task_group() as handling:
            handling.start_soon(self._dispatcher.keep_leases)
            try:
                async with anyio.create_task_group() as looking:
                    looking.start_soon(self._polling.run)
                    looking.start_soon(self._recovery.run)
                    self._started.set()
                    try:
                        await self._stop_requested.wait()
                        await self._drain_until_deadline()
                    finally:
                        # Also when the host cancels us: no cancellation reaches a look, and one may follow the other.
                        self._stop_polling()
                    self._dispatcher.release_all()
                    looking.cancel_scope.cancel()
            finally:
                # Whatever ends the worker: its claims are given back.
                self._dispatcher.release_all()
                with anyio.CancelScope(shield=True):
                    await self._dispatcher.wait_until_idle()
            handling.cancel_scope.cancel()

    async def _drain_until_deadline(self) -> None:
        """Look no more, and let what runs finish."""
        self._stop_polling()
        with self._drain:
            await self._emit_claims.finish()
            await self._polling.ended.wait()
            await self._recovery.ended.wait()
            await self._dispatcher.wait_until_idle()
        self._poller.abandon_at(anyio.current_time() + CLAIM_GRACE)
        with anyio.move_on_after(CLAIM_GRACE):
            await self._emit_claims.finish()

    def _stop_polling(self) -> None:
        self._is_ending = True
        self._slots.close()
        self._polling.stop()
        self._recovery.stop()

    def _take(self, claim: Claim) -> None:
        self._slots.take(claim.token)
        if is_suspected_poison(claim) and not self._is_ending:
            self._quarantine.take(claim)
        else:
            self._begin(claim)

    def _begin(self, claim: Claim) -> None:
        if self._is_ending:
            # Nothing has begun: another worker may have it at once.
            self._commit.submit(claim, Released(unhandled_since=claim.unhandled_since))
        else:
            self._dispatcher.start(claim)

    def _settled(self, claim: Claim, outcome: Outcome, error: OutboxError | None) -> None:
        self._slots.give_back(claim.token)
        self._quarantine.settled(claim)
        if error is None and (isinstance(outcome, Retry) or _is_to_be_taken_again(outcome)):
            self._wakeup.wake_at(self._outbox.options.clock() + outcome.delay)
        self._setup.on_settled(claim, outcome, error)


def _is_to_be_taken_again(outcome: Outcome) -> TypeGuard[Released]:
    """Tell whether this worker looks for a released event once it is due, rather than leave it to another worker."""
    return isinstance(outcome, Released) and outcome.delay > 0 and outcome.unhandled_since is None
