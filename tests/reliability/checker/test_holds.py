"""Invariant H: a held type is not started once every worker can know of the hold."""

from __future__ import annotations

import pytest

from reliability.history import EmitAcknowledged, EmitAsked, HoldAsked, HoldStored, HoldsUnread, Record, ResumeAsked
from tests.reliability.history_builder import HistoryBuilder


def started_at(seconds: float, *records: Record, held: str = "order.placed") -> HistoryBuilder:
    """A type is held at 1 s, and an event of the type is handled at another time all the same."""
    emit = EmitAsked(at=0.5, event_id="e", event_type="order.placed")
    story = HistoryBuilder().add(emit, EmitAcknowledged(at=0.6, event_id="e"))
    story.add(HoldAsked(at=0.9, type=held), HoldStored(at=1.0, type=held, began_at=0.9))
    return story.add(*records).attempt(seconds, "succeeded", "complete").ends()


@pytest.mark.parametrize("held", ["order.placed", ""], ids=["the type", "all types"])
def test_handler_of_a_held_type_is_found(held: str) -> None:
    assert started_at(18.0, held=held).broken() == "H"


def test_worker_may_not_know_of_the_hold_yet() -> None:
    assert started_at(5.0).broken() == ""


def test_another_type_is_not_held() -> None:
    assert started_at(18.0, held="order.paid").broken() == ""


@pytest.mark.parametrize(
    "record",
    [
        ResumeAsked(at=12.0, type="order.placed"),
        HoldAsked(at=12.0, type="order.placed"),
        HoldsUnread(at=12.0, worker="w1"),
    ],
    ids=["a resume", "another hold without an answer", "a worker that cannot read the holds"],
)
def test_hold_may_have_ended_for_the_worker(record: Record) -> None:
    assert started_at(18.0, record).broken() == ""


def test_what_was_asked_of_another_type_ends_no_hold() -> None:
    asked = ResumeAsked(at=12.0, type="order.paid"), HoldAsked(at=12.0, type="order.paid")
    assert started_at(18.0, *asked).broken() == "H"
