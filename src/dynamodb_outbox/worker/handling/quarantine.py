"""Quarantine of poison events: events that may kill their worker are handled one at a time.

From its third attempt on, an event whose last lease ran out is suspected of killing its worker. A running worker
handles one suspected event at a time, next to ordinary events, and releases suspected events that it claims meanwhile.
So no other suspected event dies with a poison event. Once its handlers have no retry left, the next attempt calls none
of them and makes it FAILED (`outcomes.py`). Recovery does so if the count passes the largest `max_retries` of its
worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from dynamodb_outbox.claims import Claim
from dynamodb_outbox.outcome import Released
from dynamodb_outbox.port import LEASE_EXPIRED, OutboxOptions

POISON_ATTEMPT: Final = 3
"""From this attempt on, an event whose last lease ran out is suspected of killing its workers."""


def is_suspected_poison(claim: Claim) -> bool:
    """Return whether this is the third attempt or a later one, and the lease of the last attempt ran out."""
    return claim.attempt >= POISON_ATTEMPT and claim.last_error == LEASE_EXPIRED


class Quarantine:
    """Starts one suspected event after the other, and releases suspected events that are claimed meanwhile.

    Claiming and releasing a waiting event costs two writes. So the waiting events come back one after the other, a poll
    interval apart: with ten of them and `poll_interval=1`, after 1, 2, ... 10 s. If the current event has been handled
    for a minute, they come back after another minute. A wait is at most one lease, or one poll interval if that is
    longer.
    """

    def __init__(
        self, options: OutboxOptions, *, start: Callable[[Claim], None], release: Callable[[Claim, Released], None]
    ) -> None:
        self._options = options
        self._start = start
        self._release = release
        self._claim: Claim | None = None
        self._is_started = False
        self._taken_at = 0.0
        self._turns: dict[str, int] = {}
        self._releasing: set[str] = set()

    def take(self, claim: Claim) -> None:
        """Start a suspected event soon, or release it if another one is being handled."""
        loop = asyncio.get_running_loop()
        if self._claim is None:
            self._claim, self._taken_at = claim, loop.time()
            self._turns.clear()
            loop.call_soon(self._start_when_released)
            return
        self._releasing.add(claim.token)
        turn = self._turns.setdefault(claim.event.id, len(self._turns) + 1)
        delay = max(turn * self._options.poll_interval, loop.time() - self._taken_at)
        longest = max(self._options.poll_interval, self._options.processing_timeout)
        self._release(claim, Released(delay=min(delay, longest)))

    def on_settled(self, claim: Claim) -> None:
        """Note that the settle of any claim has ended, successfully or not."""
        self._releasing.discard(claim.token)
        if self._claim is not None and claim.token == self._claim.token:
            self._claim, self._is_started = None, False
        self._start_when_released()

    def _start_when_released(self) -> None:
        """Start the event, once the suspected events that were claimed with it are released."""
        if self._claim is not None and not self._is_started and not self._releasing:
            self._is_started = True
            self._start(self._claim)
