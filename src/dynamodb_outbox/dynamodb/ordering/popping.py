"""Takes events that are done from the fronts of their queues; `transitions.py` has the forms of the write.

A worker knows a queue as its last write returned it. Emits may have appended to it since, so that another form is right
now: then the POP is refused, and repeated in the form for the queue as it is. A refused or unanswered POP may also have
been applied by an earlier attempt. The token of the queue tells.

A worker may find that the event is missing, because another program has deleted it. An event that is emitted again with
the same id is not appended, since the queue still has its id. If the id were taken now, the event would be in no queue.
So this POP is a transaction, with a `Delete` of the event that is refused if there is one. A `ConditionCheck` would say
the same, but needs a permission that workers do not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import Any, Final

import anyio

from dynamodb_outbox.dynamodb.conditional.rendering import update_transact_item
from dynamodb_outbox.dynamodb.conditional.transitions import Write, placed
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused, WriteResult
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.items.codec import millis
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.ordering.queue import NOBODY, Queue, id_list, page_ids, read_queue
from dynamodb_outbox.dynamodb.ordering.transitions import BATCHED, Pop, form_of, pop
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.transport.batch_get import BATCH_GET, get_items
from dynamodb_outbox.dynamodb.transport.caller import FALSE_CONDITION, Caller, TransactionRefused
from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.port import OutboxOptions
from dynamodb_outbox.worker_identity import worker_identity

MAX_FORMS: Final = 4
"""The most forms of one POP. Appends change the right form twice at most: LAST, IDS, HEAD, or UNHEAD, REFILL."""
LEAST_CALL_SECONDS: Final = 0.5
"""The shortest time limit of a call, even when the time of the POP is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """An event at the front of a queue that this worker has claimed with `token`, and which is to be popped.

    With `keeps`, this worker claims the next event with `next_token`; else the next event is due for all workers.
    """

    queue: Queue
    token: str
    keeps: bool
    next_token: str = field(default_factory=lambda: token_hex(16))
    is_doubtful: bool = False
    """Whether an earlier POP may have been applied."""
    is_missing: bool = False
    """Whether the event is not stored; the POP then requires that it still is not."""


class EventIsStored(Refused):
    """The event was missing, and is stored by now. The queue still has its id, and this worker the queue."""


class Popper:
    """Pops events from queues, in batches."""

    def __init__(self, caller: Caller, writer: ConditionalWriter, options: OutboxOptions, shards: Shards) -> None:
        self._caller = caller
        self._writer = writer
        self._options = options
        self._shards = shards

    async def prepare(self, within: float) -> StorageError | None:
        """Probe which of the writes go in batches, unless that is known; return the error of the probe."""
        try:
            await self._writer.probe_also(BATCHED, within)
        except StorageError as error:
            return error
        return None

    async def pop(self, fronts: Sequence[Front], *, within: float) -> list[WriteResult]:
        """Pop events; the results are in the same order.

        `Applied` has the item of the queue if this worker holds it now, with the claim of the next event, and no item
        if this worker holds nothing any more. `EventIsStored` says that the claim holds, and nothing was popped; any
        other `Refused` says that the claim was lost before.
        """
        deadline = anyio.current_time() + within
        if (obstacle := await self.prepare(within)) is not None:
            return [obstacle] * len(fronts)
        results: dict[int, WriteResult] = {}
        left = dict(enumerate(fronts))
        for _ in range(MAX_FORMS):
            answers = await self._write(list(left.values()), deadline=deadline)
            pairs = dict(zip(left, answers, strict=True))
            results |= pairs
            unclear = {index: left[index] for index, answer in pairs.items() if _is_unclear(answer, left[index])}
            left = await self._look(unclear, results, deadline=deadline) if unclear else {}
            if not left:
                break
        results |= {index: _never(front) for index, front in left.items()}
        return [results[index] for index in range(len(fronts))]

    async def _look(
        self, unclear: dict[int, Front], results: dict[int, WriteResult], *, deadline: float
    ) -> dict[int, Front]:
        """Read queues, and find out which POPs were applied; return the POPs to repeat."""
        ids = list(dict.fromkeys(front.queue.id for front in unclear.values()))
        items: dict[str, Any] = {}
        try:
            for start in range(0, len(ids), BATCH_GET):
                within = _left(deadline)
                items |= await get_items(self._caller, ids[start : start + BATCH_GET], within=within)
        except StorageError as error:
            # The first error says more.
            results |= {i: error for i in unclear if not isinstance(results[i], StorageError)}
            return {}
        again: dict[int, Front] = {}
        for index, front in unclear.items():
            found = _found(front, results[index], items.get(front.queue.id))
            if isinstance(found, Front):
                again[index] = found
            else:
                results[index] = found
        return again

    async def _write(self, fronts: Sequence[Front], *, deadline: float) -> list[WriteResult]:
        results: list[WriteResult | None] = [None] * len(fronts)
        single = [i for i, front in enumerate(fronts) if front.is_missing or form_of(front.queue) is Pop.REFILL]
        batched = [index for index in range(len(fronts)) if index not in single]

        async def transact(index: int) -> None:
            results[index] = await self._transact(fronts[index], deadline=deadline)

        async def write() -> None:
            writes = [self._write_of(fronts[index]) for index in batched]
            written = await self._writer.write(writes, within=_left(deadline), urgent=True)
            for index, result in zip(batched, written, strict=True):
                results[index] = result

        if not single:
            await write()
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(write)
                for index in single:
                    group.start_soon(transact, index)
        return [result for result in results if result is not None]

    def _write_of(self, front: Front, **more: AttributeValue) -> Write:
        now, queue, form = self._options.clock(), front.queue, form_of(front.queue)
        values: dict[str, AttributeValue] = {
            "token": {"S": front.token},
            "front": {"S": queue.front},
            "only": id_list((queue.front,)),
            "one": {"N": "1"},
            "zero": {"N": "0"},
            "now": millis(now),
            **more,
        }
        if form is Pop.LAST:
            return Write(pop(form, keeps=False), queue.id, values)
        if front.keeps:
            values |= {
                "next": {"S": front.next_token},
                "worker": {"S": worker_identity.text},
                "deadline": millis(now + self._options.processing_timeout),
            }
        else:
            values["nobody"] = {"S": NOBODY}
        return Write(pop(form, keeps=front.keeps), queue.id, values)

    async def _transact(self, front: Front, *, deadline: float) -> WriteResult:
        """Make a POP that concerns two items or more: a refill, or that of a missing event."""
        try:
            entries = await self._entries(front, deadline=deadline)
            if entries is None:
                return Refused()
            await self._caller.call(
                "transact_write_items",
                within=_left(deadline),
                TransactItems=entries,
                ClientRequestToken=token_hex(16),
            )
        except TransactionRefused as refused:
            is_stored = front.is_missing and any(each.get("Code") == FALSE_CONDITION for each in refused.reasons[-1:])
            return (EventIsStored if is_stored else Refused)(repeated=refused.repeated)
        except StorageError as error:
            return error
        return Applied()

    async def _entries(self, front: Front, *, deadline: float) -> list[dict[str, Any]] | None:
        """Return the items of the transaction; None if the first page is not stored any more."""
        table_name, more, deletes = self._caller.table_name, dict[str, AttributeValue](), list[dict[str, Any]]()
        if form_of(front.queue) is Pop.REFILL:
            # The first page becomes the head.
            page_id, number = front.queue.page_id(front.queue.first_page), front.queue.first_page + 1
            pages = await get_items(self._caller, [page_id], within=_left(deadline))
            ids = page_ids(pages.get(page_id, {}))
            if not ids:
                # The refill of another worker has deleted the page, or another program has.
                return None
            more = {"page": id_list(ids), "number": {"N": str(number)}}
            deletes.append({"Delete": {"TableName": table_name, "Key": {"id": {"S": page_id}}}})
        if front.is_missing:
            missing = {"TableName": table_name, "Key": {"id": {"S": front.queue.front}}}
            deletes.append({"Delete": {**missing, "ConditionExpression": "attribute_not_exists(id)"}})
        write = self._write_of(front, **more)
        write = placed(write, self._shards) if self._shards.count > 1 else write
        pop_item = update_transact_item(write, table_name=table_name)
        return [{"Delete" if write.transition.deletes else "Update": pop_item}, *deletes]


def _is_unclear(result: WriteResult, front: Front) -> bool:
    """Tell whether only the queue itself can tell whether a POP was applied."""
    if isinstance(result, StorageError):
        return result.maybe_applied
    # A transaction returns no item.
    is_kept = front.keeps and form_of(front.queue) is not Pop.LAST
    return isinstance(result, Refused) or (is_kept and result.item is None)


def _found(front: Front, result: WriteResult, item: Any) -> WriteResult | Front:
    """Return the result of a POP, by the item of the queue as it is now; a `Front` to repeat the POP."""
    is_doubtful = (
        front.is_doubtful
        or isinstance(result, (Applied, StorageError))
        or (isinstance(result, Refused) and result.repeated)
    )
    queue = None if item is None else read_queue(item)
    if queue is not None and front.keeps and queue.is_held_with(front.next_token):
        return Applied(item)
    is_mine = queue is not None and queue.token == front.token and queue.status != EventStatus.FAILED.value
    if queue is not None and queue.front == front.queue.front:
        if not is_mine:
            return Refused()  # the event is still there, so no POP was applied
        if isinstance(result, (StorageError, EventIsStored)):
            return result
        return replace(front, queue=queue, is_doubtful=is_doubtful)
    return Applied() if is_doubtful else Refused()


def _never(front: Front) -> StorageError:
    return StorageError(
        f"event {front.queue.front!r} cannot leave the queue of its ordering key: another program has changed the item "
        f"{front.queue.id!r}, or has deleted a page of the queue"
    )


def _left(deadline: float) -> float:
    return max(deadline - anyio.current_time(), LEAST_CALL_SECONDS)
