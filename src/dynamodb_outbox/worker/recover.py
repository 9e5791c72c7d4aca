"""Recovery: find events whose lease ran out, make them due again, and wake the poller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dynamodb_outbox.claims import Recovered
from dynamodb_outbox.handlers import HandlerRegistry
from dynamodb_outbox.observers import EventFailed, EventRecovered, logger
from dynamodb_outbox.port import LEASE_EXPIRED, Outbox
from dynamodb_outbox.reporting import Report
from dynamodb_outbox.storage_calls import noting_attempts, observed
from dynamodb_outbox.wording import shown
from dynamodb_outbox.worker.backoff import idle_delay, jittered
from dynamodb_outbox.worker.loop import Wakeup
from dynamodb_outbox.worker.vitals import Vitals

RECOVERY_INTERVALS: Final = 1.12
"""The poll intervals from one recovery to the next. Now and then a recovery makes one query more, for windows: so an
idle worker reads no more than with two queries an interval."""
NAMED_IDS: Final = 3
"""How many ids a line of the log names."""


async def recover(outbox: Outbox, registry: HandlerRegistry, *, report: Report) -> Recovered:
    """Make the events of dead workers due again, and report each event that could not be written.

    Raises `StorageError`.
    """
    # Recovery reads only keys, so it does not know the type. The largest max_retries of all handlers here is the limit.
    max_retries = registry.most_retries(outbox.options.max_retries)
    recovered = await observed(outbox.observers, "recover", 0, outbox.recover, max_retries=max_retries)
    if recovered.reset or recovered.failed:
        ids = recovered.reset + recovered.failed
        logger.warning(
            "recovered %s whose lease had run out, because a worker died or hung: %s%s",
            "1 event" if len(ids) == 1 else f"{len(ids):,} events",
            _first(ids),
            _failed(recovered.failed),
        )
    if recovered.resumed:
        logger.info("made %d held events due, because no hold of their type is in force", len(recovered.resumed))
    for error in recovered.errors:
        report(error)
    if observers := outbox.observers:
        for ids, failed in ((recovered.reset, False), (recovered.failed, True)):
            for event_id in ids:
                observers.notify(EventRecovered(event_id=event_id, failed=failed))
        for event_id in recovered.failed:
            observers.notify(
                EventFailed(event_id=event_id, event_type="?", attempt=0, error=LEASE_EXPIRED, reason="lease_expired")
            )
    return recovered


def _failed(ids: Sequence[str]) -> str:
    if not ids:
        return ""
    are = "1 is" if len(ids) == 1 else f"{len(ids):,} are"
    return f"; {are} now FAILED, because no retry was left: {_first(ids)}"


def _first(ids: Sequence[str]) -> str:
    """Write the first ids, and how many follow."""
    more = f" and {len(ids) - NAMED_IDS:,} more" if len(ids) > NAMED_IDS else ""
    return ", ".join(shown(event_id) for event_id in ids[:NAMED_IDS]) + more


class Recoverer:
    """Polls for expired leases."""

    def __init__(
        self, outbox: Outbox, registry: HandlerRegistry, vitals: Vitals, *, poller: Wakeup, report: Report
    ) -> None:
        self._outbox = outbox
        self._on_attempt = vitals.loops["recovery"].step
        self._registry = registry
        self._poller = poller
        self._report = report
        self._empty_polls = 0

    async def poll(self) -> float:
        """Recover once; returns the seconds until the next time."""
        options = self._outbox.options
        with noting_attempts(self._on_attempt):
            recovered = await recover(self._outbox, self._registry, report=self._report)
        if recovered.reset or recovered.resumed:
            self._poller.wake()
        found = recovered.reset or recovered.failed or recovered.resumed
        self._empty_polls = 1 if found else self._empty_polls + 1
        delay = idle_delay(self._empty_polls, interval=options.poll_interval, longest=options.max_poll_interval)
        return jittered(delay * RECOVERY_INTERVALS, options.random)
