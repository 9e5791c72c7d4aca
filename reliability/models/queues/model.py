"""The model as the explorer wants it: its steps, its goal, and its properties.

- ORDER: an event starts only when every event that was listed before it is terminal, and no event that was listed after
  it has ever started. That goes for repeats, too.
- ONE: two handlers of the key never run at once, unless the lease of one of them had run out.
- LOSS: an event whose emit was acknowledged is listed, or terminal.
- POP: an event leaves the queue only when it is terminal, or deleted.
- FINAL: a COMPLETED event never changes again.
- ASIDE: no worker sets an event aside while another one has the queue, and handles it.
- TWICE: the other writes of a transaction are applied once for each event that it emits.
- BLOCK: no COMPLETED event blocks the key once nothing is under way, if no process crashed and every call was answered.
- SHAPE: no list is empty or too long, and the pages are as the queue item counts them.
- LIVE: from every state, if no further fault happens, every acknowledged event can become terminal, and the queue ends.
"""

from __future__ import annotations

from collections.abc import Iterator

from reliability.models.exploring import Step
from reliability.models.queues.calls import late_writes
from reliability.models.queues.emitting import steps_of_emitters
from reliability.models.queues.failing import crashes, deletions, leases_that_run_out, steps_of_operators
from reliability.models.queues.state import (
    COMPLETED,
    FAILED,
    IDLE,
    IDLE_OPERATOR,
    NOT_STORED,
    PROCESSING,
    QUEUED,
    TERMINAL,
    Emit,
    State,
    Work,
    listed,
)
from reliability.models.queues.tokens import forget
from reliability.models.queues.working import steps_of_workers
from reliability.models.queues.world import World


class QueueModel:
    """The queue of one key."""

    def __init__(self, world: World) -> None:
        self._world = world

    def start(self) -> State:
        """Return the state in which nothing has happened."""
        return self._world.start()

    def steps(self, state: State) -> Iterator[Step[State]]:
        """List every step that may come next."""
        for label, following, is_fault in self._steps(state):
            yield Step(label, forget(following), is_fault)

    def _steps(self, state: State) -> Iterator[Step[State]]:
        world = self._world
        yield from late_writes(world, state)
        yield from steps_of_emitters(world, state)
        yield from steps_of_workers(world, state)
        yield from leases_that_run_out(world, state)
        yield from crashes(world, state)
        yield from steps_of_operators(world, state)
        yield from deletions(world, state)

    def is_goal(self, state: State) -> bool:
        """Tell whether every acknowledged event is terminal, the queue is empty, and nothing is under way."""
        return (
            state.queue is None
            and not state.late
            and all(state.events[event] in TERMINAL for event in state.acknowledged)
            and all(emitter.step == Emit.DONE for emitter in state.emitters)
            and all(worker == IDLE for worker in state.workers)
            and state.operator == IDLE_OPERATOR
        )

    def broken_by(self, before: State, after: State) -> str | None:
        """Check ORDER, POP, FINAL and ASIDE."""
        broken = None
        if before.workers is not after.workers:
            broken = _breaks_order(before, after)
        if before.queue is not after.queue and before.queue is not None:
            gone = (*TERMINAL, None) if self._world.budget.deletions else TERMINAL
            broken = broken or _breaks_pop(before, after, gone)
        if before.events is not after.events:
            broken = broken or _breaks_final(before, after) or _breaks_aside(before, after)
        return broken

    def broken_in(self, state: State) -> str | None:
        """Check ONE, LOSS, TWICE, BLOCK and SHAPE."""
        running = [worker for worker in state.workers if worker.step == Work.RUN and worker.token not in state.expired]
        if len(running) > 1:
            return f"ONE: events {running[0].event} and {running[1].event} run at once"
        lost = [event for event in state.acknowledged if state.events[event] not in TERMINAL]
        if lost:
            queue = listed(state)
            for event in lost:
                if event not in queue:
                    return f"LOSS: event {event} is acknowledged, and is {state.events[event]} in no queue"
        if max(state.written) > 1:
            return f"TWICE: the writes of a transaction are applied {max(state.written)} times"
        return self._blocked(state) or self._misshapen(state)

    def _blocked(self, state: State) -> str | None:
        queue, before = state.queue, self._world.budget
        if queue is None or queue.status != FAILED or state.events[queue.front] != COMPLETED:
            return None
        is_faulty = state.late or (state.budget.crashes, state.budget.unanswered) != (before.crashes, before.unanswered)
        is_busy = state.operator != IDLE_OPERATOR or any(worker != IDLE for worker in state.workers)
        return None if is_faulty or is_busy else f"BLOCK: event {queue.front} is COMPLETED, and blocks the key"

    def _misshapen(self, state: State) -> str | None:
        queue = state.queue
        if queue is None:
            return "SHAPE: a page is left" if state.pages else None
        lists = [queue.ids, *(page.ids for page in state.pages), *([] if queue.head is None else [queue.head])]
        if not all(0 < len(ids) <= self._world.room for ids in lists):
            return "SHAPE: a list is empty, or too long"
        pages = [(queue.epoch, number) for number in range(queue.first, queue.last + 1)]
        if pages != [(page.epoch, page.number) for page in state.pages]:
            return "SHAPE: the queue item counts other pages"
        return "SHAPE: there are pages without a head" if pages and queue.head is None else None


def _breaks_order(before: State, after: State) -> str | None:
    for worker in after.workers:
        if worker.step == Work.RUN and not _is_running(before, worker.token, worker.event):
            return _starts_out_of_order(after, worker.event)
    return None


def _is_running(state: State, token: int, event: int) -> bool:
    return any((worker.step, worker.token, worker.event) == (Work.RUN, token, event) for worker in state.workers)


def _starts_out_of_order(state: State, event: int) -> str | None:
    if event not in state.order:
        return f"ORDER: event {event} starts, and was never listed"
    at = state.order.index(event)
    for other in state.order[:at]:
        if state.events[other] not in TERMINAL:
            return f"ORDER: event {event} starts before event {other} is over"
    for other in state.order[at + 1 :]:
        if other in state.started:
            return f"ORDER: event {event} starts after event {other}, which was listed after it"
    return None


def _breaks_pop(before: State, after: State, gone: tuple[str | None, ...]) -> str | None:
    was, now = listed(before), listed(after)
    for event in was:
        if now.count(event) < was.count(event) and after.events[event] not in gone:
            return f"POP: event {event} leaves the queue, and is {after.events[event] or NOT_STORED}"
    return None


def _breaks_final(before: State, after: State) -> str | None:
    for event, (was, now) in enumerate(zip(before.events, after.events, strict=True)):
        if was == COMPLETED != now:
            return f"FINAL: event {event} was COMPLETED, and becomes {now}"
    return None


def _breaks_aside(before: State, after: State) -> str | None:
    queue = after.queue
    # The skip of an operator is two writes here, and one transaction in the library.
    is_skip = before.operator != IDLE_OPERATOR or any(write.by_operator for write in before.late)
    if queue is None or queue.status != PROCESSING or is_skip:
        return None
    for worker in after.workers:
        event = worker.event
        is_handled = worker.step == Work.RUN and worker.token == queue.token
        if is_handled and (before.events[event], after.events[event]) == (QUEUED, FAILED):
            return f"ASIDE: event {event} is set aside while another worker has the queue"
    return None
