"""How an emitter stores its events, and lists them in the queue."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from reliability.models.calling import Answer
from reliability.models.exploring import Step
from reliability.models.queues.answering import acknowledge, hand_over, let_go, with_or_without_claim
from reliability.models.queues.calls import call, postpone
from reliability.models.queues.listing import plan
from reliability.models.queues.state import (
    NOBODY,
    TERMINAL,
    Emit,
    Emitter,
    Ids,
    State,
    Write,
    with_emitter,
)
from reliability.models.queues.tokens import free_request, free_token
from reliability.models.queues.transacting import steps_of_transaction
from reliability.models.queues.world import World


def steps_of_emitters(world: World, state: State) -> Iterator[Step[State]]:
    """List what the emitters may do next."""
    for me, emitter in enumerate(state.emitters):
        match emitter.step:
            case Emit.DONE:
                continue
            case Emit.PUT:
                yield from _put(world, state, me, emitter)
            case Emit.APPEND:
                yield from _append(world, state, me, emitter)
            case Emit.OVERFLOW:
                yield from _overflow(world, state, me, emitter)
            case _:
                yield from steps_of_transaction(world, state, me, emitter)
        if state.budget.cancels:
            yield from _give_up(world, state, me, emitter)


# Store


def _put(world: World, state: State, me: int, emitter: Emitter) -> Iterator[Step[State]]:
    event, *others = emitter.puts
    then = partial(_stored, world=world, me=me, emitter=emitter._replace(puts=tuple(others)), event=event)
    yield from call(world, state, Write("PUT", (event,)), then)


def _stored(state: State, answer: Answer, *, world: World, me: int, emitter: Emitter, event: int) -> State:
    rules = world.rules
    is_sure = emitter.is_sure and (answer is Answer.APPLIED or not rules.memory_needs_the_put)
    if answer is Answer.NONE:
        return with_emitter(state, me, emitter._replace(puts=(event, *emitter.puts), is_sure=is_sure))
    is_over = state.events[event] in TERMINAL
    if answer is Answer.REFUSED and emitter.is_sure and not rules.refused_puts_are_listed:
        is_over = True
    ids = emitter.ids if is_over else (*emitter.ids, event)
    following = emitter._replace(ids=ids, is_sure=is_sure)
    if following.puts:
        return with_emitter(state, me, following)
    state = with_emitter(state, me, following._replace(step=Emit.APPEND))
    if not ids or not rules.put_comes_before_append:
        return acknowledge(world, state, me)
    if not rules.acknowledgement_follows_append:
        return state._replace(acknowledged=state.acknowledged.union(emitter.told))
    return state


# List


def _append(world: World, state: State, me: int, emitter: Emitter) -> Iterator[Step[State]]:
    if emitter.write is not None:
        # An APPEND without an answer is repeated as it was.
        sent = [(state, emitter.write)]
    else:
        write = Write("APPEND", emitter.ids[: world.room])
        claims = with_or_without_claim(world, state, me)
        sent = [(reserved, write._replace(token=token)) for reserved, token in claims]
    for reserved, write in sent:
        then = partial(_appended, world=world, me=me, emitter=emitter, write=write)
        yield from call(world, reserved, write, then)


def _appended(state: State, answer: Answer, *, world: World, me: int, emitter: Emitter, write: Write) -> State:
    forgets = not world.rules.memory_needs_the_first_append
    if answer is Answer.NONE:
        is_sure = emitter.is_sure and forgets
        return with_emitter(state, me, emitter._replace(write=write, is_sure=is_sure))
    is_new = world.shared.isdisjoint(write.ids) or not world.rules.memory_needs_a_new_id
    from_memory = emitter.is_sure and is_new and (answer is Answer.APPLIED or forgets)
    state = hand_over(world, state, me, from_memory=from_memory)
    queue = state.queue
    if queue is None:
        raise AssertionError(state)
    shown = write.ids if answer is Answer.APPLIED else (*queue.ids, *(queue.head or ()))
    left = tuple(event for event in emitter.ids if event not in shown)
    if left == emitter.ids:
        planned = plan(world, state, left[: world.room])
        full = emitter._replace(step=Emit.OVERFLOW, write=planned, is_sure=False)
        return with_emitter(state, me, full)
    return _go_on(world, state, me, emitter, left)


def _overflow(world: World, state: State, me: int, emitter: Emitter) -> Iterator[Step[State]]:
    write = emitter.write
    if write is None:
        raise AssertionError(emitter)

    def then(state: State, answer: Answer) -> State:
        done = write.ids if answer is Answer.APPLIED else ()
        return _go_on(world, state, me, emitter, tuple(event for event in emitter.ids if event not in done))

    yield from call(world, state, write, then)


def _go_on(world: World, state: State, me: int, emitter: Emitter, left: Ids) -> State:
    if left:
        again = emitter._replace(step=Emit.APPEND, ids=left, write=None, is_sure=False)
        return with_emitter(state, me, again)
    if not world.rules.put_comes_before_append:
        return with_emitter(state, me, Emitter(emitter.at, Emit.PUT, puts=emitter.told, told=emitter.told))
    return acknowledge(world, state, me)


# Give up


def _give_up(world: World, state: State, me: int, emitter: Emitter) -> Iterator[Step[State]]:
    """Cancel an emit. Its process, or the network, still carries its write out at some later time."""
    budget = state.budget._replace(cancels=state.budget.cancels - 1)
    for write in _writes_under_way(world, state, me, emitter):
        for at in (emitter.at, emitter.at + 1) if world.emitters_repeat else (emitter.at + 1,):
            following = with_emitter(let_go(world, state, me), me, world.emission(me, at))
            given_up = postpone(following, write)._replace(budget=budget)
            again = ", and emits again" if at == emitter.at else ""
            yield Step(("the caller of emitter", me, "gives up, late:", write, again), given_up, is_fault=True)


def _writes_under_way(world: World, state: State, me: int, emitter: Emitter) -> list[Write]:
    if emitter.step == Emit.LOOK:
        return []
    if emitter.write is not None:
        return [emitter.write]
    if emitter.step == Emit.PUT:
        return [Write("PUT", emitter.puts[:1])]
    write = Write("APPEND", emitter.ids[: world.room])
    if emitter.step == Emit.TRANSACT:
        write = Write("TRANSACT", emitter.ids, form="APPEND", request=free_request(state))
    tokens = (NOBODY, free_token(state)) if world.has_worker(me) else (NOBODY,)
    return [write._replace(token=token) for token in tokens]
