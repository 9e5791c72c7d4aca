"""Makes events FAILED that leave their queues, each only while its worker has the queue.

A mark as COMPLETED needs no token: the handlers have succeeded, even if another worker has the queue by now. A mark as
FAILED does. The event and its queue are two items, so the mark and the check of the token are one transaction.

The event also gets the names of handlers in the queue, so that a retry leaves these handlers out. The queue may have
names that the worker does not know, because their transactions were applied and not answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final
from uuid import uuid4

import anyio

from dynamodb_outbox.dynamodb.conditional.fitted_writes import warn_of_lost_names
from dynamodb_outbox.dynamodb.conditional.rendering import update_transact_item
from dynamodb_outbox.dynamodb.conditional.statements import LEAST_WRITE_SECONDS
from dynamodb_outbox.dynamodb.conditional.transitions import Write, placed
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Fenced, Refused, WriteResult
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.ordering.transitions import (
    CHECK_QUEUE,
    CHECK_QUEUE_WITH_HANDLED_BY,
    MARK_FAILED_WITH_HANDLED_BY,
)
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.transport.caller import FALSE_CONDITION, Caller, TransactionRefused
from dynamodb_outbox.dynamodb.transport.classify import with_maybe_applied
from dynamodb_outbox.dynamodb.transport.side_by_side import side_by_side
from dynamodb_outbox.errors import InvalidRequestError, ItemTooLargeError, StorageError
from dynamodb_outbox.event import EventStatus

OPERATION: Final = "transact_write_items"
FAILED: Final = {"S": EventStatus.FAILED.value}
TRIES: Final = 3
"""How often a mark is repeated because transactions of handlers have added their names meanwhile."""


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
        """Make a write. If the queue has names of handlers that the write does not have, make it again with them."""
        write = placed(write, self._shards) if self._shards.count > 1 else write
        names = write.values["handled"] if write.transition.add else None
        queue_id = self._queues[write.values["token"]["S"]]
        result = await self._mark(write, _check(write, queue_id, names), deadline=deadline)
        for _ in range(TRIES):
            if not isinstance(result, _OtherNames):
                break
            names = result.names
            full, check = _with_names(write, names), _check(write, queue_id, names)
            result = await self._mark(full, check, deadline=deadline)
            if isinstance(result, (ItemTooLargeError, InvalidRequestError)) and full is not write:
                result = await self._mark(write, check, deadline=deadline)
                if isinstance(result, Applied):
                    warn_of_lost_names(write.event_id)
        return result

    async def _mark(self, write: Write, check: Write, *, deadline: float) -> WriteResult:
        within = max(deadline - anyio.current_time(), LEAST_WRITE_SECONDS)
        entries = [
            {"Update": update_transact_item(each, table_name=self._caller.table_name)} for each in (write, check)
        ]
        try:
            await self._caller.call(OPERATION, within=within, TransactItems=entries, ClientRequestToken=uuid4().hex)
        except TransactionRefused as refused:
            return _result_of(refused, write, check)
        except StorageError as error:
            return error
        return Applied()


@dataclass(frozen=True, slots=True)
class _OtherNames(Fenced):
    """The worker has the queue, but its `handledBy` is not that of the check."""

    names: AttributeValue = field(kw_only=True)


def _check(write: Write, queue_id: str, names: AttributeValue | None) -> Write:
    token = {"token": write.values["token"]}
    if names is None:
        return Write(CHECK_QUEUE, queue_id, token)
    return Write(CHECK_QUEUE_WITH_HANDLED_BY, queue_id, {**token, "names": names})


def _with_names(write: Write, names: AttributeValue) -> Write:
    """Return the write with the names of a queue, too; another program may have stored no set of texts."""
    known = set[str](write.values["handled"]["SS"] if write.transition.add else ())
    handled = known.union(names.get("SS", ()))
    if handled == known:
        return write
    transition = replace(write.transition, add=MARK_FAILED_WITH_HANDLED_BY.add)
    return replace(write, transition=transition, values={**write.values, "handled": {"SS": sorted(handled)}})


def _result_of(refused: TransactionRefused, write: Write, check: Write) -> WriteResult:
    codes = [reason.get("Code") for reason in refused.reasons]
    if FALSE_CONDITION in codes[1:]:
        item = refused.reasons[1].get("Item", {})
        is_mine = item.get("claimToken") == check.values["token"] and item.get("status") != FAILED
        names = item.get("handledBy")
        if is_mine and names is not None and names != check.values.get("names"):
            return _OtherNames(repeated=refused.repeated, names=names)
        return Fenced(repeated=refused.repeated)
    if FALSE_CONDITION in codes:
        return Refused(repeated=refused.repeated)
    if refused.has_no_room:
        return ItemTooLargeError(operation=OPERATION, reason=f"event {write.event_id!r} has no room for its error")
    if "ValidationError" in codes:
        return InvalidRequestError(operation=OPERATION, reason=refused.text)
    error = StorageError(f"event {write.event_id!r} could not be made FAILED: {refused.text}")
    return with_maybe_applied(error) if refused.repeated else error
