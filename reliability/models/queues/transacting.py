"""How an emitter stores and lists events in a transaction, with other writes of the user.

A transaction is refused if one of its events is stored already. The caller is then told that the event is a duplicate,
and takes it for stored. So the event must be listed first: an emit of the same id may have died between PUT and APPEND.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from reliability.models.calling import Answer
from reliability.models.exploring import Step
from reliability.models.queues.answering import acknowledge, hand_over, let_go, with_or_without_claim
from reliability.models.queues.calls import call
from reliability.models.queues.listing import plan
from reliability.models.queues.state import (
    QUEUED,
    Emit,
    Emitter,
    State,
    Work,
    Write,
    with_emitter,
)
from reliability.models.queues.tokens import free_request
from reliability.models.queues.world import World


def steps_of_transaction(world: World, state: State, me: int, emitter: Emitter) -> Iterator[Step[State]]:
    """List what an emitter may do next about its transaction."""
    if emitter.step == Emit.LOOK:
        # The queue item tells whether the transaction has claimed the queue.
        looked = hand_over(world, state, me, from_memory=emitter.is_sure)
        yield Step(("emitter", me, "reads the queue"), acknowledge(world, looked, me))
        return
    if emitter.write is not None:
        yield from _commit(world, state, me, emitter, emitter.write)
        return
    write = Write("TRANSACT", emitter.ids, form="APPEND", request=free_request(state))
    for reserved, token in with_or_without_claim(world, state, me):
        yield from _commit(world, reserved, me, emitter, write._replace(token=token))


def _commit(world: World, state: State, me: int, emitter: Emitter, write: Write) -> Iterator[Step[State]]:
    yield from call(world, state, write, partial(_committed, world=world, me=me, emitter=emitter, write=write))


def _committed(state: State, answer: Answer, *, world: World, me: int, emitter: Emitter, write: Write) -> State:
    if answer is Answer.NONE:
        return with_emitter(state, me, emitter._replace(write=write, is_sure=False))
    if answer is Answer.REFUSED:
        return _refused(world, let_go(world, state, me), me, emitter)
    if world.has_worker(me) and state.workers[me].step == Work.RESERVED:
        return with_emitter(state, me, emitter._replace(step=Emit.LOOK, write=None))
    return acknowledge(world, state, me)


def _refused(world: World, state: State, me: int, emitter: Emitter) -> State:
    duplicates = tuple(event for event in emitter.ids if state.events[event] is not None)
    if not duplicates:
        write = plan(world, state, emitter.ids, name="TRANSACT")._replace(request=free_request(state))
        return with_emitter(state, me, emitter._replace(write=write, is_sure=False))
    unlisted = tuple(event for event in duplicates if state.events[event] == QUEUED)
    following = Emitter(emitter.at, Emit.APPEND, ids=unlisted, told=duplicates, is_sure=False)
    state = with_emitter(state, me, following)
    if unlisted and world.rules.refused_transactions_list:
        return state
    return acknowledge(world, state, me)
