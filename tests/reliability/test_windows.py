"""Services that claim so much on emit that windows open: the simulation finds nothing, whatever disturbs them."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from reliability.checker import report
from reliability.history import WindowWritten, Written
from reliability.simulation.entropy import undisturbed
from reliability.simulation.faults import OF_CALLS, Kind, Storm, Weather
from reliability.simulation.result import Result
from reliability.simulation.runs import world_of
from reliability.simulation.scenario import TYPES, Action, Emission, Place, Scenario, Way, WindowSizes

SEEDS = (0, 1, 2, 4, 5, 14, 81)
"""Mutants name some of them. The others have shown mutants of earlier schedules."""
FAULTS = (*OF_CALLS, Kind.HANDLER_FAILED, Kind.HANDLER_SLOW, Kind.THROTTLED_WRITE)
SECONDS = 12.0
LEASE = 2.0


def scenario_of(seed: int) -> Scenario:
    """Draw two busy services with small windows: they open, grow, are lost and recovered within seconds."""
    random = Random(seed)
    options: dict[str, Any] = {
        "processing_timeout": LEASE,
        "poll_interval": 1.0,
        "max_retries": 4,
        "base_backoff": 0.2,
        "concurrency": 100,
        "conditional_writes": random.choice(["auto", "single"]),
    }
    places = tuple(
        Place(name=name, works=True, starts_at=0.0, clock_offset=random.choice([0.0, 0.0, 1.0]), options=options)
        for name in "ab"
    )
    bursts = [
        Emission(
            at=random.uniform(0, 0.8 * SECONDS),
            place=random.choice("ab"),
            way=Way.BURST,
            types=tuple(random.choice(TYPES[:2]) for _ in range(40)),
            delay=None,
        )
        for _ in range(5)
    ]
    kinds = (Kind.KILL, Kind.SUSPEND, Kind.SUSPEND, Kind.STOP)
    actions = [
        Action(at=burst.at + random.uniform(0.5, 3), kind=random.choice(kinds), place=burst.place, amount=0.7)
        for burst in bursts
    ]
    # All kinds of faults, or one of them often.
    faults, often = random.choice([(FAULTS, 0.005), (FAULTS, 0.03), ((Kind.SLOW,), 0.15), ((Kind.LOST_REQUEST,), 0.15)])
    storms = [
        Storm(kind=random.choice([Kind.BLACKOUT, Kind.THROTTLING]), start=start, end=start + 1.5 * LEASE, strength=0.9)
        for start in (random.uniform(0, SECONDS), random.uniform(0, SECONDS))
    ]
    return Scenario(
        seed=seed,
        seconds=SECONDS,
        projection="ALL",
        replicas=1,
        places=places,
        emissions=tuple(bursts),
        actions=tuple(sorted(actions, key=lambda action: action.at)),
        weather=Weather(
            chances=dict.fromkeys(faults, often),
            storms=tuple(storms[: random.choice([0, 1, 2])]),
            latency=random.choice([0.01, 0.05]),
        ),
        declared_timeout=random.choice([None, 3 * LEASE]),
        own_retries=None,
        concurrency=None,
        sizes=WindowSizes(open_at=2, ahead=random.choice([4, 15, 40]), span=random.choice([40, 100])),
        waits_for_windows=random.random() < 0.5,
    )


def run(seed: int) -> Result:
    with undisturbed(), world_of(scenario_of(seed)) as world:
        return world.run()


@pytest.mark.parametrize("seed", SEEDS)
def test_no_event_of_a_busy_service_is_lost(seed: int) -> None:
    result = run(seed)
    assert not result.violations, report(list(result.violations), result.history)
    # The services had windows, with events in them.
    assert any(isinstance(record, WindowWritten) for record in result.history)
    assert any(isinstance(record, Written) and record.after and record.after.is_unlisted for record in result.history)
