"""Quarantine: events whose last attempt ended with its worker. They are handled one at a time.

The one that ends its worker then takes no others with it to the dead letters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from dynamodb_outbox.outcome import Released
from dynamodb_outbox.port import LEASE_EXPIRED, Claim, OutboxOptions

POISON_ATTEMPT: Final = 3
"""From this attempt on, an event whose last attempt ended with its worker is suspected to be the cause."""


def is_suspected_poison(claim: Claim) -> bool:
    """Tell whether an event may have ended its worker, more than once."""
    return claim.attempt >= POISON_ATTEMPT and claim.last_error == LEASE_EXPIRED


class Quarantine:
    """Begins one suspect after the other; those that are claimed meanwhile are released for a while.

    Each look at one of these is a claim and a release. So they come back one after the other, and as often as the time
    doubles that the one before them takes.
    """

    def __init__(
        self, options: OutboxOptions, *, begin: Callable[[Claim], None], release: Callable[[Claim, Released], None]
    ) -> None:
        self._options = options
        self._begin = begin
        self._release = release
        self._claim: Claim | None = None
        self._has_begun = False
        self._taken_at = 0.0
        self._turns: dict[str, int] = {}
        self._releasing: set[str] = set()

    def take(self, claim: Claim) -> None:
        """Begin with a suspect soon, or release it."""
        loop = asyncio.get_running_loop()
        if self._claim is None:
            self._claim, self._taken_at = claim, loop.time()
            self._turns.clear()
            loop.call_soon(self._begin_alone)
            return
        self._releasing.add(claim.token)
        turn = self._turns.setdefault(claim.event.id, len(self._turns) + 1)
        delay = max(turn * self._options.poll_interval, loop.time() - self._taken_at)
        longest = max(self._options.poll_interval, self._options.processing_timeout)
        self._release(claim, Released(delay=min(delay, longest)))

    def settled(self, claim: Claim) -> None:
        """Take note that a claim is settled, a suspect's or another."""
        self._releasing.discard(claim.token)
        if self._claim is not None and claim.token == self._claim.token:
            self._claim, self._has_begun = None, False
        self._begin_alone()

    def _begin_alone(self) -> None:
        """Call the handlers of the suspect, once those that were claimed with it are released."""
        if self._claim is not None and not self._has_begun and not self._releasing:
            self._has_begun = True
            self._begin(self._claim)
