"""The calls of the model: a write, and its answer if it gets an answer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from reliability.models.calling import Continue, ends_of_call, ends_of_late_write
from reliability.models.exploring import Step
from reliability.models.queues.state import State, Write
from reliability.models.queues.world import World
from reliability.models.queues.writes import apply


def call(world: World, state: State, write: Write, then: Continue[State]) -> Iterator[Step[State]]:
    """List the ways in which a call may end, with what follows each."""
    yield from ends_of_call(state, write, apply=partial(apply, world), spend=_spend, postpone=postpone, then=then)


def late_writes(world: World, state: State) -> Iterator[Step[State]]:
    """Apply a write that was not answered."""
    for number, write in enumerate(state.late):
        if number and write == state.late[number - 1]:
            continue
        left = state._replace(late=state.late[:number] + state.late[number + 1 :])
        yield ends_of_late_write(left, write, partial(apply, world))


def postpone(state: State, write: Write) -> State:
    """Note that a write will be applied at some later time."""
    return state._replace(late=tuple(sorted((*state.late, write))))


def _spend(state: State) -> State | None:
    budget = state.budget
    if not budget.unanswered:
        return None
    return state._replace(budget=budget._replace(unanswered=budget.unanswered - 1))
