"""Observations of a worker, its calls of the storage, and its window."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """A poll succeeded and claimed `claims` events. Now `slots_taken` of the `slots` of this worker are taken.

    While all events are held, a poll reads the holds only.
    """

    claims: int
    slots: int
    slots_taken: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageCalled:
    """A call of the storage ended, after `seconds`.

    `operation` is `publish`, `transact`, `claim`, `settle`, `renew` or `recover`. `events` is the number of events that
    the call was about. `error` is what it raised, or the first error among its answers.
    """

    operation: str
    events: int
    seconds: float
    error: BaseException | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PollingFailed:
    """Polling, recovery or the renewal of leases failed; the next try is in `retry_in` seconds."""

    loop: str
    errors: int
    retry_in: float
    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttled:
    """DynamoDB throttled a call, which is repeated with backoff."""

    operation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlersDiffer:
    """Another worker of the table has other handlers of a type than this worker, which has `handlers`.

    `worker` is the name of the other worker, and `seconds` is the age of its announcement. There is one observation for
    each type and each different set of handlers.
    """

    event_type: str
    handlers: tuple[str, ...]
    worker: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowOpened:
    """This worker has a window from now on: it stores the events that it claims on emit outside of the index.

    One write every third of a lease renews the leases of all these events.
    """

    window: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowLost:
    """This worker could not renew its window in time. The handlers of the `events` in the window were cancelled."""

    window: str
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRecovered:
    """This worker recovered the window of a worker that died or hung.

    `events` counts the events that are PENDING or FAILED now, and `tombstones` the ids that no event can have any more.
    """

    window: str
    events: int
    tombstones: int
