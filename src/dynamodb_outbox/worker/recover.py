"""Recovery: find events whose lease ran out, make them due again, and wake the poller."""

from __future__ import annotations

from dynamodb_outbox.handlers import HandlerRegistry
from dynamodb_outbox.observers import EventRecovered, logger
from dynamodb_outbox.port import Outbox, Recovered
from dynamodb_outbox.reporting import Report
from dynamodb_outbox.worker.backoff import idle_delay, jittered
from dynamodb_outbox.worker.loop import Wakeup


async def recover(outbox: Outbox, registry: HandlerRegistry, *, report: Report) -> Recovered:
    """Make the events of dead workers due again, and report each event that could not be written.

    Raises `StorageError`.
    """
    # Several handlers may have the event's type. The largest of their `max_retries` decides when recovery gives up.
    recovered = await outbox.recover(max_retries=registry.most_retries(outbox.options.max_retries))
    if recovered.reset or recovered.failed:
        logger.warning(
            "recovered %d events whose lease had run out, because a worker died or hung; %d of them are now FAILED",
            len(recovered.reset) + len(recovered.failed),
            len(recovered.failed),
        )
    for error in recovered.errors:
        report(error)
    if observers := outbox.observers:
        for ids, failed in ((recovered.reset, False), (recovered.failed, True)):
            for event_id in ids:
                observers.notify(EventRecovered(event_id=event_id, failed=failed))
    return recovered


class Recoverer:
    """Polls for expired leases."""

    def __init__(self, outbox: Outbox, registry: HandlerRegistry, *, poller: Wakeup, report: Report) -> None:
        self._outbox = outbox
        self._registry = registry
        self._poller = poller
        self._report = report
        self._empty_polls = 0

    async def poll(self) -> float:
        """Recover once; returns the seconds until the next time."""
        options = self._outbox.options
        recovered = await recover(self._outbox, self._registry, report=self._report)
        if recovered.reset:
            self._poller.wake()
        self._empty_polls = 1 if recovered.reset or recovered.failed else self._empty_polls + 1
        delay = idle_delay(self._empty_polls, interval=options.poll_interval, longest=options.max_poll_interval)
        return jittered(delay, options.random)
