"""The unchanging part of an exploration: the emits, the workers, and the rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reliability.models.queues.rules import ALL_RULES, Rules
from reliability.models.queues.state import (
    IDLE,
    IDLE_OPERATOR,
    Budget,
    Emit,
    Emitter,
    Ids,
    State,
)


class Emission(NamedTuple):
    """Events that are put, and then listed together: an emit, some emits that share APPEND, or a transaction."""

    events: Ids
    in_transaction: bool = False


Script = tuple[Emission, ...]
"""The emissions of an emitter, one after the other."""


class World:
    """`scripts` has the emissions of each emitter. Two emitters may emit the same event, under an id of the user.

    `room` is the number of events that a list may hold. If emits claim, worker 1 lives in the process of emitter 1, and
    an emit may claim the queue for it. If not, each worker has its own process. If emitters repeat, they may emit again
    what was not acknowledged. `failed_key` says whether a failed event blocks the key, or is skipped.
    """

    def __init__(
        self,
        scripts: Sequence[Script],
        budget: Budget,
        *,
        workers: int = 2,
        room: int = 1,
        emits_claim: bool = True,
        emitters_repeat: bool = True,
        failed_key: str = "block",
        loads_ahead: bool = False,
        rules: Rules = ALL_RULES,
    ) -> None:
        self.rules = rules
        self.scripts = scripts
        self.budget = budget
        self.workers = workers
        self.room = room
        self.emits_claim = emits_claim
        self.emitters_repeat = emitters_repeat
        self.failed_key = failed_key
        self.loads_ahead = loads_ahead
        ids = [event for script in scripts for emission in script for event in emission.events]
        self.events = max(ids) + 1
        self.shared = frozenset(event for event in ids if ids.count(event) > 1)
        """The events that more than one emission has: their ids are made by the user."""
        self.in_processes_of_emitters = min(workers, len(scripts)) if emits_claim else 0
        """How many workers live in the process of an emitter. The others are interchangeable."""

    def start(self) -> State:
        """Return the state in which nothing has happened."""
        return State(
            queue=None,
            pages=(),
            events=(None,) * self.events,
            emitters=tuple(self.emission(me, 0) for me in range(len(self.scripts))),
            workers=(IDLE,) * self.workers,
            operator=IDLE_OPERATOR,
            late=(),
            committed=frozenset(),
            expired=frozenset(),
            budget=self.budget,
            order=(),
            started=frozenset(),
            acknowledged=frozenset(),
            written=(0,) * self.events,
        )

    def emission(self, me: int, at: int) -> Emitter:
        """Return an emitter that is about to begin an emission, or at the end of its script."""
        script = self.scripts[me]
        if at == len(script):
            return Emitter(at, Emit.DONE)
        events, in_transaction = script[at]
        if in_transaction:
            return Emitter(at, Emit.TRANSACT, ids=events, told=events)
        if not self.rules.put_comes_before_append:
            return Emitter(at, Emit.APPEND, ids=events, told=events)
        return Emitter(at, Emit.PUT, puts=events, told=events)

    def has_worker(self, me: int) -> bool:
        """Tell whether a worker lives in the process of an emitter."""
        return me < self.in_processes_of_emitters
