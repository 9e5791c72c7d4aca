"""Events that are stored, and wait until the queue of their key lists them. Makes no requests."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

import anyio

from dynamodb_outbox.claims import Claim, EmitClaim
from dynamodb_outbox.dynamodb.items.codec import Item
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.ordering.queue import NOBODY, WIDTH
from dynamodb_outbox.errors import StorageError


class Moment(NamedTuple):
    """A time by both clocks: that of the event loop stands still while a virtual machine is suspended."""

    loop: float
    clock: float

    @classmethod
    def now(cls, clock: Callable[[], float]) -> Self:
        """Return the time; `clock` is that of the outbox, in epoch seconds."""
        return cls(anyio.current_time(), clock())

    def since(self, earlier: Moment) -> float:
        """Return how many seconds have passed by the clock that has seen more of them."""
        return max(self.loop - earlier.loop, self.clock - earlier.clock)


LONG_AGO: Final = Moment(-math.inf, -math.inf)


@dataclass(slots=True, eq=False)
class Arrival:
    """An event that is to be appended to the queue of its key, and its result."""

    event_id: str
    began: Moment = LONG_AGO
    """When the emit began to store it."""
    is_new: bool = True
    """Whether the caller has just stored the event. Otherwise the queue may list it already."""
    is_sole: bool = True
    """Whether no other emit can have the id: this process has made it, and sends it for the first time."""
    item: Item = field(default_factory=dict[str, AttributeValue], repr=False)
    """The event as it is stored, if it has an `emit_claim`."""
    emit_claim: EmitClaim | None = None
    """The claim of the event on emit, if its write creates the queue."""
    error: StorageError | None = None
    submission: Submission = field(init=False, repr=False)

    @property
    def token(self) -> str:
        """The token of the claim on emit."""
        return NOBODY if self.emit_claim is None else self.emit_claim.tokens[self.event_id]

    def claimed(self, claim: Claim) -> None:
        """Hand the claim on."""
        if self.emit_claim is not None:
            self.emit_claim.claimed(claim)

    @property
    def is_wanted(self) -> bool:
        """Whether its caller still waits for it."""
        return not self.submission.done.done()


class Submission:
    """The arrivals of one call and one key, in the order of the call. The queue lists a first part of them, or all.

    `since` is when they began to wait, in the time of the event loop.
    """

    def __init__(self, arrivals: Sequence[Arrival], *, since: float) -> None:
        self.since = since
        # It is cancelled together with the task that awaits it.
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = list(arrivals)
        for arrival in arrivals:
            arrival.submission = self

    def list(self, arrival: Arrival) -> None:
        """Note that the queue lists an arrival."""
        self._left.remove(arrival)
        if not self._left and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: StorageError, sent: Iterable[Arrival] = ()) -> None:
        """Note why no further arrival is listed. Arrivals that were sent may be listed, all others are not."""
        for arrival in self._left:
            arrival.error = error if arrival in sent else behind(arrival.event_id, error)
        if not self.done.done():
            self.done.set_result(None)


def take(waiting: deque[Arrival]) -> list[Arrival]:
    """Take the arrivals that the next write appends. Arrivals whose callers gave up are dropped.

    An append is refused if the queue lists its first id already. So an event that may be listed already goes alone.
    """
    taken: list[Arrival] = []
    while waiting and len(taken) < WIDTH:
        if not waiting[0].is_wanted:
            waiting.popleft()
            continue
        if taken and not waiting[0].is_new:
            break
        taken.append(waiting.popleft())
        if not taken[-1].is_new:
            break
    return taken


def behind(event_id: str, cause: Exception) -> StorageError:
    """Return the error of an event that is stored, but not listed, because an earlier event could not be listed."""
    error = StorageError(
        f"event {event_id!r} is stored, but is not delivered before you emit it again: it was not appended to the "
        f"queue of its ordering key, because an event before it in the list could not be appended: {cause}"
    )
    error.maybe_applied = True
    return error
