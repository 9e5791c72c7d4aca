"""What a refused transaction means: an earlier one was applied, or an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dynamodb_outbox.claims import HandlerDone
from dynamodb_outbox.dynamodb.emitting.forms import is_tombstone
from dynamodb_outbox.dynamodb.emitting.publish_result import is_same_claim, is_same_event, stored_event
from dynamodb_outbox.dynamodb.items.codec import Item, handled_by
from dynamodb_outbox.dynamodb.transport.caller import TransactionRefused
from dynamodb_outbox.dynamodb.transport.classify import VERIFY
from dynamodb_outbox.dynamodb.windows.window import Entry
from dynamodb_outbox.errors import (
    CancellationReason,
    DuplicateEventError,
    LeaseLostError,
    TransactionCancelledError,
)
from dynamodb_outbox.event import Event, EventStatus
from dynamodb_outbox.port import TRANSACTION, Numbers

REFUSED: Final = "ConditionalCheckFailed"


@dataclass(slots=True, eq=False)
class TransactionPut:
    """An event of a transaction: its item without a claim, its item as it is sent, and its entry in the window."""

    event: Event
    pending: Item
    item: Item
    entry: Entry | None = None


def met_tombstone(refused: TransactionRefused, puts: Sequence[TransactionPut]) -> bool:
    """Tell whether a put into a window was refused, because a recovery has passed its id."""
    entered = [{"S": put.event.id} for put in puts if put.entry is not None]
    items = [reason.get("Item") or {} for reason in refused.reasons]
    return any(is_tombstone(item) and item.get("id") in entered for item in items)


def stored_before(
    refused: TransactionRefused,
    transact_items: Sequence[dict[str, Any]],
    puts: Sequence[TransactionPut],
    done: HandlerDone | None,
    *,
    numbers: Numbers,
) -> list[tuple[TransactionPut, Mapping[str, Any]]]:
    """Return the puts that an earlier transaction has stored, each with its item; or raise what a refusal means.

    The earlier one may be a transaction of the same delivery, with other puts, or an attempt of the same transaction.
    DynamoDB answers the repeat of an attempt that was applied with success, by its ClientRequestToken. So
    only a claim token proves that a stored event is of this transaction: an event without one may be stored by
    another emit, and the writes of this transaction would be lost if that counted as success.
    """
    listed = reasons_of(refused.reasons, transact_items, puts, done)
    by_event = {put.event.id: put for put in puts}
    duplicates = [reason for reason in listed if reason.event_id is not None and reason.code == REFUSED]

    found = [(by_event[reason.event_id or ""], reason.item or {}) for reason in duplicates]
    stored = [each for each in found if is_same_event(each[0].item, each[1]) and is_same_claim(each[0].item, each[1])]

    record = refused.reasons[-1] if refused.reasons else {}
    if done is not None and record.get("Code") == REFUSED:
        if _is_recorded(done, record.get("Item", {})):
            return stored
        event = done.claim.event
        raise LeaseLostError(event_id=event.id, event_type=event.type, outcome=TRANSACTION) from None
    if any("claimToken" in put.item for put, _ in stored):
        return stored
    cancelled = TransactionCancelledError(reasons=listed, maybe_applied=refused.repeated)
    if duplicates and len(duplicates) == len(listed):
        put, item = found[0]
        raise DuplicateEventError(
            event_id=put.event.id, within="a transaction", stored=stored_event(item, numbers=numbers)
        ) from cancelled
    raise cancelled from None


def reasons_of(
    reasons: Sequence[Mapping[str, Any]],
    transact_items: Sequence[dict[str, Any]],
    puts: Sequence[TransactionPut],
    done: HandlerDone | None,
) -> list[CancellationReason]:
    """List why a transaction was cancelled, without the items that were not a reason."""
    first = len(transact_items) - len(puts) - (done is not None)
    event_ids = {first + index: put.event.id for index, put in enumerate(puts)}
    listed: list[CancellationReason] = []
    for index, (reason, transact_item) in enumerate(zip(reasons, transact_items, strict=False)):
        code = reason.get("Code", "None")
        if code == "None":
            continue
        ((operation, arguments),) = transact_item.items()
        listed.append(
            CancellationReason(
                index=index,
                operation=operation,
                table_name=arguments["TableName"],
                # Not the item of a Put: which of its attributes are the key is not known, and the others may be secret.
                key=arguments.get("Key", {}),
                event_id=event_ids.get(index),
                code=code,
                message=_message(reason, is_event=index in event_ids),
                item=reason.get("Item"),
            )
        )
    return listed


def _message(reason: Mapping[str, Any], *, is_event: bool) -> str:
    message = str(reason.get("Message", ""))
    # The outbox has made the item as it should be, so the table is not.
    return f"{message}; {VERIFY}" if is_event and reason.get("Code") == "ValidationError" else message


def _is_recorded(done: HandlerDone, item: Item) -> bool:
    """Tell whether an earlier attempt of the same delivery was applied, whose response was lost."""
    if item.get("claimToken") != {"S": done.claim.token}:
        return False
    completed = done.completes and item.get("status") == {"S": EventStatus.COMPLETED.value}
    return completed or done.handler in handled_by(item)
