"""The unchanging part of an exploration: the events, the workers, and the rules."""

from __future__ import annotations

from collections.abc import Sequence

from reliability.models.windows.rules import ALL_RULES, Rules
from reliability.models.windows.state import (
    IDLE_POLLER,
    IDLE_RECOVERER,
    Budget,
    Keeper,
    Phase,
    State,
    Tracked,
)


class World:
    """`emits` has a sequence for each worker: the numbers of the events that it emits, in any order.

    `length` is the number of events that a new window has room for; an EXTEND adds one. If workers share their ids,
    they are outboxes of one process: a window of one of them covers the numbers of the other ones, too.
    """

    def __init__(
        self,
        emits: Sequence[Sequence[int]],
        budget: Budget,
        *,
        length: int = 1,
        share_ids: bool = False,
        recoverers: int = 2,
        pollers: int = 2,
        rules: Rules = ALL_RULES,
    ) -> None:
        self.rules = rules
        self.length = length
        self.budget = budget
        self.workers = len(emits)
        self.recoverers = recoverers
        self.pollers = pollers
        self.worker_of = [worker for worker, numbers in enumerate(emits) for _ in numbers]
        self.number_of = [number for numbers in emits for number in numbers]
        self.events = len(self.number_of)
        self.events_of = [
            [event for event in range(self.events) if self.worker_of[event] == worker] for worker in range(self.workers)
        ]
        self._events_by_number = [
            {
                self.number_of[event]: event
                for event in range(self.events)
                if share_ids or self.worker_of[event] == worker
            }
            for worker in range(self.workers)
        ]

    def start(self) -> State:
        """Return the state in which nothing has happened."""
        return State(
            windows=(None,) * (2 * self.workers),
            items=(None,) * self.events,
            events=(Tracked(),) * self.events,
            keepers=(Keeper(Phase.NONE),) * self.workers,
            recoverers=(IDLE_RECOVERER,) * self.recoverers,
            pollers=(IDLE_POLLER,) * self.pollers,
            alive=(True,) * self.workers,
            late=(),
            expired=frozenset(),
            budget=self.budget,
        )

    def event_at(self, slot: int, number: int) -> int | None:
        """Find the event with a number of a window."""
        return self._events_by_number[slot % self.workers].get(number)

    def slot_of(self, worker: int, keeper: Keeper) -> int:
        """Return the slot of the window that a worker has now."""
        return worker + self.workers * keeper.generation

    def is_current(self, state: State, slot: int) -> bool:
        """Tell whether its worker lives and holds the window of a slot, as far as the worker knows."""
        worker = slot % self.workers
        keeper = state.keepers[worker]
        return state.alive[worker] and keeper.phase == Phase.HELD and slot == self.slot_of(worker, keeper)
