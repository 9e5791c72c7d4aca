from __future__ import annotations

import copy
import dataclasses
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest

from dynamodb_outbox import Event, RetryLater, UnstorableValueError
from dynamodb_outbox.errors import ConfigurationError


def test_defaults() -> None:
    first, second = Event("t"), Event("t")
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
        (lambda: Event("t", id=""), "id"),
        (lambda: Event("t", id="ä" * 1025), "id"),
        (lambda: Event("t", id="dynamodb-outbox"), "id"),
        (lambda: Event("t", id="dynamodb-outbox-workers"), "id"),
        (lambda: Event("t", occurred_at=datetime(2026, 1, 1)), "occurred_at"),  # noqa: DTZ001 - the naive one is refused
        (lambda: Event("t", occurred_at="now"), "occurred_at"),  # type: ignore[arg-type]  # what is refused
        (lambda: Event("t", metadata=[1]), "metadata"),  # type: ignore[arg-type]  # what is refused
    ],
)
def test_bad_fields_are_refused_by_name(make: Any, path: str) -> None:
    with pytest.raises(UnstorableValueError) as caught:
        make()
    assert caught.value.path == path


def test_ids_that_only_contain_the_name_of_the_library_are_taken() -> None:
    for event_id in ("dynamodb-out", "my-dynamodb-outbox", "DynamoDB-Outbox-workers"):
        assert Event("t", id=event_id).id == event_id


def test_only_an_object_that_made_its_id_was_never_published() -> None:
    event = Event("t")
    assert [event.take_unpublished(), event.take_unpublished()] == [True, False]
    assert not Event("t", id="mine").take_unpublished()
    fresh = Event("t")
    for duplicate in (
        copy.copy(fresh),
        copy.deepcopy(fresh),
        pickle.loads(pickle.dumps(fresh)),  # noqa: S301 - our own bytes
        dataclasses.replace(fresh, payload=1),
    ):
        assert duplicate.id == fresh.id
        assert not duplicate.take_unpublished()
    successor = dataclasses.replace(fresh, payload=2)
    fresh.pass_unpublished_to(successor)
    assert [fresh.take_unpublished(), successor.take_unpublished()] == [False, True]


@pytest.mark.parametrize("delay", [-1, float("inf"), float("nan")])
def test_retry_later_needs_a_time(delay: float) -> None:
    with pytest.raises(ConfigurationError, match="delay"):
        RetryLater(delay)
