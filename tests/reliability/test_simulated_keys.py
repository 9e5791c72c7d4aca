"""The simulation of events with ordering keys: it finds nothing in the library as it is, and faults that are put in.

A failure is looked into with `python -m reliability.simulation --seed N --keys`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from dynamodb_outbox.dynamodb.delivering import recovery
from dynamodb_outbox.dynamodb.emitting import ordered_events
from dynamodb_outbox.dynamodb.ordering import transitions
from dynamodb_outbox.worker.handling import handler_task
from reliability.simulation.campaign import Summary, summaries_of
from reliability.simulation.drawing import scenario_of
from reliability.simulation.faults import Kind
from reliability.simulation.runs import run_each
from tests.thorough import often

SEEDS = often(15, thorough=40)
MOST_SEEDS = 300
"""So many are tried at most, until a library that is broken is found out."""


@pytest.fixture(autouse=True)
def forget_transitions() -> Iterator[None]:
    """Make the transitions of pops anew: a test may have changed what they are made of."""
    transitions.pop.cache_clear()
    yield
    transitions.pop.cache_clear()


@pytest.mark.timeout(1800)
def test_no_invariant_is_broken_with_ordering_keys() -> None:
    total = Summary()
    for summary in summaries_of(range(SEEDS), processes=2, has_keys=True):
        total.join(summary)
    assert not total.failures, "\n\n".join(f"seed {seed}: {text}" for seed, text in sorted(total.failures.items())[:3])
    assert total.runs == SEEDS
    assert total.faults[Kind.SKIP]
    assert total.events > 50 * SEEDS


def test_scenario_with_keys_has_few_keys_and_many_events() -> None:
    emitted = [key for seed in range(20) for each in scenario_of(seed, has_keys=True).emissions for key in each.keys]
    keyed = [key for key in emitted if key is not None]
    assert len(keyed) > len(emitted) / 2
    assert keyed.count("key 0") > keyed.count("key 1") > 0
    some = [bool(scenario_of(seed).queues) for seed in range(200)]
    assert 20 < sum(some) < 80


# A library that is broken


def letters_found(expected: str, *, first: int) -> set[str]:
    """Run seeds until one of the invariants is broken that are expected to be; `first` is known to show it."""
    for result in run_each(range(first, first + MOST_SEEDS), has_keys=True):
        letters = {violation.invariant for violation in result.violations}
        if letters & set(expected):
            return letters
    return set()


def test_emit_that_is_acknowledged_before_the_event_is_listed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def append(*_: Any, **__: Any) -> None:
        """List nothing."""

    monkeypatch.setattr(ordered_events.OrderedEvents, "append", append)
    assert letters_found("L", first=0)


def test_event_that_was_stored_before_and_is_not_listed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def new_ones(puts: Sequence[Any]) -> list[Any]:
        return [put for put in puts if put.error is None]

    monkeypatch.setattr(ordered_events, "_without_gap", new_ones)
    assert letters_found("L", first=0)


@pytest.mark.timeout(900)
def test_pop_without_the_token_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitions, "_IS_MINE", "status <> :FAILED")
    assert letters_found("O", first=122)


@pytest.mark.timeout(900)
def test_deletion_of_a_queue_that_has_grown_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fronts = {**transitions._FRONT_IS, transitions.Pop.LAST: "attribute_not_exists(head)"}
    monkeypatch.setattr(transitions, "_FRONT_IS", fronts)
    assert letters_found("LO", first=4)


@pytest.mark.timeout(900)
def test_recovery_of_a_lease_that_was_renewed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = replace(transitions.RECOVER_QUEUE, condition="status = :PROCESSING")
    monkeypatch.setattr(recovery, "_QUEUES", replace(recovery._QUEUES, reset=(broken,)))
    assert letters_found("F", first=92)


@pytest.mark.timeout(900)
def test_handler_that_starts_after_its_lease_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_task, "is_too_late", lambda *_: False)
    assert letters_found("O", first=93)
