"""Invariant L: an acknowledged event is completed, failed or still in the index."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reliability.history import (
    EmitAsked,
    EmitRefused,
    EmitUnknown,
    ItemDeleted,
    Outcome,
    ReplyLost,
    RequestFailed,
    SettleFailed,
    WorkerKilled,
)
from tests.reliability.checker.histories import delivered
from tests.reliability.history_builder import HistoryBuilder


def test_acknowledged_event_that_is_not_stored_is_lost() -> None:
    story = HistoryBuilder().emit()
    assert story.broken() == "L"
    assert story.add(ItemDeleted(at=3.0, event_id="e")).broken() == ""


@pytest.mark.parametrize("status", ["PENDING", "PROCESSING", "FAILED"])
def test_acknowledged_event_must_be_in_the_index_until_it_is_completed(status: str) -> None:
    assert "L" in HistoryBuilder().emit().ends(status, indexed=False).broken()
    assert HistoryBuilder().emit().ends(status).broken() == ""


def test_status_must_be_one_of_the_four() -> None:
    assert HistoryBuilder().emit().ends("DONE").broken() == "L"


def test_completed_event_must_not_stay_in_the_index() -> None:
    assert delivered().ends(indexed=True).broken() == "L"


def test_completed_event_must_have_been_handled() -> None:
    assert HistoryBuilder().emit().claim(2.0).settle(3.0).ends().broken() == "L"
    assert HistoryBuilder().emit().claim(2.0).start(2.1).end(2.5, "failed").ends().broken() == "L"
    assert "L" in HistoryBuilder().emit().claim(2.0).start(2.1).end(2.5, "failed").settle(3.0).ends().broken()


def test_handler_of_a_killed_worker_may_have_succeeded_unseen() -> None:
    story = HistoryBuilder().emit().claim(2.0).start(2.1).ends()
    assert story.broken() == "L"
    assert story.add(WorkerKilled(at=2.2, worker="w1")).broken() == ""


def test_event_may_be_completed_by_a_transaction_of_which_its_handler_got_no_answer() -> None:
    story = HistoryBuilder().emit().claim(2.0).start(2.1).end(3.1, "failed").ends()
    assert "L" in story.broken()
    failed = SettleFailed(at=3.0, event_id="e", worker="w1", token="w1-1", outcome=Outcome.COMPLETE, error="?")
    assert "L" in story.add(failed).broken()
    assert "L" in story.add(replace(failed, by_handler=True, maybe_applied=False)).broken()
    assert "L" in story.add(replace(failed, by_handler=True, token="foreign")).broken()
    assert story.add(replace(failed, by_handler=True)).broken() == ""


def test_event_may_be_completed_by_a_transaction_that_its_handler_was_cancelled_in() -> None:
    def story(**facts: bool) -> HistoryBuilder:
        cut = HistoryBuilder().emit().claim(2.0).start(2.1).end(5.0, "cancelled")
        return cut.settle(5.2, began_at=2.2, **facts).ends()

    assert story().broken() == "L"
    assert story(by_handler=True).broken() == ""


@pytest.mark.parametrize("record", [ReplyLost, RequestFailed])
def test_event_may_be_completed_by_a_transaction_whose_handler_was_cancelled_before_a_clear_answer(record: Any) -> None:
    story = HistoryBuilder().emit().claim(2.0).start(2.1).end(5.0, "cancelled").ends()
    assert story.add(record(at=4.0, operation="update_item", event_ids=("e",), worker="w1")).broken() == "L"
    assert story.add(record(at=4.0, operation="transact_write_items", event_ids=("e",), worker="w1")).broken() == ""


@pytest.mark.parametrize(("at", "worker"), [(2.0, "w1"), (4.0, "w2")])
def test_failed_request_of_an_emit_is_no_transaction_of_a_handler(at: float, worker: str) -> None:
    story = HistoryBuilder().emit().claim(2.0).start(2.1).end(5.0, "cancelled").ends()
    failed = RequestFailed(at=at, operation="transact_write_items", event_ids=("e",), worker=worker)
    assert story.add(failed).broken() == "L"


def test_event_is_handled_by_transactions_that_all_its_handlers_were_cancelled_in() -> None:
    def story(**facts: bool) -> HistoryBuilder:
        cut = HistoryBuilder().emit().claim(2.0).start(2.1).end(5.0, "cancelled")
        cut.settle(5.2, "handler done", began_at=2.2, **facts).settle(5.4, "release")
        return cut.claim(6.0, "w2").settle(6.2, worker="w2").ends()

    assert story().broken() == "L"
    assert story(by_handler=True).broken() == ""


def test_one_failed_handler_of_two_must_not_complete() -> None:
    story = HistoryBuilder().emit().claim(2.0).start(2.1).start(2.1, handler="other").end(2.3)
    story.end(2.4, "failed", handler="other")
    assert story.settle(2.6).ends().broken() == "L"
    # After a deletion, the same worker may have had a second claim of the event.
    assert story.add(ItemDeleted(at=2.05, event_id="e")).broken() == ""


def test_refused_emit_must_not_be_stored() -> None:
    asked, refused = EmitAsked(at=1.0, event_id="e"), EmitRefused(at=1.1, event_id="e", error="UnavailableError: no")
    assert HistoryBuilder().add(asked, refused).ends("PENDING").broken() == "L"
    assert HistoryBuilder().add(asked, refused).broken() == ""
    duplicate = EmitRefused(at=1.1, event_id="e", error="DuplicateEventError: it is there")
    assert HistoryBuilder().add(asked, duplicate).ends("PENDING").broken() == ""
    unknown = EmitUnknown(at=1.1, event_id="e", error="UnavailableError: perhaps")
    assert HistoryBuilder().add(asked, unknown).ends("PENDING").broken() == ""
    assert HistoryBuilder().add(asked, unknown).broken() == ""
