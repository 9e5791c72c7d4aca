"""The calls of the model: a write, and its answer if it gets an answer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from reliability.models.calling import Continue, ends_of_call, ends_of_late_write
from reliability.models.exploring import Step
from reliability.models.windows.state import State, Write
from reliability.models.windows.world import World
from reliability.models.windows.writes import apply


def call(world: World, state: State, write: Write, then: Continue[State]) -> Iterator[Step[State]]:
    """List the ways in which a call may end, with what follows each."""
    apply_here = partial(apply, world.rules)
    yield from ends_of_call(state, write, apply=apply_here, spend=_spend, postpone=_postpone, then=then)


def enter(world: World, state: State, event: int, window: int, then: Continue[State]) -> Iterator[Step[State]]:
    """Move an event of a window into the index: as PENDING, or as FAILED if no retry is left."""
    yield from call(world, state, Write("ENTER", event, window=window), then)
    if state.budget.outcomes:
        spent = state._replace(budget=state.budget._replace(outcomes=state.budget.outcomes - 1))
        yield from call(world, spent, Write("ENTER FAILED", event, window=window), then)


def late_writes(world: World, state: State) -> Iterator[Step[State]]:
    """Apply a write that was not answered."""
    for number, write in enumerate(state.late):
        left = state._replace(late=state.late[:number] + state.late[number + 1 :])
        yield ends_of_late_write(left, write, partial(apply, world.rules))


def _spend(state: State) -> State | None:
    budget = state.budget
    if not budget.unanswered:
        return None
    return state._replace(budget=budget._replace(unanswered=budget.unanswered - 1))


def _postpone(state: State, write: Write) -> State:
    return state._replace(late=tuple(sorted((*state.late, write))))
