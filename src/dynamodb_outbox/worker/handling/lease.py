"""Leases: the time for which a claim holds, and the renewal for handlers that take longer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import anyio

from dynamodb_outbox.cancellation import absorb_foreign_cancellation
from dynamodb_outbox.claims import Claim
from dynamodb_outbox.errors import LeaseLostError, OutboxError, PollingError, StorageError, WorkerError
from dynamodb_outbox.observers import LeaseRenewed, PollingFailed
from dynamodb_outbox.port import Outbox, OutboxOptions
from dynamodb_outbox.reporting import Report
from dynamodb_outbox.storage_calls import observed
from dynamodb_outbox.worker.timing import Timing


class Lease:
    """A claim's lease as this process knows it: it moves only once the backend has answered.

    A claim has an own lease, or shares a lease with other claims; then the adapter renews it. The claim gets an own
    lease when a handler extends it beyond the shared one, or when the adapter moves the event out (`on_moved_out`).

    `ends` is in event loop time, which no change of the system clock moves. Each handler of the event says until when
    it wants the lease. `on_lost` is called once the event may belong to another worker.
    """

    __slots__ = (
        "_claim",
        "_on_own",
        "_own_end",
        "_shared",
        "_usual_end",
        "_wanted",
        "is_completed",
        "is_lost",
        "margin",
        "on_lost",
        "retry_at",
    )

    def __init__(
        self,
        claim: Claim,
        *,
        options: OutboxOptions,
        timing: Timing,
        on_lost: Callable[[], None],
        on_own: Callable[[Lease], None],
    ) -> None:
        self._claim = claim
        self._shared = shared = claim.shared_lease
        self._on_own = on_own
        length = options.processing_timeout
        now = asyncio.get_running_loop().time()
        if shared is None:
            self._own_end = now + min(claim.lease_expires_at - options.clock(), length)
            self._usual_end: float | None = None
        else:
            self._own_end, self._usual_end = math.inf, now + length
            shared.join(claim.token, self)
        self.margin = min(timing.margin_part * length, timing.longest_margin)
        self.retry_at = 0.0
        self.is_lost = self.is_completed = False
        """`is_completed`: whether a transaction of a handler has completed the event."""
        self.on_lost: Callable[[], None] | None = on_lost
        self._wanted: dict[str, float] = {}

    @property
    def claim(self) -> Claim:
        """The claim, with the end of its lease as it is now."""
        shared = self._shared
        if shared is not None and shared.expires_at != self._claim.lease_expires_at:
            self._claim = replace(self._claim, lease_expires_at=shared.expires_at)
        return self._claim

    @property
    def ends(self) -> float:
        """When the lease ends (event loop time)."""
        return self._own_end if self._shared is None else min(self._shared.ends, self._own_end)

    @property
    def safe_end(self) -> float:
        """When handlers have to be cancelled (event loop time), so that there is time to settle."""
        return self.ends - self.margin

    @property
    def usual_end(self) -> float:
        """When the lease ends that handlers without a `timeout` get: one lease, however long a shared one lasts."""
        return self.ends if self._usual_end is None else self._usual_end

    @property
    def is_shared(self) -> bool:
        """Whether the adapter renews the lease. If an own lease was perhaps written, the worker has to renew it."""
        return self._shared is not None and math.isinf(self._own_end)

    @property
    def is_needed(self) -> bool:
        """Whether handlers run under the lease. Later events of a key wait also for what follows a transaction."""
        return not self.is_completed or self._claim.event.ordering_key is not None

    @property
    def wanted_until(self) -> float:
        """When the last of the handlers that run reaches its time limit (event loop time)."""
        return max(self._wanted.values(), default=0.0)

    def want(self, handler: str, until: float) -> None:
        """Note until when a handler wants the lease (event loop time)."""
        self._wanted[handler] = until

    def want_no_more(self, handler: str) -> None:
        """Note that a handler is done."""
        self._wanted.pop(handler, None)

    def on_renewed(self, *, expires_at: float, ends: float) -> None:
        """Note a renewal that was answered: the claim has an own lease now."""
        self.leave_shared()
        self._shared, self._own_end = None, ends
        self._claim = replace(self._claim, lease_expires_at=expires_at, shared_lease=None)
        # A shared lease may have been lost meanwhile.
        self.is_lost = False

    def on_unanswered(self, *, ends: float) -> None:
        """Note a renewal that was perhaps applied. The event of a shared lease then has an own lease, with this end."""
        if self._shared is not None:
            self._own_end = min(self._own_end, ends)

    def leave_shared(self) -> None:
        """Hear no more of a shared lease."""
        if self._shared is not None:
            self._shared.leave(self._claim.token)

    def lose(self) -> None:
        """Have the handlers cancelled: another worker may hold the event."""
        self.is_lost = True
        if self.on_lost is not None:
            self.on_lost()

    # What a shared lease tells

    def on_shared_lost(self) -> None:
        """Note that the shared lease is lost. The adapter has reported it."""
        self.lose()

    def on_moved_out(self, *, expires_at: float, ends: float) -> None:
        """Note that the adapter has written an own lease for the claim, perhaps earlier than it knows."""
        self.on_renewed(expires_at=expires_at, ends=min(ends, self._own_end))
        self._on_own(self)

    def on_maybe_moved_out(self, *, ends: float) -> None:
        """Note that the adapter has perhaps written an own lease for the claim."""
        self.on_unanswered(ends=ends)
        self._on_own(self)


class LeaseKeeper:
    """Renews the leases of handlers that have declared to take longer, and extends them on demand.

    Shared leases are renewed by the adapter, until the claim gets an own lease.
    """

    def __init__(self, outbox: Outbox, *, timing: Timing, report: Report) -> None:
        self._outbox = outbox
        self._report = report
        self._length = outbox.options.processing_timeout
        self._renew_before = timing.renew_part * self._length
        self._together = timing.together_part * self._length
        self._held: dict[Lease, None] = {}
        self._busy: set[Lease] = set()
        self._changed = anyio.Event()
        self._errors = 0

    def hold(self, lease: Lease) -> None:
        """Renew a lease from now on, as long as its handlers want it. The adapter renews a shared one."""
        if lease not in self._held and not lease.is_shared:
            self._held[lease] = None
            self._notify()

    def on_moved_out(self, lease: Lease) -> None:
        """Note that the adapter has given an own lease to a claim, or perhaps has."""
        self._take_over(lease)
        if lease.claim.shared_lease is None:
            self._observe(lease)

    def let_go(self, lease: Lease) -> None:
        """Renew a lease no more. If a shared one is lost later, that does not concern the event."""
        self._held.pop(lease, None)
        lease.leave_shared()

    async def extend(self, lease: Lease, seconds: float) -> None:
        """Let a lease last at least this many seconds from now. Raises `LeaseLostError` or `StorageError`."""
        while lease in self._busy:
            await self._changed.wait()
        if anyio.current_time() + seconds > lease.ends:
            (error,) = await self._write([lease], seconds)
            if error is not None:
                raise error

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            now = anyio.current_time()
            renewable = [lease for lease in self._held if self._is_renewable(lease, now)]
            next_at = min((self._renew_at(lease) for lease in renewable), default=math.inf)
            if next_at > now:
                with anyio.move_on_after(next_at - now):
                    await self._changed.wait()
                continue
            due = [lease for lease in renewable if self._renew_at(lease) <= now + self._together]
            try:
                await self._renew(due)
            except (Exception, asyncio.CancelledError) as unforeseen:
                if not absorb_foreign_cancellation(unforeseen):
                    raise
                self._report(WorkerError(loop="renewal", cause=unforeseen))
                self._put_off(due)

    async def _renew(self, due: Sequence[Lease]) -> None:
        failures: list[OutboxError] = []
        for lease, error in zip(due, await self._write(due, self._length), strict=True):
            if lease not in self._held:
                continue  # the attempt ended meanwhile, and settled its event before this answer came
            if isinstance(error, LeaseLostError):
                self._report(error)
                self.let_go(lease)
                lease.lose()
            elif error is not None:
                failures.append(error)
                self._put_off([lease])
        self._errors = self._errors + 1 if failures else 0
        if failures:
            # Leases that are not renewed do not move, so their handlers are cancelled in time if this goes on.
            self._report_failure(failures[0])

    def _report_failure(self, error: OutboxError) -> None:
        retry_in = self._together
        self._report(PollingError(loop="renewal", errors=self._errors, retry_in=retry_in, cause=error))
        if observers := self._outbox.observers:
            observers.notify(PollingFailed(loop="renewal", errors=self._errors, retry_in=retry_in, error=error))

    async def _write(self, leases: Sequence[Lease], seconds: float) -> list[OutboxError | None]:
        expires_at = self._outbox.options.clock() + seconds
        ends = anyio.current_time() + seconds
        self._busy.update(leases)
        unanswered = list(leases)
        try:
            renewals = [(lease.claim, expires_at) for lease in leases]
            errors = await observed(self._outbox.observers, "renew", len(renewals), self._outbox.renew, renewals)
            unanswered.clear()
        finally:
            self._busy.difference_update(leases)
            for lease in unanswered:
                self._on_unanswered(lease, ends)
            self._notify()
        for lease, error in zip(leases, errors, strict=True):
            if error is None:
                was_shared = lease.claim.shared_lease is not None
                lease.on_renewed(expires_at=expires_at, ends=ends)
                self._observe(lease)
                if was_shared:
                    self._take_over(lease)
            elif isinstance(error, StorageError) and error.maybe_applied:
                self._on_unanswered(lease, ends)
        return errors

    def _on_unanswered(self, lease: Lease, ends: float) -> None:
        lease.on_unanswered(ends=ends)
        self._take_over(lease)

    def _take_over(self, lease: Lease) -> None:
        """Renew a lease that was shared, if a handler wants it for longer."""
        if lease.wanted_until > lease.safe_end:
            self.hold(lease)

    def _observe(self, lease: Lease) -> None:
        if (observers := self._outbox.observers) and LeaseRenewed not in observers.ignored:
            claim = lease.claim
            observers.notify(
                LeaseRenewed(
                    event_id=claim.event.id, event_type=claim.event.type, lease_expires_at=claim.lease_expires_at
                )
            )

    def _is_renewable(self, lease: Lease, now: float) -> bool:
        return lease not in self._busy and now < lease.safe_end < lease.wanted_until

    def _renew_at(self, lease: Lease) -> float:
        return max(lease.ends - self._renew_before, lease.retry_at)

    def _put_off(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            lease.retry_at = anyio.current_time() + self._together

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
