"""Transactions: a user's writes, new events and the record of a handler, with one TransactWriteItems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

import anyio
from botocore.exceptions import ClientError

from dynamodb_outbox.claims import EmitClaim, HandlerDone
from dynamodb_outbox.dynamodb.emitting.forms import Forms
from dynamodb_outbox.dynamodb.emitting.in_flight import TableInFlight
from dynamodb_outbox.dynamodb.emitting.refused_transaction import met_tombstone, perhaps_unlisted, stored_before
from dynamodb_outbox.dynamodb.emitting.transaction_attempt import Attempt, put_item_of
from dynamodb_outbox.dynamodb.emitting.transaction_contents import (
    Contents,
    ContentsEncoder,
    LineWrite,
    TransactionPut,
)
from dynamodb_outbox.dynamodb.items.codec import decode_claim, is_unlisted
from dynamodb_outbox.dynamodb.ordering.append_writer import USUAL_REFUSALS
from dynamodb_outbox.dynamodb.ordering.arrivals import Arrival
from dynamodb_outbox.dynamodb.ordering.claims_on_emit import ClaimsOnEmit
from dynamodb_outbox.dynamodb.ordering.lines import Lines
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.caller import Caller, TransactionRefused
from dynamodb_outbox.dynamodb.transport.classify import ErrorKind, cancellation_reasons, with_maybe_applied
from dynamodb_outbox.dynamodb.transport.retrying import Retries, deadline_error
from dynamodb_outbox.dynamodb.windows.window import Entry
from dynamodb_outbox.errors import (
    ConfigurationError,
    DuplicateEventError,
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
from dynamodb_outbox.wording import shown

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
        lines: Lines,
        claims: ClaimsOnEmit,
        encoder: ContentsEncoder,
        in_flight: TableInFlight,
        timing: Timing,
    ) -> None:
        self._timing = timing
        self._in_flight = in_flight
        self._caller = caller
        self._forms = forms
        self._keeper = forms.keeper
        self._lines = lines
        self._claims = claims
        self._encoder = encoder
        self._options = options

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
            contents = self._encoder.encode(writes, events, done=done, emit_claim=emit_claim)
            puts = contents.puts
            if emit_claim is not None:
                emit_claim.sending()
            try:
                stored = await self._commit(contents, deadline=self._deadline(done))
            except OutboxError:
                if contents.is_doubtful:
                    self._claims.release_in_background(contents.first_events)
                raise
            if done is not None:
                done.written()
                if done.completes:
                    self._keeper.answered(done.claim)
            if emit_claim is not None:
                late = self._acknowledge([put for put in stored if "claimToken" in put.item], emit_claim)
                await self._claims.claim_created_queues(contents.first_events, is_certain=not contents.is_doubtful)
                await self._release(late)
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

    async def _commit(self, contents: Contents, *, deadline: float) -> list[TransactionPut]:
        """Commit; return the puts that are stored, by this call or by an earlier call that was not answered.

        If only queues of ordering keys have refused the transaction, or tombstones, it is planned again, and sent as
        another one. An attempt that was not answered stays in mind: it may still be applied.
        """
        within = max(deadline - anyio.current_time(), LEAST_TRANSACT_SECONDS)
        retries = Retries(within, random=self._caller.random)
        while True:
            attempt = Attempt(contents, table_name=self._caller.table_name)
            try:
                await self._caller.call(
                    "transact_write_items",
                    within=max(retries.seconds_left, LEAST_TRANSACT_SECONDS),
                    TransactItems=attempt.items,
                    ClientRequestToken=uuid4().hex,
                )
            except TransactionRefused as error:
                contents.is_doubtful = contents.is_doubtful or error.repeated
                refused = TransactionRefused(reasons=error.reasons, repeated=contents.is_doubtful)
                if met_tombstone(refused, attempt):
                    self._move_out_of_window(contents.puts)
                    continue
                lines = attempt.lines_to_plan(refused.reasons)
                if not lines:
                    return await self._found(refused, attempt)
                await self._plan_again(lines, retries, contents)
            except StorageError as error:
                contents.is_doubtful = contents.is_doubtful or error.maybe_applied
                self._leave_window(contents.puts, is_unsure=contents.is_doubtful)
                explained = self._explained(error, attempt)
                if explained is error:
                    raise
                raise explained from error
            else:
                return contents.puts

    async def _plan_again(
        self, lines: Mapping[LineWrite, Mapping[str, Any] | None], retries: Retries, contents: Contents
    ) -> None:
        """Plan the appends again for the queues as they are. Raises `StorageError` when the time is over."""
        try:
            for line, item in lines.items():
                seen = await self._lines.see(line.append.key, item, within=LEAST_TRANSACT_SECONDS)
                line.plan_again(seen, is_doubtful=contents.is_doubtful)
            is_usual = retries.seconds_left > 0 and all(line.refusals <= USUAL_REFUSALS for line in lines)
            if not is_usual and not await retries.wait():
                reason = "other processes have changed the queues of the ordering keys first, again and again"
                raise deadline_error(
                    "transact_write_items", ErrorKind.THROTTLED, attempts=retries.attempts, reason=reason
                )
        except StorageError as error:
            self._leave_window(contents.puts, is_unsure=contents.is_doubtful)
            raise (with_maybe_applied(error) if contents.is_doubtful else error) from None

    async def _found(self, refused: TransactionRefused, attempt: Attempt) -> list[TransactionPut]:
        """Return the puts that an earlier transaction has stored, and that are still claimed; or raise the reason."""
        puts = attempt.contents.puts
        try:
            stored = stored_before(refused, attempt, numbers=self._options.numbers)
        except DuplicateEventError as duplicate:
            self._leave_window(puts, is_unsure=refused.repeated)
            await self._list(perhaps_unlisted(refused, attempt), duplicate)
            raise
        except OutboxError:
            self._leave_window(puts, is_unsure=refused.repeated)
            raise
        # A recovery has moved the other events into the index.
        held = [put for put, item in stored if put.entry is None or is_unlisted(item)]
        self._leave_window([put for put, _ in stored if put not in held], is_unsure=False)
        self._leave_window([put for put in puts if put not in held], is_unsure=refused.repeated)
        return held

    async def _list(self, events: Sequence[tuple[str, str]], duplicate: DuplicateEventError) -> None:
        """Append events that an emit has stored, and perhaps not appended, because it ended in between."""
        for key, event_id in events:
            arrival = Arrival(event_id, is_new=False)
            await self._lines.join(key, [arrival])
            if arrival.error is not None:
                raise arrival.error from duplicate

    def _explained(self, error: StorageError, attempt: Attempt) -> OutboxError:
        """Return the error with the reasons of a cancellation, or with the name of a missing table."""
        maybe_applied = attempt.contents.is_doubtful
        if isinstance(error, ThrottledError):
            reasons = cancellation_reasons(error.__cause__) if isinstance(error.__cause__, ClientError) else []
            if reasons:
                return TransactionCancelledError(
                    reasons=attempt.listed(reasons), attempts=error.attempts, maybe_applied=maybe_applied
                )
        if isinstance(error, TableNotFoundError):
            tables = {next(iter(transact_item.values()))["TableName"] for transact_item in attempt.items}
            own = self._caller.table_name
            name = own if own in tables or len(tables) > 1 else min(tables)
            error = TableNotFoundError(table_name=name, among=sorted(tables), outbox_table=own)
        return with_maybe_applied(error) if maybe_applied else error

    def _acknowledge(self, puts: Sequence[TransactionPut], emit_claim: EmitClaim) -> dict[TransactionPut, Entry]:
        """Hand on the claims of stored events without keys. Return the late ones: their windows had ended before."""
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
        return late

    async def _release(self, late: Mapping[TransactionPut, Entry]) -> None:
        """Release events that were stored after the ends of their windows."""
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
        for event in events:
            if event.ordering_key is not None:
                raise ConfigurationError(
                    f"event {event.id!r} has the ordering key {shown(event.ordering_key)}: its queue is not known when "
                    "transact_items makes the entries, so emit the event in a `bus.transaction()` instead"
                )
        contents = self._encoder.encode([], [(event, due_at) for event in events])
        return [put_item_of(put, table_name=self._caller.table_name) for put in contents.puts]
