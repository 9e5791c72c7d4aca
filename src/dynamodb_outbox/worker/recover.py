"""Recovery: looking for events whose lease ran out, and waking the poller for them."""

from __future__ import annotations

from dynamodb_outbox.handlers import HandlerRegistry
from dynamodb_outbox.observers import EventRecovered, logger
from dynamodb_outbox.port import Outbox, Recovered
from dynamodb_outbox.reporting import Report
from dynamodb_outbox.worker.backoff import idle_delay, jittered
from dynamodb_outbox.worker.loop import Wakeup


async def recover(outbox: Outbox, registry: HandlerRegistry, *, report: Report) -> Recovered:
    """Reset what dead workers left behind, and report what could not be written. Raises `StorageError`."""
    # No handler's own number of retries is cut short by the death of its worker.
    recovered = await outbox.recover(max_retries=registry.most_retries(outbox.options.max_retries))
    if recovered.reset or recovered.failed:
        logger.warning(
            "%d events recovered whose lease had run out, %d of them set aside as FAILED: a worker died or hung",
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
    """Looks for expired leases, one poll interval after the other."""

    def __init__(self, outbox: Outbox, registry: HandlerRegistry, *, poller: Wakeup, report: Report) -> None:
        self._outbox = outbox
        self._registry = registry
        self._poller = poller
        self._report = report
        self._empty_polls = 0

    async def poll(self) -> float:
        """Look once; returns the seconds until the next look."""
        options = self._outbox.options
        recovered = await recover(self._outbox, self._registry, report=self._report)
        if recovered.reset:
            self._poller.wake()
        self._empty_polls = 1 if recovered.reset or recovered.failed else self._empty_polls + 1
        delay = idle_delay(self._empty_polls, interval=options.poll_interval, longest=options.max_poll_interval)
        return jittered(delay, options.random)
