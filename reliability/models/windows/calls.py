"""A call: its write is carried out and answered. Or it is not answered, whatever became of the write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum, auto

from reliability.models.exploring import Step
from reliability.models.windows.state import State, Write
from reliability.models.windows.world import World
from reliability.models.windows.writes import apply


class Answer(Enum):
    """The answer to a write, as its caller gets it."""

    APPLIED = auto()
    REFUSED = auto()
    NONE = auto()


Continue = Callable[[State, Answer], State]
"""Returns the state after the caller has got the answer."""


def call(world: World, state: State, write: Write, then: Continue) -> Iterator[Step[State]]:
    """List the ways in which a call may end, with what follows each."""
    applied = apply(world.rules, state, write)
    if applied is None:
        yield Step((write, "is refused"), then(state, Answer.REFUSED))
    else:
        yield Step((write, "is applied"), then(applied, Answer.APPLIED))
    budget = state.budget
    if not budget.unanswered:
        return
    budget = budget._replace(unanswered=budget.unanswered - 1)
    unanswered = state._replace(budget=budget)
    if applied is not None:
        yield Step(
            (write, "is applied without an answer"), then(applied._replace(budget=budget), Answer.NONE), is_fault=True
        )
    yield Step((write, "is not applied, without an answer"), then(unanswered, Answer.NONE), is_fault=True)
    late = unanswered._replace(late=tuple(sorted((*state.late, write))))
    yield Step((write, "is to be applied late, without an answer"), then(late, Answer.NONE), is_fault=True)


def enter(world: World, state: State, event: int, window: int, then: Continue) -> Iterator[Step[State]]:
    """Move an event of a window into the index: as PENDING, or as FAILED if no retry is left."""
    yield from call(world, state, Write("ENTER", event, window=window), then)
    if state.budget.outcomes:
        spent = state._replace(budget=state.budget._replace(outcomes=state.budget.outcomes - 1))
        yield from call(world, spent, Write("ENTER FAILED", event, window=window), then)


def late_writes(world: World, state: State) -> Iterator[Step[State]]:
    """Apply a write that was not answered."""
    for number, write in enumerate(state.late):
        left = state._replace(late=state.late[:number] + state.late[number + 1 :])
        applied = apply(world.rules, left, write)
        yield Step(("late:", write, "is refused" if applied is None else "is applied"), applied or left)
