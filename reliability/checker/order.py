"""O: the events of an ordering key are handled in the order of their emits, each after its predecessor has ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from reliability.checker.lines import Line
from reliability.checker.precedence import check_precedence, foremost, is_late_by_a_clock, lease_ends
from reliability.checker.timeline import EventLife, Timeline
from reliability.checker.verdict import Limits, Violation
from reliability.history import Discarded, HandlerStarted, Record


def check_order(timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    """Check the events of each ordering key.

    By the backend's log:

    - Each change of a queue appends events, or takes the one at the front, and no other. It takes an event only after
      this has ended, was discarded, or was deleted.
    - A handler is called only for the event that was at the front when its claim was written. After that, no handler is
      called for an event before it in the queue: not again either.
    - Where one emit was acknowledged before another one began, or came before it in the same call, its event was listed
      first.
    - At the end, the queue has the events that were listed and have not left. No page is left over.

    Without a log, by the records of the workers: see `check_precedence`.

    In both cases, a call may come late because the clocks of two workers differ, so that the lease was over by one of
    them. A holder itself calls no handler after the end of its lease by its own clock.
    """
    for page in timeline.final.stray_pages:
        yield _violation(None, f"page {page!r} is left, and no queue has it")
    lives: defaultdict[str, list[EventLife]] = defaultdict(list)
    for life in timeline:
        if life.line is not None:
            lives[life.line.key].append(life)
    for key, line in timeline.lines.by_key.items():
        of_key = lives[key]
        starts = _starts(of_key)
        yield from _started_late(of_key, timeline, limits)
        if line.writes:
            yield from _changed(line, timeline)
            yield from _started_out_of_turn(line, starts, timeline, limits)
            yield from _listed_out_of_order(line, of_key)
        else:
            yield from check_precedence(key, of_key, timeline, limits)


def _violation(event_id: str | None, sentence: str, *records: Record) -> Violation:
    return Violation(invariant="O", event_id=event_id, sentence=sentence, records=records)


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


def _changed(line: Line, timeline: Timeline) -> Iterator[Violation]:
    for write in line.illegal:
        yield _violation(None, f"key {line.key!r}: no transition makes {write.after} of {write.before}", write)
    for entry in line.early:
        records = [] if entry.left is None else [entry.left]
        sentence = f"it left the queue of key {line.key!r}, and had not ended"
        yield _violation(entry.event_id, sentence, entry.listed, *records)
    final = timeline.final.queues.get(line.key)
    events = () if final is None else final.events
    if events != line.waiting:
        sentence = f"key {line.key!r}: its queue has {events} at the end, and {line.waiting} had to wait"
        yield _violation(None, sentence, *line.writes[-1:])


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
            if not is_late_by_a_clock(life, start, timeline, limits):
                sentence = f"a handler was called after {latest[1].event_id} had begun, which comes after it"
                yield _violation(life.event_id, sentence, latest[1], start)
        else:
            latest = entry.place, start


def _listed_out_of_order(line: Line, lives: Sequence[EventLife]) -> Iterator[Violation]:
    places: dict[str, int] = {}
    for entry in line.entries:
        places.setdefault(entry.event_id, entry.place)
    # A repeated emit may list an event again that an operator has discarded. It is not handled any more.
    listed = [life for life in lives if life.event_id in places and not life.of(Discarded)]
    for earlier, later in foremost(listed, lambda life: places[life.event_id]):
        one, other = places[earlier.event_id], places[later.event_id]
        if one > other:
            sentence = f"its emit was over before that of {later.event_id} began, and it was listed after that"
            yield _violation(earlier.event_id, sentence, line.entries[other].listed, line.entries[one].listed)
