"""Scenarios: a deployment, its events, and its faults. A seed determines them, see `drawing.py`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from dynamodb_outbox import DynamoDBOutbox
from dynamodb_outbox.dynamodb.schema.table import Projection
from reliability.simulation.client import Retries
from reliability.simulation.faults import OF_OPERATORS, Kind, Weather

ACTIONS: Final = (
    Kind.KILL,
    Kind.SUSPEND,
    Kind.CLOCK_JUMP,
    Kind.STOP,
    Kind.CANCEL,
    Kind.DELETE,
    Kind.REDRIVE,
)
TYPES: Final = ("one", "two", "three")
"""Types of events, by the number of their handlers."""
LARGE_HANDLERS: Final = 20
"""How many handlers the last type has where events are large."""
LARGE_NAME: Final = 200
"""How many characters their names have."""
LATENCY: Final = 0.01
JUMP_SECONDS: Final = 30.0
"""How far a clock jumps at most, either way."""
_OPTIONS: Final = inspect.signature(DynamoDBOutbox.__init__).parameters
HAS_SHARDS: Final = "shards" in _OPTIONS
HAS_WINDOWS: Final = "window" in _OPTIONS


class Way(StrEnum):
    """How events are emitted."""

    SINGLE = "emit"
    MANY = "emit_many"
    TRANSACTION = "transaction"
    REPEATED = "emit of a known id, repeated until it succeeds"
    IMPATIENT = "given up after a while, and emitted again"
    TWICE = "emitted from two tasks at once"
    BURST = "many, one by one and in groups, for a while"
    SERIES = "one after the other, each after the answer to the one before"


"""Only busy scenarios have bursts, see `busy.py`; only scenarios with ordering keys have series, see `ordered.py`."""


COUNTS: Final[Mapping[Way, tuple[int, ...]]] = {
    Way.SINGLE: (1,),
    Way.MANY: (2, 5),
    Way.TRANSACTION: (2, 5),
    Way.REPEATED: (1,),
    Way.IMPATIENT: (1, 3, 8),
    Way.TWICE: (1, 4),
}
"""How many events are emitted in each way of most scenarios."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Emission:
    """Some events, emitted at a time and place; `delay` (seconds) is None if they are due at once.

    `keys` has the ordering key of each event, or None; it is empty if none of them has one.
    """

    at: float
    place: str
    way: Way
    types: tuple[str, ...]
    delay: float | None
    keys: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """An action on a process or an event at a given time; `amount` is in seconds, or chooses the event."""

    at: float
    kind: Kind
    place: str
    amount: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place where a process runs, and its successors after it.

    `works`: whether it works off events; `clock_offset`: how far off its clock is; `retries`: how its client repeats
    calls by itself.
    """

    name: str
    works: bool
    starts_at: float
    clock_offset: float
    options: Mapping[str, Any]
    lacks: str | None = None
    """The type without a handler in the processes of this place until the faults end, as in a rolling deploy."""
    retries: Retries = Retries.NONE
    is_clone: bool = False
    """Whether its first process continues from a snapshot of the process at the first place."""
    is_old: bool = False
    """Whether its processes are of a release that knows no windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSizes:
    """When windows open, and how far they reach; see `dynamodb/windows/activity.py`."""

    open_at: int
    ahead: int
    span: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSizes:
    """How many ids a queue has before it splits, and how many events of a key a worker handles in a row."""

    width: int
    kept: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The decisions before a run. Times are seconds of virtual time."""

    seed: int
    seconds: float
    projection: Projection
    replicas: int
    places: tuple[Place, ...]
    emissions: tuple[Emission, ...]
    actions: tuple[Action, ...]
    weather: Weather
    declared_timeout: float | None
    own_retries: int | None
    concurrency: int | None
    is_large: bool = False
    """Whether the events are within a kilobyte of the maximum, and have many handlers with long names."""
    sizes: WindowSizes | None = None
    waits_for_windows: bool = True
    """Whether the workers stop only when no window is open."""
    queues: QueueSizes | None = None
    """Only scenarios with ordering keys have it."""
    unblocks: bool = False
    """Whether an operator retries or skips dead letters at the end, until none blocks a key."""

    @property
    def greatest_offset(self) -> float:
        """How far off a clock is at most."""
        return max(map(self.offset_of, self.places))

    def offset_of(self, place: Place) -> float:
        """Return how far off the clock of a place is at most."""
        jumps = sum(action.kind is Kind.CLOCK_JUMP and action.place == place.name for action in self.actions)
        return abs(place.clock_offset) + jumps * JUMP_SECONDS

    @property
    def is_operated(self) -> bool:
        """Whether an operator repairs or holds events."""
        return any(action.kind in OF_OPERATORS for action in self.actions)

    @property
    def is_deploying(self) -> bool:
        """Whether some processes lack the handlers of a type."""
        return any(place.lacks for place in self.places)

    @property
    def lease(self) -> float:
        """How long a claim holds."""
        return max(float(place.options["processing_timeout"]) for place in self.places)
