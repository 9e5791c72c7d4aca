"""Many conditional writes at once: 25 in a request if the backend supports it, else one by one.

Both modes return one result for each write, and repeat failed writes until a deadline if a repeat is safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio

from dynamodb_outbox.dynamodb.conditional.probe import MAX_STATEMENTS, Batching, WriteMode
from dynamodb_outbox.dynamodb.conditional.rendering import update_item
from dynamodb_outbox.dynamodb.conditional.statements import LEAST_WRITE_SECONDS, StatementWriter, WriteChunk, token_of
from dynamodb_outbox.dynamodb.conditional.transitions import Transition, Write, placed
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused, WriteResult
from dynamodb_outbox.dynamodb.items.codec import Item
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.transport.caller import Caller, ConditionRefused
from dynamodb_outbox.dynamodb.transport.responses import Read, claimed_item, read_new_item
from dynamodb_outbox.errors import StorageError

CONCURRENT_CALLS: Final = 8


class ConditionalWriter:
    """Makes conditional writes, in the mode that the backend supports."""

    def __init__(self, caller: Caller, mode: WriteMode, *, shards: Shards) -> None:
        self._caller = caller
        self._shards = shards
        self._batching = Batching(caller, mode, shards=shards)
        self._statements = StatementWriter(caller, self._batching, write_item=self._write_item)
        # Two limiters, so that a settle does not wait behind throttled claims while its lease runs.
        self._calls = {urgent: anyio.CapacityLimiter(CONCURRENT_CALLS) for urgent in (True, False)}

    def forget_probe(self) -> None:
        """Probe again before the next write: permissions may have changed since the last start of a worker."""
        self._batching.forget()

    @property
    def may_take_inserts(self) -> bool:
        """Whether the backend takes `INSERT` statements, as far as the probe of other statements says."""
        batching = self._batching
        return not batching.is_known or batching.takes_any or batching.lacks_updates_only

    async def takes_batches(self, within: float) -> bool:
        """Tell whether the backend takes PartiQL statements; probe it, if that is not known. Raises `StorageError`."""
        if not self._batching.is_known:
            await self._batching.probe(within)
        return self._batching.takes_any

    async def probe_also(self, transitions: Sequence[Transition], within: float) -> None:
        """Probe the statements of rarer transitions, before the first of them is written. Raises `StorageError`."""
        await self._batching.probe_also(transitions, within)

    async def write(
        self,
        writes: Sequence[Write],
        *,
        within: float,
        urgent: bool = False,
        patient: bool = True,
    ) -> list[WriteResult]:
        """Make the writes; the results are in the same order. Errors are results; only cancellation is raised.

        `urgent` writes do not wait for other writes and their repeats. With `patient=False`, throttled writes are not
        repeated, because the caller can try again later.
        """
        if not writes:
            return []
        if self._shards.count > 1:
            writes = [placed(write, self._shards) for write in writes]
        if not self._batching.is_known:
            try:
                await self._batching.probe(within)
            except StorageError as error:
                return [error] * len(writes)
        deadline = anyio.current_time() + within
        results: list[WriteResult | None] = [None] * len(writes)

        async def run(indexes: list[int], write_chunk: WriteChunk) -> None:
            chunk: list[WriteResult]
            async with self._calls[urgent]:
                # Waiting for the limiter took time; leave enough for at least one attempt.
                left = max(deadline - anyio.current_time(), LEAST_WRITE_SECONDS)
                try:
                    chunk = await write_chunk([writes[index] for index in indexes], within=left, patient=patient)
                except Exception as error:
                    # An unexpected error in one chunk must not lose the results of the others.
                    chunk = [self._caller.fatal(error, "a conditional write")] * len(indexes)
            for index, result in zip(indexes, chunk, strict=True):
                results[index] = result

        chunks = self._chunks(writes)
        if len(chunks) == 1:
            await run(*chunks[0])
        else:
            async with anyio.create_task_group() as group:
                for chunk in chunks:
                    group.start_soon(run, *chunk)
        return [result for result in results if result is not None]

    def _chunks(self, writes: Sequence[Write]) -> list[tuple[list[int], WriteChunk]]:
        """Divide writes into requests; a write that cannot go in a batch gets a separate request."""
        singles = self._batching.singles(writes)
        chunks: list[tuple[list[int], WriteChunk]] = [([index], self._write_item) for index in singles]
        if len(singles) < len(writes):
            rest = [index for index in range(len(writes)) if index not in singles] if singles else range(len(writes))
            chunks += [(chunk, self._statements.write) for chunk in _chunks_of_distinct_events(writes, rest)]
        return chunks

    async def _write_item(self, writes: list[Write], *, within: float, patient: bool) -> list[WriteResult]:
        (write,) = writes
        returning = write.transition.returning
        operation = "delete_item" if write.transition.deletes else "update_item"
        params = update_item(write, table_name=self._caller.table_name, returning=returning)
        read = _read_item(write) if returning else None
        try:
            item: Item | None = await self._caller.call(operation, within=within, patient=patient, read=read, **params)
        except ConditionRefused as refused:
            return [Refused(repeated=refused.repeated)]
        except StorageError as error:
            return [error]
        return [Applied(item if returning else None)]


def _read_item(write: Write) -> Read:
    """Make the check of the item that a write returns. A recovery returns an item, too, and has no token."""
    token = token_of(write)
    return read_new_item if token is None else claimed_item(write.event_id, token)


def _chunks_of_distinct_events(writes: Sequence[Write], indexes: Sequence[int]) -> list[list[int]]:
    """Split writes into chunks of indexes; a batch may not name the same item twice."""
    chunks: list[list[int]] = [[]]
    seen: set[str] = set()
    for index in indexes:
        event_id = writes[index].event_id
        if len(chunks[-1]) == MAX_STATEMENTS or event_id in seen:
            chunks.append([])
            seen.clear()
        chunks[-1].append(index)
        seen.add(event_id)
    return chunks if chunks[0] else []
