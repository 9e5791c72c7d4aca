"""L: an acknowledged event is never lost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from reliability.checker.holds import is_held
from reliability.checker.life import ANSWERS, EventLife, Execution
from reliability.checker.steps import Step, step_of
from reliability.checker.timeline import Timeline
from reliability.checker.times import began
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
      handlers that were called under the completing claim succeeded. By the backend's log, so did every handler that
      was ever called before, unless the item was deleted.
    - If every emit of an event was definitely refused, and not as a duplicate, the event is not stored. By the
      backend's log, this holds for the emit that has stored it.
    - By the backend's log: if an emit was refused as a duplicate, the event was stored meanwhile or before, and was not
      deleted before the emit began. If the emit of an event with an ordering key was acknowledged, a queue had it.
    """
    has_log = any(isinstance(record, Written) for record in timeline.history)
    for life in timeline:
        promises = _promises(life)
        if promises and not _may_be_gone(life):
            yield from _not_found(life, timeline, promises[0])
        if life.stored is not None and life.stored.status == "COMPLETED":
            yield from _completed_unhandled(life, timeline)
        yield from _completed_although_failed(life)
        yield from _stored_although_refused(life)
        if has_log:
            yield from _duplicate_of_nothing(life)
        if life.has_log:
            yield from _forgotten_handlers(life, timeline)
            yield from _acknowledged_before_it_was_listed(life)


def _violation(life: EventLife, sentence: str, *records: object) -> Violation:
    shown = tuple(record for record in life.records if record in records)
    return Violation(invariant="L", event_id=life.event_id, sentence=sentence, records=shown)


def _promises(life: EventLife) -> list[EmitAcknowledged | EmitRefused]:
    refused = [] if life.line is None else [refused for refused in life.of(EmitRefused) if _is_duplicate(life, refused)]
    return [*life.of(EmitAcknowledged), *refused]


def _may_be_gone(life: EventLife) -> bool:
    """Tell whether an event was deleted on purpose, and no emit that began after that was acknowledged."""
    last = max((deleted.at for deleted in life.of(ItemDeleted)), default=-math.inf)
    is_promised_again = any(answer.at > last for answer in life.of(EmitAcknowledged))
    return last > -math.inf and (life.has_emit_under_way(last) or not is_promised_again)


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
    elif stored.is_unlisted and (window := timeline.final.windows.get(stored.window or "")) is not None:
        if not window.covers(life.event_id):
            yield _violation(life, f"it is in no index, and window {stored.window} does not cover it", acknowledged)
    elif stored.status == "HELD" and not is_held(timeline, life.event_type, timeline.final.at):
        yield _violation(life, "it is HELD, and its type is not held any more", acknowledged)
    elif stored.status not in ("COMPLETED", "DISCARDED") and not stored.indexed:
        yield _violation(life, f"it is {stored.status}, and the index does not hold it", acknowledged)


def _completed_unhandled(life: EventLife, timeline: Timeline) -> Iterator[Violation]:
    if life.stored is not None and life.stored.indexed:
        yield _violation(life, "it is COMPLETED, and the index still holds it")
    executions = life.executions()
    started = [execution.started for execution in executions]
    if not has_committed(life, started) and not any(
        may_have_succeeded(execution, timeline) for execution in executions
    ):
        yield _violation(life, "it is COMPLETED, and no handler succeeded", *started, *life.of(Settled))


def has_committed(life: EventLife, started: Sequence[HandlerStarted]) -> bool:
    """Return whether a transaction of a handler was committed, although its response was lost, or was an error.

    If the transaction of each handler was, the next attempt has no handler to call.
    """
    begun = {start.worker: start.at for start in reversed(started)}
    # A proxy does not know whose response it loses.
    begun[""] = min(begun.values(), default=math.inf)
    lost = [reply for reply in life.of(ReplyLost) if reply.applied is not False]
    unclear: list[ReplyLost | RequestFailed] = [*lost, *life.of(RequestFailed)]
    for request in unclear:
        is_transaction = request.operation in ("transact_write_items", "TransactWriteItems")
        if is_transaction and begun.get(request.worker, math.inf) <= request.at:
            return True
    tokens = {start.token for start in started}
    outcomes: list[Settled | SettleFailed] = [settled for settled in life.of(Settled) if settled.by_handler]
    outcomes += [failed for failed in life.of(SettleFailed) if failed.by_handler and failed.maybe_applied]
    return any(one.outcome in _BY_HANDLER and one.token in tokens for one in outcomes)


_BY_HANDLER = (Outcome.COMPLETE, Outcome.HANDLER_DONE)


def may_have_succeeded(execution: Execution, timeline: Timeline, *, until: float = math.inf) -> bool:
    """Return whether a call had succeeded at a given time, or may have: its worker was killed."""
    if execution.ended is None:
        return timeline.killed_at(execution.started.worker) < math.inf
    return execution.ended.result is Result.SUCCEEDED and execution.ended.at <= until


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


def _forgotten_handlers(life: EventLife, timeline: Timeline) -> Iterator[Violation]:
    if life.of(ItemDeleted):
        return
    for write in life.of(Written):
        if step_of(write) is not Step.COMPLETE or write.before is None or write.after is None:
            continue
        calls = [call for call in life.executions() if call.started.at <= write.at]
        done = {*write.before.handled_by, *write.after.handled_by}
        done |= {call.started.handler for call in calls if may_have_succeeded(call, timeline, until=write.at)}
        for handler in sorted({call.started.handler for call in calls} - done):
            if not has_committed(life, [call.started for call in calls]):
                yield _violation(life, f"it was completed, and handler {handler!r} has not succeeded", write)


def _acknowledged_before_it_was_listed(life: EventLife) -> Iterator[Violation]:
    if life.line is None or not life.line.writes or life.of(ItemDeleted):
        return
    entry = life.line.first_listings().get(life.event_id)
    listed_at = math.inf if entry is None else began(entry.listed)
    for answer in life.of(EmitAcknowledged):
        has_ended = any(life.states(status, until=answer.at) for status in ("COMPLETED", "FAILED", "DISCARDED"))
        if answer.at < listed_at and not has_ended:
            yield _violation(life, "its emit was acknowledged, and no queue had it", answer)


def _stored_although_refused(life: EventLife) -> Iterator[Violation]:
    refused = life.of(EmitRefused)
    answered = len(refused) == len(life.of(EmitAsked))
    surely = answered and not any(isinstance(record, (EmitAcknowledged, EmitUnknown)) for record in life.records)
    if life.stored is not None and refused and surely and not any("Duplicate" in one.error for one in refused):
        yield _violation(life, "its emit was told that nothing is stored, and it is", *refused)
    for write in life.of(Written) if life.has_log else ():
        if step_of(write) is Step.PUBLISH and write.worker:
            yield from _stored_although_told_otherwise(life, write)


def _stored_although_told_otherwise(life: EventLife, write: Written) -> Iterator[Violation]:
    """Check the answers to the emits of the worker that has stored the event, up to the one that was under way."""
    own = [record for record in life.records if getattr(record, "worker", None) == write.worker]
    emits = [record for record in own if isinstance(record, (EmitAsked, *ANSWERS))]
    asked, answers = emits[::2], emits[1::2]
    if len(asked) != len(answers) or not all(isinstance(each, EmitAsked) for each in asked):
        return  # of emits at the same time, it is not known which one has stored it
    told = [answer for emit, answer in zip(asked, answers, strict=True) if emit.at <= write.at]
    refused = [answer for answer in told if isinstance(answer, EmitRefused) and not _is_duplicate(life, answer)]
    if refused and len(refused) == len(told):
        sentence = f"{write.worker} has stored it, and its emit was told that nothing is stored"
        yield _violation(life, sentence, write, *refused)


def _duplicate_of_nothing(life: EventLife) -> Iterator[Violation]:
    writes = life.of(Written)
    ends = [*(write.at for write in writes[1:]), math.inf]
    for refused in life.of(EmitRefused):
        if not _is_duplicate(life, refused):
            continue
        asked = [emit.at for emit in life.of(EmitAsked) if emit.worker == refused.worker and emit.at <= refused.at]
        since = min(asked, default=-math.inf)
        stored = [(began(write), end) for write, end in zip(writes, ends, strict=False) if write.after is not None]
        if not any(at <= refused.at and since <= end for at, end in stored):
            yield _violation(life, "its emit was refused as a duplicate, and it was not stored", refused)
