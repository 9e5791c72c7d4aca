"""The writes that take the event at the front out of the queue, each for one shape of the queue item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reliability.models.queues.listing import order_with
from reliability.models.queues.rules import Rules
from reliability.models.queues.state import (
    FAILED,
    NO_EVENT,
    NOBODY,
    PENDING,
    PROCESSING,
    Page,
    Queue,
    State,
    Write,
    listed,
)

LAST: Final = "POP LAST"
"""Delete the queue item with its only event."""
FIRST: Final = "POP"
HEAD: Final = "POP HEAD"
UNHEAD: Final = "POP UNHEAD"
"""Remove `head` with its only event."""
REFILL: Final = "POP REFILL"
"""Remove the only event of `head`, and move the first page into `head`."""


def form_of_pop(queue: Queue) -> str:
    """Choose the form that fits the queue item."""
    if queue.head is None:
        return LAST if len(queue.ids) == 1 else FIRST
    if len(queue.head) > 1:
        return HEAD
    return REFILL if queue.first <= queue.last else UNHEAD


def second_of(queue: Queue) -> int:
    """Return the event after the front, as far as the queue item shows it."""
    shown = (*(queue.head or ()), *(() if queue.first <= queue.last else queue.ids))
    return shown[1] if len(shown) > 1 else NO_EVENT


def page_of(state: State, epoch: int, number: int) -> Page | None:
    """Read a page."""
    return next((page for page in state.pages if (page.epoch, page.number) == (epoch, number)), None)


def pop(rules: Rules, state: State, write: Write) -> State | None:
    """Carry out one of the forms; None if it is refused."""
    queue = state.queue
    if queue is None or not _is_allowed(rules, queue, write):
        return None
    is_stored = write.of_missing and state.events[write.ids[0]] is not None
    if is_stored and rules.pop_of_missing_needs_its_absence:
        return None
    following = POPS[write.name](rules, state, queue, write)
    if following is not None and write.of_missing:
        following = _forget(following, write.ids[0])
    if following is None or following.queue is None:
        return following
    if write.following == NOBODY:
        return following._replace(queue=following.queue._replace(status=PENDING))
    claimed = following.queue._replace(status=PROCESSING, token=write.following, lease=0)
    return following._replace(queue=claimed)


def _forget(state: State, event: int) -> State:
    """Let an event that has left its place unhandled have another place: that of its second turn, or of a new emit."""
    is_listed = event in listed(state)
    order = order_with(state, event) if is_listed else tuple(other for other in state.order if other != event)
    return state._replace(order=order, started=state.started - {event})


def _is_allowed(rules: Rules, queue: Queue, write: Write) -> bool:
    has_token = queue.token == write.token
    if write.by_operator:
        return queue.status == FAILED and (has_token or not rules.skip_needs_the_token)
    return queue.status != FAILED and (has_token or not rules.pop_needs_the_token)


def _last(rules: Rules, state: State, queue: Queue, write: Write) -> State | None:
    if queue.ids != write.ids and rules.delete_needs_the_whole_list:
        return None
    if queue.head is not None and rules.delete_needs_no_head:
        return None
    return state._replace(queue=None)


def _first(rules: Rules, state: State, queue: Queue, write: Write) -> State | None:
    if not _has_length(rules, is_as_seen=len(queue.ids) > 1) or not _is_front(rules, queue.ids[0], write):
        return None
    if queue.head is not None and rules.pop_needs_no_head:
        return None
    return state._replace(queue=queue._replace(ids=queue.ids[1:]))


def _head(rules: Rules, state: State, queue: Queue, write: Write) -> State | None:
    head = queue.head
    if head is None or not _has_length(rules, is_as_seen=len(head) > 1) or not _is_front(rules, head[0], write):
        return None
    return state._replace(queue=queue._replace(head=head[1:]))


def _unhead(rules: Rules, state: State, queue: Queue, write: Write) -> State | None:
    head = queue.head
    if head is None or not _has_length(rules, is_as_seen=len(head) == 1) or not _is_front(rules, head[0], write):
        return None
    if queue.first <= queue.last and rules.unhead_needs_no_page:
        return None
    return state._replace(queue=queue._replace(head=None))


def _refill(rules: Rules, state: State, queue: Queue, write: Write) -> State | None:
    head = queue.head
    if head is None or not _has_length(rules, is_as_seen=len(head) == 1) or not _is_front(rules, head[0], write):
        return None
    # Nothing has to ask for the number of the page: a write that moves it on changes the front and the token, too.
    refilled = queue._replace(head=write.seen, first=write.page + 1)
    left = tuple(page for page in state.pages if (page.epoch, page.number) != (write.epoch, write.page))
    return state._replace(queue=refilled, pages=left if rules.refill_deletes_its_page else state.pages)


def _has_length(rules: Rules, *, is_as_seen: bool) -> bool:
    return is_as_seen or not rules.pop_needs_the_length_seen


def _is_front(rules: Rules, front: int, write: Write) -> bool:
    return (front,) == write.ids or not rules.pop_needs_the_front


POPS: Final[dict[str, Callable[[Rules, State, Queue, Write], State | None]]] = {
    LAST: _last,
    FIRST: _first,
    HEAD: _head,
    UNHEAD: _unhead,
    REFILL: _refill,
}
