"""Waiting for events: the next one of a type, or the end of all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import anyio

from dynamodb_outbox.errors import OutboxError, WaitTimeoutError
from dynamodb_outbox.event import Event, EventStatus
from dynamodb_outbox.outcome import Completed, Outcome
from dynamodb_outbox.port import Claim, Outbox

UNFINISHED: Final = (EventStatus.PENDING, EventStatus.PROCESSING)
FIRST_LOOK: Final = 0.02
ROUNDS: Final = 2
"""Empty looks in a row that count as drained: an event may change its status between two queries."""
NAMED_TYPES: Final = 5
"""How many of the types without a handler an error names."""


class Waiters:
    """Those who wait for the next completed event of a type."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[tuple[anyio.Event, list[Event]]]] = {}

    async def next_of(self, event_type: str) -> Event:
        """Wait for the next event of the type."""
        entry: tuple[anyio.Event, list[Event]] = (anyio.Event(), [])
        self._waiting.setdefault(event_type, []).append(entry)
        try:
            await entry[0].wait()
        finally:
            self._forget(event_type, entry)
        return entry[1][0]

    def _forget(self, event_type: str, entry: tuple[anyio.Event, list[Event]]) -> None:
        # A completed event has taken the entries of its type away already.
        entries = self._waiting.get(event_type, [])
        if entry in entries:
            entries.remove(entry)
            if not entries:
                del self._waiting[event_type]

    def on_settled(self, claim: Claim, outcome: Outcome, error: OutboxError | None) -> None:
        """Hand an event whose completion is stored to all waiters for its type."""
        if error is None and isinstance(outcome, Completed):
            self.completed(claim.event)

    def completed(self, event: Event) -> None:
        """Hand an event to all waiters for its type."""
        for signal, result in self._waiting.pop(event.type, []):
            result.append(event)
            signal.set()

    def clear(self) -> None:
        """Forget the waiters of an event loop that is closed."""
        self._waiting.clear()


class DrainingWorker(Protocol):
    """The worker of this process, if there is one."""

    @property
    def busy(self) -> bool:
        """Whether events are in flight in this worker."""
        ...

    @property
    def running(self) -> bool:
        """Whether it looks for events."""
        ...


async def wait_until_drained(
    outbox: Outbox,
    *,
    timeout: float | None,
    worker: Callable[[], DrainingWorker | None],
    unhandled: Callable[[], Sequence[str]],
) -> None:
    """Look until nothing is unfinished; less often the longer it takes, up to the poll interval."""
    left: dict[str, int] = {}
    with anyio.move_on_after(timeout):
        delay, empty = FIRST_LOOK, 0
        while empty < ROUNDS:
            # What this process holds is unfinished for sure: no query is needed to know.
            here = worker()
            if here is None or not here.busy:
                left = {status.value: await outbox.count(status) for status in UNFINISHED}
                empty = 0 if any(left.values()) else empty + 1
            await anyio.sleep(delay if empty < ROUNDS else 0)
            delay = min(2 * delay, max(outbox.options.poll_interval, FIRST_LOOK))
        return
    counts = ", ".join(f"{count} {status}" for status, count in left.items()) or "events in flight"
    types = ", ".join(repr(event_type) for event_type in unhandled()[:NAMED_TYPES])
    missing = f"; no handler here for {types}" if types else ""
    here = worker()
    stopped = "" if here is not None and here.running else NOT_STARTED
    raise WaitTimeoutError(f"not drained within {timeout:g} s: {counts} left{missing}{stopped}", left=left)


NOT_STARTED: Final = (
    "; no worker is started here: use `async with bus` or `await bus.start()`, unless other processes handle the events"
)
"""What the errors of `drain` and `wait_for` add where the bus has no worker."""
