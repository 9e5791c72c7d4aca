"""O: the events of an ordering key are handled in the order of their emits, each after its predecessor has ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from reliability.checker.life import EventLife
from reliability.checker.lines import Entry, Line
from reliability.checker.precedence import check_precedence, foremost, is_late_by_a_clock, lease_ends
from reliability.checker.timeline import Timeline
from reliability.checker.verdict import Limits, Violation
from reliability.history import EmitAcknowledged, EmitAsked, HandlerStarted, ItemDeleted, Record


def check_order(timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    """Check the events of each ordering key.

    By the backend's log:

    - Each change of a queue appends events, or takes the one at the front, and no other. It takes an event only after
      this has ended, was discarded, or was deleted. While a worker holds the queue, only this worker takes events. An
      event takes the place of the one at the front only if it replaces it.
    - An event whose emit had an ordering key is stored with one.
    - A handler is called only for the event that was at the front when its claim was written. After that, no handler is
      called for an event before it in the queue: not again either.
    - Where one emit was acknowledged before another one began, or came before it in the same call, its event was listed
      first.
    - At the end, the queue has the events that were listed and have not left. No page is left over.

    Without a log, by the records of the workers: see `check_precedence`.

    In both cases, a call may come late because the clocks of two workers differ, so that the lease was over by one of
    them; a log shows that the queue was recovered then. A holder itself calls no handler after the end of its lease by
    its own clock.
    """
    for page in timeline.final.stray_pages:
        yield _violation(None, f"page {page!r} is left, and no queue has it")
    lives: defaultdict[str, list[EventLife]] = defaultdict(list)
    for life in timeline:
        yield from _in_another_line(life)
        if life.line is not None:
            lives[life.line.key].append(life)
    for key, line in timeline.lines.by_key.items():
        of_key = lives[key]
        starts = _starts(of_key)
        yield from _started_late(of_key, timeline, limits)
        if line.writes:
            yield from _changed(line, of_key, timeline)
            yield from _changed_by_others(line)
            yield from _started_out_of_turn(line, starts, timeline, limits)
            yield from _listed_out_of_order(line, of_key)
        else:
            yield from check_precedence(key, of_key, timeline, limits)


def _violation(event_id: str | None, sentence: str, *records: Record) -> Violation:
    return Violation(invariant="O", event_id=event_id, sentence=sentence, records=records)


def _in_another_line(life: EventLife) -> Iterator[Violation]:
    """Check the key with which an event is stored, unless one of its emits had no key, or it was deleted."""
    keys = {asked.worker: asked.ordering_key for asked in life.of(EmitAsked)}
    acknowledged = [answer for answer in life.of(EmitAcknowledged) if keys.get(answer.worker)]
    if not acknowledged or life.of(ItemDeleted) or not all(asked.ordering_key for asked in life.of(EmitAsked)):
        return
    key = None if life.line is None else life.line.key
    if key not in {asked.ordering_key for asked in life.of(EmitAsked)}:
        yield _violation(
            life.event_id, f"its emit had an ordering key, and it is stored with key {key!r}", *acknowledged
        )


def _starts(lives: Sequence[EventLife]) -> list[tuple[HandlerStarted, EventLife]]:
    starts = [(start, life) for life in lives for start in life.of(HandlerStarted)]
    return sorted(starts, key=lambda pair: pair[0].at)


def _started_late(lives: Sequence[EventLife], timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    for life in lives:
        for start in life.of(HandlerStarted):
            late = start.at - lease_ends(life, start) - timeline.offset(start.worker) - limits.tolerance
            if late > 0:
                sentence = f"{start.worker} called handler {start.handler!r} {late:.3f} s after the end of its lease"
                yield _violation(life.event_id, sentence, start)


# By the backend's log


def _changed(line: Line, lives: Sequence[EventLife], timeline: Timeline) -> Iterator[Violation]:
    for write in line.illegal:
        yield _violation(None, f"key {line.key!r}: no transition makes {write.after} of {write.before}", write)
    for left, taker in line.replaced:
        asked = [emit for each in lives if each.event_id == taker.event_id for emit in each.of(EmitAsked)]
        if not any(emit.replaces == left.event_id for emit in asked):
            sentence = f"it took the place of {left.event_id} in the queue of key {line.key!r}, and does not replace it"
            yield _violation(taker.event_id, sentence, left.listed, taker.listed)
    for entry in line.early:
        records = [] if entry.left is None else [entry.left]
        sentence = f"it left the queue of key {line.key!r}, and had not ended"
        yield _violation(entry.event_id, sentence, entry.listed, *records)
    final = timeline.final.queues.get(line.key)
    events = () if final is None else final.events
    if events != line.waiting:
        sentence = f"key {line.key!r}: its queue has {events} at the end, and {line.waiting} had to wait"
        yield _violation(None, sentence, *line.writes[-1:])


def _changed_by_others(line: Line) -> Iterator[Violation]:
    """Check that only the worker that wrote the token of a claim takes events from the queue, and that it keeps it."""
    holder = ""
    for write in line.writes:
        before, after = write.before, write.after
        if before is not None and before.status == "PROCESSING":
            is_popped = after is None or after.front != before.front
            is_taken = after is not None and after.status == "PROCESSING" and after.token != before.token
            if is_popped and "" not in (holder, write.worker) and write.worker != holder:
                sentence = f"{write.worker} took it from the queue of key {line.key!r}, which {holder} held"
                yield _violation(before.front, sentence, write)
            elif is_taken and not is_popped:
                sentence = f"{write.worker} claimed key {line.key!r}, which another claim held"
                yield _violation(before.front, sentence, write)
        if after is not None and after.token is not None and (before is None or after.token != before.token):
            holder = write.worker


def _started_out_of_turn(
    line: Line, starts: Sequence[tuple[HandlerStarted, EventLife]], timeline: Timeline, limits: Limits
) -> Iterator[Violation]:
    latest: tuple[int, HandlerStarted] | None = None
    for start, life in starts:
        if not start.token:
            continue
        entry = line.claimed.get(start.token)
        if entry is None or entry.event_id != life.event_id:
            front = "nothing" if entry is None else entry.event_id
            sentence = f"{start.worker} called a handler under a token with which {front} was at the front"
            yield _violation(life.event_id, sentence, start)
            continue
        if latest is not None and entry.place < latest[0]:
            may_be_late = line.has_lost(start.token, start.at)
            if not (may_be_late and is_late_by_a_clock(life, start, timeline, limits)):
                sentence = f"a handler was called after {latest[1].event_id} had begun, which comes after it"
                yield _violation(life.event_id, sentence, latest[1], start)
        else:
            latest = entry.place, start


def _listed_out_of_order(line: Line, lives: Sequence[EventLife]) -> Iterator[Violation]:
    first = line.first_listings()
    listed = [life for life in lives if life.event_id in first and not _is_listed_again(life, first[life.event_id])]
    for earlier, later in foremost(listed, lambda life: first[life.event_id].place):
        one, other = first[earlier.event_id], first[later.event_id]
        if one.place > other.place:
            sentence = f"its emit was over before that of {later.event_id} began, and it was listed after that"
            yield _violation(earlier.event_id, sentence, other.listed, one.listed)


def _is_listed_again(life: EventLife, entry: Entry) -> bool:
    """Tell whether an event is listed by a repeat of its emit: it was deleted, or an operator had discarded it.

    A discarded event is not handled any more.
    """
    was_deleted = any(deleted.at <= entry.listed.at for deleted in life.of(ItemDeleted))
    return was_deleted or life.states("DISCARDED", until=entry.listed.at)
