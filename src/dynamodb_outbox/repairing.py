"""Repairs of many events: chosen by their ids or by a selector, at a limited rate, and interruptible.

A repair changes each event with one conditional write. So a call that was cancelled, or that failed, can be made again.
It refuses the events that it has changed before, and changes the others. Nothing is read and written back, and nothing
is deleted in between.

A selector lists dead letters page by page, and never goes back. It leaves out those that failed after `before`, and
repairs each event only as it was listed. So a bulk retry ends, even if every event fails again at once.

Events that were set aside return to the ends of their lines. So a selector retries them last, in the order of their
failures, which is the order that their lines had.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar

import anyio

from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.port import Outbox
from dynamodb_outbox.repairs import FailedSelector, Repaired
from dynamodb_outbox.stored_events import EventState, StoredEvent
from dynamodb_outbox.validation import check_event_ids, check_seconds
from dynamodb_outbox.wording import shown

OnProgress = Callable[[int], object]
"""Is called with the number of events that were changed until now."""
Only = Callable[[StoredEvent], bool]
"""Tells whether a dead letter is meant."""
MOST_AT_ONCE: Final = 100
"""How many events are changed before the progress is told."""
STEPS_PER_SECOND: Final = 5
"""With a rate, this many small groups of events are changed in a second, rather than one large group."""
MAX_REASON_CHARS: Final = 500
MAX_BY_CHARS: Final = 128


async def redrive(
    outbox: Outbox,
    selected: Iterable[str] | FailedSelector,
    *,
    only: Only | None = None,
    rate: float | None = None,
    on_progress: OnProgress | None = None,
) -> Repaired:
    """Make dead letters PENDING again, with all their retries; at most `rate` events a second.

    With a selector, `only` may leave out more of the dead letters. To continue a call that was interrupted, make it
    again with the same `before`. Raises `StorageError`.
    """
    groups = _groups(outbox, selected, only, _size(rate), in_order=True)
    return await _repair(groups, outbox.redrive, rate=rate, on_progress=on_progress)


async def skip(outbox: Outbox, ids: Iterable[str]) -> Repaired:
    """Set events aside that block their ordering keys: ids only, no selector. Raises `StorageError`."""

    async def skip(ids: Sequence[str], *, fences: Mapping[str, str] | None) -> Repaired:
        return await outbox.skip(ids)

    return await _repair(_groups(outbox, check_event_ids(ids), None, MOST_AT_ONCE), skip, rate=None, on_progress=None)


async def discard(
    outbox: Outbox,
    selected: Iterable[str] | FailedSelector,
    *,
    reason: str,
    by: str | None = None,
    only: Only | None = None,
    rate: float | None = None,
    on_progress: OnProgress | None = None,
) -> Repaired:
    """Make events DISCARDED, at most `rate` events a second; see `redrive` for the other arguments."""
    repair = partial(outbox.discard, reason=check_reason(reason), by=check_by(by))
    groups = _groups(outbox, selected, only, _size(rate))
    return await _repair(groups, repair, rate=rate, on_progress=on_progress)


def fixed(selector: FailedSelector, outbox: Outbox) -> FailedSelector:
    """Return the selector with its `before`: now by the clock of the outbox, if it has none.

    In full milliseconds, as times are stored, so that an event is meant that has failed a moment ago.
    """
    if selector.before is not None:
        return selector
    now = round(outbox.options.clock() * 1000) / 1000
    return replace(selector, before=datetime.fromtimestamp(now, UTC))


async def matching(outbox: Outbox, selector: FailedSelector) -> AsyncIterator[StoredEvent]:
    """List the dead letters that a selector means, as they are now. A preview counts them."""
    async for page in _pages(outbox, fixed(selector, outbox)):
        for event in page:
            yield event


def is_meant(event: StoredEvent, selector: FailedSelector) -> bool:
    """Tell whether a selector means an event. An unset field of the selector leaves none out."""
    return (
        event.status is EventStatus.FAILED
        and selector.type_name in (None, event.type)
        and selector.error_type in (None, event.error_type)
        and selector.error_handler in (None, event.error_handler)
        and (selector.before is None or event.failed_at is None or event.failed_at <= selector.before)
    )


def check_reason(reason: object) -> str:
    """Return the reason of a repair. Raises `ConfigurationError` for an empty or a long one."""
    return _text("reason", reason, MAX_REASON_CHARS, "say why in a few words, for those who read it later")


def check_by(by: object) -> str:
    """Return who makes a repair; `USER@HOST` if it is None. Raises `ConfigurationError`."""
    if by is None:
        return operator()[:MAX_BY_CHARS]
    return _text("by", by, MAX_BY_CHARS, "name the person or program that makes the repair")


def operator() -> str:
    """Return the user and the host of this process, such as `ada@bastion-1`."""
    import socket  # noqa: PLC0415 - rarely needed

    return f"{user_name()}@{socket.gethostname()}"


def user_name() -> str:
    """Return the user of this process; `unknown` if it has no name, as in many containers."""
    import getpass  # noqa: PLC0415 - rarely needed

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def _text(name: str, value: object, most: int, advice: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{name}={shown(value)}: it must be a text that is not empty; {advice}")
    if len(value) > most:
        raise ConfigurationError(f"{name} has {len(value):,} characters: it may have {most:,} at most")
    return value


def _is_set_aside(event: StoredEvent) -> bool:
    """Tell whether an event has left its line, so that a retry puts it to the end."""
    return event.ordering_key is not None and not event.blocks_key


_T = TypeVar("_T")
_Repair = Callable[..., Awaitable[Repaired]]
_Group = tuple[list[str], Mapping[str, str] | None]
"""The ids of some events, and what was seen of them."""


def _size(rate: float | None) -> int:
    """Return how many events are changed at once. Raises `ConfigurationError`."""
    if rate is None:
        return MOST_AT_ONCE
    check_seconds("rate", rate, 0.001, 1_000_000)
    return max(min(int(rate / STEPS_PER_SECOND), MOST_AT_ONCE), 1)


async def _repair(
    groups: AsyncIterator[_Group], repair: _Repair, *, rate: float | None, on_progress: OnProgress | None
) -> Repaired:
    next_at = -math.inf
    done: list[str] = []
    refused: dict[str, EventStatus | None] = {}
    async for ids, fences in groups:
        if ids:
            if rate is not None:
                await anyio.sleep_until(next_at)
                # From now on, and not from when it was due: a call that stood still does not catch up in one burst.
                next_at = anyio.current_time() + len(ids) / rate
            repaired = await repair(ids, fences=fences)
            done += repaired.done
            refused |= repaired.refused
        if on_progress is not None:
            on_progress(len(done))
    return Repaired(done=tuple(done), refused=refused)


async def _groups(
    outbox: Outbox,
    selected: Iterable[str] | FailedSelector,
    only: Only | None,
    size: int,
    *,
    in_order: bool = False,
) -> AsyncIterator[_Group]:
    """Divide the selected events into small groups. A page of dead letters without any of them is an empty group.

    With `in_order`, the events of a selector that were set aside come last, the earliest failure first.
    """
    if isinstance(selected, FailedSelector):
        aside: list[tuple[str, str]] = []
        async for page in _pages(outbox, fixed(selected, outbox)):
            events = page if only is None else list(filter(only, page))
            if in_order:
                aside += [(event.id, event.fence) for event in events if _is_set_aside(event)]
                events = [event for event in events if not _is_set_aside(event)]
            for group in _parts(events, size) if events else [[]]:
                yield [event.id for event in group], {event.id: event.fence for event in group}
        for fences in map(dict, _parts(aside[::-1], size)):
            yield list(fences), fences
    else:
        for ids in _parts(list(dict.fromkeys(check_event_ids(selected))), size):
            yield list(ids), None


async def _pages(outbox: Outbox, selector: FailedSelector) -> AsyncIterator[list[StoredEvent]]:
    after: str | None = None
    while True:
        page = await outbox.list_events(EventState.FAILED, type=selector.type_name, after=after, limit=MOST_AT_ONCE)
        yield [event for event in page.events if is_meant(event, selector)]
        if page.after is None:
            return
        after = page.after


def _parts(values: Sequence[_T], size: int) -> Iterable[Sequence[_T]]:
    return (values[start : start + size] for start in range(0, len(values), size))
