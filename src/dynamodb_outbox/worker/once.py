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
from dynamodb_outbox.worker.reports import Reports
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
    """Recover, claim one batch, dispatch and settle it; the number of events settled."""
    settled = 0

    def count(claim: Claim, outcome: Outcome, error: OutboxError | None) -> None:
        nonlocal settled
        settled += error is None
        on_settled(claim, outcome, error)

    await recover(outbox, registry)
    claims: list[Claim] = []
    # Under a shield: what was claimed when the caller is cancelled has to be released.
    with anyio.CancelScope(shield=True):
        claims = await outbox.claim(min(outbox.options.batch_size, outbox.options.slots))
    host = asyncio.current_task()
    reports = Reports(reporter)
    commit = GroupCommit(outbox, on_settled=count, report=reports.report)
    dispatcher = Dispatcher(
        registry,
        outbox,
        emitter=emitter,
        middleware=middleware,
        commit=commit,
        report=reports.report,
        is_ending=lambda: host is not None and host.cancelling() > 0,
    )
    async with anyio.create_task_group() as reporting:
        reports.open(reporting)
        async with anyio.create_task_group() as settling:
            commit.open(settling)
            try:
                await _dispatch(claims, dispatcher)
            finally:
                commit.close()
        await reports.finish()
        reporting.cancel_scope.cancel()
    return settled


async def _dispatch(claims: Sequence[Claim], dispatcher: Dispatcher) -> None:
    async with anyio.create_task_group() as renewing:
        renewing.start_soon(dispatcher.keeper.run)
        try:
            for claim in claims:
                dispatcher.start(claim)
            await dispatcher.wait_until_idle()
        finally:
            dispatcher.release_all()
            with anyio.CancelScope(shield=True):
                await dispatcher.wait_until_idle()
            renewing.cancel_scope.cancel()
