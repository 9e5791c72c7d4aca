"""The end of an emit, when its events are listed: its caller gets an answer, and its worker perhaps the queue."""

from __future__ import annotations

from collections.abc import Iterator

from reliability.models.queues.state import IDLE, NOBODY, PROCESSING, State, Work, Worker, with_emitter
from reliability.models.queues.tokens import free_token
from reliability.models.queues.working import claimed, with_worker
from reliability.models.queues.world import World


def acknowledge(world: World, state: State, me: int) -> State:
    """Tell the caller of an emission which events are stored, and go on with the next emission."""
    emitter = state.emitters[me]
    following = with_emitter(state, me, world.emission(me, emitter.at + 1))
    return following._replace(acknowledged=state.acknowledged.union(emitter.told))


def with_or_without_claim(world: World, state: State, me: int) -> Iterator[tuple[State, int]]:
    """List the tokens that an emit may send: none, or a new one for the worker of its process."""
    yield state, NOBODY
    if world.has_worker(me) and state.workers[me] == IDLE:
        token = free_token(state)
        yield with_worker(world, state, me, Worker(Work.RESERVED, token)), token


def hand_over(world: World, state: State, me: int, *, from_memory: bool) -> State:
    """Give the queue to the worker of the process, if the emit has claimed it; else the worker is free again."""
    if not world.has_worker(me) or state.workers[me].step != Work.RESERVED:
        return state
    token, queue = state.workers[me].token, state.queue
    if queue is None or (queue.status, queue.token) != (PROCESSING, token):
        return with_worker(world, state, me, IDLE)
    return claimed(world, state, me, token, step=Work.START if from_memory else Work.LOAD)


def let_go(world: World, state: State, me: int) -> State:
    """Free the worker of the process, because the emit it is reserved for is over."""
    if world.has_worker(me) and state.workers[me].step == Work.RESERVED:
        return with_worker(world, state, me, IDLE)
    return state
