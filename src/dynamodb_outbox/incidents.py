"""The recent incidents in the worker of a bus: leases that were lost, outcomes that could not be written."""

from __future__ import annotations

from time import monotonic
from typing import Final

from dynamodb_outbox.errors import LeaseLostError, OutboxError, SettleError, StorageError, WindowLostError
from dynamodb_outbox.wording import describe
from dynamodb_outbox.worker.heartbeat import Failing

LOSS_SECONDS: Final = 600.0
"""A lost lease is remembered for this long."""
MOST_LOSSES: Final = 1_000
"""At most this many losses are remembered."""
SETTLE_SECONDS: Final = 60.0
"""Outcomes count as failing until none has failed for this long."""


class Incidents:
    """Remembers reported errors for a while. Written in the event loop, read in any thread."""

    def __init__(self) -> None:
        self._losses: tuple[float, ...] = ()
        self._settles: Failing | None = None
        self._last_settle_error = 0.0

    def on_error(self, error: OutboxError) -> None:
        """Note an error that is being reported."""
        match error:
            case LeaseLostError():
                self._lost(1)
            case WindowLostError(events=events):
                self._lost(max(events, 1))
            case SettleError():
                self._not_settled(error)
            case _:
                pass

    @property
    def leases_lost(self) -> int:
        """How many leases this process has lost in the last ten minutes."""
        since = monotonic() - LOSS_SECONDS
        return sum(time > since for time in self._losses)

    @property
    def settles_failing(self) -> Failing | None:
        """Since when, and why, outcomes cannot be written."""
        return self._settles if monotonic() - self._last_settle_error < SETTLE_SECONDS else None

    def _lost(self, count: int) -> None:
        now = monotonic()
        recent = (time for time in self._losses if time > now - LOSS_SECONDS)
        self._losses = (*recent, *[now] * count)[-MOST_LOSSES:]

    def _not_settled(self, error: SettleError) -> None:
        now, before, cause = monotonic(), self.settles_failing, error.__cause__
        since, errors = (now, 0) if before is None else (before.since, before.errors)
        text = describe(error if cause is None else cause)
        self._settles = Failing(since, errors + 1, text, isinstance(cause, StorageError))
        self._last_settle_error = now
