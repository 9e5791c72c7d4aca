"""Conditional writes as PartiQL statements, up to 25 to a request.

Only failed statements are repeated. A statement that DynamoDB refuses as invalid becomes a single write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import anyio

from dynamodb_outbox.dynamodb.conditional.probe import Batching
from dynamodb_outbox.dynamodb.conditional.rendering import statement
from dynamodb_outbox.dynamodb.conditional.transitions import Write
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused, WriteResult
from dynamodb_outbox.dynamodb.items.codec import Item
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.transport.classify import (
    ErrorKind,
    concerns_all,
    fatal_code,
    kind_of_code,
    with_maybe_applied,
)
from dynamodb_outbox.dynamodb.transport.responses import is_claim, responses_to, was_repeated
from dynamodb_outbox.dynamodb.transport.retrying import Retries, deadline_error
from dynamodb_outbox.errors import InvalidRequestError, StorageError, ThrottledError, UnavailableError
from dynamodb_outbox.observers import Throttled

LEAST_WRITE_SECONDS: Final = 0.5
"""How long a write is tried whose turn comes just before its deadline, or after it."""


@dataclass(slots=True)
class _Batch:
    """The statements of one batch: the results so far, and the indexes of the statements that are left."""

    left: list[int]
    results: dict[int, WriteResult] = field(default_factory=dict[int, WriteResult])
    maybe_applied: set[int] = field(default_factory=set[int])
    failures: dict[int, StorageError] = field(default_factory=dict[int, StorageError])
    tried_alone: set[int] = field(default_factory=set[int])

    def failed(self, error: StorageError) -> None:
        """Note that the whole request failed and can be repeated."""
        self.failures |= dict.fromkeys(self.left, error)
        if error.maybe_applied:
            self.maybe_applied.update(self.left)

    def result(self, index: int) -> WriteResult:
        """Return the result of a statement; a statement that is left has failed."""
        if index in self.results:
            return self.results[index]
        error = self.failures[index]
        return with_maybe_applied(error) if index in self.maybe_applied else error

    def read(self, responses: list[dict[str, Any] | None], result_of: ReadResult) -> None:
        """Read the results of the statements that were left; an `ErrorKind` leaves one for the next request."""
        again: list[int] = []
        for index, response in zip(self.left, responses, strict=True):
            result = result_of(response, repeated=index in self.maybe_applied)
            if isinstance(result, ErrorKind):
                again.append(index)
                if result is ErrorKind.AMBIGUOUS:
                    self.maybe_applied.add(index)
                self.failures[index] = deadline_error(
                    "a statement",
                    result,
                    attempts=1,
                    reason="it failed inside a batch",
                    maybe_applied=result is ErrorKind.AMBIGUOUS,
                )
            else:
                self.results[index] = result
        self.left = again


class ReadResult(Protocol):
    """Reads the response to one statement."""

    def __call__(self, response: dict[str, Any] | None, *, repeated: bool) -> WriteResult | ErrorKind:
        """Read a response, which is None if it proves nothing; `repeated`: it may have been applied before."""
        ...


class WriteChunk(Protocol):
    """Makes writes in one request."""

    async def __call__(self, writes: list[Write], *, within: float, patient: bool) -> list[WriteResult]:
        """Make the writes; the results are in their order."""
        ...


class StatementWriter:
    """Makes conditional writes in batches of statements; `write_item` makes one write as an `UpdateItem`."""

    def __init__(self, caller: Caller, batching: Batching, *, write_item: WriteChunk) -> None:
        self._caller = caller
        self._batching = batching
        self._write_item = write_item

    async def write(self, writes: list[Write], *, within: float, patient: bool) -> list[WriteResult]:
        """Make the writes; the results are in their order."""
        retries = Retries(within, random=self._caller.random)
        deadline = retries.deadline
        batch = _Batch(list(range(len(writes))))
        while batch.left:
            chunk = [writes[index] for index in batch.left]
            try:
                responses, repeated = await self._execute(chunk, deadline=deadline)
                if repeated:
                    batch.maybe_applied.update(batch.left)
                batch.read(responses, self._result_of)
            except (UnavailableError, ThrottledError) as error:
                batch.failed(error)
            except StorageError as error:
                if len(chunk) == 1 or concerns_all(error):
                    batch.failed(error)
                    break
                if error.maybe_applied:
                    batch.maybe_applied.update(batch.left)
                # One invalid statement fails the whole request, so send each write alone.
                await self._write_each_alone(chunk, batch, deadline=deadline, patient=patient)
                break
            if batch.left:
                is_given_up = not patient and batch.maybe_applied.isdisjoint(batch.left)
                if is_given_up or not await retries.wait():
                    break
        return await self._results(writes, batch, deadline=deadline, patient=patient)

    async def _results(
        self, writes: list[Write], batch: _Batch, *, deadline: float, patient: bool
    ) -> list[WriteResult]:
        """List the results, after each invalid statement was sent as an `UpdateItem` instead."""
        results = [batch.result(index) for index in range(len(writes))]
        for index, result in enumerate(results):
            # A write that was tried alone was already tried as an `UpdateItem`.
            if isinstance(result, InvalidRequestError) and index not in batch.tried_alone:
                results[index] = await self._write_refused(writes[index], result, deadline=deadline, patient=patient)
        return results

    async def _write_each_alone(self, writes: list[Write], batch: _Batch, *, deadline: float, patient: bool) -> None:
        """Make the writes that are left of a batch, one at a time."""
        for index, write in zip(batch.left, writes, strict=True):
            within = max(deadline - anyio.current_time(), LEAST_WRITE_SECONDS)
            write_one = self.write if self._batching.takes(write.transition) else self._write_item
            (alone,) = await write_one([write], within=within, patient=patient)
            repeated = isinstance(alone, Refused) and index in batch.maybe_applied
            batch.results[index] = Refused(repeated=True) if repeated else alone
            batch.tried_alone.add(index)

    async def _write_refused(
        self, write: Write, refusal: InvalidRequestError, *, deadline: float, patient: bool
    ) -> WriteResult:
        """Make a write as an `UpdateItem`, because DynamoDB refused its statement as invalid."""
        within = max(deadline - anyio.current_time(), LEAST_WRITE_SECONDS)
        (result,) = await self._write_item([write], within=within, patient=patient)
        if isinstance(result, (Applied, Refused)):
            # The statement was the reason, not the item: a wrong attribute type would fail here too.
            self._batching.refuse([write.transition], str(refusal))
        repeated = isinstance(result, Refused) and refusal.maybe_applied
        return Refused(repeated=True) if repeated else result

    async def _execute(self, writes: list[Write], *, deadline: float) -> tuple[list[dict[str, Any] | None], bool]:
        """Send the statements once. Return the responses, and whether the SDK repeated the request by itself."""
        table_name = self._caller.table_name
        statements = [statement(write, table_name=table_name, returning=write.transition.returning) for write in writes]
        within = deadline - anyio.current_time()
        read_responses = responses_to(len(statements))

        def read(response: Mapping[str, Any]) -> tuple[list[dict[str, Any] | None], bool]:
            pairs = zip(read_responses(response), writes, strict=True)
            return [_response_or_none(*pair) for pair in pairs], was_repeated(response)

        answer: tuple[list[dict[str, Any] | None], bool] = await self._caller.call(
            "batch_execute_statement", within=within, once=True, read=read, Statements=statements
        )
        return answer

    def _result_of(self, response: dict[str, Any] | None, *, repeated: bool) -> WriteResult | ErrorKind:
        """Read the result of one statement; an `ErrorKind` means that it must be repeated."""
        if response is None:
            return ErrorKind.AMBIGUOUS
        error = response.get("Error")
        if error is None:
            item: Item | None = response.get("Item")
            return Applied(item)
        code, message = str(error.get("Code", "")), str(error.get("Message", ""))
        kind = kind_of_code(code)
        if kind is ErrorKind.REFUSED:
            return Refused(repeated=repeated)
        if kind is not ErrorKind.FATAL:
            if kind is ErrorKind.THROTTLED and self._caller.observers:
                self._caller.observers.notify(Throttled(operation="BatchExecuteStatement"))
            return kind
        return fatal_code(
            code,
            message,
            operation="BatchExecuteStatement",
            table_name=self._caller.table_name,
            index_name=self._caller.index_name,
        )


def token_of(write: Write) -> str | None:
    """Read the token that a claim writes; None for other writes."""
    # A worker that keeps a queue claims its next event under the token `next`.
    token = write.values.get("next") or write.values.get("token")
    return None if token is None else str(token["S"])


def _response_or_none(response: dict[str, Any], write: Write) -> dict[str, Any] | None:
    """Return a response; None if the write is a claim, and the response has another item than the claimed one."""
    if not write.transition.returning or "Error" in response:
        return response
    return response if is_claim(response.get("Item"), event_id=write.event_id, token=token_of(write)) else None
