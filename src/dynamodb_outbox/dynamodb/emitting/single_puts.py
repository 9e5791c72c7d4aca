"""Storing one event with a PutItem, and what its answer means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio

from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused
from dynamodb_outbox.dynamodb.emitting.forms import Forms, condition_of, is_tombstone
from dynamodb_outbox.dynamodb.emitting.publish_result import (
    PublishResult,
    Put,
    is_same_claim,
    is_same_event,
    stored_event,
)
from dynamodb_outbox.dynamodb.items.codec import is_unlisted
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.caller import Caller, ConditionRefused
from dynamodb_outbox.errors import DuplicateEventError, StorageError

LEAST_PUT_SECONDS: Final = 1.0
"""How long a conditional put is tried that starts just before its deadline, or after it."""


class SinglePuts:
    """Stores events one by one, each if its id is new."""

    def __init__(self, caller: Caller, forms: Forms, *, timing: Timing) -> None:
        self._caller = caller
        self._forms = forms
        self._timing = timing

    def begin(self, put: Put, result: PublishResult, *, may_enter: bool) -> None:
        """Choose the form of an event claimed on emit, whose write is sent now. Its lease begins now.

        The form stays as it is if an earlier attempt may have stored it.
        """
        if put.emit_claim is None:
            return
        put.emit_claim.sending()
        if put.maybe_stored:
            return
        token = put.emit_claim.tokens[put.event.id]
        if put.entry is not None and (put.entry.window.is_closed or self._forms.is_over(put.entry)):
            result.leave_window(put)
        elif not put.is_begun and put.unpublished:
            if may_enter:
                put.entry = self._forms.enter(put.event, token)
            else:
                self._forms.count(put.event, token)
        put.is_begun = True
        put.item = self._forms.claimed(put.pending, token=token, entry=put.entry)

    async def put_each(self, puts: Sequence[Put], result: PublishResult, deadline: float) -> None:
        """Store several events, some of them at once."""
        async with anyio.create_task_group() as group:
            for put in puts:
                group.start_soon(self.put_in_turn, put, result, deadline)

    async def put_in_turn(self, put: Put, result: PublishResult, deadline: float | None = None) -> None:
        """Store one event when other puts of its publish let it."""
        async with result.puts:
            if not put.is_wanted:
                result.abandon([put])
            elif result.given_up is not None:
                result.fail_unsent([put], result.given_up)
            else:
                await self.put(put, result, deadline or anyio.current_time() + self._timing.publish)

    async def put(self, put: Put, result: PublishResult, deadline: float) -> None:
        """Store one event unless its id is taken."""
        self.begin(put, result, may_enter=True)
        refused = await self._send(put, result, deadline)
        if refused is not None and put.entry is not None and is_tombstone(refused.item):
            result.refused_by_tombstone(put)
            if put.is_done:
                return
            self.begin(put, result, may_enter=False)
            refused = await self._send(put, result, deadline)
        if refused is not None:
            await self._judge_refused(put, refused, result)

    async def _send(self, put: Put, result: PublishResult, deadline: float) -> ConditionRefused | None:
        """Send a put; return the refusal that is still to be judged."""
        try:
            await self._caller.call(
                "put_item",
                within=max(deadline - anyio.current_time(), LEAST_PUT_SECONDS),
                TableName=self._caller.table_name,
                Item=put.item,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **condition_of(put.entry),
            )
        except ConditionRefused as refused:
            return refused
        except StorageError as error:
            result.fail([put], error)
        else:
            await self.acknowledge([put], result)
        return None

    async def _judge_refused(self, put: Put, refused: ConditionRefused, result: PublishResult) -> None:
        """Find out whether an earlier attempt of this write has stored the id, or another emit."""
        stored = refused.item
        tried_before = refused.repeated or put.maybe_stored
        put.note_stored(stored)
        if isinstance(stored, dict) and is_same_event(put.item, stored) and (put.unpublished or tried_before):
            if is_same_claim(put.item, stored):
                if put.entry is None or is_unlisted(stored):
                    await self.acknowledge([put], result)
                else:
                    result.taken_over(put)
                return
            if put.unpublished and tried_before:
                result.taken_over(put)
                return
        found = stored_event(stored, numbers=result.numbers)
        result.fail([put], DuplicateEventError(event_id=put.event.id, stored=found))

    async def acknowledge(self, puts: Sequence[Put], result: PublishResult) -> None:
        """Note that events are stored. An event that was stored after the end of its window is released first."""
        late = {put: put.entry for put in puts if put.entry is not None and self._forms.is_over(put.entry)}
        result.stored(*(put for put in puts if put not in late))
        if not late:
            return
        released = await self._forms.release(list(late.values()))
        for put, answer in zip(late, released, strict=True):
            if isinstance(answer, (Applied, Refused)):
                result.taken_over(put)
            else:
                put.maybe_stored = True
                result.fail([put], answer)
