"""The writes that list events at the end of the queue: APPEND, SPLIT and SPILL, alone or in a transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reliability.models.queues.state import (
    NOBODY,
    PENDING,
    PROCESSING,
    TERMINAL,
    Ids,
    Page,
    Queue,
    State,
    Write,
    listed,
)
from reliability.models.queues.tokens import free_epoch
from reliability.models.queues.world import World


def list_events(world: World, state: State, write: Write) -> State | None:
    """Carry out APPEND, SPLIT or SPILL; None if it is refused."""
    return _list(world, state, write, write.name)


def list_in_form(world: World, state: State, write: Write) -> State | None:
    """Carry out the part of a transaction that lists events."""
    return _list(world, state, write, write.form)


def plan(world: World, state: State, ids: Ids, *, name: str = "") -> Write:
    """Choose the write that lists events in the queue as it is now. A name makes it a part of a transaction."""
    queue = state.queue
    if queue is None or len(queue.ids) <= world.room - len(ids):
        write = Write("APPEND", ids)
    elif queue.head is None:
        write = Write("SPLIT", ids)
    else:
        epoch = queue.epoch or free_epoch(state)
        write = Write("SPILL", ids, seen=queue.ids, epoch=epoch, page=queue.last)
    return write._replace(name=name, form=write.name) if name else write


def order_with(state: State, event: int) -> Ids:
    """Move an event to the end of the order; or to its place in the queue, if a late APPEND has listed it earlier."""
    others = tuple(other for other in state.order if other != event)
    queue = listed(state)
    place = queue.index(event)
    behind = {other for other in queue[place:] if other not in queue[:place] and state.events[other] not in TERMINAL}
    at = next((number for number, other in enumerate(others) if other in behind), len(others))
    return (*others[:at], event, *others[at:])


def _list(world: World, state: State, write: Write, form: str) -> State | None:
    following = _FORMS[form](world, state, write)
    if following is None:
        return None
    new = tuple(event for event in write.ids if event not in state.order)
    return following._replace(order=state.order + new) if new else following


def _append(world: World, state: State, write: Write) -> State | None:
    queue = state.queue
    if queue is None:
        status = PROCESSING if write.token else PENDING
        return state._replace(queue=Queue(status, write.token, 0, write.ids))
    if len(queue.ids) > world.room - len(write.ids) and world.rules.append_needs_room:
        return None
    is_listed = write.ids[0] in queue.ids or write.ids[0] in (queue.head or ())
    if is_listed and world.rules.append_needs_an_unlisted_event:
        return None
    longer = queue._replace(ids=queue.ids + write.ids)
    if not world.rules.append_keeps_the_status:
        longer = longer._replace(status=PENDING)
    if not world.rules.append_keeps_the_token and write.token != NOBODY:
        longer = longer._replace(status=PROCESSING, token=write.token, lease=0)
    return state._replace(queue=longer)


def _split(world: World, state: State, write: Write) -> State | None:
    queue = state.queue
    if queue is None or len(queue.ids) <= world.room - len(write.ids):
        return None
    if queue.head is not None and world.rules.split_needs_no_head:
        return None
    return state._replace(queue=queue._replace(head=queue.ids, ids=write.ids))


def _spill(world: World, state: State, write: Write) -> State | None:
    queue = state.queue
    if queue is None or queue.head is None:
        return None
    if queue.ids != write.seen and world.rules.spill_needs_the_list_seen:
        return None
    # If no page was seen, the queue must never have had a page. If pages were seen, the last of them must be the same.
    is_changed = (queue.epoch, queue.last) != (write.epoch, write.page) if write.page else queue.epoch > 0
    if is_changed and world.rules.spill_needs_the_last_page_seen:
        return None
    page = Page(write.epoch, write.page + 1, write.seen)
    if any((other.epoch, other.number) == (page.epoch, page.number) for other in state.pages):
        return None
    spilled = queue._replace(ids=write.ids, epoch=write.epoch, last=page.number)
    return state._replace(queue=spilled, pages=tuple(sorted((*state.pages, page))))


_FORMS: Final[dict[str, Callable[[World, State, Write], State | None]]] = {
    "APPEND": _append,
    "SPLIT": _split,
    "SPILL": _spill,
}
