"""Events with ordering keys: once they are stored, the queues of their keys have to list them.

An emit that ends in between leaves an event that is stored and not listed. It is never delivered, and its emit has
not returned. If the id is emitted again, the put is refused, and the event is appended.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from dynamodb_outbox.claims import EmitClaim
from dynamodb_outbox.dynamodb.emitting.publish_result import Place, Put
from dynamodb_outbox.dynamodb.ordering.arrivals import Arrival, Moment, behind
from dynamodb_outbox.dynamodb.ordering.lines import Lines
from dynamodb_outbox.dynamodb.transport.classify import with_maybe_applied
from dynamodb_outbox.errors import StorageError


class OrderedEvents:
    """Appends stored events to the queues of their keys: the keys side by side, each in the order of the list."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    async def append(self, puts: Sequence[Put], emit_claim: EmitClaim | None, *, began: Moment) -> None:
        """Append the events that are stored; note an error in the put of each event that could not be appended.

        Events of `emit_claim` are claimed if their append creates the queue. `began` is when their puts began.
        """
        by_key: dict[str, list[Put]] = {}
        for put in puts:
            if put.key is not None:
                by_key.setdefault(put.key, []).append(put)
        if len(by_key) == 1:
            await self._append(*by_key.popitem(), emit_claim, began)
            return
        async with anyio.create_task_group() as group:
            for key, of_key in by_key.items():
                group.start_soon(self._append, key, of_key, emit_claim, began)

    async def finish(self) -> None:
        """Wait until the appends that go on without their callers are answered."""
        await self._lines.finish()

    async def _append(self, key: str, puts: Sequence[Put], emit_claim: EmitClaim | None, began: Moment) -> None:
        arrivals = {put: _arrival_of(put, emit_claim, began) for put in _without_gap(puts)}
        await self._lines.join(key, list(arrivals.values()))
        for put, arrival in arrivals.items():
            # An event that was stored before stays a duplicate.
            if arrival.error is not None:
                why = f"event {put.event.id!r} is stored, but is not delivered before you emit it again"
                put.error = with_maybe_applied(arrival.error, why=why)


def _arrival_of(put: Put, emit_claim: EmitClaim | None, began: Moment) -> Arrival:
    is_claimed = emit_claim is not None and put.event.id in emit_claim.tokens
    return Arrival(
        put.event.id,
        began=began,
        is_new=put.place is Place.NEW,
        is_sole=put.unpublished,
        item=put.item,
        emit_claim=emit_claim if is_claimed else None,
    )


def _without_gap(puts: Sequence[Put]) -> list[Put]:
    """List the events to append, up to the first event that could not be stored. The later ones fail.

    A later one that was stored before fails, too: the queue may not list it, so its caller must not go on.
    """
    stored: list[Put] = []
    failed: StorageError | None = None
    for put in puts:
        if isinstance(put.error, StorageError):
            failed = failed or put.error
        elif failed is not None:
            if put.place is not Place.OVER:
                put.error = behind(put.event.id, failed)
        elif put.place is not Place.OVER:
            stored.append(put)
    return stored
