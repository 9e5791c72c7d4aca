"""Storing events of numbered ids in groups, with PartiQL `INSERT` statements.

An `INSERT` is refused if an item has its id. A BatchWriteItem would replace the item: a tombstone of a window, or an
event of a copied virtual machine, which gives the same numbers. The answer to a refused `INSERT` does not show the item
that has the id, so the event is sent again as a PutItem.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import anyio

from dynamodb_outbox.dynamodb.conditional.insert import insert_statement
from dynamodb_outbox.dynamodb.emitting.publish_result import PublishResult, Put
from dynamodb_outbox.dynamodb.emitting.single_puts import LEAST_PUT_SECONDS, SinglePuts
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.transport.classify import NOT_ALLOWED, ErrorKind, kind_of_code
from dynamodb_outbox.dynamodb.transport.responses import responses_to, was_repeated
from dynamodb_outbox.dynamodb.transport.retrying import Retries, deadline_error
from dynamodb_outbox.errors import (
    CredentialsError,
    InvalidRequestError,
    ItemTooLargeError,
    StorageError,
    ThrottledError,
    UnavailableError,
)
from dynamodb_outbox.observers import Throttled

OPERATION: Final = "BatchExecuteStatement"


class Inserts:
    """Stores groups of events, each event if its id is new."""

    def __init__(self, caller: Caller, singles: SinglePuts, *, timing: Timing) -> None:
        self._caller = caller
        self._singles = singles
        self._timing = timing

    async def insert(self, chunk: Sequence[Put], result: PublishResult) -> None:
        """Store a chunk of events. Only throttled statements are repeated; others go alone after an error."""
        retries = Retries(self._timing.publish, random=self._caller.random)
        left = list(chunk)
        async with anyio.create_task_group() as group:
            while left:
                for put in left:
                    self._singles.begin(put, result, may_enter=True)
                cause: ThrottledError | UnavailableError | None = None
                try:
                    errors = await self._execute(left, within=max(retries.seconds_left, LEAST_PUT_SECONDS))
                except StorageError as error:
                    if isinstance(error, (ThrottledError, UnavailableError)) and not error.maybe_applied:
                        cause, again, alone = error, left, []
                    elif _concerns_statements(error):
                        if error.maybe_applied:
                            _doubt(left)
                        again, alone = [], left
                    else:
                        result.fail(left, error)
                        return
                else:
                    again, alone = self._sort(left, errors)
                    kept = {*again, *alone}
                    await self._singles.acknowledge([put for put in left if put not in kept], result)
                if alone:
                    group.start_soon(self._singles.put_each, alone, result, retries.deadline)
                result.abandon([put for put in again if not put.is_wanted])
                left = [put for put in again if put.is_wanted]
                if left and not await retries.wait():
                    result.fail(left, cause or self._throttled(retries.attempts))
                    return

    async def _execute(self, puts: Sequence[Put], *, within: float) -> list[str | None]:
        """Send the statements once; return the code of each error."""
        read_responses = responses_to(len(puts))

        def read(response: Mapping[str, Any]) -> list[str | None]:
            errors = [each.get("Error") for each in read_responses(response)]
            codes = [None if error is None else str(error.get("Code", "")) for error in errors]
            if was_repeated(response):
                # The client has sent the request twice by itself: the first attempt may have stored the events.
                _doubt([put for put, code in zip(puts, codes, strict=True) if code is not None])
            return codes

        codes: list[str | None] = await self._caller.call(
            "batch_execute_statement",
            within=within,
            once=True,
            read=read,
            Statements=[insert_statement(put.item, table_name=self._caller.table_name) for put in puts],
        )
        return codes

    def _sort(self, puts: Sequence[Put], codes: Sequence[str | None]) -> tuple[list[Put], list[Put]]:
        """List the events that are to be sent again with the next request, and those to be sent alone."""
        again: list[Put] = []
        alone: list[Put] = []
        for put, code in zip(puts, codes, strict=True):
            if code is None:
                continue
            kind = kind_of_code(code)
            if kind is ErrorKind.THROTTLED:
                again.append(put)
                if self._caller.observers:
                    self._caller.observers.notify(Throttled(operation=OPERATION))
                continue
            put.maybe_stored = put.maybe_stored or kind is ErrorKind.AMBIGUOUS
            alone.append(put)
        return again, alone

    def _throttled(self, attempts: int) -> ThrottledError | UnavailableError:
        reason = "its statement was throttled"
        return deadline_error(OPERATION, ErrorKind.THROTTLED, attempts=attempts, reason=reason)


def _doubt(puts: Sequence[Put]) -> None:
    """Note that an attempt may have stored events."""
    for put in puts:
        put.maybe_stored = True


def _concerns_statements(error: StorageError) -> bool:
    """Tell whether PutItems may store the events, though their statements did not, or were not answered."""
    if isinstance(error, CredentialsError):
        # The role may lack the permission for INSERT alone.
        return error.reason.startswith(NOT_ALLOWED)
    return type(error) is StorageError or isinstance(
        error, (UnavailableError, ThrottledError, InvalidRequestError, ItemTooLargeError)
    )
