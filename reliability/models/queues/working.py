"""How a worker claims the queue, handles the event at the front, and pops it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from reliability.models.calling import Answer
from reliability.models.exploring import Step
from reliability.models.queues.calls import call
from reliability.models.queues.popping import LAST, REFILL, form_of_pop, page_of, second_of
from reliability.models.queues.state import (
    FAILED,
    IDLE,
    NO_EVENT,
    NOBODY,
    NOT_STORED,
    PENDING,
    PROCESSING,
    QUEUED,
    TERMINAL,
    Queue,
    State,
    Work,
    Worker,
    Write,
)
from reliability.models.queues.tokens import free_token
from reliability.models.queues.world import World

MARKED: Final = "MARKED"
"""The outcome of a worker that has marked its event as COMPLETED."""
MISSING: Final = "MISSING"
"""The outcome of a worker that has read that its event is not stored."""
STORED: Final = "STORED"
"""The outcome of such a worker whose POP was refused, because the event is stored by now."""


def with_worker(world: World, state: State, me: int, worker: Worker) -> State:
    """Return the state with a worker that has moved on. Which is which does not count if each has its own process."""
    workers = (*state.workers[:me], worker, *state.workers[me + 1 :])
    fixed = world.in_processes_of_emitters
    if fixed < len(workers) - 1:
        workers = (*workers[:fixed], *sorted(workers[fixed:]))
    return state._replace(workers=workers)


def claimed(world: World, state: State, me: int, token: int, *, step: str = Work.LOAD) -> State:
    """Hand the queue, which was just claimed, to a worker."""
    queue = state.queue
    if queue is None:
        raise AssertionError(state)
    state = state._replace(expired=state.expired - {token})
    return with_worker(world, state, me, _at_the_front(world, Worker(step, token), queue))


def _at_the_front(world: World, worker: Worker, queue: Queue) -> Worker:
    form = form_of_pop(queue)
    epoch, page = (queue.epoch, queue.first) if form == REFILL else (0, 0)
    following = second_of(queue) if world.loads_ahead else NO_EVENT
    return worker._replace(event=queue.front, form=form, epoch=epoch, page=page, next_event=following)


def steps_of_workers(world: World, state: State) -> Iterator[Step[State]]:
    """List what the workers may do next."""
    for me, worker in enumerate(state.workers):
        is_repeated = me > world.in_processes_of_emitters and worker == state.workers[me - 1]
        if not is_repeated and worker.step != Work.RESERVED:
            yield from _STEPS[worker.step](world, state, me, worker)


def _claim(world: World, state: State, me: int, worker: Worker) -> Iterator[Step[State]]:
    is_new = worker.step == Work.IDLE
    queue = state.queue
    accepted = (PENDING,) if world.rules.claim_needs_pending else (PENDING, PROCESSING)
    if is_new and (queue is None or queue.status not in accepted):
        return
    token = free_token(state) if is_new else worker.token

    def then(state: State, answer: Answer) -> State:
        if answer is Answer.NONE:
            return with_worker(world, state, me, Worker(Work.CLAIM, token))
        if answer is Answer.REFUSED:
            return with_worker(world, state, me, IDLE)
        return claimed(world, state, me, token)

    yield from call(world, state, Write("CLAIM", token=token), then)
    if not is_new:
        yield Step(("worker", me, "gives its claim up"), with_worker(world, state, me, IDLE))


# The handler


def _load(world: World, state: State, me: int, worker: Worker) -> Iterator[Step[State]]:
    status = state.events[worker.event]
    if status == QUEUED or not world.rules.fronts_are_loaded:
        loaded = with_worker(world, state, me, worker._replace(step=Work.START))
        yield Step(("worker", me, "loads event", worker.event), loaded)
    else:
        outcome = MISSING if status is None else ""
        popping = with_worker(world, state, me, worker._replace(step=Work.POP, outcome=outcome))
        yield Step(("worker", me, "finds that event", worker.event, "is", status or NOT_STORED), popping)


def _start(world: World, state: State, me: int, worker: Worker) -> Iterator[Step[State]]:
    if worker.token in state.expired and world.rules.starts_need_the_lease:
        yield Step(("worker", me, "sees that its lease ran out"), with_worker(world, state, me, IDLE))
        return
    running = with_worker(world, state, me, worker._replace(step=Work.RUN))
    running = running._replace(started=state.started | {worker.event})
    yield Step(("worker", me, "starts event", worker.event), running)


def _run(world: World, state: State, me: int, worker: Worker) -> Iterator[Step[State]]:
    is_first = world.rules.mark_comes_before_pop
    succeeded = worker._replace(step=Work.MARK if is_first else Work.POP, outcome="MARK COMPLETED")
    yield Step(("event", worker.event, "succeeds"), with_worker(world, state, me, succeeded))
    budget = state.budget
    if budget.retries:
        spent = state._replace(budget=budget._replace(retries=budget.retries - 1))
        for outcome in ("RETRY", "RELEASE"):
            settling = worker._replace(step=Work.SETTLE, outcome=outcome)
            yield Step(("event", worker.event, "is to", outcome), with_worker(world, spent, me, settling))
    if budget.failures:
        spent = state._replace(budget=budget._replace(failures=budget.failures - 1))
        step, outcome = (Work.SETTLE, "FAIL") if world.failed_key == "block" else (Work.MARK, "MARK FAILED")
        failed = worker._replace(step=step, outcome=outcome)
        yield Step(("event", worker.event, "fails for good"), with_worker(world, spent, me, failed))
    if budget.renewals:
        spent = state._replace(budget=budget._replace(renewals=budget.renewals - 1))
        then = partial(_renewed, world=world, me=me, worker=worker)
        yield from call(world, spent, Write("RENEW", token=worker.token), then)
    if world.loads_ahead and not worker.ahead:
        yield from _load_ahead(world, state, me, worker)


def _renewed(state: State, answer: Answer, *, world: World, me: int, worker: Worker) -> State:
    if answer is Answer.REFUSED:
        # The lease is lost, and the handlers are cancelled.
        return with_worker(world, state, me, IDLE)
    # The lease goes on: it only seemed to have run out.
    return state if answer is Answer.NONE else state._replace(expired=state.expired - {worker.token})


def _load_ahead(world: World, state: State, me: int, worker: Worker) -> Iterator[Step[State]]:
    """Load the next event while the handler runs."""
    following = worker.next_event
    if following != NO_EVENT:
        ahead = worker._replace(ahead=state.events[following] or NOT_STORED)
        yield Step(("worker", me, "loads event", following, "ahead"), with_worker(world, state, me, ahead))


# The outcome


def _settle(world: World, state: State, me: int, worker: Worker) -> Iterator[Step[State]]:
    looking = worker.outcome == "FAIL" and world.rules.failures_are_looked_at
    settled = Worker(Work.LOOK, event=worker.event) if looking else IDLE

    def then(state: State, answer: Answer) -> State:
        if answer is Answer.NONE:
            return state
        return with_worker(world, state, me, settled if answer is Answer.APPLIED else IDLE)

    yield from call(world, state, Write(worker.outcome, token=worker.token), then)
    if state.budget.unanswered < world.budget.unanswered:
        yield Step(("worker", me, "gives its outcome up"), with_worker(world, state, me, IDLE))


def _mark(world: World, state: State, me: int, worker: Worker) -> Iterator[Step[State]]:
    marked = MARKED if worker.outcome == "MARK COMPLETED" and world.rules.late_marks_are_looked_at else ""
    popping = worker._replace(step=Work.POP, outcome=marked) if world.rules.mark_comes_before_pop else IDLE

    def then(state: State, answer: Answer) -> State:
        # Refused: the event is over already.
        return state if answer is Answer.NONE else with_worker(world, state, me, popping)

    # Only the worker that has the queue may fail an event. Any worker may complete it, because its handlers succeeded.
    token = worker.token if worker.outcome == "MARK FAILED" else NOBODY
    yield from call(world, state, Write(worker.outcome, (worker.event,), token), then)


def _pop(world: World, state: State, me: int, worker: Worker) -> Iterator[Step[State]]:
    page = page_of(state, worker.epoch, worker.page) if worker.form == REFILL else None
    if worker.form == REFILL and page is None:
        reading = with_worker(world, state, me, worker._replace(step=Work.READ))
        yield Step(("worker", me, "finds no page", worker.page), reading)
        return
    write = Write(
        worker.form,
        (worker.event,),
        worker.token,
        seen=page.ids if page is not None else (),
        epoch=worker.epoch,
        page=worker.page,
        of_missing=worker.outcome in (MISSING, STORED),
    )
    for following in (NOBODY,) if worker.form == LAST else (free_token(state), NOBODY):
        then = partial(_popped, world=world, me=me, worker=worker, following=following)
        yield from call(world, state, write._replace(following=following), then)


def _popped(state: State, answer: Answer, *, world: World, me: int, worker: Worker, following: int) -> State:
    if answer is not Answer.APPLIED:
        sent = following if answer is Answer.NONE else NOBODY
        is_stored = answer is Answer.REFUSED and worker.outcome == MISSING and state.events[worker.event] is not None
        outcome = STORED if is_stored else worker.outcome
        return with_worker(world, state, me, worker._replace(step=Work.READ, outcome=outcome, following=sent))
    if not world.rules.mark_comes_before_pop and worker.outcome:
        return with_worker(world, state, me, worker._replace(step=Work.MARK))
    if following == NOBODY:
        return with_worker(world, state, me, IDLE)
    is_loaded = worker.ahead and state.queue is not None and state.queue.front == worker.next_event
    if not is_loaded:
        return claimed(world, state, me, following)
    return claimed(world, state, me, following, step=Work.START if worker.ahead == QUEUED else Work.POP)


def _read(world: World, state: State, me: int, worker: Worker) -> Iterator[Step[State]]:
    """Find out whether a POP was applied, with a consistent read."""
    queue = state.queue
    is_ours = queue is not None and (queue.token == worker.token or not world.rules.pop_needs_the_token)
    if queue is not None and queue.status == PROCESSING and queue.token == worker.following != NOBODY:
        yield Step(("worker", me, "reads that its POP was applied"), claimed(world, state, me, queue.token))
    elif queue is not None and is_ours and queue.status != FAILED and queue.front == worker.event:
        is_stored = worker.outcome == STORED and world.rules.stored_fronts_are_loaded_again
        step, outcome = (Work.LOAD, "") if is_stored else (Work.POP, worker.outcome)
        again = _at_the_front(world, worker._replace(step=step, outcome=outcome, following=NOBODY), queue)
        yield Step(("worker", me, "reads that the queue is still its own"), with_worker(world, state, me, again))
    else:
        left = Worker(Work.LOOK, event=worker.event) if worker.outcome == MARKED else IDLE
        yield Step(("worker", me, "reads that it has lost the queue"), with_worker(world, state, me, left))


# Events that are over, and block the key


def _look(world: World, state: State, me: int, worker: Worker) -> Iterator[Step[State]]:
    is_over = state.events[worker.event] in TERMINAL
    following = Worker(Work.LOOK_AT_QUEUE, event=worker.event) if is_over else IDLE
    yield Step(("worker", me, "looks at event", worker.event), with_worker(world, state, me, following))


def _look_at_queue(world: World, state: State, me: int, worker: Worker) -> Iterator[Step[State]]:
    queue = state.queue
    if queue is None or queue.status != FAILED or queue.front != worker.event:
        yield Step(("worker", me, "sees nothing to unblock"), with_worker(world, state, me, IDLE))
        return
    unblocking = _at_the_front(world, Worker(Work.UNBLOCK, following=queue.token), queue)
    yield Step(("worker", me, "is to unblock the key"), with_worker(world, state, me, unblocking))


def _unblock(world: World, state: State, me: int, worker: Worker) -> Iterator[Step[State]]:
    again = Worker(Work.LOOK, event=worker.event)
    page = page_of(state, worker.epoch, worker.page) if worker.form == REFILL else None
    if worker.form == REFILL and page is None:
        yield Step(("worker", me, "finds no page", worker.page), with_worker(world, state, me, again))
        return
    write = Write(worker.form, (worker.event,), worker.following, by_operator=True)
    if page is not None:
        write = write._replace(seen=page.ids, epoch=page.epoch, page=page.number)

    def then(state: State, answer: Answer) -> State:
        return with_worker(world, state, me, IDLE if answer is Answer.APPLIED else again)

    yield from call(world, state, write, then)


_STEPS: Final[dict[str, Callable[[World, State, int, Worker], Iterator[Step[State]]]]] = {
    Work.IDLE: _claim,
    Work.CLAIM: _claim,
    Work.LOAD: _load,
    Work.START: _start,
    Work.RUN: _run,
    Work.SETTLE: _settle,
    Work.MARK: _mark,
    Work.POP: _pop,
    Work.READ: _read,
    Work.LOOK: _look,
    Work.LOOK_AT_QUEUE: _look_at_queue,
    Work.UNBLOCK: _unblock,
}
