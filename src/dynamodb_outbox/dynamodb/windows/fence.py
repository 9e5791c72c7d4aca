"""Settling what became of ids in a window: whether their events are stored, or can never be stored late."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from dynamodb_outbox.dynamodb.conditional.recover import UNLISTED, RecoverResults, RecoverWriter
from dynamodb_outbox.dynamodb.conditional.transitions import TOMBSTONE, TOMBSTONE_ALONE, Write
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused, WriteResult
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.windows.item import VOID_SECONDS
from dynamodb_outbox.errors import CredentialsError, StorageError
from dynamodb_outbox.port import OutboxOptions


class Fence:
    """Writes tombstones for ids without an event, and moves events into the index.

    Every write has a condition and may be repeated. The event and the tombstone of an id are two conditional writes of
    one new item, so DynamoDB accepts only one of them.
    """

    def __init__(self, writer: ConditionalWriter, options: OutboxOptions) -> None:
        self._writer = writer
        self._recover_writer = RecoverWriter(writer, options)
        self._options = options
        self._may_insert = True
        self.max_retries = options.max_retries
        """How many retries the handlers of this process allow, as the last recovery was told."""

    def forget(self) -> None:
        """Try `INSERT` again: permissions may have changed since the last start of a worker."""
        self._may_insert = True

    async def void(self, ids: Sequence[str], *, within: float, inserts: bool) -> dict[str, bool | None]:
        """Write tombstones: True if written, False if refused because the id has an item, None without an answer."""
        results = await self.write_tombstones(ids, within=within, inserts=inserts)
        return {
            event_id: None if isinstance(result, StorageError) else isinstance(result, Applied)
            for event_id, result in results.items()
        }

    async def write_tombstones(self, ids: Sequence[str], *, within: float, inserts: bool) -> dict[str, WriteResult]:
        """Write tombstones, 25 in a request with PartiQL INSERTs, else 8 side by side; return the result by id."""
        deadline = anyio.current_time() + within
        values = {"expiry": {"N": str(int(self._options.clock() + VOID_SECONDS))}}
        form = TOMBSTONE if inserts and self._may_insert else TOMBSTONE_ALONE
        results = await self._writer.write([Write(form, event_id, values) for event_id in ids], within=within)
        of_id = dict(zip(ids, results, strict=True))
        # The role may lack dynamodb:PartiQLInsert. An UpdateItem needs only what settles need.
        again = [event_id for event_id, result in of_id.items() if isinstance(result, CredentialsError)]
        if form is TOMBSTONE and again:
            left = max(deadline - anyio.current_time(), 0)
            writes = [Write(TOMBSTONE_ALONE, event_id, values) for event_id in again]
            of_id |= zip(again, await self._writer.write(writes, within=left), strict=True)
            self._may_insert = not any(isinstance(of_id[event_id], (Applied, Refused)) for event_id in again)
        return of_id

    async def enter(self, name: str, ids: Sequence[str], *, within: float, max_retries: int) -> RecoverResults:
        """Move events of a window into the index: PENDING with one retry more, or FAILED if no retry is left.

        An event that is not in the window any more refuses both. Each portion of the events is tried for `within`
        seconds. After an error that concerns all writes the rest is not tried, and has this error as its result.
        """
        entered = RecoverResults({}, [], [])
        events = {event_id: {"window": {"S": name}} for event_id in ids}
        async for portion in self._recover_writer.recover(
            UNLISTED, events, max_retries=max_retries, within=within, patient=True
        ):
            entered.extend(portion)
            if (error := portion.error_of_all()) is not None:
                entered.results.update((event_id, error) for event_id in ids if event_id not in entered.results)
                break
        return entered
