"""Groups dead letters by type, error and handler, and retries or discards them step by step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Self

from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.port import Outbox
from dynamodb_outbox.repairs import Repaired
from dynamodb_outbox.stored_events import EventState, Page, StoredEvent
from dynamodb_outbox.web.http import BadRequestError
from dynamodb_outbox.web.text import packed, unpacked

SURVEYED: Final = 500
"""How many dead letters the page of groups reads. 500 cost 250 to 500 read units with small events."""
EXAMINED: Final = 500
"""How many dead letters a step of a repair reads at most, so that it answers soon."""
_PAGE: Final = 100
_ALL, _TYPE, _GROUP = "all", "type", "group"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The dead letters that a repair changes: all, or the dead letters of a type or a group.

    `FailedSelector` reads None as "any"; here `is_group` tells the group without an error class from that.
    """

    type: str | None = None
    is_group: bool = False
    error_type: str | None = None
    error_handler: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `packed` wrote. Raises `BadRequestError` for anything else."""
        kind, event_type, error_type, handler = unpacked(text, 4)
        if kind not in {_ALL, _TYPE, _GROUP} or (kind == _ALL) != (event_type is None):
            raise BadRequestError("the selection cannot be read; go back to the dead letters, and try again")
        return cls(type=event_type, is_group=kind == _GROUP, error_type=error_type, error_handler=handler)

    @property
    def packed(self) -> str:
        """The selection as a field of a form."""
        kind = _GROUP if self.is_group else _ALL if self.type is None else _TYPE
        return packed(kind, self.type, self.error_type, self.error_handler)

    def has(self, event: StoredEvent, *, before: datetime | None = None) -> bool:
        """Tell whether a dead letter is meant. An event that failed after `before` is not."""
        if before is not None and event.failed_at is not None and event.failed_at > before:
            return False
        if self.is_group:
            return key_of(event) == (self.type, self.error_type, self.error_handler)
        return self.type is None or event.type == self.type


def key_of(event: StoredEvent) -> tuple[str, str | None, str | None]:
    """Return what the events of a group have in common."""
    return event.type, event.error_type, event.error_handler


@dataclass(slots=True)
class Group:
    """Dead letters with the same type, error class and handler. `sample` is the latest of them.

    `blocked_keys` of them block their ordering keys.
    """

    sample: StoredEvent
    count: int = 0
    blocked_keys: int = 0
    first: datetime | None = None
    last: datetime | None = None

    @property
    def selection(self) -> Selection:
        """The selection of exactly this group."""
        event_type, error_type, handler = key_of(self.sample)
        return Selection(type=event_type, is_group=True, error_type=error_type, error_handler=handler)

    def add(self, event: StoredEvent) -> None:
        """Count an event."""
        self.count += 1
        self.blocked_keys += event.blocks_key
        if (at := event.failed_at) is not None:
            self.first = at if self.first is None else min(self.first, at)
            if self.last is None or at >= self.last:
                self.last, self.sample = at, event


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The groups among the dead letters that were read. `is_complete` if that were all."""

    groups: tuple[Group, ...]
    examined: int
    is_complete: bool


async def survey(outbox: Outbox, selection: Selection | None = None, *, before: datetime | None = None) -> Survey:
    """Read dead letters, up to a limit, and group the selected ones."""
    groups: dict[tuple[str, str | None, str | None], Group] = {}
    examined, is_complete = 0, False
    async for page in _pages(outbox, after=None, type=selection.type if selection else None):
        for event in page.events:
            if selection is None or selection.has(event, before=before):
                groups.setdefault(key_of(event), Group(event)).add(event)
        examined += page.examined
        is_complete = page.after is None
        if examined >= SURVEYED:
            break
    found = sorted(groups.values(), key=lambda group: -group.count)
    return Survey(groups=tuple(found), examined=examined, is_complete=is_complete)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """The change of each dead letter of a selection.

    With `skips`, the ordering keys that they block go on. Else they are retried without a `reason`, and discarded with
    one.
    """

    by: str
    reason: str | None = None
    skips: bool = False

    async def apply(self, outbox: Outbox, events: Iterable[StoredEvent]) -> Repaired:
        """Repair events, unless they have changed since they were read."""
        # The earliest failure first: events that were set aside return to their lines in that order.
        fences = {event.id: event.fence for event in reversed(list(events))}
        return await self.apply_to(outbox, fences)

    async def apply_to(self, outbox: Outbox, fences: dict[str, str]) -> Repaired:
        """Repair the events of these ids, if each has its fence still."""
        if not fences:
            return Repaired()
        if self.skips:
            return await _skip(outbox, fences)
        if self.reason is None:
            return await outbox.redrive(list(fences), fences=fences)
        return await outbox.discard(list(fences), reason=self.reason, by=self.by, fences=fences)


async def _skip(outbox: Outbox, fences: dict[str, str]) -> Repaired:
    """Skip events, unless they have changed since they were seen. The outbox itself checks that they block a key."""
    seen: list[str] = []
    refused: dict[str, EventStatus | None] = {}
    for event_id, fence in fences.items():
        stored = await outbox.get(event_id)
        if stored is not None and stored.fence == fence:
            seen.append(event_id)
        else:
            refused[event_id] = None if stored is None else stored.status
    repaired = await outbox.skip(seen) if seen else Repaired()
    return Repaired(done=repaired.done, refused={**refused, **repaired.refused})


@dataclass(slots=True, kw_only=True)
class Step:
    """The result of one step of a repair, and the cursor of the next step: None at the end."""

    done: list[str] = field(default_factory=list[str])
    refused: dict[str, EventStatus | None] = field(default_factory=dict[str, EventStatus | None])
    after: str | None = None


async def repair_step(
    outbox: Outbox, selection: Selection, repair: Repair, *, before: datetime, after: str | None, limit: int
) -> Step:
    """Repair up to `limit` dead letters of a selection, and read up to a fixed number. Nothing is kept between steps.

    A step that is not followed by another has changed what it says, and no more; so a repair may stop anywhere. Events
    that failed after `before` are left alone, so a retry does not meet the events whose retry has failed again.
    """
    step, examined = Step(after=after), 0
    async for page in _pages(outbox, after=after, type=selection.type, limit=limit):
        repaired = await repair.apply(outbox, [event for event in page.events if selection.has(event, before=before)])
        step.done += repaired.done
        step.refused |= repaired.refused
        step.after = page.after
        examined += page.examined
        if step.done or examined >= EXAMINED:
            break
    return step


async def _pages(outbox: Outbox, *, after: str | None, type: str | None, limit: int = _PAGE) -> AsyncIterator[Page]:
    while True:
        page = await outbox.list_events(EventState.FAILED, type=type, after=after, limit=limit)
        yield page
        if (after := page.after) is None:
            return


async def exported(outbox: Outbox, selection: Selection) -> AsyncIterator[StoredEvent]:
    """Read every dead letter of a selection, page by page."""
    async for page in _pages(outbox, after=None, type=selection.type):
        for event in page.events:
            if selection.has(event):
                yield event
