"""How events leave the queues of their ordering keys: marked first, then popped.

The events of many keys are marked in one request, and popped in a second one. A POP may claim the next event of the key
for this worker: then a third request loads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import anyio

from dynamodb_outbox.claims import Claim
from dynamodb_outbox.dynamodb.conditional.transitions import Write
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused, WriteResult
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.ordering.aside_writer import AsideWriter
from dynamodb_outbox.dynamodb.ordering.fronts import Fronts, HeldQueue, Unreadable
from dynamodb_outbox.dynamodb.ordering.late_completions import LateCompletions
from dynamodb_outbox.dynamodb.ordering.popping import Front, Popper
from dynamodb_outbox.dynamodb.ordering.queue import NOBODY, Queue, holder_of, queue_of
from dynamodb_outbox.dynamodb.ordering.transitions import HOLD_QUEUE
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.transport.classify import with_maybe_applied
from dynamodb_outbox.errors import StorageError, ThrottledError, UnavailableError
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.observers import logger
from dynamodb_outbox.outcome import Completed, Failed, Outcome
from dynamodb_outbox.port import OutboxOptions

MAX_KEPT: Final = 50
"""After this many events in a row, a worker gives a key up: then other keys that have waited longer come first."""

MAX_MARKED: Final = 10_000
"""The most events that are remembered as marked. To mark an event again does no harm."""


class QueueExits:
    """Takes events that are marked from their queues."""

    def __init__(
        self,
        popper: Popper,
        fronts: Fronts,
        options: OutboxOptions,
        *,
        caller: Caller,
        shards: Shards,
        late: LateCompletions,
        timing: Timing,
    ) -> None:
        self._caller = caller
        self._shards = shards
        self._options = options
        self._popper = popper
        self._fronts = fronts
        self._late = late
        self._timing = timing
        self._marked: dict[str, None] = {}
        self.skips = options.failed_key == "skip"
        """Whether a dead letter leaves its queue, so that the events behind it go on."""

    def leaves(self, claim: Claim, outcome: Outcome) -> bool:
        """Tell whether an event leaves its queue with this outcome."""
        return claim.queue is not None and (
            isinstance(outcome, Completed) or (self.skips and isinstance(outcome, Failed))
        )

    def note_mark(self, claim: Claim) -> None:
        """Note that a transaction of the last handler has marked the event of a claim as COMPLETED."""
        while len(self._marked) >= MAX_MARKED:
            del self._marked[next(iter(self._marked))]
        self._marked[claim.token] = None

    def take_mark(self, claim: Claim) -> bool:
        """Tell whether the event of a claim is marked already, so that it only has to be popped."""
        if claim.token not in self._marked:
            return False
        del self._marked[claim.token]
        return True

    def hold(self, claim: Claim, values: Mapping[str, AttributeValue]) -> Write | None:
        """Return the write that makes the queue of a claim HELD; None if the event has no ordering key."""
        queue = queue_of(claim)
        if queue is None:
            return None
        return Write(HOLD_QUEUE, queue.id, {**values, "nobody": {"S": NOBODY}, "type": {"S": claim.event.type}})

    async def prepare(self, *, within: float) -> StorageError | None:
        """Get ready to mark events, and to pop them; return what keeps them from it.

        Before the first event with an ordering key, it is not known how events can be marked and popped.
        """
        return await self._popper.prepare(within)

    def writer_for(self, queues: Mapping[str, str]) -> AsideWriter:
        """Return what makes events FAILED, each only while the token of its claim is that of its queue."""
        return AsideWriter(self._caller, self._shards, queues=queues)

    async def pop(self, claims: Sequence[Claim], *, keep_keys: bool, within: float) -> list[WriteResult | Claim]:
        """Pop the events of claims, which are marked; return the claims of the next events that this worker keeps."""
        deadline = anyio.current_time() + within
        queues = [_queue_of(claim) for claim in claims]
        fronts = [
            Front(queue=queue, token=claim.token, keeps=keep_keys and queue.kept + 1 < MAX_KEPT)
            for claim, queue in zip(claims, queues, strict=True)
        ]
        results: list[WriteResult | Claim] = list(await self._popper.pop(fronts, within=within))
        held = {
            index: HeldQueue(item=result.item, kept=queues[index].kept + 1)
            for index, result in enumerate(results)
            if isinstance(result, Applied) and result.item is not None
        }
        if not held:
            return results
        left = max(deadline - anyio.current_time(), self._timing.late_settle)
        for index, loaded in zip(held, await self._fronts.load(list(held.values()), within=left), strict=True):
            if isinstance(loaded, Unreadable):
                # The next claim of the queue makes it FAILED, and reports it.
                await self._fronts.release({loaded.holder: loaded.token})
            # Whatever became of the next event: this one has left its queue.
            results[index] = loaded if isinstance(loaded, Claim) else Applied()
        return results

    async def judge(
        self,
        settlements: Sequence[tuple[Claim, Outcome]],
        written: Sequence[WriteResult | None],
        results: Sequence[WriteResult | Claim | None],
    ) -> list[WriteResult | Claim | None]:
        """Return the results of settlements, by the result of each mark or write, and of each POP.

        An event that another worker has ended is refused, and its key is unblocked. That may be so after a failure that
        blocks the key, and after the POP of a completed event was refused. If only the mark of an event was refused,
        the event tells which outcome it has: that of an earlier attempt to write it, or that of another worker, or of a
        transaction whose answer was lost.
        """
        answers = list(results)
        late: list[int] = []
        unclear: list[int] = []
        for index, ((claim, outcome), mark, result) in enumerate(zip(settlements, written, results, strict=True)):
            if claim.queue is None:
                continue
            blocks = isinstance(outcome, Failed) and not self.skips and isinstance(result, Applied)
            is_lost = isinstance(outcome, Completed) and isinstance(result, Refused)
            if blocks or is_lost:
                late.append(index)
            elif self.leaves(claim, outcome) and isinstance(mark, Applied):
                answers[index] = _marked(claim, result)
            elif self.leaves(claim, outcome) and isinstance(mark, Refused) and not isinstance(result, Refused):
                unclear.append(index)
        ids = [claim.event.id for claim, _ in settlements]
        gone = await self._late.unblock([ids[index] for index in late]) if late else set[str]()
        for index in late:
            if ids[index] in gone:
                answers[index] = Refused()
        if unclear:
            await self._clear(settlements, unclear, answers)
        return answers

    async def _clear(
        self,
        settlements: Sequence[tuple[Claim, Outcome]],
        unclear: Sequence[int],
        answers: list[WriteResult | Claim | None],
    ) -> None:
        """Read which outcome events have whose mark was refused, and put the answers into their places."""
        ids = {index: settlements[index][0].event.id for index in unclear}
        try:
            statuses = await self._late.statuses(list(ids.values()))
        except StorageError as error:
            unknown = with_maybe_applied(error, why="it has ended, perhaps with another outcome")
            for index in unclear:
                # A POP that has kept the key for this worker was applied under its claim.
                if isinstance(answers[index], Applied):
                    answers[index] = unknown
        else:
            await self._compare(settlements, {index: statuses[event_id] for index, event_id in ids.items()}, answers)

    async def _compare(
        self,
        settlements: Sequence[tuple[Claim, Outcome]],
        statuses: Mapping[int, EventStatus | None],
        answers: list[WriteResult | Claim | None],
    ) -> None:
        """Put the answers into their places for events whose mark was refused, and that have these statuses."""
        kept: dict[str, str] = {}
        for index, status in statuses.items():
            (claim, outcome), popped = settlements[index], answers[index]
            if _may_have(outcome, status):
                answers[index] = _marked(claim, popped)
                continue
            answers[index] = Refused()
            if isinstance(popped, Claim):
                kept[holder_of(popped)] = popped.token
        if kept:
            # POPs have kept these keys for this worker, which does not go on with them.
            await self._fronts.release(kept)

    async def give_up(self, unreadable: Sequence[Unreadable]) -> None:
        """Pop events that cannot be read, and are marked as FAILED."""
        fronts = [
            Front(queue=each.queue, token=each.token, keeps=False) for each in unreadable if each.queue is not None
        ]
        await self._popper.pop(fronts, within=self._timing.late_settle)


def _marked(claim: Claim, popped: WriteResult | Claim | None) -> WriteResult | Claim | None:
    """Return the result for an event that is marked: it has ended, also if its POP failed.

    An error that does not pass by itself, such as a missing permission, stays the answer.
    """
    if isinstance(popped, (UnavailableError, ThrottledError)):
        key = claim.event.ordering_key
        logger.warning(
            "event %r has ended; the later events of its ordering key %r may wait until the lease of the key ends: %s",
            claim.event.id,
            key,
            popped,
        )
    return Applied() if isinstance(popped, (UnavailableError, ThrottledError, Refused)) else popped


def _may_have(outcome: Outcome, status: EventStatus | None) -> bool:
    """Tell whether an event with this status may have this outcome, which was written before its mark was refused.

    A completed event may be deleted by now, and a dead letter may be retried.
    """
    if isinstance(outcome, Completed):
        return status in (EventStatus.COMPLETED, None)
    return status not in (EventStatus.COMPLETED, EventStatus.DISCARDED, None)


def _queue_of(claim: Claim) -> Queue:
    queue = queue_of(claim)
    if queue is None:
        raise TypeError(f"the event {claim.event.id!r} has no queue")
    return queue
