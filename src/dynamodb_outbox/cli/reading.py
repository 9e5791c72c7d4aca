"""Reads events page by page, filtered, and groups dead letters by their error."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from dynamodb_outbox.errors import UnavailableError
from dynamodb_outbox.repairs import FailedSelector, Hold
from dynamodb_outbox.stored_events import EventState, Page, StoredEvent

if TYPE_CHECKING:
    from dynamodb_outbox.port import Outbox

PAGE: Final = 100
"""How many events are read at once."""
HOLDS_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which of the events that are read are meant. None means that the field does not matter."""

    type: str | None = None
    error_type: str | None = None
    error_handler: str | None = None
    before: datetime | None = None
    group: str | None = None
    blocks_key: bool = False
    """Whether only events are meant that block their ordering keys."""

    def takes(self, event: StoredEvent) -> bool:
        """Tell whether an event is meant."""
        return (
            self.type in (None, event.type)
            and self.error_type in (None, event.error_type)
            and self.error_handler in (None, event.error_handler)
            and (self.before is None or event.failed_at is None or event.failed_at <= self.before)
            and self.group in (None, group_id(event))
            and (event.blocks_key or not self.blocks_key)
        )

    def selector(self) -> FailedSelector:
        """Return the selector of a repair. It has neither `group` nor `blocks_key`: see `Selection.only`."""
        return FailedSelector(
            type=self.type, error_type=self.error_type, error_handler=self.error_handler, before=self.before
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Dead letters of one type that failed with one kind of error in one handler.

    `blocking` of them block their ordering keys.
    """

    id: str
    type: str
    error_type: str | None
    error_handler: str | None
    count: int
    blocking: int
    first: datetime | None
    last: datetime | None
    example: StoredEvent


async def pages(
    outbox: Outbox, state: EventState | str, *, type: str | None = None, after: str | None = None, page: int = PAGE
) -> AsyncGenerator[Page]:
    """Read page after page."""
    while True:
        found = await outbox.list_events(state, type=type, after=after, limit=page)
        yield found
        if found.after is None or found.after == after:
            return
        after = found.after


async def read_events(
    outbox: Outbox, state: EventState | str, wanted: Filter, *, limit: int, after: str | None = None
) -> Page:
    """Read up to `limit` events that pass the filter, which may be a few more if it is more than a type.

    Then whole pages are read and filtered, and the cursor of the next page comes after all of them.
    """
    events: list[StoredEvent] = []
    examined = 0
    is_exact = wanted == Filter(type=wanted.type)
    while True:
        size = min(limit - len(events), PAGE) if is_exact else PAGE
        page = await outbox.list_events(state, type=wanted.type, after=after, limit=size)
        examined += page.examined
        events += filter(wanted.takes, page.events)
        is_last = page.after is None or page.after == after
        if len(events) >= limit or is_last:
            return Page(events=tuple(events), after=None if is_last else page.after, examined=examined)
        after = page.after


async def read_holds(outbox: Outbox) -> tuple[Hold, ...]:
    """Read the holds in force. The outbox gives up after a second, as a worker has no time; a person has more."""
    for _ in range(HOLDS_ATTEMPTS - 1):
        with suppress(UnavailableError):
            return tuple(await outbox.holds())
    return tuple(await outbox.holds())


def group_id(event: StoredEvent) -> str:
    """Name the group of a dead letter: eight hexadecimal digits, the same in every call."""
    parts = (event.type, event.error_type or "", event.error_handler or "")
    return blake2b("\0".join(parts).encode(), digest_size=4).hexdigest()


def grouped(events: Iterable[StoredEvent]) -> list[Group]:
    """Group dead letters by type, class of the error and handler; the largest group first."""
    groups: dict[str, Group] = {}
    for event in events:
        name = group_id(event)
        known = groups.get(name)
        if known is None:
            groups[name] = Group(
                id=name,
                type=event.type,
                error_type=event.error_type,
                error_handler=event.error_handler,
                count=1,
                blocking=int(event.blocks_key),
                first=event.failed_at,
                last=event.failed_at,
                example=event,
            )
        else:
            moments = [each for each in (known.first, known.last, event.failed_at) if each is not None]
            groups[name] = replace(
                known,
                count=known.count + 1,
                blocking=known.blocking + event.blocks_key,
                first=min(moments, default=None),
                last=max(moments, default=None),
            )
    return sorted(groups.values(), key=lambda group: -group.count)
