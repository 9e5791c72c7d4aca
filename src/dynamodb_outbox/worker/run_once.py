"""One cycle without a running worker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import anyio

from dynamodb_outbox.cancellation import wait_until_done
from dynamodb_outbox.errors import OutboxError
from dynamodb_outbox.outcome import Outcome
from dynamodb_outbox.port import Claim
from dynamodb_outbox.worker.recover import recover
from dynamodb_outbox.worker.reports import GRACE
from dynamodb_outbox.worker.setup import WorkerSetup


async def run_once(setup: WorkerSetup) -> int:
    """Recover, claim one batch, dispatch and settle it; the number of events settled.

    Cancelled, it releases what it has claimed before it ends.
    """
    cycle = _SinglePoll(setup)
    # In a task of its own, which a cancellation of the caller does not reach.
    task = asyncio.create_task(cycle.run(), name="dynamodb-outbox run_once")
    await wait_until_done(task, on_cancel=cycle.stopping.set)
    return task.result()


class _SinglePoll:
    def __init__(self, setup: WorkerSetup) -> None:
        self.stopping = anyio.Event()
        self._setup = setup
        self._settled = 0
        self._reports, self._commit, self._dispatcher = setup.stages(
            on_settled=self._count, is_cancelled=self.stopping.is_set
        )

    async def run(self) -> int:
        self._setup.enter()
        claims: Sequence[Claim] = []
        failure: Exception | None = None
        async with anyio.create_task_group() as reporting:
            # Before the recovery, whose errors are reported also when the claim fails.
            self._reports.open(reporting)
            try:
                claims = await self._recover_and_claim()
            except Exception as error:
                # Raised below, outside of the group, which would wrap it.
                failure = error
            async with anyio.create_task_group() as settling:
                self._commit.open(settling)
                try:
                    await self._dispatch(claims)
                finally:
                    self._commit.close()
            with anyio.move_on_after(GRACE):
                await self._reports.finish()
            reporting.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return self._settled

    async def _recover_and_claim(self) -> Sequence[Claim]:
        outbox, report = self._setup.outbox, self._reports.report
        await recover(outbox, self._setup.registry, report=report)
        return await outbox.claim(min(outbox.options.batch_size, outbox.options.slots), report=report)

    async def _dispatch(self, claims: Sequence[Claim]) -> None:
        async with anyio.create_task_group() as running:
            running.start_soon(self._dispatcher.keep_leases)
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
        self._setup.on_settled(claim, outcome, error)
