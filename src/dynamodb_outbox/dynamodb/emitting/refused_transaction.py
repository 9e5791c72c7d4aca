"""What a refused transaction means: an earlier one was applied, or an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynamodb_outbox.claims import HandlerDone
from dynamodb_outbox.dynamodb.emitting.forms import is_tombstone
from dynamodb_outbox.dynamodb.emitting.publish_result import is_same_claim, is_same_event, stored_event, waiting_key
from dynamodb_outbox.dynamodb.emitting.transaction_attempt import Attempt
from dynamodb_outbox.dynamodb.emitting.transaction_contents import TransactionPut
from dynamodb_outbox.dynamodb.transport.caller import FALSE_CONDITION, TransactionRefused
from dynamodb_outbox.errors import DuplicateEventError, LeaseLostError, TransactionCancelledError, UsageError
from dynamodb_outbox.port import TRANSACTION, Numbers


def met_tombstone(refused: TransactionRefused, attempt: Attempt) -> bool:
    """Tell whether a put into a window was refused, because a recovery has passed its id."""
    return any(
        put.entry is not None and is_tombstone(item) and item.get("id") == {"S": put.event.id}
        for put, item in _refused_puts(refused, attempt)
    )


def stored_before(
    refused: TransactionRefused, attempt: Attempt, *, numbers: Numbers
) -> list[tuple[TransactionPut, Mapping[str, Any]]]:
    """Return the puts that an earlier transaction has stored, each with its item; or raise what a refusal means.

    The earlier one may be a transaction of the same delivery, with other puts, or an attempt of the same transaction.
    DynamoDB answers the repeat of an attempt that was applied with success, by its ClientRequestToken. So only a claim
    token, or an id that nobody else has, proves that a stored event is of this transaction: any other event may be
    stored by another emit, and the writes of this transaction would be lost if that counted as success.
    """
    found = _refused_puts(refused, attempt)
    stored = [each for each in found if is_same_event(each[0].item, each[1]) and is_same_claim(each[0].item, each[1])]
    record, refused_record = attempt.contents.record, attempt.refused_record(refused.reasons)
    if record is not None and refused_record is not None:
        if record.is_made_in(refused_record):
            if record.done.is_other:
                raise _of_earlier(record.done, is_sure=not refused.repeated) from None
            return stored
        event = record.done.claim.event
        raise LeaseLostError(event_id=event.id, event_type=event.type, outcome=TRANSACTION) from None
    if any("claimToken" in put.item or (refused.repeated and put.is_new_id) for put, _ in stored):
        return stored
    listed = attempt.listed(refused.reasons)
    cancelled = TransactionCancelledError(reasons=listed, maybe_applied=refused.repeated)
    if found and len(found) == len(listed):
        put, item = found[0]
        raise DuplicateEventError(
            event_id=put.event.id,
            within="a transaction",
            stored=stored_event(item, numbers=numbers),
            maybe_applied=refused.repeated,
        ) from cancelled
    raise cancelled from None


def _of_earlier(done: HandlerDone, *, is_sure: bool) -> UsageError:
    begin = "nothing of this transaction was written" if is_sure else "this transaction may not be written"
    return UsageError(
        f"{begin}: an earlier transaction of handler {done.handler!r}, which was not "
        "answered, had been applied, and had other contents. The handler is done. After an error whose `maybe_applied` "
        "is true, repeat the same transaction, or raise the error: the next attempt knows whether it was applied"
    )


def perhaps_unlisted(refused: TransactionRefused, attempt: Attempt) -> list[tuple[str, str]]:
    """Return the keys and ids of events that were stored before, and that their queues perhaps do not list."""
    return [
        (key, put.event.id) for put, item in _refused_puts(refused, attempt) if (key := waiting_key(item)) is not None
    ]


def _refused_puts(refused: TransactionRefused, attempt: Attempt) -> list[tuple[TransactionPut, Mapping[str, Any]]]:
    """Return the events whose ids are stored, each with the stored item."""
    return [
        (attempt.puts[index], reason.get("Item") or {})
        for index, reason in enumerate(refused.reasons)
        if index in attempt.puts and reason.get("Code") == FALSE_CONDITION
    ]
