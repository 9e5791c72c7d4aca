"""The writes by which events enter a queue: APPEND, SPLIT and SPILL, as arguments of DynamoDB's operations.

- APPEND adds ids to `ids`, and creates the queue if there is none. It is refused if `ids` has no room, or if the first
  of the ids is listed already, because an earlier attempt was applied.
- SPLIT makes the full `ids` the `head`, and begins new `ids`.
- SPILL moves the full `ids` to a new page, where there is a `head` already.

DynamoDB carries out the writes of one item one after the other. So the order of the appends is the order of the queue,
whatever the clocks of the emitters say. The writes are `UpdateItem`s, since a PartiQL UPDATE creates no item.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Any, Final

from dynamodb_outbox.dynamodb.items.codec import millis
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.ordering.queue import NOBODY, WIDTH, Queue, id_list, queue_id
from dynamodb_outbox.dynamodb.schema.shards import SHARD_ATTRIBUTE, Shards
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.worker_identity import worker_identity

_APPEND: Final = (
    "SET ids = list_append(if_not_exists(ids, :none), :new), #status = if_not_exists(#status, :status), "
    "gsiSortKey = if_not_exists(gsiSortKey, :at), claimToken = if_not_exists(claimToken, :token), "
    "startedOn = if_not_exists(startedOn, :now), retryCount = if_not_exists(retryCount, :zero), orderingKey = :key"
)
_MAY_APPEND: Final = (
    "attribute_not_exists(id) OR (size(ids) <= :room AND NOT contains(ids, :first) "
    "AND (attribute_not_exists(head) OR NOT contains(head, :first)))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """What a new queue begins with: claimed by this worker until `ends` (epoch seconds), or PENDING at `now`."""

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
    birth: Birth
    shards: Shards

    def append(self, table_name: str) -> dict[str, Any]:
        """Return the arguments of the `Update` that appends the ids, or creates the queue."""
        birth, status = self.birth, self.birth.status
        update, values = _APPEND, self._values("new", "none", "first", "room")
        values |= {
            ":status": {"S": status.value},
            ":at": millis(birth.now if birth.ends is None else birth.ends),
            ":token": {"S": birth.token},
            ":now": millis(birth.now),
            ":zero": {"N": "0"},
            ":key": {"S": self.key},
        }
        if status is EventStatus.PROCESSING:
            update += ", claimedBy = if_not_exists(claimedBy, :worker)"
            values[":worker"] = {"S": worker_identity.text}
        if self.shards.count > 1:
            update += f", {SHARD_ATTRIBUTE} = if_not_exists({SHARD_ATTRIBUTE}, :shard)"
            values[":shard"] = self.shards.key(status.value, queue_id(self.key))
        return {**self._update(table_name, update, _MAY_APPEND, values), "ExpressionAttributeNames": _NAMES}

    def split(self, table_name: str) -> dict[str, Any]:
        """Return the arguments of the `Update` that makes the full `ids` the head."""
        condition = "attribute_not_exists(head) AND size(ids) > :room AND NOT contains(ids, :first)"
        return self._update(table_name, "SET head = ids, ids = :new", condition, self._values("new", "first", "room"))

    def spill(self, table_name: str, seen: Queue) -> list[dict[str, Any]]:
        """Return the items of the transaction that moves the full `ids` to a page. `seen` has a head."""
        is_first = seen.pages == 0
        queue = replace(seen, epoch=token_hex(8), first_page=1, last_page=0) if is_first else seen
        number = queue.last_page + 1
        values = {**self._values("new"), ":seen": id_list(seen.ids), ":number": {"N": str(number)}}
        update, condition = "SET ids = :new, lastPage = :number", "attribute_exists(head) AND ids = :seen"
        if is_first:
            update += ", firstPage = :number, epoch = :epoch"
            condition += " AND (attribute_not_exists(lastPage) OR firstPage > lastPage)"
            values[":epoch"] = {"S": queue.epoch}
        else:
            condition += " AND lastPage = :last AND epoch = :epoch"
            values |= {":last": {"N": str(queue.last_page)}, ":epoch": {"S": queue.epoch}}
        page = {"id": {"S": queue.page_id(number)}, "ids": id_list(seen.ids)}
        put = {"TableName": table_name, "Item": page, "ConditionExpression": "attribute_not_exists(id)"}
        return [{"Put": put}, {"Update": self._update(table_name, update, condition, values)}]

    def is_listed(self, seen: Queue) -> bool:
        """Tell whether an earlier attempt was applied, as far as the queue itself shows."""
        return self.ids[0] in seen.known_ids

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
