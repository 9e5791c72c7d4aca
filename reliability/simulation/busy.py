"""Busy scenarios: workers claim so many events on emit that they open windows, and are disturbed while they do."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any, Final

from reliability.simulation.faults import Kind
from reliability.simulation.scenario import (
    HAS_WINDOWS,
    TYPES,
    Action,
    Emission,
    Place,
    Scenario,
    Way,
    WindowSizes,
)

SHARE: Final = 0.3
"""The share of busy scenarios."""
COUNTS: Final = (25, 60, 150, 150)
"""How many events a burst has."""
LONGEST_PAUSE: Final = 3.0
"""The leases of the longest pause of a process."""


def busy(scenario: Scenario, random: Random) -> Scenario:
    """Make some scenarios busy."""
    if not HAS_WINDOWS or scenario.is_large or random.random() >= SHARE:
        return scenario
    places = tuple(_place(random, number, place) for number, place in enumerate(scenario.places))
    workers = [place.name for place in places if place.works]
    bursts = [_burst(random, scenario.seconds, workers) for _ in range(random.choice([1, 2, 4]))]
    disturbances = [each for burst in bursts for each in disturbed(random, burst, scenario.lease, workers)]
    actions = sorted([*scenario.actions, *disturbances], key=lambda action: action.at)
    # Where many calls fail, few windows open.
    calm, chances = random.choice([0.0, 0.1, 0.1, 0.3, 1.0]), scenario.weather.chances
    return replace(
        scenario,
        places=places,
        emissions=(*scenario.emissions, *bursts),
        actions=tuple(actions),
        seconds=max([scenario.seconds, *(action.at + 1 for action in actions)]),
        weather=replace(scenario.weather, chances={kind: calm * chance for kind, chance in chances.items()}),
        sizes=_sizes(random),
        waits_for_windows=random.random() < 0.5,
    )


def _place(random: Random, number: int, place: Place) -> Place:
    options: dict[str, Any] = {
        **place.options,
        "claim_on_emit": random.random() < 0.9,
        "window": random.random() < 0.85,
        "batch_size": 10,
        "concurrency": random.choice([20, 100, 200]),
    }
    # One worker at least has to know windows.
    is_old = number > 0 and random.random() < 0.1
    lease = float(options["processing_timeout"])
    offset = random.choice([-300.0, -2.0, 0.5 * lease, 2.0, 300.0]) if random.random() < 0.25 else place.clock_offset
    return replace(
        place,
        options=options,
        clock_offset=offset,
        is_old=is_old,
        is_clone=number > 0 and not is_old and random.random() < 0.05,
    )


def _sizes(random: Random) -> WindowSizes | None:
    """Draw small windows, which move and end sooner, in half of the scenarios."""
    if random.random() < 0.5:
        return None
    return WindowSizes(
        open_at=random.choice([2, 5, 10]), ahead=random.choice([3, 10, 30]), span=random.choice([20, 60, 200])
    )


def _burst(random: Random, seconds: float, workers: list[str]) -> Emission:
    types = tuple(random.choice([TYPES[0], TYPES[0], *TYPES]) for _ in range(random.choice(COUNTS)))
    at = random.uniform(0, 0.8 * seconds)
    return Emission(at=at, place=random.choice(workers), way=Way.BURST, types=types, delay=None)


def disturbed(random: Random, burst: Emission, lease: float, workers: list[str]) -> list[Action]:
    """Draw what happens to the process of a burst, and to the worker that recovers its window."""
    if random.random() < 0.35:
        return []
    kind = random.choice([Kind.KILL, Kind.KILL, Kind.SUSPEND, Kind.SUSPEND, Kind.STOP, Kind.CANCEL, Kind.CLOCK_JUMP])
    pause = random.uniform(0.3, 1.0)
    # Most bursts have opened a window by then, and have not ended.
    at = burst.at + random.choice([random.uniform(0, 0.5), random.uniform(0.5, 2), random.uniform(0.5, 6)])
    actions = [Action(at=at, kind=kind, place=burst.place, amount=pause)]
    if kind is Kind.SUSPEND and random.random() < 0.4:
        # It may send what it had to send before, but does not live to see the answers.
        resumed = at + pause * LONGEST_PAUSE * lease
        actions.append(Action(at=resumed + 0.001, kind=Kind.KILL, place=burst.place, amount=random.random() * 0.2))
    if random.random() < 0.5:
        found = at + lease + random.uniform(0, 3)
        other = random.choice([Kind.KILL, Kind.SUSPEND, Kind.STOP])
        actions.append(Action(at=found, kind=other, place=random.choice(workers), amount=random.random()))
    return actions
