"""Makes the events of an emission."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any, Final

from dynamodb_outbox import Event
from dynamodb_outbox.dynamodb.items.codec import DELIVERY_BYTES, MAX_ITEM_BYTES
from reliability.simulation.scenario import Emission, Scenario, Way

LARGEST: Final = MAX_ITEM_BYTES - DELIVERY_BYTES - 256
"""The characters of a payload with which an event comes close to the maximum size of an emit."""


def makers_of(
    emission: Emission, number: int, scenario: Scenario, random: Random, *, now: Callable[[], float]
) -> list[Callable[[], Event]]:
    """Return a function for each event, which makes it; `number` is that of the emission.

    It is in the ids that the service chooses: of half of the events, and of few in a burst.
    """
    made_here = 0.95 if emission.way is Way.BURST else 0.5
    makers: list[Callable[[], Event]] = []
    for place, event_type in enumerate(emission.types):
        facts: dict[str, Any] = {} if random.random() < made_here else {"id": f"e{number}-{place}"}
        if emission.keys:
            facts["ordering_key"] = emission.keys[place]
        makers.append(partial(_make, event_type, partial(_payload, place, scenario, random), now, facts))
    return makers


def _make(
    event_type: str, payload: Callable[[], dict[str, Any]], now: Callable[[], float], facts: dict[str, Any]
) -> Event:
    occurred_at = datetime.fromtimestamp(now(), UTC)
    return Event(event_type, payload(), occurred_at=occurred_at, **facts)


def _payload(place: int, scenario: Scenario, random: Random) -> dict[str, Any]:
    """Make a payload. Some payloads leave hardly more room in the item than delivery needs."""
    if not scenario.is_large:
        return {"n": place}
    return {"n": place, "filler": "x" * (LARGEST - random.randrange(1024))}
