"""Group commit of outcomes: what finished while a write was under way goes with the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import anyio
from anyio.abc import TaskGroup

from dynamodb_outbox.cancellation import is_ours
from dynamodb_outbox.errors import LeaseLostError, OutboxError, SettleError, WorkerError
from dynamodb_outbox.outbox import Claim, Outbox
from dynamodb_outbox.outcome import OUTCOME_NAMES, Outcome
from dynamodb_outbox.worker.dispatch import Report

BATCH: Final = 25
WRITERS: Final = 4

OnSettled = Callable[[Claim, Outcome, OutboxError | None], None]
"""Called once for every claim that was put in, whatever became of the write."""


class GroupCommit:
    """Settles outcomes in batches, in tasks that no cancellation of a handler reaches."""

    def __init__(self, outbox: Outbox, *, on_settled: OnSettled, report: Report) -> None:
        self._outbox = outbox
        self._on_settled = on_settled
        self._report = report
        self._waiting: deque[tuple[Claim, Outcome]] = deque()
        self._scopes: set[anyio.CancelScope] = set()
        self._group: TaskGroup | None = None
        self._writers = 0
        self._finished = anyio.Event()

    def open(self, group: TaskGroup) -> None:
        """Let writers run in the group, which must outlive everything that puts outcomes in."""
        self._group = group

    def put(self, claim: Claim, outcome: Outcome) -> None:
        """Have an outcome settled; returns at once."""
        self._waiting.append((claim, outcome))
        if self._writers < WRITERS and self._group is not None:
            self._writers += 1
            self._group.start_soon(self._write)

    def abandon_at(self, deadline: float) -> None:
        """Give up what is not written by then (event loop time): recovery takes the events up."""
        for scope in self._scopes:
            scope.deadline = min(scope.deadline, deadline)

    async def finish(self) -> None:
        """Wait until nothing is left to be written."""
        while self._writers:
            self._finished = anyio.Event()
            await self._finished.wait()

    async def _write(self) -> None:
        # Child tasks of ours under a shield: a cancelled handler's outcome is written all the same.
        with anyio.CancelScope(shield=True) as scope:
            self._scopes.add(scope)
            try:
                while self._waiting:
                    count = min(BATCH, len(self._waiting))
                    await self._settle([self._waiting.popleft() for _ in range(count)])
            finally:
                self._scopes.discard(scope)
                self._writers -= 1
                self._finished.set()

    async def _settle(self, batch: list[tuple[Claim, Outcome]]) -> None:
        errors: list[OutboxError | None]
        try:
            errors = await self._outbox.settle(batch)
        except (Exception, asyncio.CancelledError) as unforeseen:
            if is_ours(unforeseen):
                raise
            errors = [WorkerError(loop="settling", cause=unforeseen)] * len(batch)
        for (claim, outcome), error in zip(batch, errors, strict=True):
            if isinstance(error, LeaseLostError):
                self._report(error)
            elif error is not None:
                self._report(SettleError(event_id=claim.event.id, outcome=OUTCOME_NAMES[type(outcome)], cause=error))
            self._on_settled(claim, outcome, error)
