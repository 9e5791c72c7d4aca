"""Which state an event is in, and which states can be listed and counted: shared by all adapters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.stored_events import Count, EventState, Sample, StoredEvent
from dynamodb_outbox.wording import shown

STATUS_OF: Final[Mapping[EventState, EventStatus]] = {
    EventState.DUE: EventStatus.PENDING,
    EventState.SCHEDULED: EventStatus.PENDING,
    EventState.PROCESSING: EventStatus.PROCESSING,
    EventState.EXPIRED: EventStatus.PROCESSING,
    EventState.HELD: EventStatus.HELD,
    EventState.FAILED: EventStatus.FAILED,
    EventState.COMPLETED: EventStatus.COMPLETED,
    EventState.DISCARDED: EventStatus.DISCARDED,
    EventState.WAITING: EventStatus.QUEUED,
}
"""The status of the events in each state."""
UP_TO_NOW: Final = frozenset({EventState.DUE, EventState.EXPIRED})
"""The states that begin when a time has come."""
AFTER_NOW: Final = frozenset({EventState.SCHEDULED, EventState.PROCESSING})
"""The states that end when a time has come."""
LISTED: Final = (
    EventState.DUE,
    EventState.SCHEDULED,
    EventState.PROCESSING,
    EventState.EXPIRED,
    EventState.HELD,
    EventState.FAILED,
)
"""The states whose events can be listed and counted."""
EXAMINED: Final = 1_000
"""How many events a page reads at most, if a filter leaves out some of them and `limit` is not larger."""


def state_of(status: EventStatus, at: float | None, *, now: float) -> EventState:
    """Return the state of an event. `at` is when it is due, or when its lease ends, as `now` in epoch seconds."""
    # In milliseconds, as the index compares them.
    has_come = at is not None and round(at * 1000) <= round(now * 1000)
    match status:
        case EventStatus.PENDING:
            return EventState.DUE if has_come else EventState.SCHEDULED
        case EventStatus.PROCESSING:
            return EventState.EXPIRED if has_come else EventState.PROCESSING
        case EventStatus.QUEUED:
            return EventState.WAITING
        case _:
            return EventState[status.name]


def listed_state(state: EventState | str) -> EventState:
    """Read the argument of `list_events`. Raises `ConfigurationError` for a state whose events cannot be listed."""
    try:
        known = EventState(state)
    except ValueError:
        raise ConfigurationError(f"state={shown(state)}: it must be one of {', '.join(LISTED)}") from None
    if known not in LISTED:
        raise ConfigurationError(
            f"state={shown(state)}: {known} events are not in the index, so they cannot be listed; call "
            "bus.get_event with the id of one, or Scan the table with a filter on its attribute status"
        )
    return known


def sample_of(events: Iterable[StoredEvent], *, now: float, count_limit: int) -> Sample:
    """Make a sample of all events (`now` in epoch seconds), for an adapter that can look at each of them."""
    of_state: dict[EventState, list[StoredEvent]] = {state: [] for state in LISTED}
    for event in events:
        if event.state in of_state:
            of_state[event.state].append(event)
    counts = {
        state: Count(at_least=min(len(found), count_limit), is_exact=len(found) <= count_limit)
        for state, found in of_state.items()
    }
    due = [event.due_at for event in of_state[EventState.DUE] if event.due_at is not None]
    expired = [event.lease_expires_at for event in of_state[EventState.EXPIRED] if event.lease_expires_at is not None]
    failed = [event.failed_at for event in of_state[EventState.FAILED] if event.failed_at is not None]
    blocking = sum(event.blocks_key for event in of_state[EventState.FAILED])
    return Sample(
        at=datetime.fromtimestamp(now, UTC),
        due=counts[EventState.DUE],
        scheduled=counts[EventState.SCHEDULED],
        processing=counts[EventState.PROCESSING],
        expired=counts[EventState.EXPIRED],
        failed=counts[EventState.FAILED],
        held=counts[EventState.HELD],
        oldest_due=min(due, default=None),
        oldest_expired=min(expired, default=None),
        latest_failed=max(failed, default=None),
        blocked_keys=Count(at_least=min(blocking, count_limit), is_exact=counts[EventState.FAILED].is_exact),
    )
