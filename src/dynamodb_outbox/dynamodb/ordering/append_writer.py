"""Carries an append through: APPEND, or SPLIT or SPILL if the queue has no room, and what each refusal means."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import anyio

from dynamodb_outbox.dynamodb.ordering.appending import Append, NewQueue
from dynamodb_outbox.dynamodb.ordering.arrivals import Arrival
from dynamodb_outbox.dynamodb.ordering.claims_on_emit import ClaimsOnEmit
from dynamodb_outbox.dynamodb.ordering.queue import WIDTH, Queue, queue_id, read_queue
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.batch_get import get_items
from dynamodb_outbox.dynamodb.transport.caller import Caller, ConditionRefused, TransactionRefused
from dynamodb_outbox.dynamodb.transport.classify import (
    ErrorKind,
    fatal_code,
    kind_of_code,
    restated,
    with_maybe_applied,
)
from dynamodb_outbox.dynamodb.transport.client import sent_once
from dynamodb_outbox.dynamodb.transport.responses import Read, read_new_item
from dynamodb_outbox.dynamodb.transport.retrying import Retries, deadline_error
from dynamodb_outbox.errors import StorageError, ThrottledError, UnavailableError
from dynamodb_outbox.port import OutboxOptions

LEAST_APPEND_SECONDS: Final = 1.0
"""How long an append is tried whose turn comes just before its deadline, or after it."""
USUAL_REFUSALS: Final = 4
"""How often an append is refused at most, if other processes do not change the queue all the time."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One request of an append. A repeat sends the same request."""

    operation: str
    parameters: dict[str, Any]
    read: Read | None = None


@dataclass(slots=True)
class _Appending:
    """The state of one append."""

    key: str
    arrivals: list[Arrival]
    retries: Retries
    seen: Queue | None = None
    """The queue as the last refusal showed it."""
    step: _Step | None = None
    is_doubtful: bool = False
    """Whether an attempt was not answered: it may have been applied, and may still be."""
    refusals: int = 0
    first_event: Arrival | None = None
    """The event whose claim the queue has, if an append that is not answered yet creates it."""

    @property
    def is_wanted(self) -> bool:
        return any(arrival.is_wanted for arrival in self.arrivals)

    def note_listed(self, ids: Collection[str]) -> None:
        """Note which of the events are listed; the others are left."""
        for arrival in self.arrivals:
            if arrival.event_id in ids:
                arrival.submission.list(arrival)
        self.arrivals = [arrival for arrival in self.arrivals if arrival.event_id not in ids]


class AppendWriter:
    """Appends events to the queues of their keys."""

    def __init__(
        self, caller: Caller, options: OutboxOptions, *, claims: ClaimsOnEmit, shards: Shards, timing: Timing
    ) -> None:
        self._caller = caller
        self._options = options
        self._claims = claims
        self._shards = shards
        self._seconds = timing.publish

    async def append(self, key: str, arrivals: Sequence[Arrival]) -> StorageError | None:
        """Append events of one key; return the error if that failed. Each submission gets its answer.

        The append is repeated as long as a caller waits. It goes on with the same events once an attempt was not
        answered, since that attempt may have been applied.
        """
        last = max(arrival.submission.since for arrival in arrivals) + self._seconds
        retries = Retries(max(last - anyio.current_time(), LEAST_APPEND_SECONDS), random=self._caller.random)
        state = _Appending(key, list(arrivals), retries)
        error = await self._repeat(state)
        if state.first_event is not None and state.is_doubtful:
            await self._claims.release({key: state.first_event})
        return error

    async def _repeat(self, state: _Appending) -> StorageError | None:
        while True:
            if not state.is_doubtful:
                state.arrivals = [arrival for arrival in state.arrivals if arrival.is_wanted]
            if not state.is_wanted:
                return None
            try:
                await self._send(state)
            except (ThrottledError, UnavailableError) as error:
                state.is_doubtful = state.is_doubtful or error.maybe_applied
                if not state.is_doubtful:
                    # Nothing was applied, so that other events, and a lease that begins later, may follow.
                    state.step = state.first_event = None
                if not await self._wait(state, restated(error, maybe_applied=state.is_doubtful)):
                    return error
            except StorageError as error:
                return self._fail(state, with_maybe_applied(error) if state.is_doubtful else error)
            if not state.arrivals:
                return None

    async def _wait(self, state: _Appending, error: ThrottledError | UnavailableError) -> bool:
        """Wait for the next attempt; false after the last one. Submissions whose own time is over fail."""
        delay, now = state.retries.next_delay(), anyio.current_time()
        for arrival in state.arrivals:
            if arrival.is_wanted and (delay is None or now >= arrival.submission.since + self._seconds):
                arrival.submission.fail(error, state.arrivals)
        if delay is None:
            return False
        await anyio.sleep(delay)
        return True

    def _fail(self, state: _Appending, error: StorageError) -> StorageError:
        for arrival in state.arrivals:
            if arrival.is_wanted:
                arrival.submission.fail(error, state.arrivals)
        return error

    async def _send(self, state: _Appending) -> None:
        """Send one request, and note what its answer says. Raises `StorageError`."""
        ids = tuple(arrival.event_id for arrival in state.arrivals)
        step = state.step = state.step or self._step(state, ids)
        within = max(state.retries.seconds_left, LEAST_APPEND_SECONDS)
        try:
            with sent_once(self._caller.client, "UpdateItem"):
                item = await self._caller.call(
                    step.operation, within=within, once=True, read=step.read, **step.parameters
                )
        except ConditionRefused as refused:
            state.is_doubtful = state.is_doubtful or refused.repeated
            await self._note_refused(state, refused.item, within=within)
        except TransactionRefused as refused:
            state.is_doubtful = state.is_doubtful or refused.repeated
            self._raise_if_fatal(refused)
            reason = refused.reasons[-1] if refused.reasons else {}
            await self._note_refused(state, reason.get("Item"), within=within)
        else:
            await self._note_listed(state, ids, item, within=within)

    async def _note_listed(self, state: _Appending, ids: Collection[str], item: Any, *, within: float) -> None:
        """Note which events are listed. The one whose append may have created the queue is noted after its claim.

        The others do not wait for the claim, which may have to load the event first.
        """
        first_event = state.first_event
        state.note_listed([each for each in ids if first_event is None or each != first_event.event_id])
        await self._claim_created(state, item, within=within)
        state.note_listed(ids)

    async def _claim_created(self, state: _Appending, item: Any, *, within: float) -> None:
        """Claim the queue, if our append has created it; `item` is the queue as it is now."""
        if state.first_event is not None and item is not None:
            await self._claims.take(state.first_event, item, is_certain=not state.is_doubtful, within=within)
        state.first_event = None

    async def _note_refused(self, state: _Appending, item: Any, *, within: float) -> None:
        """Find out why a request was refused: an earlier attempt was applied, or the queue has no room."""
        state.step = None
        item = item or await self._read(state.key, within=within)
        state.seen = await self.see(state.key, item, within=within)
        known_ids = () if state.seen is None else state.seen.known_ids
        await self._note_listed(state, known_ids, item, within=within)
        state.refusals += 1
        if state.arrivals and state.refusals > USUAL_REFUSALS:
            reason = "other processes have changed the queue of the key first, again and again"
            raise deadline_error("an append", ErrorKind.THROTTLED, attempts=state.refusals, reason=reason)

    async def see(self, key: str, item: Mapping[str, Any] | None, *, within: float) -> Queue | None:
        """Return a queue, from the item that a refusal showed, or as it is now; None without a queue.

        Raises `StorageError`.
        """
        item = item or await self._read(key, within=within)
        queue = None if item is None else read_queue(item)
        if item is not None and queue is None:
            raise StorageError(
                f"item {queue_id(key)!r} is not a queue of an ordering key, so that no event of the key can be "
                "appended: another program has written it; delete it"
            )
        return queue

    async def _read(self, key: str, *, within: float) -> Mapping[str, Any] | None:
        return (await get_items(self._caller, [queue_id(key)], within=within)).get(queue_id(key))

    def _raise_if_fatal(self, refused: TransactionRefused) -> None:
        for reason in refused.reasons:
            code = str(reason.get("Code", "None"))
            if code != "None" and kind_of_code(code) is ErrorKind.FATAL:
                raise fatal_code(
                    code,
                    str(reason.get("Message", "")),
                    operation="transact_write_items",
                    table_name=self._caller.table_name,
                    index_name=self._caller.index_name,
                )

    def unforeseen(self, error: Exception) -> StorageError:
        """Translate an error that nobody has foreseen."""
        return with_maybe_applied(self._caller.fatal(error, "an append"))

    def _step(self, state: _Appending, ids: tuple[str, ...]) -> _Step:
        """Return the next request, which fits the queue as far as it is known."""
        table_name, seen = self._caller.table_name, state.seen
        if seen is None or len(seen.ids) + len(ids) <= WIDTH:
            new_queue = self._claims.new_queue(state.arrivals[0])
            append = Append(key=state.key, ids=ids, new_queue=new_queue, shards=self._shards)
            parameters = append.append(table_name)
            if new_queue.ends is None:
                return _Step("update_item", parameters)
            state.first_event = state.arrivals[0]
            return _Step("update_item", {**parameters, "ReturnValues": "ALL_NEW"}, read_new_item)
        append = Append(key=state.key, ids=ids, new_queue=NewQueue(now=self._options.clock()), shards=self._shards)
        if not seen.head:
            return _Step("update_item", append.split(table_name))
        items = append.spill(table_name, seen)
        return _Step("transact_write_items", {"TransactItems": items, "ClientRequestToken": uuid4().hex})
