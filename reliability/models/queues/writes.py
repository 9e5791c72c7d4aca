"""The conditional writes: what each asks for, and what it changes. `None` means that its condition refuses it.

The names are the names in `dynamodb_outbox.dynamodb.conditional.transitions`, as far as they exist there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reliability.models.queues.listing import list_events, list_in_form, order_with
from reliability.models.queues.popping import POPS, pop
from reliability.models.queues.state import (
    COMPLETED,
    FAILED,
    NOBODY,
    PENDING,
    PROCESSING,
    QUEUED,
    State,
    Write,
    with_event,
)
from reliability.models.queues.world import World


def apply(world: World, state: State, write: Write) -> State | None:
    """Carry out a write; None if it is refused."""
    if write.name in POPS:
        return pop(world.rules, state, write)
    return _WRITES[write.name](world, state, write)


# Events


def _put(world: World, state: State, write: Write) -> State | None:
    (event,) = write.ids
    is_taken = state.events[event] is not None and world.rules.put_needs_a_free_id
    return None if is_taken else with_event(state, event, QUEUED)


def _mark(status: str) -> Callable[[World, State, Write], State | None]:
    def mark(world: World, state: State, write: Write) -> State | None:
        (event,) = write.ids
        is_over = state.events[event] != QUEUED and world.rules.mark_needs_queued
        is_fenced = status == FAILED and not write.by_operator and not _has_queue(world, state, write)
        return None if is_over or is_fenced else with_event(state, event, status)

    return mark


def _has_queue(world: World, state: State, write: Write) -> bool:
    if not world.rules.aside_needs_the_token:
        return True
    return state.queue is not None and state.queue.token == write.token and state.queue.status != FAILED


# Events and the queue


def _transact(world: World, state: State, write: Write) -> State | None:
    """Put and list events, together with other writes of the user."""
    if write.request in state.committed:
        # DynamoDB knows the request, and answers as it did the first time.
        return state
    new = [event for event in write.ids if state.events[event] is None]
    if len(new) < len(write.ids) and world.rules.duplicates_refuse_transactions:
        return None
    following = list_in_form(world, state, write)
    if following is None:
        return None
    for event in new:
        following = with_event(following, event, QUEUED)
    written = tuple(times + (event in write.ids) for event, times in enumerate(state.written))
    return following._replace(written=written, committed=state.committed | {write.request})


def _requeue(world: World, state: State, write: Write) -> State | None:
    """List an event again that has FAILED and left the queue."""
    (event,) = write.ids
    if state.events[event] != FAILED and world.rules.requeue_needs_failed:
        return None
    queue = state.queue
    if not world.rules.requeue_is_one_transaction:
        return with_event(state, event, QUEUED)
    if queue is not None and event in (*queue.ids, *(queue.head or ())):
        return None if world.rules.requeue_needs_an_unlisted_event else with_event(state, event, QUEUED)
    following = list_in_form(world, state, write)
    if following is None:
        return None
    order = order_with(following, event)
    return with_event(following, event, QUEUED)._replace(order=order, started=state.started - {event})


# The claim of the queue


def _claim(world: World, state: State, write: Write) -> State | None:
    queue = state.queue
    if queue is None or queue.status == FAILED:
        return None
    is_ours = queue.token == write.token
    if queue.status == PROCESSING and not is_ours and world.rules.claim_needs_pending:
        return None
    lease = queue.lease + 1 if is_ours else 0
    claimed = queue._replace(status=PROCESSING, token=write.token, lease=lease)
    return state._replace(queue=claimed)


def _recover(world: World, state: State, write: Write) -> State | None:
    queue = state.queue
    if queue is None or queue.status != PROCESSING:
        return None
    is_seen = (queue.token, queue.lease) == (write.token, write.lease)
    if not is_seen and world.rules.recover_needs_the_lease_seen:
        return None
    return state._replace(queue=queue._replace(status=PENDING))


def _renew(world: World, state: State, write: Write) -> State | None:
    queue = state.queue
    if queue is None or queue.token != write.token or queue.status != PROCESSING:
        return None
    return state._replace(queue=queue._replace(lease=queue.lease + 1))


def _settle(
    status: str, *accepted: str, needs_token: Callable[[World], bool]
) -> Callable[[World, State, Write], State | None]:
    def settle(world: World, state: State, write: Write) -> State | None:
        queue = state.queue
        if queue is None or queue.status not in accepted:
            return None
        if queue.token != write.token and needs_token(world):
            return None
        return state._replace(queue=queue._replace(status=status))

    return settle


def _redrive(world: World, state: State, write: Write) -> State | None:
    queue = state.queue
    if queue is None or queue.status != FAILED:
        return None
    token = NOBODY if world.rules.redrive_resets_the_token else queue.token
    return state._replace(queue=queue._replace(status=PENDING, token=token, lease=0))


_WRITES: Final[dict[str, Callable[[World, State, Write], State | None]]] = {
    "PUT": _put,
    "MARK COMPLETED": _mark(COMPLETED),
    "MARK FAILED": _mark(FAILED),
    "APPEND": list_events,
    "SPLIT": list_events,
    "SPILL": list_events,
    "TRANSACT": _transact,
    "REQUEUE": _requeue,
    "CLAIM": _claim,
    "RECOVER": _recover,
    "RENEW": _renew,
    "RETRY": _settle(PENDING, PENDING, PROCESSING, needs_token=lambda world: world.rules.retry_needs_the_token),
    "RELEASE": _settle(PENDING, PROCESSING, needs_token=lambda world: world.rules.release_needs_the_token),
    "FAIL": _settle(FAILED, PENDING, PROCESSING, FAILED, needs_token=lambda world: world.rules.fail_needs_the_token),
    "REDRIVE": _redrive,
}
