"""P and D, for emits: an emit does not wait for the write of another event, and only one emit stores an event."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from dynamodb_outbox.dynamodb.ordering.queue import PREFIX
from reliability.checker.life import ALL_STORING, STORING, EventLife
from reliability.checker.steps import Step, is_mark, step_of
from reliability.checker.timeline import Timeline
from reliability.checker.times import began
from reliability.checker.verdict import Limits, Violation
from reliability.history import (
    EmitAcknowledged,
    EmitAsked,
    ItemDeleted,
    QueueWritten,
    ReplyLost,
    StoringRequest,
    WorkerKilled,
    WorkerSuspended,
    Written,
)

PROBE = "probe"
"""The event of requests that find out which statements the backend takes. The first emit may wait for them."""
PROBE_SECONDS = 5.0
"""How long such requests are repeated."""
READING = ("batch_get_item", "get_item")
CERTAIN = frozenset({"", "ConditionalCheckFailedException"})
"""The errors of responses that say whether a write was applied, and by which request."""


def check_emits(timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    """Check the answers to emits.

    - An emit sends its own request within `emit_wait`, even if other requests are in flight; and it returns within
      `emit_wait` after the last response to its own requests. The check applies where the requests are known, unless
      the process stood still in the meantime. An emit may wait for another emit of the same event.
      An event that was stored after the end of its window is released before the emit returns. So is the queue of an
      ordering key that the emit has claimed, and whose event it cannot load, or finds done.
    - An event is acknowledged to one emit only. Exceptions are a response that leaves open whether the write was
      applied, when the writer is unknown, and a deletion. By the backend's log, the acknowledged emit has stored the
      event, or one of its requests got no certain response.
    """
    for life in timeline:
        yield from _acknowledged_twice(life)
        if life.has_log:
            yield from _acknowledged_for_nothing(life)
    requests = timeline.of(StoringRequest)
    if requests:
        yield from _waited(timeline, requests, limits)


def _acknowledged_twice(life: EventLife) -> Iterator[Violation]:
    acknowledged = life.of(EmitAcknowledged)
    lost = any(reply.operation in STORING for reply in life.of(ReplyLost))
    lost = lost or any(
        request.operation in STORING and request.error not in CERTAIN for request in life.of(StoringRequest)
    )
    if len(acknowledged) > 1 and not lost and not life.of(ItemDeleted):
        sentence = f"{len(acknowledged)} emits of it were told that they had stored it"
        yield Violation(invariant="D", event_id=life.event_id, sentence=sentence, records=tuple(acknowledged))


def _acknowledged_for_nothing(life: EventLife) -> Iterator[Violation]:
    if life.of(ItemDeleted):
        return
    stored = [write for write in life.of(Written) if step_of(write) is Step.PUBLISH]
    unclear: list[ReplyLost | StoringRequest] = [each for each in life.of(ReplyLost) if each.operation in ALL_STORING]
    unclear += [each for each in life.of(StoringRequest) if each.error not in CERTAIN]
    for answer in life.of(EmitAcknowledged):
        asked = [each.at for each in life.of(EmitAsked) if each.worker == answer.worker and each.at <= answer.at]
        since = min(asked, default=-math.inf)
        own = [each for each in (*stored, *unclear) if each.worker in ("", answer.worker)]
        if not any(since <= each.at and began(each) <= answer.at for each in own):
            sentence = f"the emit of {answer.worker} was told that it had stored it, and it had not"
            yield Violation(invariant="D", event_id=life.event_id, sentence=sentence, records=(answer,))


def _waited(timeline: Timeline, requests: Sequence[StoringRequest], limits: Limits) -> Iterator[Violation]:
    """Group emits by their call of `publish` or `transact`: the events that one worker asked for at one time."""
    queues = {asked.event_id: PREFIX + asked.ordering_key for asked in timeline.of(EmitAsked) if asked.ordering_key}
    replaced = {asked.event_id: asked.replaces for asked in timeline.of(EmitAsked) if asked.replaces}
    asked_for = Counter((asked.worker, asked.event_id) for asked in timeline.of(EmitAsked))
    by_worker: defaultdict[str, list[StoringRequest]] = defaultdict(list)
    for request in requests:
        by_worker[request.worker].append(request)
    still: list[WorkerSuspended | WorkerKilled] = [*timeline.of(WorkerSuspended), *timeline.of(WorkerKilled)]
    acknowledged: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for answer in timeline.of(EmitAcknowledged):
        acknowledged[answer.worker, answer.event_id].append(answer.at)
    for (worker, asked_at), event_ids in _calls_of(timeline).items():
        answers = [min((at for at in acknowledged[worker, each] if at >= asked_at), default=None) for each in event_ids]
        answered = [at for at in answers if at is not None]
        if len(answered) < len(event_ids):
            continue
        until, ids = max(answered), _touched(event_ids, queues, replaced)
        released: list[Written | QueueWritten] = [
            write for each in ids for write in timeline.writes_of(each) if _is_release(write)
        ]
        released += _queues_released(timeline, worker, [queues[each] for each in event_ids if each in queues])
        # Another worker may have moved the event out of its window first; the emit then waits for its refused release.
        excused = [*(one for one in still if one.worker == worker), *released]
        if any(asked_at <= one.at <= until for one in excused):
            continue
        under_way = [one for one in by_worker[worker] if one.at >= asked_at and one.began_at <= until]
        own = [one for one in under_way if not ids.isdisjoint(one.event_ids)]
        if not own:
            continue
        others = [one for one in under_way if ids.isdisjoint(one.event_ids)]
        sent, answered_at = min(one.began_at for one in own), max(one.at for one in own)
        is_repeated = any(asked_for[worker, each] > 1 for each in ids)
        before = 0.0 if is_repeated or _is_probed(by_worker[worker], asked_at) else sent - asked_at
        gone = [each.at for each in timeline.of(ItemDeleted) if each.event_id in event_ids and each.at >= asked_at]
        gone += [write.at for each in event_ids for write in timeline.writes_of(each) if is_mark(write)]
        after = 0.0 if _gives_up(own, gone) else until - answered_at
        for seconds, when in ((before, "before it was sent"), (after, "after its own answer")):
            if seconds > limits.emit_wait:
                yield _held_up(event_ids[0], seconds, when, own=own, others=others)


def _calls_of(timeline: Timeline) -> dict[tuple[str, float], list[str]]:
    """List the events of each call, by the worker and the time of the call."""
    calls: defaultdict[tuple[str, float], list[str]] = defaultdict(list)
    for asked in timeline.of(EmitAsked):
        calls[asked.worker, asked.at].append(asked.event_id)
    return calls


def _is_probed(requests: Sequence[StoringRequest], asked_at: float) -> bool:
    """Tell whether an emit may wait for a probe that began before it, and is repeated."""
    return any(PROBE in one.event_ids and one.at >= asked_at - PROBE_SECONDS for one in requests)


def _touched(event_ids: Sequence[str], queues: Mapping[str, str], replaced: Mapping[str, str]) -> set[str]:
    """Return the ids of the items that an emit may name. A replacement reads the event that it replaces first."""
    return {PROBE, *event_ids, *(known[each] for known in (queues, replaced) for each in event_ids if each in known)}


def _queues_released(timeline: Timeline, worker: str, queues: Sequence[str]) -> list[QueueWritten]:
    return [
        write
        for queue in queues
        for write in timeline.lines.of(queue.removeprefix(PREFIX)).writes
        if write.worker == worker
        and (write.before is not None and write.before.status == "PROCESSING")
        and (write.after is None or write.after.status == "PENDING" or write.after.token != write.before.token)
    ]


def _gives_up(own: Sequence[StoringRequest], gone: Sequence[float]) -> bool:
    """Tell whether an emit gives the queue up, because it could not read its event last, or found it gone or done.

    That write may be refused, too, or wait for a probe.
    """
    sent = [one for one in own if PROBE not in one.event_ids]
    latest = max((one.at for one in sent), default=math.inf)
    last = [one for one in sent if one.at == latest and one.operation in READING]
    return any(one.error or any(at <= one.at for at in gone) for one in last)


def _is_release(write: Written) -> bool:
    before, after = write.before, write.after
    return before is not None and before.is_unlisted and after is not None and after.status == "PENDING"


def _held_up(
    event_id: str, seconds: float, when: str, *, own: Sequence[StoringRequest], others: Sequence[StoringRequest]
) -> Violation:
    held_up_by = sorted({each for one in others for each in one.event_ids})[:3]
    sentence = f"its emit waited {seconds:.3f} s {when}, while requests of {held_up_by or 'no event'} were in flight"
    return Violation(invariant="P", event_id=event_id, sentence=sentence, records=(*own, *others))
