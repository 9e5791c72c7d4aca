"""Transactions: a user's writes, new events and the record of a handler, with one TransactWriteItems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from botocore.exceptions import ClientError

from dynamodb_outbox.claims import EmitClaim, HandlerDone
from dynamodb_outbox.dynamodb.conditional.rendering import update_transact_item
from dynamodb_outbox.dynamodb.conditional.transitions import (
    COMPLETE_BY_HANDLER,
    COMPLETE_BY_HANDLER_WITH_EXPIRY,
    HANDLER_DONE,
    Write,
    no_longer_unhandled,
    placed,
)
from dynamodb_outbox.dynamodb.emitting.in_flight import TableInFlight
from dynamodb_outbox.dynamodb.emitting.publish_result import is_same_claim, is_same_event, stored_event
from dynamodb_outbox.dynamodb.emitting.transact_items import check_size
from dynamodb_outbox.dynamodb.items.codec import Item, decode_claim, encode_claimed, encode_event, handled_by, millis
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.caller import Caller, TransactionRefused
from dynamodb_outbox.dynamodb.transport.classify import VERIFY, cancellation_reasons, with_maybe_applied
from dynamodb_outbox.errors import (
    CancellationReason,
    DuplicateEventError,
    InvalidEventError,
    LeaseLostError,
    TableNotFoundError,
    ThrottledError,
    TransactionCancelledError,
)
from dynamodb_outbox.event import Event, EventStatus
from dynamodb_outbox.port import TRANSACTION, Numbers, OutboxOptions, refuse_repeated_ids
from dynamodb_outbox.transaction import TransactionWrite

LEAST_TRANSACT_SECONDS: Final = 1.0
"""How long a transaction is tried whose lease is nearly over."""
REFUSED: Final = "ConditionalCheckFailed"


@dataclass(frozen=True, slots=True)
class _Put:
    event: Event
    item: Item


class Transactor:
    """Commits transactions, each under a token that makes its repetition harmless for ten minutes."""

    def __init__(
        self,
        caller: Caller,
        options: OutboxOptions,
        *,
        shards: Shards,
        retention: float | None,
        in_flight: TableInFlight,
        timing: Timing,
    ) -> None:
        self._timing = timing
        self._in_flight = in_flight
        self._caller = caller
        self._shards = shards
        self._options = options
        self._retention = retention

    async def transact(
        self,
        writes: Sequence[TransactionWrite],
        events: Sequence[tuple[Event, float | None]],
        *,
        done: HandlerDone | None,
        emit_claim: EmitClaim | None = None,
    ) -> None:
        """Commit; see `Outbox.transact`."""
        refuse_repeated_ids([event for event, _ in events])
        event_ids = [event.id for event, _ in events]
        # An unconditional write of the same event, which a caller gave up, must not come after this one.
        in_flight = self._in_flight.of_running_loop()
        await in_flight.enter(event_ids)
        try:
            transact_items, puts = self._transact_items(
                writes, events, records=int(done is not None), emit_claim=emit_claim
            )
            if emit_claim is not None:
                emit_claim.sending()
            stored = await self._commit(transact_items, puts, done)
        finally:
            for event_id in event_ids:
                in_flight.leave(event_id)
        for put in stored:
            if emit_claim is not None and put.event.id in emit_claim.tokens:
                emit_claim.claimed(decode_claim(put.item, numbers=self._options.numbers))

    async def _commit(
        self, transact_items: list[dict[str, Any]], puts: list[_Put], done: HandlerDone | None
    ) -> list[_Put]:
        """Commit; return the puts that are stored, by this call or by an earlier call that was not answered."""
        within = self._timing.transact
        if done is not None:
            transact_items.append({"Update": self._record(done)})
            within = max(min(within, done.claim.lease_expires_at - self._options.clock()), LEAST_TRANSACT_SECONDS)
        try:
            await self._caller.call(
                "transact_write_items", within=within, TransactItems=transact_items, ClientRequestToken=uuid4().hex
            )
        except TransactionRefused as refused:
            return _stored_before(refused, transact_items, puts, done, numbers=self._options.numbers)
        except ThrottledError as error:
            if isinstance(error.__cause__, ClientError) and (reasons := cancellation_reasons(error.__cause__)):
                listed = _reasons(reasons, transact_items, _event_ids(transact_items, puts, done))
                raise TransactionCancelledError(
                    reasons=listed, attempts=error.attempts, maybe_applied=error.maybe_applied
                ) from error
            raise
        except TableNotFoundError as error:
            tables = {next(iter(transact_item.values()))["TableName"] for transact_item in transact_items}
            own = self._caller.table_name
            name = own if own in tables or len(tables) > 1 else min(tables)
            missing = TableNotFoundError(table_name=name, among=sorted(tables), outbox_table=own)
            raise (with_maybe_applied(missing) if error.maybe_applied else missing) from error
        return puts

    def items(self, events: Sequence[Event], *, due_at: float | None) -> list[dict[str, Any]]:
        """Make the transact items of events, for a call of TransactWriteItems that the user makes."""
        for event_id in self._in_flight.among(event.id for event in events):
            raise InvalidEventError(
                f"event {event_id!r} is being stored by an emit of this process: await that emit before you put the "
                "event into a transaction"
            )
        refuse_repeated_ids(events)
        return self._transact_items([], [(event, due_at) for event in events], records=0)[0]

    def _transact_items(
        self,
        writes: Sequence[TransactionWrite],
        events: Sequence[tuple[Event, float | None]],
        *,
        records: int,
        emit_claim: EmitClaim | None = None,
    ) -> tuple[list[dict[str, Any]], list[_Put]]:
        now = self._options.clock()
        numbers = self._options.numbers
        encoded = [
            encode_event(event, due_at=now if due_at is None else due_at, numbers=numbers) for event, due_at in events
        ]
        transact_items = check_size(writes, events=[size for _, size in encoded], records=records)
        puts = [
            _Put(event, self._item(event, item, emit_claim, now))
            for (event, _), (item, _) in zip(events, encoded, strict=True)
        ]
        for event, _ in events:
            event.take_unpublished()
        transact_items += [
            {
                "Put": {
                    "TableName": self._caller.table_name,
                    "Item": put.item,
                    "ConditionExpression": "attribute_not_exists(id)",
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                }
            }
            for put in puts
        ]
        return transact_items, puts

    def _item(self, event: Event, item: Item, emit_claim: EmitClaim | None, now: float) -> Item:
        token = emit_claim.tokens.get(event.id) if emit_claim is not None else None
        if token is not None:
            ends = now + self._options.processing_timeout
            item = encode_claimed(item, token=token, now=now, lease_expires_at=ends)
        return self._shards.placed(item)

    def _record(self, done: HandlerDone) -> dict[str, Any]:
        """Record that a handler is done: refused unless the claim is still held, and the handler is not done yet."""
        now = self._options.clock()
        values: dict[str, AttributeValue] = {
            "token": {"S": done.claim.token},
            "handler": {"S": done.handler},
            "handled": {"SS": [done.handler]},
            "now": millis(now),
        }
        transition = COMPLETE_BY_HANDLER if done.completes else HANDLER_DONE
        if done.completes and self._retention is not None:
            transition = COMPLETE_BY_HANDLER_WITH_EXPIRY
            values["expiry"] = {"N": str(int(now + self._retention))}
        if done.completes and done.claim.unhandled_since is not None:
            transition = no_longer_unhandled(transition)
        write = Write(transition, done.claim.event.id, values)
        if self._shards.count > 1:
            write = placed(write, self._shards)
        return update_transact_item(write, table_name=self._caller.table_name)


def _stored_before(
    refused: TransactionRefused,
    transact_items: Sequence[dict[str, Any]],
    puts: Sequence[_Put],
    done: HandlerDone | None,
    *,
    numbers: Numbers,
) -> list[_Put]:
    """Raise what a refused transaction means, unless an earlier one made it needless: the puts that this one stored.

    That may be an earlier transaction of the same delivery, with other puts, or an earlier attempt of the same
    transaction. DynamoDB answers the repeat of an attempt that was applied with success, by its ClientRequestToken. So
    only a claim token proves that a stored event is of this transaction: an event without one may be stored by
    another emit, and the writes of this transaction would be lost if that counted as success.
    """
    event_ids = _event_ids(transact_items, puts, done)
    listed = _reasons(refused.reasons, transact_items, event_ids)
    by_event = {put.event.id: put for put in puts}
    duplicates = [reason for reason in listed if reason.event_id is not None and reason.code == REFUSED]

    found = [(by_event[reason.event_id or ""], reason.item or {}) for reason in duplicates]
    stored = [put for put, item in found if is_same_event(put.item, item) and is_same_claim(put.item, item)]

    record = refused.reasons[-1] if refused.reasons else {}
    if done is not None and record.get("Code") == REFUSED:
        if _is_recorded(done, record.get("Item", {})):
            return stored
        event = done.claim.event
        raise LeaseLostError(event_id=event.id, event_type=event.type, outcome=TRANSACTION) from None
    if any("claimToken" in put.item for put in stored):
        return stored
    cancelled = TransactionCancelledError(reasons=listed, maybe_applied=refused.repeated)
    if duplicates and len(duplicates) == len(listed):
        put, item = found[0]
        raise DuplicateEventError(
            event_id=put.event.id, within="a transaction", stored=stored_event(item, numbers=numbers)
        ) from cancelled
    raise cancelled from None


def _event_ids(
    transact_items: Sequence[dict[str, Any]], puts: Sequence[_Put], done: HandlerDone | None
) -> Mapping[int, str]:
    first = len(transact_items) - len(puts) - (done is not None)
    return {first + index: put.event.id for index, put in enumerate(puts)}


def _reasons(
    reasons: Sequence[Mapping[str, Any]], transact_items: Sequence[dict[str, Any]], event_ids: Mapping[int, str]
) -> list[CancellationReason]:
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
