"""The record that a handler is done, as a part of the transaction of its delivery.

The record is refused unless the claim is still held and the handler is not done yet. An event with an ordering key is
recorded in the queue of its key, which bears the lease. If the handler is the last one, the same transaction marks the
event as COMPLETED, and the settle that follows pops it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dynamodb_outbox.claims import HandlerDone
from dynamodb_outbox.dynamodb.conditional.rendering import update_transact_item
from dynamodb_outbox.dynamodb.conditional.transitions import (
    COMPLETE_BY_HANDLER,
    COMPLETE_BY_HANDLER_WITH_EXPIRY,
    HANDLER_DONE,
    Transition,
    Write,
    no_longer_unhandled,
    placed,
)
from dynamodb_outbox.dynamodb.items.codec import handled_by, millis
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.ordering.queue import Queue, holder_of, queue_of
from dynamodb_outbox.dynamodb.ordering.transitions import MARK_COMPLETED, MARK_COMPLETED_WITH_EXPIRY
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.port import OutboxOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerRecord:
    """The record of a handler: the `Update` of the item that bears the lease, and that of the event if it is marked."""

    done: HandlerDone
    update: dict[str, Any]
    mark: dict[str, Any] | None = None

    @property
    def queue(self) -> Queue | None:
        """The queue that the delivery has claimed; None if the event has no ordering key."""
        return queue_of(self.done.claim)

    @property
    def count(self) -> int:
        """The number of items of the transaction."""
        return 1 if self.mark is None else 2

    def is_made_in(self, item: Mapping[str, Any]) -> bool:
        """Tell whether an earlier attempt of the same delivery was applied, whose response was lost."""
        if item.get("claimToken") != {"S": self.done.claim.token}:
            return False
        completed = self.done.completes and item.get("status") == {"S": EventStatus.COMPLETED.value}
        return completed or self.done.handler in handled_by(dict(item))

    def is_possible_in(self, item: Mapping[str, Any]) -> bool:
        """Tell whether the claim is held, and the handler is not done, so that something else was refused."""
        is_held = item.get("claimToken") == {"S": self.done.claim.token} and item.get("status") == {
            "S": EventStatus.PROCESSING.value
        }
        return is_held and self.done.handler not in handled_by(dict(item))


class HandlerRecords:
    """Makes the records of handlers."""

    def __init__(self, options: OutboxOptions, *, table_name: str, shards: Shards, retention: float | None) -> None:
        self._options = options
        self._table_name = table_name
        self._shards = shards
        self._retention = retention

    def of(self, done: HandlerDone) -> HandlerRecord:
        """Make the record of a handler."""
        now = self._options.clock()
        values: dict[str, AttributeValue] = {
            "token": {"S": done.claim.token},
            "handler": {"S": done.handler},
            "handled": {"SS": [done.handler]},
            "now": millis(now),
        }
        if self._retention is not None:
            values["expiry"] = {"N": str(int(now + self._retention))}
        keeps = self._retention is None
        if queue_of(done.claim) is not None:
            mark = MARK_COMPLETED if keeps else MARK_COMPLETED_WITH_EXPIRY
            return HandlerRecord(
                done=done,
                update=self._render(HANDLER_DONE, holder_of(done.claim), values),
                mark=self._render(mark, done.claim.event.id, values) if done.completes else None,
            )
        transition = HANDLER_DONE
        if done.completes:
            transition = COMPLETE_BY_HANDLER if keeps else COMPLETE_BY_HANDLER_WITH_EXPIRY
            if done.claim.unhandled_since is not None:
                transition = no_longer_unhandled(transition)
        return HandlerRecord(done=done, update=self._render(transition, done.claim.event.id, values))

    def _render(self, transition: Transition, item_id: str, values: Mapping[str, AttributeValue]) -> dict[str, Any]:
        write = Write(transition, item_id, values)
        if self._shards.count > 1:
            write = placed(write, self._shards)
        return update_transact_item(write, table_name=self._table_name)
