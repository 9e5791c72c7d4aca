"""Makes events FAILED that leave their queues, each only while its worker has the queue.

A mark as COMPLETED needs no token: the handlers have succeeded, even if another worker has the queue by now. A mark as
FAILED does. The event and its queue are two items, so the mark and the check of the token are one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final
from uuid import uuid4

import anyio

from dynamodb_outbox.dynamodb.conditional.rendering import update_transact_item
from dynamodb_outbox.dynamodb.conditional.statements import LEAST_WRITE_SECONDS
from dynamodb_outbox.dynamodb.conditional.transitions import Write, placed
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Fenced, Refused, WriteResult
from dynamodb_outbox.dynamodb.ordering.transitions import CHECK_QUEUE
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.transport.caller import FALSE_CONDITION, Caller, TransactionRefused
from dynamodb_outbox.dynamodb.transport.classify import with_maybe_applied
from dynamodb_outbox.dynamodb.transport.side_by_side import side_by_side
from dynamodb_outbox.errors import InvalidRequestError, ItemTooLargeError, StorageError

OPERATION: Final = "transact_write_items"


class AsideWriter:
    """Writes marks as FAILED; `queues` has the id of the queue for the token of each claim."""

    def __init__(self, caller: Caller, shards: Shards, *, queues: Mapping[str, str]) -> None:
        self._caller = caller
        self._shards = shards
        self._queues = queues

    async def write(self, writes: Sequence[Write], *, within: float, urgent: bool = False) -> list[WriteResult]:
        """Make the writes; see `ConditionalWriter.write`. `Fenced` says that the claim of the queue was lost."""
        deadline = anyio.current_time() + within
        return await side_by_side([partial(self._write, write, deadline=deadline) for write in writes])

    async def _write(self, write: Write, *, deadline: float) -> WriteResult:
        within = max(deadline - anyio.current_time(), LEAST_WRITE_SECONDS)
        token = write.values["token"]
        check = Write(CHECK_QUEUE, self._queues[token["S"]], {"token": token})
        write = placed(write, self._shards) if self._shards.count > 1 else write
        entries = [
            {"Update": update_transact_item(each, table_name=self._caller.table_name)} for each in (write, check)
        ]
        try:
            await self._caller.call(OPERATION, within=within, TransactItems=entries, ClientRequestToken=uuid4().hex)
        except TransactionRefused as refused:
            return _result_of(refused, write.event_id)
        except StorageError as error:
            return error
        return Applied()


def _result_of(refused: TransactionRefused, event_id: str) -> WriteResult:
    codes = [reason.get("Code") for reason in refused.reasons]
    if FALSE_CONDITION in codes[1:]:
        return Fenced(repeated=refused.repeated)
    if FALSE_CONDITION in codes:
        return Refused(repeated=refused.repeated)
    if refused.has_no_room:
        return ItemTooLargeError(operation=OPERATION, reason=f"event {event_id!r} has no room for its error")
    if "ValidationError" in codes:
        return InvalidRequestError(operation=OPERATION, reason=refused.text)
    error = StorageError(f"event {event_id!r} could not be made FAILED: {refused.text}")
    return with_maybe_applied(error) if refused.repeated else error
