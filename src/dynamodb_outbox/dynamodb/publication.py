"""The events of one publish: what is to be stored, in which requests, and what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from dynamodb_outbox.dynamodb.codec import Item, decode_claim
from dynamodb_outbox.dynamodb.faults import doubtful
from dynamodb_outbox.errors import OutboxError, StorageError, ThrottledError, UnavailableError
from dynamodb_outbox.event import Event
from dynamodb_outbox.outbox import Birth, Numbers

MAX_BATCH_ITEMS: Final = 25
MAX_BATCH_BYTES: Final = 900_000
"""A request may have 16 MB, but a body over 1 MiB holds up the event loop, as aiohttp warns."""


@dataclass(slots=True, eq=False)
class Put:
    """An event to be stored; `item` and `maybe_stored` change while that is tried."""

    event: Event
    item: Item
    size: int
    unpublished: bool
    birth: Birth | None
    written: asyncio.Future[None] | None = None
    maybe_stored: bool = False
    """Whether a batch with this event was not answered."""


class Publication:
    """What became of the events of one publish."""

    def __init__(self, *, numbers: Numbers) -> None:
        self._numbers: Numbers = numbers
        self.causes: dict[str, OutboxError] = {}
        self.known: set[str] = set()
        self.given_up: ThrottledError | UnavailableError | None = None
        """Why an event could not be stored until its deadline: those that still wait need not try."""

    def fail(self, puts: Iterable[Put], error: OutboxError) -> None:
        """Note why events could not be stored."""
        self.causes.update({put.event.id: _as_told(error, put) for put in puts})
        if isinstance(error, (ThrottledError, UnavailableError)):
            self.given_up = error

    def fail_unsent(self, puts: Iterable[Put], error: ThrottledError | UnavailableError) -> None:
        """Note that events were not sent, for this became of others."""
        self.fail(puts, _restated(error, maybe_applied=False))

    def stored(self, *puts: Put) -> None:
        """Note that events are stored: of those that are claimed, the handlers may be called."""
        for put in puts:
            self.known.add(put.event.id)
            if put.birth is not None:
                put.birth.claimed(decode_claim(put.item, numbers=self._numbers))


def chunks_of(puts: Sequence[Put]) -> list[list[Put]]:
    """Divide events among requests."""
    chunks: list[list[Put]] = []
    size = 0
    for put in puts:
        if not chunks or len(chunks[-1]) == MAX_BATCH_ITEMS or size + put.size > MAX_BATCH_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append(put)
        size += put.size
    return chunks


def is_same_event(sent: Item, stored: object) -> bool:
    """Tell whether the stored item is the one that we sent; what delivery changes since then does not count."""
    if not isinstance(stored, dict):
        return False
    ours = ("id", "type", "occurredAt", "claimToken") if "claimToken" in sent else ("id", "type", "occurredAt")
    return all(stored.get(name) == sent[name] for name in ours)


def _as_told(error: OutboxError, put: Put) -> OutboxError:
    """Say of a write that was given up whether an earlier attempt, in a batch, may have been applied."""
    if not put.maybe_stored or not isinstance(error, StorageError) or error.maybe_applied:
        return error
    if isinstance(error, (ThrottledError, UnavailableError)):
        return _restated(error, maybe_applied=True)
    return doubtful(error)


def _restated(error: ThrottledError | UnavailableError, *, maybe_applied: bool) -> ThrottledError | UnavailableError:
    restated = type(error)(
        operation=error.operation, attempts=error.attempts, reason=error.reason, maybe_applied=maybe_applied
    )
    restated.__cause__ = error.__cause__
    return restated
