"""A call of a model: its write is carried out and answered. Or it is not answered, whatever became of the write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import TypeVar

from reliability.models.exploring import S, Step

W = TypeVar("W")


class Answer(Enum):
    """The answer to a write, as its caller gets it."""

    APPLIED = auto()
    REFUSED = auto()
    NONE = auto()


Continue = Callable[[S, Answer], S]
"""Returns the state after the caller has got the answer. Its argument is the state right after the write."""


def ends_of_call(
    state: S,
    write: W,
    *,
    apply: Callable[[S, W], S | None],
    spend: Callable[[S], S | None],
    postpone: Callable[[S, W], S],
    then: Continue[S],
) -> Iterator[Step[S]]:
    """List the ways in which a call may end, with what follows each.

    `apply` carries out the write, and returns None if its condition refuses it. `spend` takes one call without an
    answer from the budget, and returns None if none is left. `postpone` notes that a write is to be applied later.
    """
    applied = apply(state, write)
    if applied is None:
        yield Step((write, "is refused"), then(state, Answer.REFUSED))
    else:
        yield Step((write, "is applied"), then(applied, Answer.APPLIED))
    unanswered = spend(state)
    if unanswered is None:
        return
    if applied is not None:
        lost = spend(applied)
        if lost is None:
            raise AssertionError(write)
        yield Step((write, "is applied without an answer"), then(lost, Answer.NONE), is_fault=True)
    yield Step((write, "is not applied, without an answer"), then(unanswered, Answer.NONE), is_fault=True)
    late = postpone(unanswered, write)
    yield Step((write, "is to be applied late, without an answer"), then(late, Answer.NONE), is_fault=True)


def ends_of_late_write(state: S, write: W, apply: Callable[[S, W], S | None]) -> Step[S]:
    """Carry out a write that was to be applied late. `state` no longer holds it."""
    applied = apply(state, write)
    return Step(
        ("late:", write, "is refused" if applied is None else "is applied"), state if applied is None else applied
    )
