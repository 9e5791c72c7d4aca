"""Replacing an event by another one: one transaction stores the new event and discards the old one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from dynamodb_outbox.dynamodb.conditional.rendering import update_transact_item
from dynamodb_outbox.dynamodb.conditional.room import Room
from dynamodb_outbox.dynamodb.conditional.transitions import placed
from dynamodb_outbox.dynamodb.emitting.forms import condition_of
from dynamodb_outbox.dynamodb.emitting.publish_result import is_same_event, stored_event
from dynamodb_outbox.dynamodb.emitting.transaction_attempt import reasons_of
from dynamodb_outbox.dynamodb.emitting.transaction_contents import TransactionPut
from dynamodb_outbox.dynamodb.items.codec import encode_event
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.operating.discards import Discards
from dynamodb_outbox.dynamodb.operating.line_repairs import OPERATION
from dynamodb_outbox.dynamodb.operating.line_replacing import LineReplacer
from dynamodb_outbox.dynamodb.operating.repairs import status_of
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.caller import FALSE_CONDITION, Caller, TransactionRefused
from dynamodb_outbox.errors import DuplicateEventError, ItemTooLargeError, TransactionCancelledError
from dynamodb_outbox.event import Event, EventStatus
from dynamodb_outbox.port import OutboxOptions
from dynamodb_outbox.repairs import Repaired


class Replacer:
    """Stores an event in place of another one."""

    def __init__(
        self,
        caller: Caller,
        options: OutboxOptions,
        timing: Timing,
        *,
        discards: Discards,
        shards: Shards,
        lines: LineReplacer,
    ) -> None:
        self._caller = caller
        self._options = options
        self._timing = timing
        self._discards = discards
        self._shards = shards
        self._lines = lines

    async def replace(self, event_id: str, event: Event, *, reason: str, by: str) -> Repaired:
        """Store `event`, due now, and make the event of `event_id` DISCARDED; see `Outbox.replace`."""
        item, _ = encode_event(event, due_at=self._options.clock(), numbers=self._options.numbers)
        is_keyed = event.ordering_key is not None
        item = item if is_keyed else self._shards.placed(item)
        put = TransactionPut(event, item, item)
        event.take_unpublished()
        values = self._discards.values(reason=reason, by=by, replacement=event.id)
        repaired = None if is_keyed else await self._replace_alone(event_id, put, values)
        if repaired is not None and repaired.refused.get(event_id) is not EventStatus.QUEUED:
            return repaired
        return await self._lines.replace(event_id, event, self._put_item(put), values=values)

    async def _replace_alone(
        self, event_id: str, put: TransactionPut, values: Mapping[str, AttributeValue]
    ) -> Repaired:
        """Replace an event without an ordering key by another one without."""
        for room in Room:
            write = self._discards.write(event_id, values, None, room)
            if self._shards.count > 1:
                write = placed(write, self._shards)
            items = [{"Update": update_transact_item(write, table_name=self._caller.table_name)}, self._put_item(put)]
            try:
                await self._caller.call(
                    OPERATION, within=self._timing.transact, TransactItems=items, ClientRequestToken=uuid4().hex
                )
            except TransactionRefused as refused:
                if refused.has_no_room:
                    continue
                return self._judge(refused, event_id, put, items)
            return Repaired(done=(event_id,))
        raise ItemTooLargeError(operation=OPERATION, reason=f"event {event_id!r} has no room for its discard")

    def _put_item(self, put: TransactionPut) -> dict[str, Any]:
        return {
            "Put": {
                "TableName": self._caller.table_name,
                "Item": put.item,
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                **condition_of(None),
            }
        }

    def _judge(
        self, refused: TransactionRefused, event_id: str, put: TransactionPut, items: Sequence[dict[str, Any]]
    ) -> Repaired:
        """Tell what a refusal means: the old event has changed, an earlier call was applied, or an error."""
        old, new = (*map(_refusing, refused.reasons), None, None)[:2]
        if old is not None:
            is_repeat = old.get("replacedBy") == {"S": put.event.id}
            if is_repeat and new is not None and is_same_event(put.item, new):
                return Repaired(done=(event_id,))
            return Repaired(refused={event_id: status_of(old)})
        listed = reasons_of(refused.reasons, items, {1: put.event.id})
        cancelled = TransactionCancelledError(reasons=listed, maybe_applied=refused.repeated)
        if new is not None:
            stored = stored_event(new, numbers=self._options.numbers)
            raise DuplicateEventError(event_id=put.event.id, within="a transaction", stored=stored) from cancelled
        raise cancelled from None


def _refusing(reason: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the item whose condition was false, empty if there is no item; None if the condition was true."""
    return (reason.get("Item") or {}) if reason.get("Code") == FALSE_CONDITION else None
