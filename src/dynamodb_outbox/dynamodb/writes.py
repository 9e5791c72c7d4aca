"""Conditional writes in numbers: 25 to a request where the engine can, one by one elsewhere.

Both modes give each write a result of its own, and repeat only what may be repeated, within a deadline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import anyio

from dynamodb_outbox.dynamodb.client import Backoff, Caller, ConditionRefused
from dynamodb_outbox.dynamodb.codec import Item
from dynamodb_outbox.dynamodb.faults import (
    Fault,
    InvalidRequestError,
    concerns_all,
    doubtful,
    fatal_code,
    fault_of_code,
)
from dynamodb_outbox.dynamodb.probe import MAX_STATEMENTS, Batching, WriteMode
from dynamodb_outbox.dynamodb.replies import claimed_item, is_claim, responses_to, was_repeated
from dynamodb_outbox.dynamodb.shards import Shards
from dynamodb_outbox.dynamodb.transitions import Write, placed, statement, update_item
from dynamodb_outbox.errors import StorageError, ThrottledError, UnavailableError
from dynamodb_outbox.observing import Throttled

CONCURRENT_CALLS: Final = 8
LEAST_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Applied:
    """The write took place; `item` is the new item, if asked for."""

    item: Item | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The condition was false. `repeated`: an earlier attempt of the same write may have been applied."""

    repeated: bool = False


WriteResult = Applied | Refused | StorageError


@dataclass(slots=True)
class _Batch:
    """The statements of one batch: what became of those that are done, and which are left."""

    left: list[int]
    results: dict[int, WriteResult] = field(default_factory=dict[int, WriteResult])
    maybe_applied: set[int] = field(default_factory=set[int])
    failures: dict[int, StorageError] = field(default_factory=dict[int, StorageError])

    def failed(self, error: StorageError) -> None:
        """Note that the whole request failed, and may be repeated."""
        self.failures |= dict.fromkeys(self.left, error)
        if error.maybe_applied:
            self.maybe_applied.update(self.left)

    def result(self, index: int) -> WriteResult:
        """Tell what became of a statement; one that is left has failed."""
        if index in self.results:
            return self.results[index]
        error = self.failures[index]
        return doubtful(error) if index in self.maybe_applied and not error.maybe_applied else error

    def read(self, responses: list[dict[str, Any]], result_of: ReadResult, *, returning: bool) -> None:
        """Read the results of the statements that were left; a `Fault` leaves one for the next request."""
        again: list[int] = []
        for index, response in zip(self.left, responses, strict=True):
            result = result_of(response, repeated=index in self.maybe_applied, returning=returning)
            if isinstance(result, Fault):
                again.append(index)
                if result is Fault.AMBIGUOUS:
                    self.maybe_applied.add(index)
                self.failures[index] = _failure_of_statement(result)
            else:
                self.results[index] = result
        self.left = again


class ReadResult(Protocol):
    """Reads the response to one statement."""

    def __call__(self, response: dict[str, Any], *, repeated: bool, returning: bool) -> WriteResult | Fault:
        """Read a response; `repeated`: it may have been applied before, `returning`: the item was asked for."""
        ...


class _WriteChunk(Protocol):
    """Makes some writes in one request."""

    async def __call__(
        self, writes: list[Write], *, within: float, returning: bool, patient: bool
    ) -> list[WriteResult]:
        """Make the writes; the results are in their order."""
        ...


class ConditionalWriter:
    """Makes conditional writes in the mode that fits the engine."""

    def __init__(self, caller: Caller, mode: WriteMode, *, shards: Shards) -> None:
        self._caller = caller
        self._shards = shards
        self._batching = Batching(caller, mode, shards=shards)
        # Two lanes: behind claims that are throttled, a settle would wait for seconds of its lease.
        self._calls = {urgent: anyio.CapacityLimiter(CONCURRENT_CALLS) for urgent in (True, False)}

    def forget_probe(self) -> None:
        """Probe again before the next write; a worker that starts may find another engine or other rights."""
        self._batching.forget()

    async def write(
        self,
        writes: Sequence[Write],
        *,
        within: float,
        returning: bool = False,
        urgent: bool = False,
        patient: bool = True,
    ) -> list[WriteResult]:
        """Make the writes; the results are in their order. Raises nothing but cancellation.

        `returning` asks for the new items, which claims need, and is for claims only.
        Those that are `urgent` wait for no others, however long these are repeated. Unless `patient`, writes that
        are throttled are not repeated: the caller has something better to do, or comes back later.
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

        async def run(indexes: list[int], write_chunk: _WriteChunk) -> None:
            chunk: list[WriteResult]
            async with self._calls[urgent]:
                # What is left of the time after waiting for a turn, and enough for one attempt.
                left = max(deadline - anyio.current_time(), LEAST_SECONDS)
                try:
                    chunk = await write_chunk(
                        [writes[index] for index in indexes], within=left, returning=returning, patient=patient
                    )
                except Exception as error:
                    # Unforeseen in one chunk: the results of the others are still theirs.
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

    def _chunks(self, writes: Sequence[Write]) -> list[tuple[list[int], _WriteChunk]]:
        """Divide writes into requests: what cannot go in a batch is alone."""
        singles = self._batching.singles(writes)
        chunks: list[tuple[list[int], _WriteChunk]] = [([index], self._write_item) for index in singles]
        if len(singles) < len(writes):
            rest = [index for index in range(len(writes)) if index not in singles] if singles else range(len(writes))
            chunks += [(chunk, self._write_statements) for chunk in _chunks_of_distinct_events(writes, rest)]
        return chunks

    async def _write_item(
        self, writes: list[Write], *, within: float, returning: bool, patient: bool
    ) -> list[WriteResult]:
        params = update_item(writes[0], table_name=self._caller.table_name, returning=returning)
        try:
            read = claimed_item(writes[0].event_id, _token(writes[0])) if returning else None
            item: Item | None = await self._caller.call(
                "update_item", within=within, patient=patient, read=read, **params
            )
        except ConditionRefused as refused:
            return [Refused(repeated=refused.repeated)]
        except StorageError as error:
            return [error]
        return [Applied(item if returning else None)]

    async def _write_statements(
        self, writes: list[Write], *, within: float, returning: bool, patient: bool
    ) -> list[WriteResult]:
        deadline = anyio.current_time() + within
        backoff = Backoff(self._caller.random)
        batch = _Batch(list(range(len(writes))))
        while batch.left:
            chunk = [writes[index] for index in batch.left]
            try:
                responses, repeated = await self._execute(chunk, deadline=deadline, returning=returning)
                if repeated:
                    batch.maybe_applied.update(batch.left)
                batch.read(responses, self._result_of, returning=returning)
            except (UnavailableError, ThrottledError) as error:
                batch.failed(error)
            except StorageError as error:
                if len(chunk) == 1 or concerns_all(error):
                    batch.failed(error)
                    break
                if error.maybe_applied:
                    batch.maybe_applied.update(batch.left)
                # One statement that is not valid fails the whole request: each goes on its own.
                await self._write_each_alone(chunk, batch, deadline=deadline, returning=returning)
                break
            if batch.left:
                delay = backoff.next_delay()
                given_up = not patient and batch.maybe_applied.isdisjoint(batch.left)
                if given_up or anyio.current_time() + delay >= deadline:
                    break
                await anyio.sleep(delay)
        results = [batch.result(index) for index in range(len(writes))]
        return await self._write_refused(writes, results, deadline=deadline, returning=returning)

    async def _write_each_alone(self, writes: list[Write], batch: _Batch, *, deadline: float, returning: bool) -> None:
        """Make what is left of a batch, one write at a time."""
        for index, write in zip(batch.left, writes, strict=True):
            within = max(deadline - anyio.current_time(), LEAST_SECONDS)
            write_one = self._write_statements if self._batching.takes(write.transition) else self._write_item
            (alone,) = await write_one([write], within=within, returning=returning, patient=True)
            repeated = isinstance(alone, Refused) and index in batch.maybe_applied
            batch.results[index] = Refused(repeated=True) if repeated else alone

    async def _write_refused(
        self, writes: list[Write], results: list[WriteResult], *, deadline: float, returning: bool
    ) -> list[WriteResult]:
        """Make the writes as `UpdateItem` calls whose statements were refused as invalid."""
        for index, refusal in enumerate(results):
            if not isinstance(refusal, InvalidRequestError):
                continue
            within = max(deadline - anyio.current_time(), LEAST_SECONDS)
            (result,) = await self._write_item([writes[index]], within=within, returning=returning, patient=True)
            if isinstance(result, (Applied, Refused)):
                # The item was not the reason: an attribute of another type would be refused here as well.
                self._batching.refuse([writes[index].transition], str(refusal))
            repeated = isinstance(result, Refused) and refusal.maybe_applied
            results[index] = Refused(repeated=True) if repeated else result
        return results

    async def _execute(
        self, writes: list[Write], *, deadline: float, returning: bool
    ) -> tuple[list[dict[str, Any]], bool]:
        """Send the statements once; their responses, and whether the client repeated the request by itself."""
        table_name = self._caller.table_name
        statements = [statement(write, table_name=table_name, returning=returning) for write in writes]
        within = deadline - anyio.current_time()
        read_responses = responses_to(len(statements))

        def read(reply: Mapping[str, Any]) -> tuple[list[dict[str, Any]], bool]:
            responses = read_responses(reply)
            if returning:
                responses = [_claim_or_nothing(*pair) for pair in zip(responses, writes, strict=True)]
            return responses, was_repeated(reply)

        answer: tuple[list[dict[str, Any]], bool] = await self._caller.call(
            "batch_execute_statement", within=within, once=True, read=read, Statements=statements
        )
        return answer

    def _result_of(self, response: dict[str, Any], *, repeated: bool, returning: bool) -> WriteResult | Fault:
        """Read the result of one statement; a `Fault` says to repeat it."""
        error = response.get("Error")
        if error is None:
            item: Item | None = response.get("Item")
            return Fault.AMBIGUOUS if returning and item is None else Applied(item)
        code, message = str(error.get("Code", "")), str(error.get("Message", ""))
        fault = fault_of_code(code)
        if fault is Fault.REFUSED:
            return Refused(repeated=repeated)
        if fault is not Fault.FATAL:
            if fault is Fault.THROTTLED and self._caller.observers:
                self._caller.observers.tell(Throttled(operation="BatchExecuteStatement"))
            return fault
        return fatal_code(
            code,
            message,
            operation="BatchExecuteStatement",
            table_name=self._caller.table_name,
            index_name=self._caller.index_name,
        )


def _token(claim: Write) -> str:
    token: str = claim.values["token"]["S"]
    return token


def _claim_or_nothing(response: dict[str, Any], write: Write) -> dict[str, Any]:
    """Take a response without an error whose item is not the claimed one for a response that says nothing."""
    if "Error" in response or is_claim(response.get("Item"), event_id=write.event_id, token=_token(write)):
        return response
    return {}


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


def _failure_of_statement(fault: Fault) -> StorageError:
    if fault is Fault.THROTTLED:
        return ThrottledError(operation="a statement", attempts=1, reason="inside of a batch")
    is_ambiguous = fault is Fault.AMBIGUOUS
    return UnavailableError(operation="a statement", attempts=1, reason="inside of a batch", maybe_applied=is_ambiguous)
