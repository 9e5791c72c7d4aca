"""Failures: leases run out, processes crash, operators repair failed events, and another program deletes events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from reliability.models.calling import Answer
from reliability.models.exploring import Step
from reliability.models.queues.calls import call
from reliability.models.queues.listing import plan
from reliability.models.queues.popping import REFILL, form_of_pop, page_of
from reliability.models.queues.state import (
    FAILED,
    IDLE,
    IDLE_OPERATOR,
    NOBODY,
    PROCESSING,
    QUEUED,
    Emit,
    Emitter,
    Operator,
    Queue,
    State,
    Work,
    Worker,
    Write,
    with_emitter,
    with_event,
)
from reliability.models.queues.working import MISSING, STORED, with_worker
from reliability.models.queues.world import World

MARK: Final = "mark"
POP: Final = "pop"

# Leases


def leases_that_run_out(world: World, state: State) -> Iterator[Step[State]]:
    """Recover the queue after the end of its lease. It ends if nobody has the claim, or though its holder lives."""
    queue = state.queue
    if queue is None or queue.status != PROCESSING:
        return
    token = queue.token
    if _is_held(state, token) and token not in state.expired:
        if state.budget.slow:
            budget = state.budget._replace(slow=state.budget.slow - 1)
            expired = state._replace(budget=budget, expired=state.expired | {token})
            yield Step(("lease", token, "runs out, though its holder lives"), expired, is_fault=True)
        return
    if world.rules.ended_leases_are_recovered:
        write = Write("RECOVER", token=token, lease=queue.lease)
        yield from call(world, state, write, lambda state, _: state)


def _is_held(state: State, token: int) -> bool:
    return any(token in (worker.token, worker.following) for worker in state.workers if worker != IDLE)


# Crashes


def crashes(world: World, state: State) -> Iterator[Step[State]]:
    """Kill a process: an emitter with its worker, or one of them alone."""
    if not state.budget.crashes:
        return
    state = state._replace(budget=state.budget._replace(crashes=state.budget.crashes - 1))
    for me, emitter in enumerate(state.emitters):
        begun = _has_begun(world, me, emitter)
        if not begun and (not world.has_worker(me) or state.workers[me] == IDLE):
            continue
        crashed = with_worker(world, state, me, IDLE) if world.has_worker(me) else state
        yield from _restarts(world, crashed, me, begun=begun)
    fixed = world.in_processes_of_emitters
    for me, worker in enumerate(state.workers[fixed:], start=fixed):
        if worker != IDLE:
            yield Step(("worker", me, "crashes"), with_worker(world, state, me, IDLE), is_fault=True)


def _has_begun(world: World, me: int, emitter: Emitter) -> bool:
    return emitter.step != Emit.DONE and emitter != world.emission(me, emitter.at)


def _restarts(world: World, state: State, me: int, *, begun: bool) -> Iterator[Step[State]]:
    """List how an emitter goes on after a crash: it emits again what was not acknowledged, or something else."""
    if not begun:
        yield Step(("process", me, "crashes"), state, is_fault=True)
        return
    at = state.emitters[me].at
    following = with_emitter(state, me, world.emission(me, at + 1))
    yield Step(("process", me, "crashes, and its emission with it"), following, is_fault=True)
    if world.emitters_repeat:
        again = with_emitter(state, me, world.emission(me, at))
        yield Step(("process", me, "crashes, and emits again"), again, is_fault=True)


# Operators


def steps_of_operators(world: World, state: State) -> Iterator[Step[State]]:
    """List what operators may do next."""
    queue, operator = state.queue, state.operator
    if queue is not None and queue.status == FAILED:
        yield from call(world, state, Write("REDRIVE"), lambda state, _: state)
        if state.budget.skips and operator == IDLE_OPERATOR:
            budget = state.budget._replace(skips=state.budget.skips - 1)
            skipping = state._replace(budget=budget, operator=Operator(MARK, queue.front, queue.token))
            yield Step(("an operator is to skip event", queue.front), skipping)
    if operator != IDLE_OPERATOR:
        yield Step(("the operator dies",), state._replace(operator=IDLE_OPERATOR), is_fault=True)
        yield from _skip(world, state, operator)
    if state.budget.requeues:
        for event, status in enumerate(state.events):
            if status == FAILED:
                yield from _requeue(world, state, event)


def _skip(world: World, state: State, operator: Operator) -> Iterator[Step[State]]:
    if operator.step == MARK:

        def marked(state: State, answer: Answer) -> State:
            return state if answer is Answer.NONE else state._replace(operator=operator._replace(step=POP))

        yield from call(world, state, Write("MARK FAILED", (operator.event,), by_operator=True), marked)
        return
    write = _pop_of_operator(world, state, state.queue, operator)
    if write is None:
        left = state._replace(operator=IDLE_OPERATOR)
        yield Step(("the operator finds nothing to pop",), left)
        return

    def popped(state: State, answer: Answer) -> State:
        return state if answer is Answer.NONE else state._replace(operator=IDLE_OPERATOR)

    yield from call(world, state, write, popped)


def _pop_of_operator(world: World, state: State, queue: Queue | None, operator: Operator) -> Write | None:
    if queue is None or queue.status != FAILED or queue.front != operator.event:
        return None
    if queue.token != operator.token and world.rules.skip_needs_the_token:
        return None
    form = form_of_pop(queue)
    token = operator.token if world.rules.skip_needs_the_token else NOBODY
    write = Write(form, (operator.event,), token, by_operator=True)
    page = page_of(state, queue.epoch, queue.first) if form == REFILL else None
    return write if page is None else write._replace(seen=page.ids, epoch=page.epoch, page=page.number)


def _requeue(world: World, state: State, event: int) -> Iterator[Step[State]]:
    queue = state.queue
    if queue is not None and event in (*queue.ids, *(queue.head or ())) and world.rules.requeue_needs_an_unlisted_event:
        return
    spent = state._replace(budget=state.budget._replace(requeues=state.budget.requeues - 1))
    if not world.rules.requeue_is_one_transaction:
        dead = with_event(spent, event, QUEUED)
        yield Step(("an operator makes event", event, "QUEUED, and dies"), dead, is_fault=True)
        return
    write = plan(world, state, (event,), name="REQUEUE")
    yield from call(world, spent, write, lambda state, _: state)


# Other programs


def deletions(world: World, state: State) -> Iterator[Step[State]]:
    """Delete an event that waits, and whose emits have ended.

    Not while it is handled: between MARK and POP, an event that is deleted and emitted again is not listed again.
    """
    if not state.budget.deletions:
        return
    budget = state.budget._replace(deletions=state.budget.deletions - 1)
    for event, status in enumerate(state.events):
        is_emitted = any(
            event in emitter.told and _has_begun(world, me, emitter) for me, emitter in enumerate(state.emitters)
        )
        if status == QUEUED and not is_emitted and not any(_handles(worker, event) for worker in state.workers):
            deleted = with_event(state, event, None)._replace(budget=budget, acknowledged=state.acknowledged - {event})
            yield Step(("another program deletes event", event), deleted, is_fault=True)


def _handles(worker: Worker, event: int) -> bool:
    is_at_the_front = worker.step not in (Work.IDLE, Work.RESERVED, Work.CLAIM, Work.LOAD)
    return is_at_the_front and worker.event == event and worker.outcome not in (MISSING, STORED)
