"""Delivering one claim: dispatch it, and have its outcome settled whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import anyio

from dynamodb_outbox.errors import OutboxError, WorkerError
from dynamodb_outbox.handlers import HandlerRegistry
from dynamodb_outbox.middleware import Middleware
from dynamodb_outbox.outbox import Claim, Outbox
from dynamodb_outbox.outcome import Outcome, Released
from dynamodb_outbox.reporting import ErrorReporter
from dynamodb_outbox.worker.dispatch import Dispatcher, Report
from dynamodb_outbox.worker.settle import GroupCommit, OnSettled


async def deliver(claim: Claim, dispatcher: Dispatcher, commit: GroupCommit, report: Report) -> None:
    """Run the handlers of a claim; one that is cancelled is released."""
    outcome: Outcome = Released()
    try:
        outcome = await dispatcher.run(claim)
    except Exception as error:
        report(WorkerError(loop="dispatch", cause=error))
        outcome = dispatcher.outcome_of(claim, {"": error}, claim.handled_by)
    except BaseException as error:
        # It has to end the process. An event that ends every worker must still run out of attempts.
        if not isinstance(error, asyncio.CancelledError):
            outcome = dispatcher.outcome_of(claim, {"": error}, claim.handled_by)
        raise
    finally:
        commit.put(claim, outcome)


async def run_once(
    outbox: Outbox,
    registry: HandlerRegistry,
    *,
    middleware: Sequence[Middleware],
    reporter: ErrorReporter,
    on_settled: OnSettled,
) -> int:
    """Recover, claim one batch, dispatch and settle it, without a worker; the number of events settled."""
    settled = 0

    def count(claim: Claim, outcome: Outcome, error: OutboxError | None) -> None:
        nonlocal settled
        settled += error is None
        on_settled(claim, outcome, error)

    await outbox.recover()
    claims: list[Claim] = []
    # Under a shield: what was claimed when the caller is cancelled has to be released.
    with anyio.CancelScope(shield=True):
        claims = await outbox.claim(min(outbox.options.batch_size, outbox.options.slots))
    async with anyio.create_task_group() as settling:

        def report(error: OutboxError) -> None:
            settling.start_soon(reporter.report, error)

        commit = GroupCommit(outbox, on_settled=count, report=report)
        commit.open(settling)
        host = asyncio.current_task()
        dispatcher = Dispatcher(
            registry,
            options=outbox.options,
            middleware=middleware,
            report=report,
            is_ending=lambda: host is not None and host.cancelling() > 0,
        )
        async with anyio.create_task_group() as handling:
            for claim in claims:
                handling.start_soon(deliver, claim, dispatcher, commit, report)
    return settled
