from __future__ import annotations

import copy
import dataclasses
import gc
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from dynamodb_outbox import Event, RetryLater, UnstorableValueError
from dynamodb_outbox import event as event_module
from dynamodb_outbox.errors import ConfigurationError


def test_defaults() -> None:
    first, second = Event("order.placed"), Event("order.placed")
    assert first.id != second.id
    assert type(first.id) is str
    assert first.occurred_at.tzinfo is UTC
    assert (first.payload, first.metadata) == (None, {})


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda: Event(""), "type"),
        (lambda: Event(5), "type"),  # type: ignore[arg-type]  # what is refused
        (lambda: Event("\ud800"), "type"),
        (lambda: Event("order.placed", id=""), "id"),
        (lambda: Event("order.placed", id="ä" * 1025), "id"),
        (lambda: Event("order.placed", id="dynamodb-outbox"), "id"),
        (lambda: Event("order.placed", id="dynamodb-outbox-workers"), "id"),
        (lambda: Event("order.placed", occurred_at=datetime(2026, 1, 1)), "occurred_at"),  # noqa: DTZ001 - the naive one is refused
        (lambda: Event("order.placed", occurred_at="now"), "occurred_at"),  # type: ignore[arg-type]  # what is refused
        (lambda: Event("order.placed", metadata=[1]), "metadata"),  # type: ignore[arg-type]  # what is refused
        (lambda: Event("order.placed", ordering_key=""), "ordering_key"),
        (lambda: Event("order.placed", ordering_key=17), "ordering_key"),  # type: ignore[arg-type]  # what is refused
        (lambda: Event("order.placed", ordering_key="\ud800"), "ordering_key"),
        (lambda: Event("order.placed", ordering_key="ä" * 513), "ordering_key"),
    ],
)
def test_bad_fields_are_refused_by_name(make: Any, path: str) -> None:
    with pytest.raises(UnstorableValueError) as caught:
        make()
    assert caught.value.path == path


def test_ordering_key_may_have_1024_bytes() -> None:
    assert Event("order.placed", ordering_key="ä" * 512).ordering_key == "ä" * 512


def test_ids_that_only_contain_the_name_of_the_library_are_taken() -> None:
    for event_id in ("dynamodb-out", "my-dynamodb-outbox", "DynamoDB-Outbox-workers"):
        assert Event("order.placed", id=event_id).id == event_id


def test_of_all_copies_of_an_event_one_was_never_published() -> None:
    event = Event("order.placed")
    assert [event.take_unpublished(), event.take_unpublished()] == [True, False]
    assert not Event("order.placed", id="mine").take_unpublished()
    fresh = Event("order.placed")
    same = Event("order.placed", id=str(fresh.id))
    successor = dataclasses.replace(fresh, payload=2)
    assert [each.take_unpublished() for each in (successor, fresh, same)] == [True, False, False]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_event_that_may_leave_the_process_counts_as_published(copied: Callable[[Event], object]) -> None:
    event = Event("order.placed")
    copied(event)
    assert not event.take_unpublished()


class _Numbered(Event):
    number = 5


@pytest.mark.parametrize("kind", [Event, _Numbered])
def test_copy_with_other_metadata_is_the_same_in_everything_else(kind: type[Event]) -> None:
    event = kind("order.placed", {"order": "A-1"}, metadata={"tenant": 5})
    copied = event_module.with_metadata(event, {"tenant": 6})
    replaced = dataclasses.replace(event, metadata={"tenant": 6})
    assert type(copied) is kind
    for each in dataclasses.fields(Event):
        assert getattr(copied, each.name) == getattr(replaced, each.name), each.name
    assert event.metadata == {"tenant": 5}
    assert [copied.take_unpublished(), event.take_unpublished()] == [True, False]


def test_copy_of_a_stored_event_is_a_new_one() -> None:
    stored = Event("order.placed").as_already_stored()
    assert not event_module.with_metadata(stored, {}).already_stored


def test_marks_of_events_that_are_gone_are_not_kept() -> None:
    gc.collect()  # of the events of other tests
    gc.collect()  # of the events of other tests
    before = len(event_module._marks)
    kept = [Event("order.placed") for _ in range(10)]
    assert len(event_module._marks) == before + 10
    del kept
    assert len(event_module._marks) == before


@pytest.mark.parametrize("delay", [-1, float("inf"), float("nan")])
def test_retry_later_needs_a_time(delay: float) -> None:
    with pytest.raises(ConfigurationError, match="delay"):
        RetryLater(delay)
