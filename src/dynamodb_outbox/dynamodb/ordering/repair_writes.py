"""The writes of an operator to a queue and to the event at its front, as items of one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from dynamodb_outbox.dynamodb.conditional.rendering import update_transact_item
from dynamodb_outbox.dynamodb.conditional.room import Room, fitted
from dynamodb_outbox.dynamodb.conditional.transitions import Write, placed, without_details
from dynamodb_outbox.dynamodb.items.codec import (
    SHORT_ERROR_CHARS,
    Item,
    error_text,
    handled_by,
    last_error,
    millis,
    retry_count,
)
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.ordering.appending import Append, NewQueue
from dynamodb_outbox.dynamodb.ordering.operator_transitions import (
    IS_FRONT,
    RETRY_FRONT,
    RETRY_QUEUE,
    RETURN_TO_LINE,
    substitute,
)
from dynamodb_outbox.dynamodb.ordering.queue import NOBODY, WIDTH, Queue, id_list, queue_id
from dynamodb_outbox.dynamodb.ordering.standing import Standing
from dynamodb_outbox.dynamodb.ordering.transitions import (
    MARK_FAILED,
    MARK_FAILED_WITH_HANDLED_BY,
    Pop,
    form_of,
    pop,
)
from dynamodb_outbox.dynamodb.schema.shards import Shards

Entry = dict[str, Any]
"""An item of a TransactWriteItems: `{"Update": ...}`, for example."""
_NOBODY: Final[AttributeValue] = {"S": NOBODY}
_ZERO: Final[AttributeValue] = {"N": "0"}


class RepairWrites:
    """Makes the items of a transaction."""

    def __init__(self, table_name: str, shards: Shards, *, clock: Callable[[], float]) -> None:
        self._table_name = table_name
        self._shards = shards
        self._clock = clock

    # The queue

    def retry(self, standing: Standing) -> list[Entry]:
        """Make the front due, with all its retries."""
        transition = RETRY_QUEUE if standing.queue is None else RETRY_FRONT
        return [self._update_queue(transition, standing)]

    def pop(self, standing: Standing) -> list[Entry]:
        """Take the front, so that the next event is due. If the next is in a page, the standing has the page."""
        queue = _queue_in(standing)
        form = form_of(queue)
        values: dict[str, AttributeValue] = {"only": id_list((queue.front,)), "one": {"N": "1"}}
        if form is Pop.REFILL:
            values |= {"page": id_list(standing.next_page or ()), "number": {"N": str(queue.first_page + 1)}}
        entries = [self._update_queue(pop(form, keeps=False, by_operator=True), standing, values)]
        if form is Pop.REFILL:
            key = {"id": {"S": queue.page_id(queue.first_page)}}
            entries.append({"Delete": {"TableName": self._table_name, "Key": key}})
        return entries

    def substitute(self, standing: Standing, *, replacement: str) -> list[Entry]:
        """Put another event into the place of the front."""
        transition = substitute(in_head=bool(_queue_in(standing).head))
        return [self._update_queue(transition, standing, {"replacement": {"S": replacement}})]

    def append(self, standing: Standing, *, key: str, event_id: str, behind: str | None = None) -> list[Entry]:
        """Append an event to the queue of its key, which the standing has, if there is one.

        With `behind`, the transaction is refused if that event is at the front by now.
        """
        append = Append(key=key, ids=(event_id,), new_queue=NewQueue(now=self._clock()), shards=self._shards)
        queue = standing.queue
        if queue is None or len(queue.ids) < WIDTH:
            entries = [{"Update": append.append(self._table_name)}]
        elif not queue.head:
            entries = [{"Update": append.split(self._table_name)}]
        else:
            entries = append.spill(self._table_name, queue)
        if behind is not None:
            update = entries[-1]["Update"]
            update["ConditionExpression"] = f"({update['ConditionExpression']}) AND {_IS_NOT_FRONT}"
            update["ExpressionAttributeValues"] |= {":front": {"S": behind}}
        return entries

    def check_behind(self, key: str, event_id: str, *, listed: bool = False) -> list[Entry]:
        """Refuse the transaction if an event is at the front by now; with `listed` also if it is in no line."""
        condition = _IS_NOT_FRONT
        if listed:
            condition += " AND (contains(ids, :front) OR contains(head, :front))"
        check = {
            "TableName": self._table_name,
            "Key": {"id": {"S": queue_id(key)}},
            "ConditionExpression": condition,
            "ExpressionAttributeValues": {":front": {"S": event_id}},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        return [{"ConditionCheck": check}]

    def _update_queue(
        self, transition: Any, standing: Standing, values: Mapping[str, AttributeValue] | None = None
    ) -> Entry:
        item = standing.queue_item or {}
        all_values: dict[str, AttributeValue] = {
            "was": item.get("status", {"S": ""}),
            "seen": item.get("gsiSortKey", _ZERO),
            "front": {"S": standing.event_id},
            "now": millis(self._clock()),
            "nobody": _NOBODY,
            "zero": _ZERO,
            **(values or {}),
        }
        return self._entry(Write(transition, item["id"]["S"], all_values))

    # The event

    def set_aside(self, standing: Standing, room: Room) -> list[Entry]:
        """Make the event at the front FAILED, with everything that its queue says of its delivery."""
        queue = standing.queue_item or {}
        names = handled_by(queue)
        transition = MARK_FAILED_WITH_HANDLED_BY if names else MARK_FAILED
        missing = tuple(name for name in ("errorType", "errorHandler") if name not in queue)
        transition = fitted(without_details(transition, missing) if missing else transition, room)
        text = last_error(queue)
        values: dict[str, AttributeValue] = {
            # The time of the failure, and not of the repair.
            "now": queue.get("gsiSortKey", _ZERO),
            "error": error_text(text) if room is Room.ENOUGH else error_text(text, SHORT_ERROR_CHARS),
            "error_type": queue.get("errorType", {"S": ""}),
            "error_handler": queue.get("errorHandler", {"S": ""}),
            "retries": {"N": str(retry_count(queue))},
            "handled": {"SS": sorted(names)},
        }
        return [self._entry(Write(transition, standing.event_id, values))]

    def return_to_line(self, standing: Standing) -> list[Entry]:
        """Make an event QUEUED again that was set aside."""
        event = standing.event or {}
        values: dict[str, AttributeValue] = {**seen_in(event), "key": event["orderingKey"], "zero": _ZERO}
        return [self._entry(Write(RETURN_TO_LINE, standing.event_id, values))]

    def update(self, write: Write) -> Entry:
        """Make the item of another write, such as a discard."""
        return self._entry(write)

    def _entry(self, write: Write) -> Entry:
        write = placed(write, self._shards) if self._shards.count > 1 else write
        rendered = update_transact_item(write, table_name=self._table_name)
        return {"Delete" if write.transition.deletes else "Update": rendered}


_IS_NOT_FRONT: Final = f"(attribute_not_exists(id) OR NOT {IS_FRONT})"


def seen_in(event: Item) -> dict[str, AttributeValue]:
    """Return the values of a condition that an event is as it was read."""
    return {"was": event.get("status", {"S": ""}), "seen": event.get("gsiSortKey", _ZERO)}


def _queue_in(standing: Standing) -> Queue:
    if standing.queue is None:
        raise ValueError(f"event {standing.event_id!r} is in no queue")
    return standing.queue
