"""Events with an ordering key are delivered one at a time, in order: claims, settles and recovery of their queues."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from itertools import count
from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox, LeaseLostError, StorageError, StoredEventError
from dynamodb_outbox.claims import Claim
from dynamodb_outbox.dynamodb.delivering.queue_exits import MAX_KEPT
from dynamodb_outbox.dynamodb.items.codec import millis
from dynamodb_outbox.dynamodb.ordering.fronts import MAX_SKIPPED
from dynamodb_outbox.observations import EventFailed, KeyBlocked
from dynamodb_outbox.outcome import Failed, Held, Released, Retry
from reliability.simulation.backend import Backend
from reliability.simulation.client import direct_client
from tests.backends import open_client
from tests.dynamodb.queues import Line

NAMES, NONE = frozenset({"mail"}), frozenset[str]()


class Seen(list[Any]):
    """An observer that keeps what it is called with."""

    def __call__(self, observation: Any) -> None:
        self.append(observation)


@pytest.fixture(params=["simulated batch", "moto single", "local batch", "local single", "local batch 4"])
async def line(request: pytest.FixtureRequest, table_name: str) -> AsyncIterator[Line]:
    backend, mode, *shards = request.param.split()
    async with AsyncExitStack() as stack:
        clock = time.time
        if backend == "simulated":
            # It answers in no time. A worker does not try a row again that has the sort key of a moment ago.
            clock = partial(next, (1_790_000_000 + n / 1000 for n in count()))
            client: Any = direct_client(Backend(clock=clock))
        else:
            client = await stack.enter_async_context(open_client(request.getfixturevalue(f"{backend}_endpoint")))
        outbox = DynamoDBOutbox(
            client,
            table_name=table_name,
            conditional_writes=mode,
            shards=int(shards[0]) if shards else 1,
            clock=clock,
        )
        await outbox.create_table()
        yield Line(client, outbox)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("events", [1, 2, 12, 45])
async def test_events_of_a_key_come_in_order_one_at_a_time(line: Line, events: int, *, keep: bool) -> None:
    ids = [f"e{number}" for number in range(events)]
    await line.emit(*ids)
    assert await line.work_off(keep=keep) == ids
    assert await line.item() == {}
    assert {await line.status(each) for each in ids} == {"COMPLETED"}


async def test_completed_event_expires_after_the_retention(line: Line) -> None:
    keeping = Line(line.client, line.another(retention=60))
    await line.emit("a", "b")
    assert await keeping.work_off() == ["a", "b"]
    for each in ("a", "b"):
        item = await line.item(each)
        assert int(item["expireAt"]["N"]) == int(item["completedOn"]["N"]) // 1000 + 60
        assert item["status"] == {"S": "COMPLETED"}


async def test_claim_is_of_the_event_at_the_front(line: Line) -> None:
    await line.emit("a", "b")
    claim = await line.claim()
    assert (claim.event.id, claim.event.ordering_key, claim.attempt) == ("a", line.key, 1)
    assert await line.outbox.claim(10) == []
    following = await line.settle(claim, keep=True)
    assert isinstance(following, Claim)
    assert (following.event.id, following.attempt) == ("b", 1)
    assert following.token != claim.token
    assert await line.settle(following, keep=True) is None


async def test_retry_counts_on_the_queue_and_keeps_the_event_in_front(line: Line) -> None:
    await line.emit("a", "b")
    claim = await line.claim()
    retry = Retry(delay=0, error="smtp is down", error_type="SMTPError", error_handler="mail", handled_by=NAMES)
    assert await line.settle(claim, retry, keep=True) is None
    again = await line.claim()
    assert (again.event.id, again.attempt, again.handled_by) == ("a", 2, NAMES)
    assert (again.last_error, again.error_type, again.error_handler) == ("smtp is down", "SMTPError", "mail")
    following = await line.settle(again, keep=True)
    assert isinstance(following, Claim)
    assert (following.event.id, following.attempt, following.handled_by, following.last_error) == ("b", 1, NONE, "")
    assert (await line.item()).keys().isdisjoint({"lastError", "errorType", "errorHandler", "handledBy"})


async def test_release_changes_nothing_but_the_holder(line: Line) -> None:
    await line.emit("a", "b")
    claim = await line.claim()
    assert await line.settle(claim, Released(handled_by=NAMES)) is None
    again = await line.claim()
    assert (again.event.id, again.attempt, again.handled_by) == ("a", 1, NAMES)
    assert isinstance(await line.settle(claim), LeaseLostError)
    assert await line.status("a") == "COMPLETED"  # its handlers have succeeded


async def test_event_without_a_handler_is_given_back(line: Line) -> None:
    await line.emit("a", "b")
    claim = await line.claim()
    assert await line.settle(claim, Released(unhandled_since=1_000.0)) is None
    line.outbox._parts.rows.forget_handlers()
    again = await line.claim()
    assert (again.event.id, again.unhandled_since) == ("a", 1_000.0)
    following = await line.settle(again, keep=True)
    assert isinstance(following, Claim)
    assert following.unhandled_since is None


async def test_dead_letter_blocks_its_key(line: Line) -> None:
    await line.emit("a", "b")
    claim = await line.claim()
    failed = Failed(error="no such customer", error_type="LookupError", handled_by=NAMES, reason="rejected")
    assert await line.settle(claim, failed, keep=True) is None
    queue = await line.item()
    assert (queue["status"], queue["lastError"]) == ({"S": "FAILED"}, {"S": "no such customer"})
    assert (await line.status("a"), await line.status("b")) == ("QUEUED", "QUEUED")
    assert await line.outbox.claim(10) == []


@pytest.mark.parametrize("keep", [True, False])
async def test_dead_letter_is_set_aside_if_the_outbox_skips(line: Line, *, keep: bool) -> None:
    outbox = line.outbox
    skipping = Line(line.client, line.another(failed_key="skip"))
    await line.emit("a", "b")
    retry = Retry(delay=0, error="down", handled_by=NAMES)
    assert await line.settle(await line.claim(), retry) is None
    claim = await skipping.claim()
    failed = Failed(error="no such customer", error_type="LookupError", handled_by=frozenset({"ship"}))
    following = await skipping.settle(claim, failed, keep=keep)
    item = await line.item("a")
    assert (item["status"], item["retryCount"], item["errorType"]) == (
        {"S": "FAILED"},
        {"N": "1"},
        {"S": "LookupError"},
    )
    assert set(item["handledBy"]["SS"]) == {"mail", "ship"}
    assert [event.id for event in await outbox.failed_events(type=None, limit=10)] == ["a"]
    if not keep:
        assert following is None
        following = await line.claim()
    assert isinstance(following, Claim)
    assert (following.event.id, following.attempt, following.handled_by) == ("b", 1, NONE)


async def test_worker_that_has_lost_the_lease_sets_no_event_aside(line: Line) -> None:
    skipping = Line(line.client, line.another(failed_key="skip"))
    await line.emit("a", "b")
    late = await skipping.claim()
    await line.expire()
    await line.outbox.recover()
    claim = await line.claim()
    assert (claim.event.id, claim.attempt) == ("a", 2)
    assert isinstance(await skipping.settle(late, Failed(error="x"), keep=True), LeaseLostError)
    assert await line.status("a") == "QUEUED"
    assert isinstance(await line.settle(claim, keep=True), Claim)
    assert await line.status("a") == "COMPLETED"


# moto answers this transaction with an internal error (500).
@pytest.mark.parametrize("line", ["local batch", "local single"], indirect=True)
async def test_event_whose_handled_by_is_no_set_is_set_aside_without_the_names(line: Line) -> None:
    await line.emit("a", "b")
    skipping = Line(line.client, line.another(failed_key="skip"))
    claim = await skipping.claim()
    await line.change("a", handledBy={"S": "written by another program"})
    failure = Failed(error="x", handled_by=frozenset({"mail"}))
    assert await skipping.settle(claim, failure) is None
    assert await line.status("a") == "FAILED"
    assert await line.work_off() == ["b"]


async def test_held_queue_is_resumed_with_its_due_time(line: Line) -> None:
    await line.emit("a", "b")
    due = (await line.item())["gsiSortKey"]
    await line.outbox.hold("order.paid", reason="", by="ada", until=None)
    claim = await line.claim()
    assert claim.due_at is not None
    assert await line.settle(claim, Held(due_at=claim.due_at)) is None
    held = await line.item()
    assert (held["status"], held["type"], held["gsiSortKey"]) == ({"S": "HELD"}, {"S": "order.paid"}, due)
    assert await line.outbox.resume("order.paid") == 1
    # This outbox has tried the same row a moment ago.
    assert await Line(line.client, line.another()).work_off() == ["a", "b"]


async def test_sweep_of_held_events_names_the_event_in_front(line: Line) -> None:
    await line.emit("a", "b")
    claim = await line.claim()
    assert await line.settle(claim, Held(due_at=1.0)) is None
    line.outbox._parts.held._sweep_at = 0.0
    assert (await line.outbox.recover()).resumed == ("a",)


async def test_renewal_moves_the_lease_of_the_queue(line: Line) -> None:
    await line.emit("a")
    claim = await line.claim()
    ends = claim.lease_expires_at + 100
    assert await line.outbox.renew([(claim, ends)]) == [None]
    assert (await line.item())["gsiSortKey"] == millis(ends)
    assert await line.settle(claim, Released()) is None
    (error,) = await line.outbox.renew([(claim, ends)])
    assert isinstance(error, LeaseLostError)


async def test_recovery_counts_attempts_without_a_limit_and_names_the_event_in_front(line: Line) -> None:
    await line.emit("a", "b")
    for attempt in (1, 2, 3):
        claim = await line.claim()
        assert claim.attempt == attempt
        await line.expire()
        recovered = await line.outbox.recover(max_retries=1)
        assert (recovered.reset, recovered.failed, recovered.errors) == (("a",), (), ())
    assert (await line.item())["errorType"] == {"S": "LeaseExpired"}
    # The former worker has the queue until another one claims it.
    assert isinstance(following := await line.settle(claim, keep=True), Claim)
    assert following.event.id == "b"


async def test_lost_lease_pops_nothing_and_the_marked_event_runs_no_more(line: Line) -> None:
    await line.emit("a", "b")
    late = await line.claim()
    await line.expire()
    await line.outbox.recover()
    claim = await line.claim()
    assert isinstance(await line.settle(late, keep=True), LeaseLostError)
    assert claim.event.id == "a"
    await line.settle(claim, Released())
    assert await line.work_off() == ["b"]


async def test_front_that_is_discarded_or_deleted_is_skipped(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    await line.emit("a", "b", "c", "d", "e")
    await line.change("a", status={"S": "DISCARDED"})
    await line.change("b", status={"S": "COMPLETED"})
    await line.client.delete_item(TableName=line.outbox.table_name, Key={"id": {"S": "d"}})
    claim = await line.claim()
    assert claim.event.id == "c"
    assert "event 'd'" not in caplog.text
    following = await line.settle(claim, keep=True)
    assert isinstance(following, Claim)
    assert following.event.id == "e"
    assert "event 'd' of the ordering key 'order-17' is not stored any more" in caplog.text


async def test_queue_of_events_that_are_done_vanishes(line: Line) -> None:
    await line.emit("a", "b", queued=False)
    assert await line.outbox.claim(10) == []
    assert await line.item() == {}


async def test_long_queue_of_events_that_are_done_is_worked_off_in_one_poll(line: Line) -> None:
    ids = [f"e{number}" for number in range(MAX_SKIPPED + 5)]
    await line.emit(*ids, queued=False)
    await line.emit("last")
    assert [claim.event.id for claim in await line.outbox.claim(10)] == ["last"]


async def test_very_long_queue_of_events_that_are_done_is_worked_off_in_several_polls(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamodb_outbox.dynamodb.ordering.fronts.MAX_SKIPPED_ALONE", 3)
    await line.emit("a", "b", "c", "d", queued=False)
    await line.emit("last")
    assert await line.outbox.claim(10) == []
    assert await line.status() == "PENDING"
    assert [claim.event.id for claim in await line.outbox.claim(10)] == ["last"]


async def test_events_of_other_keys_wait_for_few_events_that_are_done(line: Line) -> None:
    ids = [f"e{number}" for number in range(MAX_SKIPPED + 5)]
    await line.emit(*ids, queued=False)
    await line.emit("last")
    other = Line(line.client, line.outbox, key="order-18")
    await other.emit("x")
    assert [claim.event.id for claim in await line.outbox.claim(10)] == ["x"]
    assert await line.status() == "PENDING"
    assert (await line.claim()).event.id == "last"


async def test_unreadable_front_blocks_its_key(line: Line) -> None:
    await line.emit("a", "b")
    whole = await line.item("a")
    await line.change("a", payload={"S": "no map"})
    errors: list[Any] = []
    seen = Seen()
    outbox = line.another(observers=[seen])
    assert await outbox.claim(10, report=errors.append) == []
    assert [(type(error), error.event_id) for error in errors] == [(StoredEventError, "a")]
    assert (await line.status(), await line.status("a")) == ("FAILED", "QUEUED")
    assert [each.event_id for each in seen if isinstance(each, EventFailed)] == ["a"]
    assert [(each.ordering_key, each.event_id) for each in seen if isinstance(each, KeyBlocked)] == [(line.key, "a")]
    await line.change("a", **whole)
    await line.make_due()
    assert await line.work_off() == ["a", "b"]


async def test_unreadable_front_is_set_aside_if_the_outbox_skips(line: Line) -> None:
    await line.emit("a", "b")
    await line.change("a", payload={"S": "no map"})
    await line.change(handledBy={"SS": ["bill"]})
    seen, errors = Seen(), list[Any]()
    skipping = line.another(failed_key="skip", observers=[seen])
    assert await skipping.claim(10, report=errors.append) == []
    assert [each.event_id for each in errors] == ["a"]
    assert (await line.status("a"), await line.status()) == ("FAILED", "PENDING")
    assert (await line.item("a")).get("handledBy") == {"SS": ["bill"]}
    assert not [each for each in seen if isinstance(each, KeyBlocked)]
    assert await line.work_off() == ["b"]


async def test_unreadable_next_event_is_met_by_the_next_claim(line: Line) -> None:
    await line.emit("a", "b")
    claim = await line.claim()
    await line.change("b", payload={"S": "no map"})
    assert await line.settle(claim, keep=True) is None
    assert (await line.status(), await line.status("a")) == ("PENDING", "COMPLETED")
    errors: list[Any] = []
    assert await line.outbox.claim(10, report=errors.append) == []
    assert [each.event_id for each in errors] == ["b"]


@pytest.mark.parametrize("ids", [{"L": []}, {"S": "a"}, {"L": [{"N": "1"}]}])
async def test_item_that_is_no_queue_is_failed(line: Line, ids: Any) -> None:
    await line.emit("a")
    await line.change(ids=ids)
    errors: list[Any] = []
    assert await line.outbox.claim(10, report=errors.append) == []
    assert [each.event_id for each in errors] == ["dynamodb-outbox-key/order-17"]
    assert await line.status() == "FAILED"


async def test_deleted_page_fails_the_queue_and_not_the_worker(line: Line) -> None:
    ids = [f"e{number}" for number in range(35)]
    await line.emit(*ids)
    queue = await line.queue()
    assert queue is not None
    page = queue.page_id(queue.first_page)
    whole = await line.item(page)
    await line.client.delete_item(TableName=line.outbox.table_name, Key={"id": {"S": page}})
    claim = await line.claim()
    for _ in range(9):
        following = await line.settle(claim, keep=True)
        assert isinstance(following, Claim)
        claim = following
    error = await line.settle(claim, keep=True)
    assert isinstance(error, StorageError)
    assert "'e9' cannot leave the queue" in str(error)
    await line.expire()
    await line.outbox.recover()
    errors: list[Any] = []
    assert await line.outbox.claim(10, report=errors.append) == []
    assert [each.event_id for each in errors] == ["e9"]
    assert await line.status() == "FAILED"
    await line.client.put_item(TableName=line.outbox.table_name, Item=whole)
    await line.make_due()
    assert await line.work_off() == ids[10:]


async def test_worker_gives_a_key_up_after_fifty_events_in_a_row(line: Line) -> None:
    ids = [f"e{number}" for number in range(MAX_KEPT + 2)]
    await line.emit(*ids)
    claim, handled = await line.claim(), 0
    while True:
        handled += 1
        settled = await line.settle(claim, keep=True)
        if not isinstance(settled, Claim):
            break
        claim = settled
    assert (handled, settled, await line.status()) == (MAX_KEPT, None, "PENDING")
    assert await line.work_off() == ids[MAX_KEPT:]


async def test_marked_event_is_only_popped(line: Line) -> None:
    await line.emit("a", "b")
    claim = await line.claim()
    item = await line.item("a")
    line.outbox._parts.exits.note_mark(claim)
    assert isinstance(await line.settle(claim, keep=True), Claim)
    assert await line.item("a") == item
