"""Draws the scenario of a seed.

Each scenario has some kinds of faults and not the others, so that each is also met alone, and by chance all together.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from reliability.simulation.busy import busy
from reliability.simulation.client import Retries
from reliability.simulation.faults import OF_CALLS, OF_KEYS, OF_OPERATORS, OF_WRITES, STORMS, Kind, Storm, Weather
from reliability.simulation.ordered import ordered
from reliability.simulation.scenario import (
    ACTIONS,
    COUNTS,
    HAS_SHARDS,
    LATENCY,
    TYPES,
    Action,
    Emission,
    Place,
    Scenario,
)


def scenario_of(seed: int, *, has_keys: bool = False) -> Scenario:
    """Draw a scenario. With `has_keys` its events have ordering keys; otherwise those of some scenarios do."""
    random = Random(seed)
    seconds = random.choice([5.0, 15.0, 30.0])
    drawn = [kind for kind in Kind if kind not in (*OF_OPERATORS, *OF_KEYS)]
    has: set[Kind] = {kind for kind in drawn if random.random() < random.choice([0.1, 0.3, 0.5])}
    places = _deployed(Random(f"{seed} deploy"), _places(random, has))
    names = [place.name for place in places]
    options = places[0].options
    scenario = Scenario(
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
    operated = _operated(busy(scenario, Random(f"{seed} busy")), Random(f"{seed} operator"))
    return ordered(operated, Random(f"{seed} keys"), always=has_keys)


def _operated(scenario: Scenario, random: Random) -> Scenario:
    """Have an operator repair, hold and resume events in every fourth scenario."""
    if random.random() >= 0.25:
        return scenario
    kinds = [kind for kind in OF_OPERATORS if random.random() < 0.5] or [Kind.HOLD]
    actions = [
        Action(
            at=random.uniform(0, scenario.seconds),
            kind=kind,
            place=random.choice(scenario.places).name,
            amount=random.random(),
        )
        for kind in kinds
        for _ in range(random.choice([1, 2, 5]))
    ]
    return replace(scenario, actions=tuple(sorted([*scenario.actions, *actions], key=lambda action: action.at)))


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
    way = random.choice(list(COUNTS))
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
