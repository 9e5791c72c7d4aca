"""Transactions: a user's writes, new events and the record of a handler, with one TransactWriteItems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

import anyio
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
from dynamodb_outbox.dynamodb.emitting.forms import Forms, condition_of
from dynamodb_outbox.dynamodb.emitting.in_flight import TableInFlight
from dynamodb_outbox.dynamodb.emitting.refused_transaction import (
    TransactionPut,
    met_tombstone,
    reasons_of,
    stored_before,
)
from dynamodb_outbox.dynamodb.emitting.transact_items import check_size
from dynamodb_outbox.dynamodb.items.codec import Item, decode_claim, encode_event, is_unlisted, millis
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.caller import Caller, TransactionRefused
from dynamodb_outbox.dynamodb.transport.classify import cancellation_reasons, with_maybe_applied
from dynamodb_outbox.errors import (
    InvalidEventError,
    OutboxError,
    StorageError,
    TableNotFoundError,
    ThrottledError,
    TransactionCancelledError,
)
from dynamodb_outbox.event import Event
from dynamodb_outbox.port import OutboxOptions, refuse_repeated_ids
from dynamodb_outbox.transaction import TransactionWrite

LEAST_TRANSACT_SECONDS: Final = 1.0
"""How long a transaction is tried whose lease is nearly over."""


class Transactor:
    """Commits transactions, each under a token that makes its repetition harmless for ten minutes."""

    def __init__(
        self,
        caller: Caller,
        options: OutboxOptions,
        *,
        forms: Forms,
        shards: Shards,
        retention: float | None,
        in_flight: TableInFlight,
        timing: Timing,
    ) -> None:
        self._timing = timing
        self._in_flight = in_flight
        self._caller = caller
        self._forms = forms
        self._keeper = forms.keeper
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
        puts: list[TransactionPut] = []
        try:
            transact_items, puts = self._encode(writes, events, records=int(done is not None), emit_claim=emit_claim)
            if emit_claim is not None:
                emit_claim.sending()
            stored = await self._commit(transact_items, puts, done, deadline=self._deadline(done))
            if done is not None and done.completes:
                self._keeper.answered(done.claim)
            if emit_claim is not None:
                await self._acknowledge([put for put in stored if put.event.id in emit_claim.tokens], emit_claim)
        finally:
            # The commit was cancelled, or failed unexpectedly, so these events have no answer.
            self._leave_window(puts, is_unsure=True)
            for event_id in event_ids:
                in_flight.leave(event_id)

    def _deadline(self, done: HandlerDone | None) -> float:
        within = self._timing.transact
        if done is not None:
            within = min(within, done.claim.current_end - self._options.clock())
        return anyio.current_time() + within

    async def _commit(
        self, writes: list[dict[str, Any]], puts: list[TransactionPut], done: HandlerDone | None, *, deadline: float
    ) -> list[TransactionPut]:
        """Commit; return the puts that are stored, by this call or by an earlier call that was not answered."""
        transact_items = [*writes, *(self._put_item(put) for put in puts)]
        if done is not None:
            transact_items.append({"Update": self._record(done)})
        try:
            await self._caller.call(
                "transact_write_items",
                within=max(deadline - anyio.current_time(), LEAST_TRANSACT_SECONDS),
                TransactItems=transact_items,
                ClientRequestToken=uuid4().hex,
            )
        except TransactionRefused as refused:
            if met_tombstone(refused, puts):
                self._move_out_of_window(puts)
                return await self._commit(writes, puts, done, deadline=deadline)
            return self._found(refused, transact_items, puts, done)
        except StorageError as error:
            self._leave_window(puts, is_unsure=error.maybe_applied)
            explained = self._explained(error, transact_items, puts, done)
            if explained is error:
                raise
            raise explained from error
        return puts

    def _found(
        self,
        refused: TransactionRefused,
        transact_items: list[dict[str, Any]],
        puts: list[TransactionPut],
        done: HandlerDone | None,
    ) -> list[TransactionPut]:
        """Return the puts that an earlier transaction has stored, and that are still claimed; or raise the reason."""
        try:
            stored = stored_before(refused, transact_items, puts, done, numbers=self._options.numbers)
        except OutboxError:
            self._leave_window(puts, is_unsure=refused.repeated)
            raise
        # A recovery has moved the other events into the index.
        held = [put for put, item in stored if put.entry is None or is_unlisted(item)]
        self._leave_window([put for put, _ in stored if put not in held], is_unsure=False)
        self._leave_window([put for put in puts if put not in held], is_unsure=refused.repeated)
        return held

    def _explained(
        self,
        error: StorageError,
        transact_items: list[dict[str, Any]],
        puts: list[TransactionPut],
        done: HandlerDone | None,
    ) -> OutboxError:
        """Return the error with the reasons of a cancellation, or with the name of a missing table."""
        if isinstance(error, ThrottledError):
            reasons = cancellation_reasons(error.__cause__) if isinstance(error.__cause__, ClientError) else []
            if reasons:
                listed = reasons_of(reasons, transact_items, puts, done)
                return TransactionCancelledError(
                    reasons=listed, attempts=error.attempts, maybe_applied=error.maybe_applied
                )
        if isinstance(error, TableNotFoundError):
            tables = {next(iter(transact_item.values()))["TableName"] for transact_item in transact_items}
            own = self._caller.table_name
            name = own if own in tables or len(tables) > 1 else min(tables)
            missing = TableNotFoundError(table_name=name, among=sorted(tables), outbox_table=own)
            return with_maybe_applied(missing) if error.maybe_applied else missing
        return error

    async def _acknowledge(self, puts: Sequence[TransactionPut], emit_claim: EmitClaim) -> None:
        """Hand on the claims of stored events. An event that was stored after the end of its window is released."""
        late = {put: put.entry for put in puts if put.entry is not None and self._forms.is_over(put.entry)}
        for put in puts:
            if put in late:
                continue
            lease = None
            if put.entry is not None:
                lease = put.entry.window.lease
                self._keeper.stored(put.entry)
                put.entry = None
            emit_claim.claimed(decode_claim(put.item, numbers=self._options.numbers, shared_lease=lease))
        if not late:
            return
        results = await self._forms.release(list(late.values()))
        for put, result in zip(late, results, strict=True):
            self._leave_window([put], is_unsure=isinstance(result, StorageError))
        if errors := [result for result in results if isinstance(result, StorageError)]:
            raise with_maybe_applied(errors[0])

    # The window

    def _leave_window(self, puts: Sequence[TransactionPut], *, is_unsure: bool) -> None:
        """Note that events are not stored in the window, or that the window must find out whether they are."""
        for put in puts:
            if put.entry is not None:
                (self._keeper.maybe_stored if is_unsure else self._keeper.not_stored)(put.entry)
                put.entry = None

    def _move_out_of_window(self, puts: Sequence[TransactionPut]) -> None:
        """Store the events in the index instead, because a recovery has passed one of their ids."""
        self._keeper.refused_by_tombstone()
        for put in puts:
            if put.entry is not None:
                put.item = self._forms.claimed(put.pending, token=put.entry.token, entry=None)
        self._leave_window(puts, is_unsure=False)

    # The items

    def items(self, events: Sequence[Event], *, due_at: float | None) -> list[dict[str, Any]]:
        """Make the transact items of events, for a call of TransactWriteItems that the user makes."""
        for event_id in self._in_flight.among(event.id for event in events):
            raise InvalidEventError(
                f"event {event_id!r} is being stored by an emit of this process: await that emit before you put the "
                "event into a transaction"
            )
        refuse_repeated_ids(events)
        _, puts = self._encode([], [(event, due_at) for event in events], records=0)
        return [self._put_item(put) for put in puts]

    def _encode(
        self,
        writes: Sequence[TransactionWrite],
        events: Sequence[tuple[Event, float | None]],
        *,
        records: int,
        emit_claim: EmitClaim | None = None,
    ) -> tuple[list[dict[str, Any]], list[TransactionPut]]:
        now = self._options.clock()
        numbers = self._options.numbers
        encoded = [
            encode_event(event, due_at=now if due_at is None else due_at, numbers=numbers) for event, due_at in events
        ]
        transact_items = check_size(writes, events=[size for _, size in encoded], records=records)
        tokens = {} if emit_claim is None else emit_claim.tokens
        pairs = zip(events, encoded, strict=True)
        return transact_items, [self._put_of(event, item, tokens.get(event.id)) for (event, _), (item, _) in pairs]

    def _put_of(self, event: Event, item: Item, token: str | None) -> TransactionPut:
        item, unpublished = self._shards.placed(item), event.take_unpublished()
        if token is None:
            return TransactionPut(event, item, item)
        entry = self._forms.enter(event, token) if unpublished else None
        return TransactionPut(event, item, self._forms.claimed(item, token=token, entry=entry), entry)

    def _put_item(self, put: TransactionPut) -> dict[str, Any]:
        return {
            "Put": {
                "TableName": self._caller.table_name,
                "Item": put.item,
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                **condition_of(put.entry),
            }
        }

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
