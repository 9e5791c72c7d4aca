"""The contents of a transaction: writes of the user, events, the queues of their keys, and the record of a handler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from dynamodb_outbox.claims import EmitClaim, HandlerDone
from dynamodb_outbox.dynamodb.emitting.forms import Forms
from dynamodb_outbox.dynamodb.emitting.handler_record import HandlerRecord, HandlerRecords
from dynamodb_outbox.dynamodb.emitting.transact_items import check_size, most_items_for
from dynamodb_outbox.dynamodb.items.codec import Item, encode_event
from dynamodb_outbox.dynamodb.items.values import text_size
from dynamodb_outbox.dynamodb.ordering.appending import Append, NewQueue
from dynamodb_outbox.dynamodb.ordering.claims_on_emit import ClaimsOnEmit, FirstEvent
from dynamodb_outbox.dynamodb.ordering.queue import NOBODY, Queue, queue_id
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.windows.window import Entry
from dynamodb_outbox.event import Event
from dynamodb_outbox.port import OutboxOptions
from dynamodb_outbox.transaction import TransactionWrite

_QUEUE_BYTES: Final = 1_536
"""The size of a queue without its key and the new ids: its other attributes, and 20 UUIDs that wait already."""


@dataclass(slots=True, eq=False)
class TransactionPut:
    """An event of a transaction: its item without a claim, its item as it is sent, and its entry in the window."""

    event: Event
    pending: Item
    item: Item
    entry: Entry | None = None
    is_new_id: bool = False
    """Whether this process made the id, and never sent it before."""


@dataclass(slots=True, eq=False)
class LineWrite:
    """The events of a transaction that have one ordering key, and the queue of the key as it was last seen."""

    append: Append
    seen: Queue | None = None
    first_event: FirstEvent | None = None
    """The first of them, if an attempt may have created the queue with its claim."""
    refusals: int = 0

    def plan_again(self, seen: Queue | None, *, is_doubtful: bool) -> None:
        """Fit the next attempt to the queue as it is now, without a claim.

        If an earlier attempt may still be applied, `first_event` stays, so that its claim is found.
        """
        self.seen = seen
        self.refusals += 1
        if self.first_event is not None:
            self.append = replace(self.append, new_queue=NewQueue(now=self.append.new_queue.now))
            self.first_event = self.first_event if is_doubtful else None

    @property
    def most_items(self) -> int:
        """How many items of a transaction the append takes at most."""
        return most_items_for(len(self.append.ids))

    @property
    def size(self) -> int:
        """How many bytes these items take, unless the ids that wait already are long."""
        ids = sum(text_size(each) for each in self.append.ids)
        return ids + self.most_items * (text_size(self.append.key) + _QUEUE_BYTES)


@dataclass(slots=True, kw_only=True)
class Contents:
    """The contents of a transaction."""

    writes: list[dict[str, Any]]
    puts: list[TransactionPut]
    lines: list[LineWrite] = field(default_factory=list[LineWrite])
    record: HandlerRecord | None = None
    is_doubtful: bool = False
    """Whether an attempt was not answered: it may have been applied, and may still be."""

    @property
    def first_events(self) -> dict[str, FirstEvent]:
        """By ordering key: the first event, if an attempt may have created the queue with its claim."""
        return {line.append.key: line.first_event for line in self.lines if line.first_event is not None}


class ContentsEncoder:
    """Encodes transactions."""

    def __init__(
        self,
        options: OutboxOptions,
        *,
        forms: Forms,
        claims: ClaimsOnEmit,
        records: HandlerRecords,
        shards: Shards,
    ) -> None:
        self._options = options
        self._claims = claims
        self._forms = forms
        self._records = records
        self._shards = shards

    def encode(
        self,
        writes: Sequence[TransactionWrite],
        events: Sequence[tuple[Event, float | None]],
        *,
        done: HandlerDone | None = None,
        emit_claim: EmitClaim | None = None,
    ) -> Contents:
        """Encode a transaction. Raises what `Outbox.transact` raises before anything is sent."""
        now = self._options.clock()
        numbers = self._options.numbers
        encoded = [
            encode_event(event, due_at=now if due_at is None else due_at, numbers=numbers) for event, due_at in events
        ]
        record = None if done is None else self._records.of(done)
        lines = self._line_writes([event for event, _ in events], record, now=now)
        transact_items = check_size(
            writes,
            events=[size for _, size in encoded],
            records=0 if record is None else record.count,
            queues=_line_size(lines, record),
        )
        tokens = {} if emit_claim is None else emit_claim.tokens
        pairs = zip(events, encoded, strict=True)
        puts = [self._put_of(event, item, tokens.get(event.id)) for (event, _), (item, _) in pairs]
        if emit_claim is not None:
            self._claim(lines, puts, emit_claim)
        return Contents(writes=transact_items, puts=puts, lines=lines, record=record)

    def _line_writes(self, events: Sequence[Event], record: HandlerRecord | None, *, now: float) -> list[LineWrite]:
        """Plan the appends: as if no queue existed, except the queue that this delivery holds."""
        by_key: dict[str, list[str]] = {}
        for event in events:
            if event.ordering_key is not None:
                by_key.setdefault(event.ordering_key, []).append(event.id)
        held = None if record is None else record.queue
        lines: list[LineWrite] = []
        for key, ids in by_key.items():
            is_held = held is not None and held.key == key
            # The token of a queue that exists stays as it is. This value also stands for it in the record.
            token = record.done.claim.token if record is not None and is_held else NOBODY
            new_queue = NewQueue(now=now, token=token)
            append = Append(key=key, ids=tuple(ids), new_queue=new_queue, shards=self._shards)
            lines.append(LineWrite(append, held if is_held else None))
        return lines

    def _claim(self, lines: Sequence[LineWrite], puts: Sequence[TransactionPut], emit_claim: EmitClaim) -> None:
        """Claim the queues that the transaction creates, if their first events have tokens."""
        items = {put.event.id: put.pending for put in puts}
        for line in lines:
            first = line.append.ids[0]
            if line.seen is None and first in emit_claim.tokens:
                line.first_event = self._claims.first_event(first, items[first], emit_claim)
                line.append = replace(line.append, new_queue=self._claims.new_queue(line.first_event))

    def _put_of(self, event: Event, item: Item, token: str | None) -> TransactionPut:
        is_new_id = event.take_unpublished()
        if event.ordering_key is not None:
            return TransactionPut(event, item, item, is_new_id=is_new_id)
        item = self._shards.placed(item)
        if token is None:
            return TransactionPut(event, item, item, is_new_id=is_new_id)
        entry = self._forms.enter(event, token) if is_new_id else None
        claimed = self._forms.claimed(item, token=token, entry=entry)
        return TransactionPut(event, item, claimed, entry, is_new_id=is_new_id)


def _line_size(lines: Sequence[LineWrite], record: HandlerRecord | None) -> tuple[int, int]:
    """Count the items that the queues of a transaction take at most, and their bytes."""
    joined = record is not None and any(queue_id(line.append.key) == record.update["Key"]["id"]["S"] for line in lines)
    return sum(line.most_items for line in lines) - joined, sum(line.size for line in lines)
