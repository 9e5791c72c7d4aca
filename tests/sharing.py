"""An outbox in memory whose claims on emit share one lease, and a handler that takes some time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest

from dynamodb_outbox import Delivery, Event, WorkerError
from dynamodb_outbox.adapter import Claim, EmitClaim, Report, Settled, SharedLease
from dynamodb_outbox.worker.timing import Timing
from tests.fakes import ScriptedOutbox

LEASE = 6.0
MARGIN = Timing().margin_part * LEASE
LOST = WorkerError(loop="the adapter's report of a lost lease", cause=ValueError("lost"))


class SharingOutbox(ScriptedOutbox):
    """An outbox whose claims on emit share one lease. It is renewed each third of its length while a worker runs.

    The events of the lease are not found by `recover`, until `enter` or a renewal of their own.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**({"poll_interval": 60.0, "base_backoff": 0.0, "processing_timeout": LEASE} | options))
        now, at = asyncio.get_running_loop().time(), self.options.clock()
        self.lease = SharedLease(expires_at=at + LEASE, ends=now + LEASE)
        self.is_renewing = True
        self.raising: list[BaseException] = []
        self.steps: list[str] = []
        self._report: Report | None = None

    async def keep_leases(self, *, report: Report) -> None:
        self.steps.append("keep")
        if self.raising:
            raise self.raising.pop(0)
        self._report = report
        try:
            while True:
                await anyio.sleep(LEASE / 3)
                if self.is_renewing and not self.lease.is_lost:
                    self.lease.renew(
                        expires_at=self.options.clock() + LEASE, ends=asyncio.get_running_loop().time() + LEASE
                    )
        finally:
            self.steps.append("kept")

    async def retire(self) -> None:
        self.steps.append("retire")
        await super().retire()

    async def settle(self, settlements: Sequence[Any], **options: Any) -> Sequence[Settled]:
        answers = await super().settle(settlements, **options)
        self.steps.append("settled")
        return answers

    async def publish(
        self, events: Sequence[Event], *, due_at: float | None = None, emit_claim: EmitClaim | None = None
    ) -> None:
        if emit_claim is not None:
            emit_claim = replace(emit_claim, claimed=self._sharing(emit_claim.claimed))
        await super().publish(events, due_at=due_at, emit_claim=emit_claim)

    def _sharing(self, claimed: Callable[[Claim], None]) -> Callable[[Claim], None]:
        def share(claim: Claim) -> None:
            self.stored(claim.event.id).sort_key = None
            claimed(replace(claim, lease_expires_at=self.lease.expires_at, shared_lease=self.lease))

        return share

    def lose(self) -> None:
        """Lose the lease, as an adapter does: it cancels the handlers, and reports once."""
        self.lease.lose()
        assert self._report is not None
        self._report(LOST)

    def move_out(self, event: Event) -> None:
        """Write an own lease for an event."""
        stored = self.stored(event.id)
        expires_at = self.options.clock() + LEASE
        stored.sort_key = round(expires_at * 1000)
        self.lease.move_out(stored.token, expires_at=expires_at, ends=asyncio.get_running_loop().time() + LEASE)

    async def enter(self, event: Event) -> None:
        """Make an event due, as the recovery of another worker does when the lease was lost."""
        self.stored(event.id).sort_key = 0
        await self.recover()


def now() -> float:
    return asyncio.get_running_loop().time()


class Handler:
    """A handler that takes some time, and notes how each call ended, and when (the loop's time since its start)."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ends: list[tuple[str, float]] = []
        self.attempts: list[int] = []
        self.running = 0

    async def __call__(self, event: Event, delivery: Delivery) -> None:
        self.attempts.append(delivery.attempt)
        start = now()
        self.running += 1
        end = "cancelled"
        try:
            await anyio.sleep(self.seconds)
            end = "returned"
        finally:
            self.running -= 1
            self.ends.append((end, pytest.approx(now() - start, abs=0.001)))
