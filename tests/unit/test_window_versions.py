"""The writes that renew a window: only the last one may be followed, by one worker."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.windows.item import FIRST_VERSION, delete, extend, new_window, window_id
from reliability.simulation.backend import Backend
from tests.simulated_table import SimulatedService
from tests.virtual_time import EPOCH

ID = window_id("0123456789abcdef", region="eu-central-1")


class Still:
    """A clock that stands still."""

    def clock(self) -> float:
        return EPOCH


@pytest.fixture
def table() -> Backend:
    service = SimulatedService(Still())  # type: ignore[arg-type] - only its clock is used
    item = new_window(ID, token="t", seed=b"s" * 16, start=0, end=200, now=EPOCH, deadline=EPOCH + 30, shards=Shards(1))
    service.backend.execute("put_item", {"TableName": "events", "Item": item})
    return service.backend


def renew(table: Backend, version: str, *earlier: str, start: int = 0) -> bool:
    """Renew the window; tell whether the write is applied."""
    arguments = extend(ID, token="t", start=start, end=200, version=version, earlier=earlier, deadline=EPOCH + 40)
    return is_applied(table, "update_item", arguments)


def is_applied(table: Backend, operation: str, arguments: dict[str, Any]) -> bool:
    """Make a write; tell whether its condition holds."""
    try:
        table.execute(operation, {"TableName": "events", **arguments})
    except Exception as error:
        assert "ConditionalCheckFailed" in str(error)
        return False
    return True


def test_renewals_follow_each_other(table: Backend) -> None:
    assert renew(table, "a", FIRST_VERSION)
    assert renew(table, "b", "a")


def test_a_repeat_of_an_applied_renewal_is_applied(table: Backend) -> None:
    assert renew(table, "a", FIRST_VERSION)
    assert renew(table, "a", FIRST_VERSION)


def test_a_renewal_may_follow_one_that_was_not_answered(table: Backend) -> None:
    assert renew(table, "b", FIRST_VERSION, "a")
    assert not renew(table, "a", FIRST_VERSION), "it comes late"
    assert renew(table, "c", "b")


def test_a_copy_of_the_worker_cannot_renew_the_window_too(table: Backend) -> None:
    assert renew(table, "a", FIRST_VERSION, start=40)
    assert not renew(table, "b", FIRST_VERSION, start=10)
    assert not renew(table, "c", FIRST_VERSION, "b", start=10)
    assert not is_applied(table, "delete_item", delete(ID, token="t", versions=[FIRST_VERSION, "b", "c"]))
    assert is_applied(table, "delete_item", delete(ID, token="t", versions=["a"]))
