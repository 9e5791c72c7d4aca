"""Scenarios with ordering keys: many events of few keys, dead letters that block keys, and operators who skip them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Final

from reliability.simulation.busy import disturbed
from reliability.simulation.faults import Kind
from reliability.simulation.scenario import TYPES, Action, Emission, QueueSizes, Scenario, Way

SHARE: Final = 0.25
"""The share of scenarios with ordering keys."""
COUNTS: Final = {Way.SERIES: (5, 12), Way.MANY: (3, 12, 30), Way.TRANSACTION: (3, 8), Way.BURST: (25, 60)}
"""How many events the emissions have that are added."""
DrawKey = Callable[[], str | None]


def ordered(scenario: Scenario, random: Random, *, always: bool = False) -> Scenario:
    """Give ordering keys to the events of some scenarios, or of any scenario."""
    if random.random() >= SHARE and not always:
        return scenario
    draw = _keys(random)
    places = [place.name for place in scenario.places]
    workers = [place.name for place in scenario.places if place.works]
    more = [_emission(random, scenario, places, draw) for _ in range(random.choice([1, 3, 6]))]
    harms = [each for one in more for each in disturbed(random, one, scenario.lease, workers) if random.random() < 0.5]
    failed_key = random.choice(["block", "block", "skip"])
    skips = [_skip(random, scenario) for _ in range(random.choice([0, 1, 4]))] if failed_key == "block" else []
    actions = sorted([*scenario.actions, *harms, *skips], key=lambda action: action.at)
    chances = dict(scenario.weather.chances)
    if random.random() < 0.5:
        # Dead letters are few otherwise.
        chances[Kind.HANDLER_FAILED] = random.choice([0.1, 0.3])
    return replace(
        scenario,
        places=tuple(
            replace(place, options={**place.options, "failed_key": failed_key}, is_old=False)
            for place in scenario.places
        ),
        emissions=(*(_with_keys(random, each, draw) for each in scenario.emissions), *more),
        actions=tuple(actions),
        seconds=max([scenario.seconds, *(action.at + 1 for action in actions)]),
        weather=replace(scenario.weather, chances=chances),
        queues=QueueSizes(width=random.choice([10, 2, 3]), kept=random.choice([50, 50, 3])),
        unblocks=random.random() < 0.6,
    )


def _keys(random: Random) -> DrawKey:
    """Draw keys of which few are frequent, as Zipf's law has it; some events have none."""
    count, share = random.choice([1, 2, 5, 20]), random.choice([0.6, 0.9, 1.0])
    keys = [f"key {number}" for number in range(count)]
    weights = [1 / (number + 1) for number in range(count)]

    def draw() -> str | None:
        return random.choices(keys, weights)[0] if random.random() < share else None

    return draw


def _with_keys(random: Random, emission: Emission, draw: DrawKey) -> Emission:
    if random.random() < 0.3:
        return emission
    # An event with an ordering key cannot be postponed.
    return replace(emission, keys=tuple(draw() for _ in emission.types), delay=None)


def _emission(random: Random, scenario: Scenario, places: list[str], draw: DrawKey) -> Emission:
    way = random.choice([Way.SERIES, *COUNTS])
    count = random.choice(COUNTS[way])
    if scenario.is_large:
        # Five megabytes are the most of a transaction, and not many more are made in time.
        count = min(count, 5)
    return Emission(
        at=random.uniform(0, 0.8 * scenario.seconds),
        place=random.choice(places),
        way=way,
        types=tuple(random.choice(TYPES) for _ in range(count)),
        delay=None,
        keys=tuple(draw() for _ in range(count)),
    )


def _skip(random: Random, scenario: Scenario) -> Action:
    place = random.choice(scenario.places).name
    return Action(at=random.uniform(0, scenario.seconds), kind=Kind.SKIP, place=place, amount=random.random())
