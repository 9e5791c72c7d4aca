"""Quarantine: events whose last attempt ended with the death of their worker are handled one at a time.

An event that kills its worker then takes no other suspected event with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from dynamodb_outbox.outcome import Released
from dynamodb_outbox.port import LEASE_EXPIRED, Claim, OutboxOptions

POISON_ATTEMPT: Final = 3
"""From this attempt on, an event whose last lease ran out is suspected of killing its workers."""


def is_suspected_poison(claim: Claim) -> bool:
    """Return whether an event may have killed its worker, and more than once."""
    return claim.attempt >= POISON_ATTEMPT and claim.last_error == LEASE_EXPIRED


class Quarantine:
    """Starts one suspected event after the other. Events that are claimed meanwhile are released, and wait.

    Claiming and releasing a waiting event costs two writes. So the waiting events come back one after the other, a poll
    interval apart: with ten of them and `poll_interval=1`, after 1, 2, ... 10 s. An event that the quarantine has kept
    waiting for a minute waits for another minute. No event waits longer than a lease.
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
        """Start with a suspected event soon, or release it."""
        loop = asyncio.get_running_loop()
        if self._claim is None:
            self._claim, self._taken_at = claim, loop.time()
            self._turns.clear()
            loop.call_soon(self._start_alone)
            return
        self._releasing.add(claim.token)
        turn = self._turns.setdefault(claim.event.id, len(self._turns) + 1)
        delay = max(turn * self._options.poll_interval, loop.time() - self._taken_at)
        longest = max(self._options.poll_interval, self._options.processing_timeout)
        self._release(claim, Released(delay=min(delay, longest)))

    def on_settled(self, claim: Claim) -> None:
        """Note that a claim is settled, whether it was suspected or not."""
        self._releasing.discard(claim.token)
        if self._claim is not None and claim.token == self._claim.token:
            self._claim, self._is_started = None, False
        self._start_alone()

    def _start_alone(self) -> None:
        """Start the event, once the events that were claimed with it are released."""
        if self._claim is not None and not self._is_started and not self._releasing:
            self._is_started = True
            self._start(self._claim)
