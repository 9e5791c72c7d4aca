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
from dynamodb_outbox.dynamodb.ordering.appending import Append, Birth
from dynamodb_outbox.dynamodb.ordering.births import Bearer, Births
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
    bearer: Bearer | None = None
    refusals: int = 0

    def plan_again(self, seen: Queue | None, *, is_doubtful: bool) -> None:
        """Let the next attempt fit the queue as it is now, and claim nothing. An earlier one may be in doubt."""
        self.seen = seen
        self.refusals += 1
        if self.bearer is not None:
            self.append = replace(self.append, birth=Birth(now=self.append.birth.now))
            self.bearer = self.bearer if is_doubtful else None

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
    def bearers(self) -> dict[str, Bearer]:
        """The events that have the claims of the queues which this transaction may create, by ordering key."""
        return {line.append.key: line.bearer for line in self.lines if line.bearer is not None}


class ContentsEncoder:
    """Encodes transactions."""

    def __init__(
        self, options: OutboxOptions, *, forms: Forms, births: Births, records: HandlerRecords, shards: Shards
    ) -> None:
        self._options = options
        self._births = births
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
            birth = Birth(now=now, token=token)
            append = Append(key=key, ids=tuple(ids), birth=birth, shards=self._shards)
            lines.append(LineWrite(append, held if is_held else None))
        return lines

    def _claim(self, lines: Sequence[LineWrite], puts: Sequence[TransactionPut], emit_claim: EmitClaim) -> None:
        """Claim the queues that the transaction creates, if their first events have tokens."""
        items = {put.event.id: put.pending for put in puts}
        for line in lines:
            first = line.append.ids[0]
            if line.seen is None and first in emit_claim.tokens:
                line.bearer = self._births.expect(first, items[first], emit_claim)
                line.append = replace(line.append, birth=self._births.begin(line.bearer))

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
