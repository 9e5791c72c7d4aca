"""Scenarios: a seed determines a deployment, its events, and its faults.

Each scenario has some kinds of faults and not the others, so that each is also met alone, and by chance all together.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random
from typing import Any, Final

from dynamodb_outbox import DynamoDBOutbox
from dynamodb_outbox.dynamodb.schema.table import Projection
from reliability.simulation.client import Retries
from reliability.simulation.faults import OF_CALLS, OF_WRITES, STORMS, Kind, Storm, Weather

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
HAS_SHARDS: Final = "shards" in inspect.signature(DynamoDBOutbox.__init__).parameters


class Way(StrEnum):
    """How events are emitted."""

    SINGLE = "emit"
    MANY = "emit_many"
    TRANSACTION = "transaction"
    REPEATED = "emit of a known id, repeated until it succeeds"
    IMPATIENT = "given up after a while, and emitted again"
    TWICE = "emitted from two tasks at once"


COUNTS: Final[Mapping[Way, tuple[int, ...]]] = {
    Way.SINGLE: (1,),
    Way.MANY: (2, 5),
    Way.TRANSACTION: (2, 5),
    Way.REPEATED: (1,),
    Way.IMPATIENT: (1, 3, 8),
    Way.TWICE: (1, 4),
}
"""How many events are emitted in each way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Emission:
    """Some events, emitted at a time and place; `delay` (seconds) is None if they are due at once."""

    at: float
    place: str
    way: Way
    types: tuple[str, ...]
    delay: float | None


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

    @property
    def greatest_offset(self) -> float:
        """How far off a clock is at most."""
        jumps = sum(action.kind is Kind.CLOCK_JUMP for action in self.actions)
        return max(abs(place.clock_offset) for place in self.places) + jumps * JUMP_SECONDS

    @property
    def is_deploying(self) -> bool:
        """Whether some processes lack the handlers of a type."""
        return any(place.lacks for place in self.places)

    @property
    def lease(self) -> float:
        """How long a claim holds."""
        return max(float(place.options["processing_timeout"]) for place in self.places)


def scenario_of(seed: int) -> Scenario:
    """Draw a scenario."""
    random = Random(seed)
    seconds = random.choice([5.0, 15.0, 30.0])
    has = {kind for kind in Kind if random.random() < random.choice([0.1, 0.3, 0.5])}
    places = _deployed(Random(f"{seed} deploy"), _places(random, has))
    names = [place.name for place in places]
    options = places[0].options
    return Scenario(
        seed=seed,
        seconds=seconds,
        projection="KEYS_ONLY" if random.random() < 0.3 else "ALL",
        replicas=random.choice([1, 2, 3]),
        places=places,
        emissions=tuple(_emission(random, seconds, names) for _ in range(random.choice([2, 5, 10]))),
        actions=tuple(_actions(random, seconds, [place.name for place in places if place.works], has)),
        weather=_weather(random, seconds, names, has),
        declared_timeout=random.choice([None, 3 * float(options["processing_timeout"])]),
        own_retries=random.choice([None, None, 1]),
        concurrency=random.choice([None, None, 1]),
        # Drawn separately, so that other scenarios stay unchanged.
        is_large=Random(f"{seed} large").random() < 0.08,
    )


def _places(random: Random, has: set[Kind]) -> tuple[Place, ...]:
    fleet: dict[str, Any] = {
        "processing_timeout": random.choice([2.0, 5.0, 10.0]),
        "poll_interval": random.choice([1.0, 2.0]),
        "max_retries": random.choice([1, 3, 4]),
        "base_backoff": random.choice([0.2, 1.0]),
        "batch_size": random.choice([2, 10]),
        "concurrency": random.choice([None, 2]),
        "retention": random.choice([None, 60.0]),
    }
    if HAS_SHARDS:
        fleet["shards"] = random.choice([1, 1, 3])
    workers = random.choice([1, 2, 2, 3])
    places: list[Place] = []
    for number in range(workers + random.choice([0, 1])):
        skewed = Kind.CLOCK_SKEW in has and random.random() < 0.7
        options = {
            **fleet,
            "conditional_writes": random.choice(["auto", "batch", "single"]),
            "claim_on_emit": random.random() < 0.6,
            "group_emits": random.random() < 0.8,
            "max_poll_interval": random.choice([None, 4.0]),
        }
        places.append(
            Place(
                name="abcd"[number],
                works=number < workers,
                starts_at=random.choice([0.0, random.uniform(0, 5)]),
                clock_offset=random.choice([-300.0, -2.0, 0.05, 2.0, 300.0]) if skewed else 0.0,
                options=options,
                retries=random.choice([Retries.NONE, Retries.NONE, *Retries]),
            )
        )
    return tuple(places)


def _deployed(random: Random, places: tuple[Place, ...]) -> tuple[Place, ...]:
    """Leave out the handlers of a type in some processes of every fifth scenario."""
    if random.random() >= 0.2:
        return places
    lacks = random.choice(TYPES)
    timeout = {"unhandled_timeout": random.choice([None, 15.0, 3600.0])}
    return tuple(
        replace(place, lacks=lacks if random.random() < 0.6 else None, options={**place.options, **timeout})
        for place in places
    )


def _emission(random: Random, seconds: float, places: list[str]) -> Emission:
    way = random.choice(list(Way))
    count = random.choice(COUNTS[way])
    return Emission(
        at=random.uniform(0, 0.8 * seconds),
        place=random.choice(places),
        way=way,
        types=tuple(random.choice(TYPES) for _ in range(count)),
        delay=random.choice([None, None, None, random.uniform(0, 20)]),
    )


def _actions(random: Random, seconds: float, workers: list[str], has: set[Kind]) -> list[Action]:
    actions: list[Action] = []
    for kind in ACTIONS:
        if kind in has:
            for _ in range(random.choice([1, 2, 4])):
                at, place = random.uniform(0, seconds), random.choice(workers)
                actions.append(Action(at=at, kind=kind, place=place, amount=random.random()))
    return sorted(actions, key=lambda action: action.at)


def _weather(random: Random, seconds: float, places: list[str], has: set[Kind]) -> Weather:
    often = random.choice([0.02, 0.1, 0.3])
    single = (*OF_CALLS, *OF_WRITES, Kind.HANDLER_FAILED, Kind.HANDLER_SLOW, Kind.HANDLER_STUBBORN)
    chances = {kind: often * random.random() for kind in single if kind in has}
    if Kind.HANDLER_DEADLY in has:
        chances[Kind.HANDLER_DEADLY] = 0.1
    storms: list[Storm] = []
    for kind in STORMS:
        if kind in has:
            start = random.uniform(0, seconds)
            storms.append(
                Storm(
                    kind=kind,
                    start=start,
                    end=min(start + random.choice([2.0, 10.0, 60.0]), seconds),
                    strength=random.choice([0.5, 0.9, 1.0]),
                    place=random.choice(["", *places]),
                )
            )
    return Weather(
        chances=chances,
        storms=tuple(storms),
        latency=random.choice([0.001, LATENCY, 0.1]),
        lag=random.choice([0.0, 0.05, 1.0]),
        storm_lag=random.choice([5.0, 60.0]),
    )
