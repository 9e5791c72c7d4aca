"""The worker: polls, handles and settles events, from its start to the end of its stop.

How a stop works: the loops end after the step under way, and handlers may finish until the deadline (DRAINING). Then
the handlers that still run are cancelled, and their events released (RELEASING). The last outcomes are written
(SETTLING), the renewal of shared leases ends, the worker's announcement is withdrawn, and the last errors are reported.
`Worker._enter` says how each phase begins; the methods from `Worker._run` to `Worker._drain` show what each waits for.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any

import anyio

from dynamodb_outbox.cancellation import wait_until_done
from dynamodb_outbox.claims import Claim, EmitClaim
from dynamodb_outbox.errors import OutboxError, WorkerError
from dynamodb_outbox.event import Event
from dynamodb_outbox.outcome import Outcome, Released
from dynamodb_outbox.worker.claim_on_emit import EmitClaims
from dynamodb_outbox.worker.closing import tell_of_stop
from dynamodb_outbox.worker.handling.quarantine import Quarantine, is_suspected_poison
from dynamodb_outbox.worker.hold_gate import HoldGate
from dynamodb_outbox.worker.kept_keys import KeptKeys
from dynamodb_outbox.worker.loop import PollingLoop, Wakeup
from dynamodb_outbox.worker.phase import Phase, Phases
from dynamodb_outbox.worker.poll import Poller, Slots, is_polled_for
from dynamodb_outbox.worker.recover import Recoverer, recover
from dynamodb_outbox.worker.setup import WorkerSetup
from dynamodb_outbox.worker.shared_leases import SharedLeases
from dynamodb_outbox.worker.vitals import Vitals

_inside: ContextVar[Worker | None] = ContextVar("dynamodb_outbox_worker", default=None)
"""The worker whose handler or `on_error` callback the running task is."""


class Worker:
    """Polls, recovers, dispatches and settles. It is used once: by `start` and `stop`, or by `run_once`.

    A task group has to be left in the task that entered it, while `start` and `stop` may be called from any task, such
    as two cells of a notebook. So the groups live in a task that the worker owns.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._timing = setup.timing
        self._outbox = outbox = setup.outbox
        self._phases = Phases()
        self._slots = Slots(outbox.options.slots)
        self._reports, self._settles, self._dispatcher = setup.stages(
            on_settled=self._on_settled,
            is_cancelled=lambda: self._task is not None and self._task.cancelling() > 0,
            is_held=self._is_held_now,
            kept_keys=KeptKeys(self._may_keep_keys, take=self._take_in_own_context, poll=self.wake),
        )
        self._gate = HoldGate(outbox, start=self._begin, settle=self._settles.submit, timing=self._timing)
        start = partial(self._gate.take, start=self._start_handling)
        self._quarantine = Quarantine(outbox.options, start=start, release=self._settles.submit)
        self._emit_claims = EmitClaims(
            setup,
            self._slots,
            is_held=self._gate.holds,
            phases=self._phases,
            on_claim=self._take_in_own_context,
            on_late=lambda claim: self._settles.submit(claim, Released()),
            on_orphans=self._settles.release,
            on_unclaimed=self.wake,
        )
        take, report = self._take, self._reports.report
        self._wakeup = Wakeup(outbox.options.clock)
        vitals = self.vitals = Vitals(outbox.options, self._phases, on_beat=setup.on_beat)
        self._poller = Poller(outbox, setup.registry, self._slots, self._gate, vitals, on_claim=take, report=report)
        recoverer = Recoverer(outbox, setup.registry, vitals, poller=self._wakeup, report=report)
        loop = partial(PollingLoop, outbox=outbox, report=report, vitals=vitals)
        self._polling = loop("polling", self._poller.poll, wakeup=self._wakeup, ready=self._slots.wait_for_one)
        self._recovery = loop("recovery", recoverer.poll, wakeup=Wakeup(outbox.options.clock))
        self._leases = SharedLeases(outbox, report=report, timing=self._timing)
        self._task: asyncio.Task[None] | None = None
        self._started = anyio.Event()
        self._context = copy_context()
        self._settled = 0
        self.failure: Exception | None = None
        """Why the worker has ended, if nobody stopped it, or why its `run_once` failed."""

    # What a bus calls

    @property
    def running(self) -> bool:
        """Whether the loops run: true from `start` until a stop is requested."""
        return self._phases.now is Phase.RUNNING and not self.is_done

    @property
    def is_done(self) -> bool:
        """Whether nothing of the worker is left; also true before it starts."""
        return self._task is None or self._task.done()

    @property
    def busy(self) -> bool:
        """Whether events are in flight in this worker."""
        return self._slots.taken > 0

    async def start(self) -> None:
        """Start the worker; returns once the loops run."""
        await self._outbox.prepare()
        self._task = asyncio.create_task(self._run_until_stopped(), name="dynamodb-outbox worker")
        try:
            await self._started.wait()
        except BaseException:  # also when cancelled, because the loops may run already
            await self.end(0)
            raise

    async def stop(self, timeout: float | None) -> None:
        """Stop polling, let handlers finish until the timeout (seconds), cancel the rest, and release their events.

        Without a timeout, each handler may run until its lease ends, or until its own timeout if that is later. May be
        called again with a shorter timeout. If the wait is cancelled, the stop goes on. A call from inside of the
        worker, such as a handler's, does not wait.
        """
        self._request_stop(timeout)
        if self._task is not None and _inside.get() is not self:
            await asyncio.wait([self._task])

    async def end(self, timeout: float | None, *, shielded: bool = False) -> None:
        """Like `stop`, but return only when nothing of the worker is left.

        If the wait is cancelled, the handlers are cancelled at once, and the cancellation is raised at the end.
        `shielded` ignores cancel scopes that were cancelled before.
        """
        self._request_stop(timeout)
        if self._task is not None and _inside.get() is not self:
            await wait_until_done(self._task, on_cancel=partial(self._request_stop, 0), shielded=shielded)

    async def run_once(self) -> int:
        """Recover, claim one batch, handle and settle it; returns the number of events settled.

        Raises `StorageError`. If it is cancelled, it releases what it has claimed before it ends.
        """
        self._task = asyncio.create_task(self._run(self._poll_once), name="dynamodb-outbox run_once")
        await wait_until_done(self._task, on_cancel=partial(self._enter, Phase.RELEASING))
        self._task.result()
        if self.failure is not None:
            raise self.failure
        return self._settled

    def wake(self, due_at: float | None = None) -> None:
        """Poll now, or at a time (epoch seconds)."""
        self._poller.reset_idle_delay()
        if due_at is None:
            self._wakeup.wake()
        else:
            self._wakeup.wake_at(due_at)

    def forget_holds(self) -> None:
        """Read the holds again before the next event is started."""
        self._gate.forget()

    def reserve(self, events: Sequence[Event]) -> EmitClaim | None:
        """Take slots for events that can be handled here and now; None if no event gets one."""
        if self.running and not self._gate.is_fresh:
            # In a copy of the worker's context, because the read starts the handlers of claims that wait for it.
            self._context.copy().run(self._gate.read_soon)
        return self._emit_claims.reserve(events) if self.running else None

    async def write_shielded(self, emit_claim: EmitClaim, write: Coroutine[Any, Any, None]) -> None:
        """Await the write of events that are claimed on emit; it goes on when the caller is cancelled."""
        await self._emit_claims.write_shielded(emit_claim, write)

    # The nested task groups, the outermost first. A stop ends them from the inside out.

    async def _run_until_stopped(self) -> None:
        try:
            await self._run(self._poll_until_stopped, self._leases)
        except BaseException as error:
            if not self._phases.stop_requested.is_set():
                # The application has cancelled the worker, or a handler has raised an exception that ends the process.
                self.failure = ended = WorkerError(loop="the worker's own task", cause=error, ended=True)
                with anyio.move_on_after(self._timing.report_seconds, shield=True):
                    await self._setup.reporter.report(ended)
            raise

    async def _run(self, poll: Callable[[], Awaitable[None]], leases: SharedLeases | None = None) -> None:
        """Poll, then end the parts from the inside out: each group outlives the groups that need it."""
        _inside.set(self)
        self._setup.enter()
        self._context = copy_context()
        async with anyio.create_task_group() as reporting:
            self._reports.open(reporting)
            if leases is not None:
                leases.open(reporting)
                self.vitals.open(reporting, also=self._setup.sampler.run)
            async with anyio.create_task_group() as settling:
                self._settles.open(settling)
                try:
                    await self._handle(poll)
                finally:
                    self._enter(Phase.SETTLING)
            # `run_once` keeps what it announced, and what its handlers opened: the next call goes on with them.
            if leases is not None:
                with anyio.move_on_after(self._timing.retire_seconds):
                    await leases.close()
                    await self._outbox.retire()
                await tell_of_stop(self._setup.registry.told_of_stop(), seconds=self._timing.close_seconds)
            with anyio.move_on_after(self._timing.report_seconds):
                await self._reports.finish()
            reporting.cancel_scope.cancel()

    async def _handle(self, poll: Callable[[], Awaitable[None]]) -> None:
        async with anyio.create_task_group() as handling:
            handling.start_soon(self._dispatcher.keep_leases)
            self._gate.open(handling)
            try:
                await poll()
            finally:
                # In `finally`, because the events have to be released also when the application cancels the worker.
                self._enter(Phase.RELEASING)
                with anyio.CancelScope(shield=True):
                    await self._dispatcher.wait_until_idle()
            handling.cancel_scope.cancel()

    async def _poll_until_stopped(self) -> None:
        async with anyio.create_task_group() as polling:
            polling.start_soon(self._polling.run)
            polling.start_soon(self._recovery.run)
            self._started.set()
            try:
                await self._phases.stop_requested.wait()
                with self._phases.drain:
                    await self._drain()
            finally:
                self._enter(Phase.RELEASING)
            with anyio.move_on_after(self._timing.claim_seconds):
                await self._emit_claims.wait_until_written()

    async def _poll_once(self) -> None:
        outbox, report = self._outbox, self._reports.report
        try:
            await self._gate.refresh()
            await recover(outbox, self._setup.registry, report=report)
            limit = 0 if self._gate.holds_all else min(outbox.options.batch_size, outbox.options.slots)
            for claim in await self._poller.claim(limit) if limit else ():
                self._slots.take(claim.token)
                # Not through the quarantine: suspected poison events of one batch are handled at the same time.
                self._gate.pass_on(claim, self._start_handling)
        except Exception as error:
            self.failure = error  # raised by `run_once`, because a task group would wrap it
        await self._dispatcher.wait_until_idle()

    async def _drain(self) -> None:
        await self._emit_claims.wait_until_written()
        await self._polling.done.wait()
        await self._recovery.done.wait()
        await self._dispatcher.wait_until_idle()

    # Phases

    def _request_stop(self, timeout: float | None) -> None:
        self._phases.request_stop(timeout)
        self._enter(Phase.DRAINING)
        # A second call may shorten the timeout while the last outcomes are written.
        if self._phases.now is Phase.SETTLING:
            self._limit_settles()

    def _enter(self, phase: Phase) -> None:
        """Go forward to a phase. Each phase begins with what is done here, whatever led to it."""
        now = anyio.current_time()
        for entered in self._phases.advance(phase):
            match entered:
                case Phase.RUNNING:
                    pass  # every worker begins with it
                case Phase.DRAINING:
                    # From now on, `_start_handling` releases what a claim or an emit under way still brings.
                    self._polling.stop()
                    self._recovery.stop()
                    self._gate.close()
                case Phase.RELEASING:
                    self._dispatcher.release_all()
                    self._recovery.abandon_at(now)
                    # If the answer to a claim comes later, its events stay PROCESSING until recovery resets them.
                    self._polling.abandon_at(now + self._timing.claim_seconds)
                case Phase.SETTLING:
                    self._settles.close()
                    self._limit_settles()

    def _limit_settles(self) -> None:
        """Give up outcomes that are not written soon after the deadline of the stop; recovery resets their events."""
        deadline = self._phases.drain.deadline
        if not math.isinf(deadline):
            self._settles.abandon_at(max(deadline, anyio.current_time()) + self._timing.settle_seconds)

    # Claims

    async def _is_held_now(self, event_type: str) -> bool:
        return await self._gate.is_held_now(event_type)

    def _may_keep_keys(self) -> bool:
        return self.running and self._started.is_set() and not self._gate.holds_all  # not in `run_once`: it ends soon

    def _take(self, claim: Claim) -> None:
        self._slots.take(claim.token)
        self._gate.take(claim)

    def _begin(self, claim: Claim) -> None:
        if is_suspected_poison(claim) and self._phases.now is Phase.RUNNING:
            self._quarantine.take(claim)
        else:
            self._start_handling(claim)

    def _take_in_own_context(self, claim: Claim) -> None:
        # In the worker's context, because handlers must not see that of an emit. In a copy of it, because an eager
        # handler may emit while this context is still entered.
        self._context.copy().run(self._take, claim)

    def _start_handling(self, claim: Claim) -> None:
        if self._phases.now is Phase.RUNNING:
            self._dispatcher.start(claim)
        else:
            self._settles.submit(claim, Released(unhandled_since=claim.unhandled_since))

    def _on_settled(self, claim: Claim, outcome: Outcome, error: OutboxError | None) -> None:
        self._settled += error is None
        self._slots.give_back(claim.token)
        self._quarantine.on_settled(claim)
        if error is None and is_polled_for(outcome):
            self._wakeup.wake_at(self._outbox.options.clock() + outcome.delay)
        self._setup.on_settled(claim, outcome, error)
