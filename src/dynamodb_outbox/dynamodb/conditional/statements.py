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

    def read(self, responses: list[dict[str, Any]], result_of: ReadResult, *, returning: bool) -> None:
        """Read the results of the statements that were left; an `ErrorKind` leaves one for the next request."""
        again: list[int] = []
        for index, response in zip(self.left, responses, strict=True):
            result = result_of(response, repeated=index in self.maybe_applied, returning=returning)
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

    def __call__(self, response: dict[str, Any], *, repeated: bool, returning: bool) -> WriteResult | ErrorKind:
        """Read a response; `repeated`: it may have been applied before, `returning`: the item was asked for."""
        ...


class WriteChunk(Protocol):
    """Makes writes in one request."""

    async def __call__(
        self, writes: list[Write], *, within: float, returning: bool, patient: bool
    ) -> list[WriteResult]:
        """Make the writes; the results are in their order."""
        ...


class StatementWriter:
    """Makes conditional writes in batches of statements; `write_item` makes one write as an `UpdateItem`."""

    def __init__(self, caller: Caller, batching: Batching, *, write_item: WriteChunk) -> None:
        self._caller = caller
        self._batching = batching
        self._write_item = write_item

    async def write(self, writes: list[Write], *, within: float, returning: bool, patient: bool) -> list[WriteResult]:
        """Make the writes; the results are in their order."""
        retries = Retries(within, random=self._caller.random)
        deadline = retries.deadline
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
                # One invalid statement fails the whole request, so send each write alone.
                await self._write_each_alone(chunk, batch, deadline=deadline, returning=returning, patient=patient)
                break
            if batch.left:
                is_given_up = not patient and batch.maybe_applied.isdisjoint(batch.left)
                if is_given_up or not await retries.wait():
                    break
        return await self._results(writes, batch, deadline=deadline, returning=returning, patient=patient)

    async def _results(
        self, writes: list[Write], batch: _Batch, *, deadline: float, returning: bool, patient: bool
    ) -> list[WriteResult]:
        """List the results, after each invalid statement was sent as an `UpdateItem` instead."""
        results = [batch.result(index) for index in range(len(writes))]
        for index, result in enumerate(results):
            # A write that was tried alone was already tried as an `UpdateItem`.
            if isinstance(result, InvalidRequestError) and index not in batch.tried_alone:
                results[index] = await self._write_refused(
                    writes[index], result, deadline=deadline, returning=returning, patient=patient
                )
        return results

    async def _write_each_alone(
        self, writes: list[Write], batch: _Batch, *, deadline: float, returning: bool, patient: bool
    ) -> None:
        """Make the writes that are left of a batch, one at a time."""
        for index, write in zip(batch.left, writes, strict=True):
            within = max(deadline - anyio.current_time(), LEAST_WRITE_SECONDS)
            write_one = self.write if self._batching.takes(write.transition) else self._write_item
            (alone,) = await write_one([write], within=within, returning=returning, patient=patient)
            repeated = isinstance(alone, Refused) and index in batch.maybe_applied
            batch.results[index] = Refused(repeated=True) if repeated else alone
            batch.tried_alone.add(index)

    async def _write_refused(
        self, write: Write, refusal: InvalidRequestError, *, deadline: float, returning: bool, patient: bool
    ) -> WriteResult:
        """Make a write as an `UpdateItem`, because DynamoDB refused its statement as invalid."""
        within = max(deadline - anyio.current_time(), LEAST_WRITE_SECONDS)
        (result,) = await self._write_item([write], within=within, returning=returning, patient=patient)
        if isinstance(result, (Applied, Refused)):
            # The statement was the reason, not the item: a wrong attribute type would fail here too.
            self._batching.refuse([write.transition], str(refusal))
        repeated = isinstance(result, Refused) and refusal.maybe_applied
        return Refused(repeated=True) if repeated else result

    async def _execute(
        self, writes: list[Write], *, deadline: float, returning: bool
    ) -> tuple[list[dict[str, Any]], bool]:
        """Send the statements once. Return the responses, and whether the SDK repeated the request by itself."""
        table_name = self._caller.table_name
        statements = [statement(write, table_name=table_name, returning=returning) for write in writes]
        within = deadline - anyio.current_time()
        read_responses = responses_to(len(statements))

        def read(response: Mapping[str, Any]) -> tuple[list[dict[str, Any]], bool]:
            responses = read_responses(response)
            if returning:
                responses = [_claim_or_nothing(*pair) for pair in zip(responses, writes, strict=True)]
            return responses, was_repeated(response)

        answer: tuple[list[dict[str, Any]], bool] = await self._caller.call(
            "batch_execute_statement", within=within, once=True, read=read, Statements=statements
        )
        return answer

    def _result_of(self, response: dict[str, Any], *, repeated: bool, returning: bool) -> WriteResult | ErrorKind:
        """Read the result of one statement; an `ErrorKind` means that it must be repeated."""
        error = response.get("Error")
        if error is None:
            item: Item | None = response.get("Item")
            return ErrorKind.AMBIGUOUS if returning and item is None else Applied(item)
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


def token_of(claim: Write) -> str:
    """Read the token that a claim writes."""
    # A worker that keeps a queue claims its next event under the token `next`.
    token: str = claim.values.get("next", claim.values["token"])["S"]
    return token


def _claim_or_nothing(response: dict[str, Any], write: Write) -> dict[str, Any]:
    """Return an error or the claimed item as it is, and an empty response for any other item."""
    if "Error" in response or is_claim(response.get("Item"), event_id=write.event_id, token=token_of(write)):
        return response
    return {}
