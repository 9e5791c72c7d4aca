"""L: an acknowledged event is never lost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from reliability.checker.holds import is_held
from reliability.checker.timeline import EventLife, Execution, Timeline, began
from reliability.checker.verdict import Violation
from reliability.history import (
    EmitAcknowledged,
    EmitAsked,
    EmitRefused,
    EmitUnknown,
    HandlerStarted,
    ItemDeleted,
    Outcome,
    ReplyLost,
    RequestFailed,
    Result,
    Settled,
    SettleFailed,
    Written,
)


def check_loss(timeline: Timeline) -> Iterator[Violation]:
    """Check the final state of every emitted event.

    - An acknowledged event is stored at the end, unless it was deleted on purpose. It is COMPLETED or FAILED, or it is
      DISCARDED, or it is in the index, or it is PROCESSING and its window is open. It is HELD only while its type is.
      If it is QUEUED, the queue of its ordering key has it. An emit with an ordering key that was refused as a
      duplicate promises the same.
    - A COMPLETED event is not in the index, and was handled: a handler succeeded, or was running or done when its
      worker was killed, or committed a transaction, even if the response was lost, missing, late or an error. All
      handlers that were called under the completing claim succeeded.
    - If every emit of an event was definitely refused, and not as a duplicate, the event is not stored.
    - By the backend's log: if an emit was refused as a duplicate, the event was stored before.
    """
    has_log = any(isinstance(record, Written) for record in timeline.history)
    for life in timeline:
        promises = _promises(life)
        if promises and not life.of(ItemDeleted):
            yield from _not_found(life, timeline, promises[0])
        if life.stored is not None and life.stored.status == "COMPLETED":
            yield from _completed_unhandled(life, timeline)
        yield from _completed_although_failed(life)
        yield from _stored_although_refused(life)
        if has_log:
            yield from _duplicate_of_nothing(life)


def _violation(life: EventLife, sentence: str, *records: object) -> Violation:
    shown = tuple(record for record in life.records if record in records)
    return Violation(invariant="L", event_id=life.event_id, sentence=sentence, records=shown)


def _promises(life: EventLife) -> list[EmitAcknowledged | EmitRefused]:
    refused = [] if life.line is None else [refused for refused in life.of(EmitRefused) if _is_duplicate(life, refused)]
    return [*life.of(EmitAcknowledged), *refused]


def _is_duplicate(life: EventLife, refused: EmitRefused) -> bool:
    return refused.error.startswith("DuplicateEventError") and repr(life.event_id) in refused.error


def _not_found(
    life: EventLife, timeline: Timeline, acknowledged: EmitAcknowledged | EmitRefused
) -> Iterator[Violation]:
    stored = life.stored
    if stored is None:
        yield _violation(life, "it was acknowledged, and is not stored", acknowledged)
    elif stored.status == "QUEUED":
        queue = timeline.final.queues.get(stored.key or "")
        if queue is None or life.event_id not in queue.events:
            yield _violation(life, "it is QUEUED, and no queue has it", acknowledged)
    elif stored.status not in ("COMPLETED", "FAILED", "PENDING", "PROCESSING", "HELD", "DISCARDED"):
        yield _violation(life, f"its status is {stored.status!r}", acknowledged)
    elif stored.is_unlisted and stored.window in timeline.final.windows:
        return
    elif stored.status == "HELD" and not is_held(timeline, life.event_type, timeline.final.at):
        yield _violation(life, "it is HELD, and its type is not held any more", acknowledged)
    elif stored.status not in ("COMPLETED", "DISCARDED") and not stored.indexed:
        yield _violation(life, f"it is {stored.status}, and the index does not hold it", acknowledged)


def _completed_unhandled(life: EventLife, timeline: Timeline) -> Iterator[Violation]:
    if life.stored is not None and life.stored.indexed:
        yield _violation(life, "it is COMPLETED, and the index still holds it")
    executions = life.executions()
    started = [execution.started for execution in executions]
    if not _committed(life, started) and not any(_may_have_succeeded(execution, timeline) for execution in executions):
        yield _violation(life, "it is COMPLETED, and no handler succeeded", *started, *life.of(Settled))


def _committed(life: EventLife, started: Sequence[HandlerStarted]) -> bool:
    """Return whether a transaction of a handler was committed, although its response was lost, or was an error.

    If the transaction of each handler was, the next attempt has no handler to call.
    """
    begun = {start.worker: start.at for start in reversed(started)}
    failed = [request for request in life.of(RequestFailed) if begun.get(request.worker, math.inf) <= request.at]
    unclear: list[ReplyLost | RequestFailed] = [*life.replies_lost, *failed]
    if any(request.operation in ("transact_write_items", "TransactWriteItems") for request in unclear):
        return True
    tokens = {start.token for start in started}
    outcomes: list[Settled | SettleFailed] = [settled for settled in life.of(Settled) if settled.by_handler]
    outcomes += [failed for failed in life.of(SettleFailed) if failed.by_handler and failed.maybe_applied]
    return any(one.outcome in _BY_HANDLER and one.token in tokens for one in outcomes)


_BY_HANDLER = (Outcome.COMPLETE, Outcome.HANDLER_DONE)


def _may_have_succeeded(execution: Execution, timeline: Timeline) -> bool:
    if execution.ended is None:
        return timeline.killed_at(execution.started.worker) < float("inf")
    return execution.ended.result is Result.SUCCEEDED


def _completed_although_failed(life: EventLife) -> Iterator[Violation]:
    if life.of(ItemDeleted):
        # The event was emitted again, and one worker may have two claims of it. No handler says which one it ran for.
        return
    for settled in life.of(Settled):
        if settled.outcome is not Outcome.COMPLETE:
            continue
        for execution in life.executions():
            ended = execution.ended
            if (
                ended is not None
                and ended.token == settled.token
                and ended.result in (Result.FAILED, Result.CANCELLED)
                and ended.at <= began(settled)
            ):
                sentence = f"it was completed, although handler {ended.handler!r} had {ended.result} under that claim"
                yield _violation(life, sentence, ended, settled)


def _stored_although_refused(life: EventLife) -> Iterator[Violation]:
    refused = life.of(EmitRefused)
    answered = len(refused) == len(life.of(EmitAsked))
    surely = answered and not any(isinstance(record, (EmitAcknowledged, EmitUnknown)) for record in life.records)
    if life.stored is not None and refused and surely and not any("Duplicate" in one.error for one in refused):
        yield _violation(life, "its emit was told that nothing is stored, and it is", *refused)


def _duplicate_of_nothing(life: EventLife) -> Iterator[Violation]:
    stored_at = min((began(write) for write in life.of(Written)), default=math.inf)
    for refused in life.of(EmitRefused):
        if _is_duplicate(life, refused) and refused.at < stored_at:
            yield _violation(life, "its emit was refused as a duplicate, and it was not stored", refused)
