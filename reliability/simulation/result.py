"""The result of a run."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from reliability.checker import HandlerRule, Limits, Violation
from reliability.history import Record, text_of
from reliability.simulation.faults import Kind
from reliability.simulation.handlers import name_of
from reliability.simulation.scenario import Scenario

LONGEST_PAUSE: Final = 90.0
"""The extra time at the end for pauses after errors, delays and the backlog, beyond lease, backoff and clocks."""
LONGEST_GIVE_BACK: Final = 60.0
"""The longest wait of an event that was released without a handler."""
LATENCIES_PER_EVENT: Final = 20.0
"""How many latencies an event of an ordering key takes, with its mark and its pop, and perhaps a poll."""
LATEST_SWEEP: Final = 600.0
"""How long an event may stay HELD that a worker has held after the end of the hold, and then died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a run: its violations, and its contents. `seconds` are seconds of virtual time."""

    seed: int
    violations: tuple[Violation, ...]
    history: tuple[Record, ...]
    faults: Mapping[Kind, int]
    seconds: float
    events: int
    calls: int

    @property
    def text(self) -> str:
        """The whole history, for people."""
        return text_of(self.history)


def unforeseen(error: BaseException) -> Violation:
    """Make a violation from an exception that a process must not raise."""
    text = "".join(traceback.format_exception(error))
    return Violation(invariant="S", event_id=None, sentence=f"a process raised what it must not: {text}")


def unseen(context: Mapping[str, Any]) -> Violation:
    """Make a violation from an error that was never retrieved, as asyncio reports it."""
    sentence = f"an error that nobody looked at: {context.get('message')}: {context.get('exception')!r}"
    return Violation(invariant="S", event_id=None, sentence=sentence)


def starved(event_id: str, *, since: float) -> Violation:
    """Make a violation for an event that has not ended `seconds` after the last fault."""
    sentence = f"it is not at its end {since:.0f} s after the last fault"
    return Violation(invariant="P", event_id=event_id, sentence=sentence)


def failed_looks(scenario: Scenario) -> int:
    """Return how many polls in a row may fail by chance without faults, each with a pause after it.

    Calls have a deadline within the lease. If a call takes a tenth of the lease, half of the attempts miss it.
    """
    lease = min(float(place.options["processing_timeout"]) for place in scenario.places)
    return 1 if scenario.weather.latency <= lease / 50 else 6


def longest_end(scenario: Scenario) -> float:
    """Return how long it may take after the last fault until every event has ended, in seconds."""
    options = scenario.places[0].options
    backoffs = float(options["base_backoff"]) * 2.0 ** int(options["max_retries"])
    pauses = failed_looks(scenario) * LONGEST_PAUSE + LONGEST_GIVE_BACK * scenario.is_deploying
    pauses += LATEST_SWEEP * scenario.is_operated
    return 6 * scenario.lease + 2 * backoffs + 2 * scenario.greatest_offset + pauses + longest_line(scenario)


def longest_line(scenario: Scenario) -> float:
    """Return how long it may take to work off the events of the most frequent ordering key, with their children."""
    counts = Counter(key for emission in scenario.emissions for key in emission.keys if key is not None)
    options = [place.options for place in scenario.places]
    poll = max(float(each.get("max_poll_interval") or each.get("poll_interval", 1.0)) for each in options)
    polled = 0.0 if scenario.queues is None else 2 * poll / scenario.queues.kept
    return 2 * max(counts.values(), default=0) * (1.0 + LATENCIES_PER_EVENT * scenario.weather.latency + polled)


def limits_of(scenario: Scenario) -> Limits:
    """Say what the checker lets pass."""
    # A due time that a fast clock wrote is later than the history shows.
    slack = 1.0 + 2 * scenario.greatest_offset
    # An emit is tried for ten seconds, which may be most of a run.
    calls = 10.0
    rules = {name_of(1, scenario): HandlerRule(max_retries=scenario.own_retries)}
    longest_backoff = failed_looks(scenario) * Limits().longest_backoff
    return Limits(slack=slack, calls_per_step=calls, handlers=rules, longest_backoff=longest_backoff)
