"""Explores every state of a model, breadth first, and finds the shortest way to a broken property.

A model has one start state. A step leads from a state to the next one, and may be a fault: something that the
environment does, such as a crash. A state is live if steps without a fault lead from it to a goal.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

S = TypeVar("S", bound=Hashable)

Label = tuple[object, ...]
"""The words that describe a step. They are joined only for a trace, because most steps are never shown."""
PROGRESS_STATES = 2_000
"""The explorer reports its progress each time that it has taken this many states."""


class Step(NamedTuple, Generic[S]):
    """One step of a model."""

    label: Label
    state: S
    is_fault: bool = False


class Model(Protocol[S]):
    """A model that can be explored. Two states are equal if nothing that follows can differ."""

    def start(self) -> S:
        """Return the first state."""
        ...

    def steps(self, state: S) -> Iterator[Step[S]]:
        """List every step that may come next, always in the same order."""
        ...

    def is_goal(self, state: S) -> bool:
        """Tell whether everything has come to a good end in this state."""
        ...

    def broken_by(self, before: S, after: S) -> str | None:
        """Return the property that a step breaks, in words."""
        ...

    def broken_in(self, state: S) -> str | None:
        """Return the property that is broken in a state, in words."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Explored:
    """The result of an exploration, or of random walks."""

    broken: str | None = None
    """The property that is broken, in words; None if all hold."""
    trace: tuple[str, ...] = ()
    """The steps that lead there."""
    states: int = 0
    steps: int = 0
    walks: int = 0
    is_complete: bool = True
    """Whether every state was explored. Without that, nothing is known about liveness."""


@dataclass(slots=True)
class _Graph(Generic[S]):
    """The states in the order of their discovery, and the steps without a fault between them."""

    states: list[S]
    numbers: dict[S, int]
    parents: array[int] = field(default_factory=lambda: array("l", [-1]))
    # A linked list for each state of the states before it: `heads` by state, `sources` and `links` by step.
    heads: array[int] = field(default_factory=lambda: array("l", [-1]))
    sources: array[int] = field(default_factory=lambda: array("l"))
    links: array[int] = field(default_factory=lambda: array("l"))

    def add(self, state: S, parent: int) -> int:
        number = len(self.states)
        self.numbers[state] = number
        self.states.append(state)
        self.parents.append(parent)
        self.heads.append(-1)
        return number

    def connect(self, source: int, target: int) -> None:
        self.links.append(self.heads[target])
        self.heads[target] = len(self.sources)
        self.sources.append(source)

    def first_that_reaches_none_of(self, goals: list[int]) -> int | None:
        """Find the first state from which no steps without a fault lead to a goal."""
        reaches = bytearray(len(self.states))
        for goal in goals:
            reaches[goal] = 1
        left = list(goals)
        while left:
            link = self.heads[left.pop()]
            while link >= 0:
                source = self.sources[link]
                if not reaches[source]:
                    reaches[source] = 1
                    left.append(source)
                link = self.links[link]
        stuck = reaches.find(0)
        return None if stuck < 0 else stuck

    def trace(self, model: Model[S], number: int) -> list[str]:
        """List the steps from the start to a state."""
        steps: list[str] = []
        while (parent := self.parents[number]) >= 0:
            steps.append(_label(model, self.states[parent], self.states[number]))
            number = parent
        return steps[::-1]


def explore(
    model: Model[S], *, most_states: int | None = None, report: Callable[[int, int], None] | None = None
) -> Explored:
    """Explore the states of a model until a property is broken, or up to `most_states`.

    `report` is called now and then with the numbers of explored and of known states.
    """
    start = model.start()
    graph = _Graph([start], {start: 0})
    goals: list[int] = []
    taken = 0
    while taken < len(graph.states):
        if most_states is not None and len(graph.states) > most_states:
            return Explored(states=taken, steps=len(graph.sources), is_complete=False)
        state = graph.states[taken]
        if model.is_goal(state):
            goals.append(taken)
        broken = _expand(model, graph, state, taken)
        if broken is not None:
            broken_name, last = broken
            trace = (*graph.trace(model, taken), last)
            return Explored(broken=broken_name, trace=trace, states=len(graph.states), steps=len(graph.sources))
        taken += 1
        if report is not None and taken % PROGRESS_STATES == 0:
            report(taken, len(graph.states))
    stuck = graph.first_that_reaches_none_of(goals)
    if stuck is not None:
        found = "LIVE: without a further fault, no step leads to the goal"
        return Explored(broken=found, trace=tuple(graph.trace(model, stuck)), states=taken, steps=len(graph.sources))
    return Explored(states=taken, steps=len(graph.sources))


def _expand(model: Model[S], graph: _Graph[S], state: S, number: int) -> tuple[str, str] | None:
    """Add the states that follow; return the property that is broken, if any, and the step that breaks it."""
    for label, following, is_fault in model.steps(state):
        broken = model.broken_by(state, following)
        known = graph.numbers.get(following)
        if known is None and broken is None:
            broken = model.broken_in(following)
        if broken is not None:
            return broken, words(label)
        if known is None:
            known = graph.add(following, number)
        if not is_fault:
            graph.connect(number, known)
    return None


def _label(model: Model[S], before: S, after: S) -> str:
    return next(words(step.label) for step in model.steps(before) if step.state == after)


def words(label: Label) -> str:
    """Join the words of a label."""
    return " ".join(map(str, label))
