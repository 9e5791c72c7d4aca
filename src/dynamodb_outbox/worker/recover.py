"""Recovery: looking for events whose lease ran out, and waking the poller for them."""

from __future__ import annotations

from dynamodb_outbox.outbox import Outbox
from dynamodb_outbox.reporting import logger
from dynamodb_outbox.worker.backoff import jittered
from dynamodb_outbox.worker.cycle import Alarm


class Recoverer:
    """Resets what dead workers left behind."""

    def __init__(self, outbox: Outbox, *, poller: Alarm) -> None:
        self._outbox = outbox
        self._poller = poller

    async def look(self) -> float:
        """Look once; returns the seconds until the next look."""
        options = self._outbox.options
        recovered = await self._outbox.recover()
        if recovered.reset:
            self._poller.ring()
        if recovered.reset or recovered.failed:
            logger.warning(
                "%d events recovered whose lease had run out, %d of them set aside as FAILED: a worker died or hung",
                len(recovered.reset) + len(recovered.failed),
                len(recovered.failed),
            )
        return jittered(options.poll_interval, options.random)
