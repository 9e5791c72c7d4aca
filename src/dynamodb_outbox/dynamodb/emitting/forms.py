"""How a new event is stored: PENDING, claimed in the index, or claimed in a window and in no index.

A recovery of a window stores a tombstone under every id that it does not find. So no event may be stored in a window
over a tombstone, because no recovery would find it. Such an event is stored in the index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import anyio

from dynamodb_outbox.dynamodb.conditional.transitions import RELEASE, Write
from dynamodb_outbox.dynamodb.conditional.write_result import WriteResult
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.items.codec import Item, encode_claimed, encode_unlisted, millis
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.windows.item import VOID
from dynamodb_outbox.dynamodb.windows.keeper import WindowKeeper
from dynamodb_outbox.dynamodb.windows.window import Entry
from dynamodb_outbox.event import Event
from dynamodb_outbox.port import OutboxOptions
from dynamodb_outbox.worker_identity import worker_identity

_IF_NEW: Final[Mapping[str, Any]] = {"ConditionExpression": "attribute_not_exists(id)"}
_IF_NEW_OR_VOID: Final[Mapping[str, Any]] = {
    "ConditionExpression": "attribute_not_exists(id) OR #status = :void",
    "ExpressionAttributeNames": {"#status": "status"},
    "ExpressionAttributeValues": {":void": {"S": VOID}},
}


def condition_of(entry: Entry | None) -> Mapping[str, Any]:
    """Return the condition of the put of a new event: in a window if there is an entry, else in the index."""
    return _IF_NEW_OR_VOID if entry is None else _IF_NEW


def is_tombstone(item: Any) -> bool:
    """Tell whether the item that refused a put is a tombstone."""
    return isinstance(item, Mapping) and item.get("status") == {"S": VOID}


class Forms:
    """Makes the items of events that are claimed on emit, in a window where that is possible."""

    def __init__(
        self,
        keeper: WindowKeeper,
        writer: ConditionalWriter,
        options: OutboxOptions,
        *,
        shards: Shards,
        timing: Timing,
    ) -> None:
        self.keeper = keeper
        self._writer = writer
        self._options = options
        self._shards = shards
        self._timing = timing

    def enter(self, event: Event, token: str) -> Entry | None:
        """Let an event that was never sent into the window, just before its write is sent; None if it cannot."""
        return self.keeper.enter(event, token)

    def count(self, event: Event, token: str) -> None:
        """Count an event that is claimed on emit, and stored in the index. Many of them are worth a window."""
        if (entry := self.keeper.enter(event, token)) is not None:
            self.keeper.not_stored(entry)

    def claimed(self, pending: Item, *, token: str, entry: Entry | None) -> Item:
        """Return a PENDING item as a claimed one, whose lease begins now or is that of its window."""
        now, worker = self._options.clock(), worker_identity.text
        if entry is not None:
            return encode_unlisted(pending, token=token, worker=worker, window=entry.window.name, now=now)
        ends = now + self._options.processing_timeout
        claimed = encode_claimed(pending, token=token, worker=worker, now=now, lease_expires_at=ends)
        return self._shards.placed(claimed)

    def is_over(self, entry: Entry) -> bool:
        """Tell whether the lease of the entry's window has ended, so that a recovery may have passed the event."""
        lease = entry.window.lease
        return lease.is_lost or anyio.current_time() >= lease.ends or self._options.clock() >= lease.expires_at

    async def release(self, entries: Sequence[Entry]) -> list[WriteResult]:
        """Release events that were stored in a window after its end: make them PENDING, in the index.

        Example: the process stands still for two days between the choice of the window and the write. By then, the
        window and its tombstones are deleted, and no recovery would find the event.
        """
        due = millis(self._options.clock())
        writes = [Write(RELEASE, each.event_id, {"token": {"S": each.token}, "due": due}) for each in entries]
        return await self._writer.write(writes, within=self._timing.late_settle, urgent=True)
