"""Leases: how long a claim holds, and their renewal for handlers that take longer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

import anyio

from dynamodb_outbox.cancellation import absorb_foreign_cancellation
from dynamodb_outbox.errors import LeaseLostError, OutboxError, PollingError, WorkerError
from dynamodb_outbox.observers import LeaseRenewed, PollingFailed
from dynamodb_outbox.port import Claim, Outbox
from dynamodb_outbox.reporting import Report

LEASE_MARGIN: Final = 0.1
"""The part of a lease that is kept for settling: handlers are cancelled before it."""
LONGEST_MARGIN: Final = 1.0
RENEW_BEFORE: Final = 2 / 3
"""A lease is renewed once less than this part of its length is left."""
TOGETHER: Final = 1 / 12
"""Leases that are due for renewal within this part of a lease's length go in one request; a failed one waits for it."""


class Lease:
    """A claim's lease as this process knows it: it moves only when the engine has answered.

    `ends` is in event loop time, which no setting of the clock can stretch.
    """

    __slots__ = ("claim", "ends", "lost", "margin", "retry_at")

    def __init__(self, claim: Claim, *, now: float, loop_time: float, length: float) -> None:
        self.claim = claim
        self.ends = loop_time + min(claim.lease_expires_at - now, length)
        self.margin = min(LEASE_MARGIN * length, LONGEST_MARGIN)
        self.retry_at = 0.0
        self.lost = False

    @property
    def safe_end(self) -> float:
        """When handlers have to be cancelled (event loop time), so that there is time to settle."""
        return self.ends - self.margin

    def renewed(self, *, expires_at: float, ends: float) -> None:
        """Note a renewal that was answered."""
        self.claim = replace(self.claim, lease_expires_at=expires_at)
        self.ends = ends


class LeaseHolder(Protocol):
    """Something that runs under a lease: an attempt."""

    lease: Lease

    @property
    def wanted_until(self) -> float:
        """Until when the lease is wanted (event loop time)."""
        ...

    def lose(self) -> None:
        """Cancel what runs: the lease is not ours any more."""
        ...


class LeaseKeeper:
    """Renews the leases of handlers that have declared to take longer, and extends them on demand."""

    def __init__(self, outbox: Outbox, *, report: Report) -> None:
        self._outbox = outbox
        self._report = report
        self._length = outbox.options.processing_timeout
        self._held: dict[LeaseHolder, None] = {}
        self._busy: set[Lease] = set()
        self._changed = anyio.Event()
        self._errors = 0

    def hold(self, holder: LeaseHolder) -> None:
        """Renew a lease from now on, for as long as it is wanted."""
        if holder not in self._held:
            self._held[holder] = None
            self._notify()

    def let_go(self, holder: LeaseHolder) -> None:
        """Renew a lease no more."""
        self._held.pop(holder, None)

    async def extend(self, holder: LeaseHolder, seconds: float) -> None:
        """Have a lease last so many seconds from now on, at least. Raises `LeaseLostError` or `StorageError`."""
        while holder.lease in self._busy:
            await self._changed.wait()
        if anyio.current_time() + seconds > holder.lease.ends:
            (error,) = await self._write([holder], seconds)
            if error is not None:
                raise error

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            now = anyio.current_time()
            renewable = [holder for holder in self._held if self._is_renewable(holder, now)]
            next_at = min((self._renew_at(holder.lease) for holder in renewable), default=math.inf)
            if next_at > now:
                with anyio.move_on_after(next_at - now):
                    await self._changed.wait()
                continue
            together = now + TOGETHER * self._length
            due = [holder for holder in renewable if self._renew_at(holder.lease) <= together]
            try:
                await self._renew(due)
            except (Exception, asyncio.CancelledError) as unforeseen:
                if not absorb_foreign_cancellation(unforeseen):
                    raise
                self._report(WorkerError(loop="renewal", cause=unforeseen))
                self._put_off(due)

    async def _renew(self, due: Sequence[LeaseHolder]) -> None:
        failures: list[OutboxError] = []
        for holder, error in zip(due, await self._write(due, self._length), strict=True):
            if holder not in self._held:
                continue  # it ended meanwhile, and its own write was quicker
            if isinstance(error, LeaseLostError):
                self._report(error)
                self.let_go(holder)
                holder.lose()
            elif error is not None:
                failures.append(error)
                self._put_off([holder])
        self._errors = self._errors + 1 if failures else 0
        if failures:
            # The handlers are cancelled in time if this goes on: their leases have not moved.
            retry_in = TOGETHER * self._length
            self._report(PollingError(loop="renewal", errors=self._errors, retry_in=retry_in, cause=failures[0]))
            if observers := self._outbox.observers:
                observers.notify(
                    PollingFailed(loop="renewal", errors=self._errors, retry_in=retry_in, error=failures[0])
                )

    async def _write(self, holders: Sequence[LeaseHolder], seconds: float) -> list[OutboxError | None]:
        leases = [holder.lease for holder in holders]
        expires_at = self._outbox.options.clock() + seconds
        ends = anyio.current_time() + seconds
        self._busy.update(leases)
        try:
            errors = await self._outbox.renew([(lease.claim, expires_at) for lease in leases])
        finally:
            self._busy.difference_update(leases)
            self._notify()
        for lease, error in zip(leases, errors, strict=True):
            if error is None:
                lease.renewed(expires_at=expires_at, ends=ends)
                if observers := self._outbox.observers:
                    event = lease.claim.event
                    observers.notify(
                        LeaseRenewed(event_id=event.id, event_type=event.type, lease_expires_at=expires_at)
                    )
        return errors

    def _is_renewable(self, holder: LeaseHolder, now: float) -> bool:
        lease = holder.lease
        return lease not in self._busy and now < lease.safe_end < holder.wanted_until

    def _renew_at(self, lease: Lease) -> float:
        return max(lease.ends - RENEW_BEFORE * self._length, lease.retry_at)

    def _put_off(self, holders: Sequence[LeaseHolder]) -> None:
        for holder in holders:
            holder.lease.retry_at = anyio.current_time() + TOGETHER * self._length

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
