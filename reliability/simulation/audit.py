"""Compares what an operator reads of a table with the items that it holds, while the index is up to date."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from dynamodb_outbox import DynamoDBOutbox, EventState, Sample
from reliability.checker.lines import as_shown
from reliability.history import Stored, StoredQueue
from reliability.items import is_event, is_queue, is_window, queue_of, stored_of, window_of
from reliability.simulation.backend import Backend
from reliability.simulation.client import direct_client
from reliability.simulation.log import TABLE
from reliability.simulation.loop import Timeline
from reliability.simulation.scenario import Scenario
from reliability.simulation.values import Item

LISTED: Final = {
    "PENDING": (EventState.DUE, EventState.SCHEDULED),
    "PROCESSING": (EventState.EXPIRED, EventState.PROCESSING),
    "FAILED": (EventState.FAILED, EventState.FAILED),
    "HELD": (EventState.HELD, EventState.HELD),
}
"""The state of an event whose time has come, and of one whose time is ahead."""
STATES: Final = tuple(dict.fromkeys(state for states in LISTED.values() for state in states))
PAGE: Final = 7
"""Events of a page: few, so that most listings have several pages."""


class AuditError(Exception):
    """An operator reads something else than what is stored."""


def audited(
    backend: Backend, timeline: Timeline, scenario: Scenario, *, now: Callable[[], float]
) -> list[BaseException]:
    """Compare what an operator reads with what is stored, while all replicas of the index are up to date."""
    choose_replica, backend.choose_replica = backend.choose_replica, lambda: 0
    shards = int(scenario.places[0].options.get("shards", 1))
    task = timeline.new_loop().create_task(_audit(backend, shards=shards, now=now))
    timeline.run_until(task.done)
    backend.choose_replica = choose_replica
    error = task.exception()
    return [] if error is None else [error]


async def _audit(backend: Backend, *, shards: int, now: Callable[[], float]) -> None:
    """Raise `AuditError` if an event is shown in the wrong state, twice or not at all, or counted wrongly.

    Other processes may write meanwhile, so only events that have not changed count.
    """
    outbox = DynamoDBOutbox(direct_client(backend), table_name=TABLE, shards=shards, clock=now, random=lambda: 0.5)
    items = backend.tables[TABLE].items
    before = dict(items)
    shown = await _shown(outbox)
    sample = await outbox.sample(count_limit=100_000)
    expected, listed = _states(before, now=now()), _fronts(before)
    unchanged = [key for key, item in before.items() if items.get(key) is item]
    for key in unchanged:
        # A queue whose front is done or deleted is shown as its front or as itself. The next claim takes the front.
        if is_queue(before[key]) or (key in listed and key not in expected):
            continue
        wanted = [expected[key]] if key in expected else []
        if shown[key] != wanted:
            raise AuditError(f"event {key!r} is listed as {shown[key]}, not as {wanted}: {before[key]}")
        event = await outbox.get(key) if key in expected else None
        if event is not None and items.get(key) is before[key] and event.state is not expected[key]:
            raise AuditError(f"event {key!r} is shown as {event.state}, not as {expected[key]}: {before[key]}")
    if len(unchanged) == len(items) == len(before):
        _check_sample(sample, list(_states(before, now=now(), has_queues=True).values()))


async def _shown(outbox: DynamoDBOutbox) -> dict[str, list[EventState]]:
    """List the states in which each event is listed."""
    shown: dict[str, list[EventState]] = defaultdict(list)
    for state in STATES:
        after: str | None = None
        while True:
            page = await outbox.list_events(state, after=after, limit=PAGE)
            for event in page.events:
                shown[event.id].append(event.state)
            after = page.after
            if after is None:
                break
    return shown


def _states(items: Mapping[str, Item], *, now: float, has_queues: bool = False) -> dict[str, EventState]:
    """Work out the state of each event that has to be listed. An event of no open window waits for nobody.

    A queue is listed as the event at its front, if that waits; with `has_queues`, as the queue itself in any case.
    """
    windows = {window_of(item).window: window_of(item) for item in items.values() if is_window(item)}
    states: dict[str, EventState] = {}
    for key, stored in _listed(items, has_queues=has_queues):
        if stored.status not in LISTED:
            continue
        time = stored.sort_key
        if time is None:
            window = windows.get(stored.window or "")
            time = None if window is None or not window.is_open else window.sort_key
        if time is not None:
            has_come, is_ahead = LISTED[stored.status]
            states[key] = has_come if time <= round(now * 1000) else is_ahead
    return states


def _listed(items: Mapping[str, Item], *, has_queues: bool) -> Iterator[tuple[str, Stored]]:
    """Yield the events, as their queues show them; with `has_queues`, the queues themselves and the other events."""
    queues = _fronts(items)
    for key, item in items.items():
        if is_queue(item) and has_queues:
            yield key, stored_of(item)
        elif is_event(item):
            stored = stored_of(item) if has_queues else as_shown(stored_of(item), queues.get(key))
            if stored is not None:
                yield key, stored


def _fronts(items: Mapping[str, Item]) -> dict[str, StoredQueue]:
    """Return the queues by the events at their fronts."""
    return {queue.front: queue for queue in (queue_of(item) for item in items.values() if is_queue(item))}


def _check_sample(sample: Sample, states: list[EventState]) -> None:
    for state in STATES:
        count = getattr(sample, state)
        if not count.is_exact or count.at_least != states.count(state):
            raise AuditError(f"{states.count(state)} events are {state}, but {count} in {sample}")
