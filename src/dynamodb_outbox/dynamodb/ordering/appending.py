"""The writes by which events enter a queue: APPEND, SPLIT and SPILL, as arguments of DynamoDB's operations.

- APPEND adds ids to `ids`, and creates a missing queue. It is refused if `ids` has no room, or if the first
  of the ids is listed already, because an earlier attempt was applied.
- SPLIT makes the full `ids` the `head`, and begins new `ids`.
- SPILL moves the full `ids` to a new page, where there is a `head` already.

DynamoDB carries out the writes of one item one after the other. So the order of the appends is the order of the queue,
whatever the clocks of the emitters say. The writes are `UpdateItem`s, since a PartiQL UPDATE creates no item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Any, Final

from dynamodb_outbox.dynamodb.items.codec import millis
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.ordering.queue import NOBODY, WIDTH, Queue, id_list, queue_id
from dynamodb_outbox.dynamodb.schema.shards import SHARD_ATTRIBUTE, Shards
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.worker_identity import worker_identity

_APPEND: Final = "SET ids = list_append(if_not_exists(ids, :none), :new), "
_BEGIN: Final = (
    "#status = if_not_exists(#status, :status), gsiSortKey = if_not_exists(gsiSortKey, :at), "
    "claimToken = if_not_exists(claimToken, :token), startedOn = if_not_exists(startedOn, :now), "
    "retryCount = if_not_exists(retryCount, :zero), orderingKey = :key"
)
_MAY_APPEND: Final = (
    "attribute_not_exists(id) OR (size(ids) <= :room AND NOT contains(ids, :first) "
    "AND (attribute_not_exists(head) OR NOT contains(head, :first)))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewQueue:
    """The delivery of a new queue: claimed by this worker until `ends` (epoch seconds), or PENDING at `now`."""

    now: float
    token: str = NOBODY
    ends: float | None = None

    @property
    def status(self) -> EventStatus:
        """The status of the new queue."""
        return EventStatus.PENDING if self.ends is None else EventStatus.PROCESSING


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """Ids of one key that enter its queue together, and the writes that do it."""

    key: str
    ids: tuple[str, ...]
    new_queue: NewQueue
    shards: Shards

    def append(self, table_name: str) -> dict[str, Any]:
        """Return the arguments of the `Update` that appends the ids, or creates the queue."""
        begin, values = self._begin()
        values = self._values("new", "none", "first", "room") | values
        return self._update(table_name, _APPEND + begin, _MAY_APPEND, values) | {"ExpressionAttributeNames": _NAMES}

    def split(self, table_name: str) -> dict[str, Any]:
        """Return the arguments of the `Update` that makes the full `ids` the head."""
        condition = "attribute_not_exists(head) AND size(ids) > :room AND NOT contains(ids, :first)"
        return self._update(table_name, "SET head = ids, ids = :new", condition, self._values("new", "first", "room"))

    def spill(self, table_name: str, seen: Queue) -> list[dict[str, Any]]:
        """Return the items of the transaction that moves the full `ids` to a page. `seen` has a head."""
        return self._lengthen(table_name, seen, [seen.ids], self.ids)

    def entries(self, table_name: str, seen: Queue | None) -> list[dict[str, Any]]:
        """Return the items of a transaction that appends the ids to the queue as it was seen; the `Update` is the last.

        These may be more ids than fit into one list: then new pages, or a new head, have the first of them.
        """
        if len(self.ids) <= WIDTH:
            if seen is None or len(seen.ids) + len(self.ids) <= WIDTH:
                return [{"Update": self.append(table_name)}]
            return self.spill(table_name, seen) if seen.head else [{"Update": self.split(table_name)}]
        *full, last = [self.ids[start : start + WIDTH] for start in range(0, len(self.ids), WIDTH)]
        if seen is not None and seen.head:
            full.insert(0, seen.ids)
        return self._lengthen(table_name, seen, full, last)

    def _lengthen(
        self, table_name: str, seen: Queue | None, full: Sequence[tuple[str, ...]], last: tuple[str, ...]
    ) -> list[dict[str, Any]]:
        """Return the items that store full lists as pages, and let the queue go on with the last list.

        A queue without a head gets one: its `ids`, or the first full list if there is no queue.
        """
        names, values = {}, {":new": id_list(last)}
        if seen is None:
            begin, begin_values = self._begin()
            update, condition, names = f"SET ids = :new, head = :head, {begin}", "attribute_not_exists(id)", _NAMES
            values |= begin_values | {":head": id_list(full[0])}
            full = full[1:]
        else:
            update = "SET ids = :new" if seen.head else "SET head = ids, ids = :new"
            condition = f"{'attribute_exists' if seen.head else 'attribute_not_exists'}(head) AND ids = :seen"
            values[":seen"] = id_list(seen.ids)
        is_first = seen is None or not seen.head or seen.pages == 0
        queue = replace(_NO_PAGES, key=self.key, epoch=token_hex(8)) if seen is None or is_first else seen
        if full:
            update += ", lastPage = :number"
            values |= {":number": _number(queue.last_page + len(full)), ":epoch": {"S": queue.epoch}}
        if full and is_first:
            update += ", firstPage = :first, epoch = :epoch"
            values[":first"] = _number(queue.first_page)
            if seen is not None and seen.head:
                condition += " AND (attribute_not_exists(lastPage) OR firstPage > lastPage)"
        elif full:
            condition += " AND lastPage = :last AND epoch = :epoch"
            values[":last"] = _number(queue.last_page)
        pages = [self._page(table_name, queue, number, ids) for number, ids in enumerate(full, queue.last_page + 1)]
        changed = self._update(table_name, update, condition, values)
        return [*pages, {"Update": changed | ({"ExpressionAttributeNames": names} if names else {})}]

    def _page(self, table_name: str, queue: Queue, number: int, ids: tuple[str, ...]) -> dict[str, Any]:
        page = {"id": {"S": queue.page_id(number)}, "ids": id_list(ids)}
        return {"Put": {"TableName": table_name, "Item": page, "ConditionExpression": "attribute_not_exists(id)"}}

    def _begin(self) -> tuple[str, dict[str, AttributeValue]]:
        """Return what a new queue begins with: assignments that change nothing of an existing one, and their values."""
        new_queue, status, begin = self.new_queue, self.new_queue.status.value, _BEGIN
        values: dict[str, AttributeValue] = {
            ":status": {"S": status},
            ":at": millis(new_queue.now if new_queue.ends is None else new_queue.ends),
            ":token": {"S": new_queue.token},
            ":now": millis(new_queue.now),
            ":zero": {"N": "0"},
            ":key": {"S": self.key},
        }
        if new_queue.ends is not None:
            begin += ", claimedBy = if_not_exists(claimedBy, :worker)"
            values[":worker"] = {"S": worker_identity.text}
        if self.shards.count > 1:
            begin += f", {SHARD_ATTRIBUTE} = if_not_exists({SHARD_ATTRIBUTE}, :shard)"
            values[":shard"] = self.shards.key(status, queue_id(self.key))
        return begin, values

    def _values(self, *names: str) -> dict[str, AttributeValue]:
        values: Mapping[str, AttributeValue] = {
            "new": id_list(self.ids),
            "none": {"L": []},
            "first": {"S": self.ids[0]},
            "room": {"N": str(WIDTH - len(self.ids))},
        }
        return {f":{name}": values[name] for name in names}

    def _update(
        self, table_name: str, update: str, condition: str, values: dict[str, AttributeValue]
    ) -> dict[str, Any]:
        return {
            "TableName": table_name,
            "Key": {"id": {"S": queue_id(self.key)}},
            "UpdateExpression": update,
            "ConditionExpression": condition,
            "ExpressionAttributeValues": values,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }


_NAMES: Final = {"#status": "status"}
_NO_PAGES: Final = Queue(key="", ids=(), first_page=1, last_page=0)


def _number(number: int) -> AttributeValue:
    return {"N": str(number)}
