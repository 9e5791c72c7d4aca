"""Waiting for events: for the next completed event of a type, or until all events are done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import anyio

from dynamodb_outbox.claims import Claim
from dynamodb_outbox.errors import OutboxError, WaitTimeoutError
from dynamodb_outbox.event import Event, EventStatus
from dynamodb_outbox.outcome import Completed, Outcome
from dynamodb_outbox.port import Outbox

UNFINISHED: Final = (EventStatus.PENDING, EventStatus.PROCESSING, EventStatus.PENDING)
"""The counts of one round, in their order. The queue of an ordering key becomes PENDING after PROCESSING, too."""
FIRST_PAUSE: Final = 0.02
ROUNDS: Final = 2
"""How many empty counts in a row mean drained: an event may change its status between two queries."""
NAMED_TYPES: Final = 5
"""How many types without a handler an error names at most."""


class Waiters:
    """The callers of `wait_for`, each of which waits for the next completed event of a type."""

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
        # A completed event may have removed the entries of its type already.
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
    """The worker of this process, as `drain` and `wait_for` see it."""

    @property
    def busy(self) -> bool:
        """Whether events are in flight in this worker."""
        ...

    @property
    def running(self) -> bool:
        """Whether the worker polls."""
        ...

    @property
    def failure(self) -> Exception | None:
        """Why the worker has ended, if nobody stopped it."""
        ...


async def wait_until_drained(
    outbox: Outbox,
    *,
    timeout: float | None,
    worker: Callable[[], DrainingWorker | None],
    unhandled: Callable[[], Sequence[str]],
) -> None:
    """Count until no event is unfinished, after growing pauses of up to the poll interval: 20, 40, 80 ms and so on.

    Raises the failure of a worker that has ended, if it has left events.
    """
    left: dict[str, int] = {}
    with anyio.move_on_after(timeout):
        delay, empty = FIRST_PAUSE, 0
        while empty < ROUNDS:
            # While this worker has events in flight, a query would only confirm it.
            here = worker()
            failure = None if here is None else here.failure
            if here is None or not here.busy or failure is not None:
                counted: dict[str, int] = {}
                for status in UNFINISHED:
                    counted[status.value] = max(await outbox.count(status), counted.get(status.value, 0))
                left = counted
                if failure is not None and any(left.values()):
                    raise failure
                empty = 0 if any(left.values()) else empty + 1
            await anyio.sleep(delay if empty < ROUNDS else 0)
            delay = min(2 * delay, max(outbox.options.poll_interval, FIRST_PAUSE))
        return
    counts = ", ".join(f"{count} {status}" for status, count in left.items()) or "events in flight"
    types = ", ".join(repr(event_type) for event_type in unhandled()[:NAMED_TYPES])
    missing = f"; no handler here for {types}" if types else ""
    message = f"not drained within {timeout:g} s: {counts} left{missing}{why_not_running(worker())}"
    raise WaitTimeoutError(message, left=left)


_NOT_STARTED: Final = (
    "; no worker is started here: use `async with bus` or `await bus.start()`, unless other processes handle the events"
)


def why_not_running(worker: DrainingWorker | None) -> str:
    """Return what the errors of `drain` and `wait_for` end with if the bus has no worker that runs."""
    if worker is not None and worker.failure is not None:
        return f"; {worker.failure}"
    return "" if worker is not None and worker.running else _NOT_STARTED
