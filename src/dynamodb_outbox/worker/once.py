"""One cycle without a running worker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import anyio

from dynamodb_outbox.emitter import Emitter
from dynamodb_outbox.errors import OutboxError
from dynamodb_outbox.handlers import HandlerRegistry
from dynamodb_outbox.middleware import Middleware
from dynamodb_outbox.outbox import Claim, Outbox
from dynamodb_outbox.outcome import Outcome
from dynamodb_outbox.reporting import ErrorReporter
from dynamodb_outbox.worker.dispatch import Dispatcher
from dynamodb_outbox.worker.recover import recover
from dynamodb_outbox.worker.reports import GRACE, Reports
from dynamodb_outbox.worker.settle import GroupCommit, OnSettled


async def run_once(
    outbox: Outbox,
    registry: HandlerRegistry,
    *,
    emitter: Emitter,
    middleware: Sequence[Middleware],
    reporter: ErrorReporter,
    on_settled: OnSettled,
) -> int:
    """Recover, claim one batch, dispatch and settle it; the number of events settled.

    Cancelled, it releases what it has claimed before it ends.
    """
    cycle = _OneCycle(
        outbox, registry, emitter=emitter, middleware=middleware, reporter=reporter, on_settled=on_settled
    )
    # In a task of its own, which a cancellation of the caller does not reach.
    task = asyncio.create_task(cycle.run(), name="dynamodb-outbox run_once")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        cycle.stopping.set()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
        raise


class _OneCycle:
    def __init__(
        self,
        outbox: Outbox,
        registry: HandlerRegistry,
        *,
        emitter: Emitter,
        middleware: Sequence[Middleware],
        reporter: ErrorReporter,
        on_settled: OnSettled,
    ) -> None:
        self.stopping = anyio.Event()
        self._outbox = outbox
        self._registry = registry
        self._on_settled = on_settled
        self._settled = 0
        self._reports = Reports(reporter)
        self._commit = GroupCommit(outbox, on_settled=self._count, report=self._reports.report)
        self._dispatcher = Dispatcher(
            registry,
            outbox,
            emitter=emitter,
            middleware=middleware,
            commit=self._commit,
            report=self._reports.report,
            is_ending=self.stopping.is_set,
        )

    async def run(self) -> int:
        await recover(self._outbox, self._registry)
        options = self._outbox.options
        claims = await self._outbox.claim(min(options.batch_size, options.slots))
        async with anyio.create_task_group() as reporting:
            self._reports.open(reporting)
            async with anyio.create_task_group() as settling:
                self._commit.open(settling)
                try:
                    await self._dispatch(claims)
                finally:
                    self._commit.close()
            with anyio.move_on_after(GRACE):
                await self._reports.finish()
            reporting.cancel_scope.cancel()
        return self._settled

    async def _dispatch(self, claims: Sequence[Claim]) -> None:
        async with anyio.create_task_group() as running:
            running.start_soon(self._dispatcher.keeper.run)
            running.start_soon(self._release_when_stopping)
            for claim in claims:
                self._dispatcher.start(claim)
            await self._dispatcher.wait_until_idle()
            running.cancel_scope.cancel()

    async def _release_when_stopping(self) -> None:
        await self.stopping.wait()
        self._dispatcher.release_all()

    def _count(self, claim: Claim, outcome: Outcome, error: OutboxError | None) -> None:
        self._settled += error is None
        self._on_settled(claim, outcome, error)
