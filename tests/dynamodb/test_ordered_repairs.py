"""An operator retries, skips and discards events with an ordering key, together with the queue of the key."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodb_outbox import Event, EventStatus, FailedSelector, OutboxEventBus, Repaired
from dynamodb_outbox.dynamodb.ordering.queue import id_list, queue_id
from dynamodb_outbox.observations import KeyUnblocked
from tests.adapter_timing import with_timing
from tests.dynamodb.lines import Line, line_of
from tests.fakes import Clock

PENDING, PROCESSING, COMPLETED, FAILED, HELD, DISCARDED, QUEUED = EventStatus
WHO: dict[str, Any] = {"reason": "sent twice", "by": "ada@bastion"}
KEY = "order-17"


async def fence(line: Line, event_id: str) -> dict[str, str]:
    event = await line.outbox.get(event_id)
    assert event is not None
    return {event_id: event.fence}


async def index_row(line: Line, item_id: str) -> dict[str, Any]:
    item = await line.item(item_id)
    return {name: item.get(name) for name in ("status", "gsiSortKey", "statusShard")}


def unblocked(line: Line) -> list[tuple[str, str, str]]:
    found = [each for each in line.seen if isinstance(each, KeyUnblocked)]
    return [(each.ordering_key, each.event_id, each.repair) for each in found]


# Retries


async def test_retry_of_a_blocking_event_makes_it_due_in_its_place(line: Line) -> None:
    await line.emit("a", "b", "c")
    await line.block()
    line.clock.now += 60
    assert await line.outbox.redrive(["a"]) == Repaired(done=("a",))
    assert await line.order() == ["a", "b", "c"]
    event = await line.outbox.get("a")
    assert event is not None
    assert (event.status, event.retry_count, event.due_at.timestamp()) == (PENDING, 0, line.clock.now)
    assert event.handled_by == {"bill"}
    assert await line.state("a") == "QUEUED"
    assert unblocked(line) == [(KEY, "a", "retry")]
    assert await line.outbox.redrive(["a"]) == Repaired(refused={"a": PENDING})
    assert len(unblocked(line)) == 1


async def test_retry_of_an_event_that_was_set_aside_puts_it_to_the_end_of_its_line(line: Line) -> None:
    await line.emit("a", "b")
    await line.block()
    await line.outbox.skip(["a"])
    assert await line.outbox.redrive(["a"]) == Repaired(done=("a",))
    assert await line.order() == ["b", "a"]
    item = await line.item("a")
    assert (item["status"], item["retryCount"], item["lastError"]) == (
        {"S": "QUEUED"},
        {"N": "0"},
        {"S": "mail: refused"},
    )
    assert not {"gsiSortKey", "statusShard", "claimToken"} & set(item)
    assert await line.outbox.redrive(["a"]) == Repaired(refused={"a": QUEUED})


async def test_retry_of_an_event_that_was_set_aside_begins_a_line_where_there_is_none(line: Line) -> None:
    await line.emit("a")
    await line.block()
    assert await line.outbox.skip(["a"])
    assert await line.queue() is None
    assert await line.outbox.redrive(["a"])
    assert await line.order() == ["a"]
    event = await line.outbox.get("a")
    assert event is not None
    # The handlers that succeeded before do not run again.
    assert (event.status, event.retry_count, event.handled_by) == (PENDING, 0, {"bill"})
    assert [event.id for event in (await line.outbox.list_events("due")).events] == ["a"]


@pytest.mark.parametrize("count", [10, 20, 30, 33])
async def test_retry_of_an_event_that_was_set_aside_finds_room_in_a_long_line(line: Line, count: int) -> None:
    ids = [f"e{number:02}" for number in range(count)]
    await line.store("x")
    await line.set_aside("x")
    await line.emit(*ids)
    assert await line.outbox.redrive(["x"])
    assert await line.order() == [*ids, "x"]
    assert await line.state("x") == "QUEUED"


async def test_events_of_a_key_that_were_set_aside_come_back_in_the_order_of_the_call(line: Line) -> None:
    ids = [f"e{number:02}" for number in range(12)]
    await line.store(*ids)
    for each in ids:
        await line.set_aside(each)
    await line.store("other", key="order-18")
    await line.set_aside("other")
    repaired = await line.outbox.redrive([*reversed(ids), "other"])
    assert repaired == Repaired(done=(*reversed(ids), "other"))
    assert await line.order() == list(reversed(ids))
    assert await line.order("order-18") == ["other"]


async def test_retry_never_makes_an_event_with_a_key_due_outside_of_its_line(line: Line) -> None:
    await line.emit("a", "b")
    await line.claim()
    assert await line.outbox.redrive(["a", "b"]) == Repaired(refused={"a": PROCESSING, "b": QUEUED})
    await line.store("unlisted", key="order-18")
    assert await line.outbox.redrive(["unlisted"]) == Repaired(refused={"unlisted": QUEUED})
    assert [await line.state(each) for each in ("a", "b", "unlisted")] == ["QUEUED"] * 3


async def test_retry_with_a_fence_is_refused_once_the_front_has_failed_again(line: Line) -> None:
    await line.emit("a", "b")
    await line.block()
    seen = await fence(line, "a")
    assert seen == {"a": f"FAILED@{round(line.clock.now * 1000)}"}
    assert await line.outbox.redrive(["a"], fences=seen)
    line.clock.now += 1
    await line.block()
    assert await line.outbox.redrive(["a"], fences=seen) == Repaired(refused={"a": FAILED})
    assert await line.outbox.redrive(["a"], fences=await fence(line, "a"))


async def test_retry_with_a_fence_of_an_event_set_aside_is_refused_once_it_has_failed_again(line: Line) -> None:
    await line.store("a")
    await line.set_aside("a")
    seen = await fence(line, "a")
    line.clock.now += 1
    await line.set_aside("a")
    assert await line.outbox.redrive(["a"], fences=seen) == Repaired(refused={"a": FAILED})
    assert await line.outbox.redrive(["a"], fences=await fence(line, "a"))
    assert await line.order() == ["a"]


async def test_retry_of_a_blocking_event_that_was_also_set_aside_brings_it_back_in_its_place(line: Line) -> None:
    """A worker that lost its lease set it aside, when another one had failed the key already."""
    await line.emit("a", "b")
    await line.block()
    await line.set_aside("a")
    assert [(each.id, each.blocks_key) for each in await line.outbox.failed_events()] == [("a", True)]
    assert await line.outbox.redrive(["a"]) == Repaired(done=("a",))
    assert await line.order() == ["a", "b"]
    event = await line.outbox.get("a")
    assert event is not None
    assert (event.status, await line.state("a")) == (PENDING, "QUEUED")


async def test_retry_of_a_failed_event_that_no_worker_has_popped_yet_keeps_it_in_front(line: Line) -> None:
    """The worker died after it had set the event aside, and recovery has made the queue due."""
    await line.emit("a", "b")
    await line.set_aside("a")
    assert await line.outbox.redrive(["a"]) == Repaired(done=("a",))
    assert (await line.order(), await line.state("a")) == (["a", "b"], "QUEUED")


async def test_retry_of_a_failed_event_that_a_worker_is_about_to_pop_waits_for_the_worker(line: Line) -> None:
    await line.emit("a", "b")
    with_timing(line.outbox, busy_line=0.001)
    await line.claim()
    await line.set_aside("a")
    # Nobody takes it.
    assert await line.outbox.redrive(["a"]) == Repaired(refused={"a": FAILED})
    assert (await line.order(), await line.state("a")) == (["a", "b"], "FAILED")


async def test_retry_of_an_event_that_is_listed_a_second_time_adds_no_third(line: Line) -> None:
    await line.emit("a", "b")
    await line.change(queue_id(KEY), ids=id_list(("a", "b", "b")))
    await line.set_aside("b")
    assert await line.outbox.redrive(["b"]) == Repaired(done=("b",))
    assert (await line.order(), await line.state("b")) == (["a", "b", "b"], "QUEUED")


# Skips


async def test_skip_sets_the_event_aside_and_the_next_one_is_due(line: Line) -> None:
    await line.emit("a", "b", "c")
    await line.block()
    failed_at = line.clock.now
    line.clock.now += 60
    assert await line.outbox.skip(["a"]) == Repaired(done=("a",))
    assert await line.order() == ["b", "c"]
    (letter,) = await line.outbox.failed_events()
    assert (letter.id, letter.blocks_key, letter.ordering_key, letter.retry_count) == ("a", False, KEY, 5)
    assert (letter.last_error, letter.error_type, letter.error_handler) == ("mail: refused", "SMTPError", "mail")
    assert (letter.handled_by, letter.failed_at.timestamp()) == ({"bill"}, failed_at)
    event = await line.outbox.get("b")
    assert event is not None
    assert (event.status, event.due_at.timestamp(), event.retry_count) == (PENDING, line.clock.now, 0)
    assert (event.last_error, event.handled_by) == ("", frozenset())
    assert unblocked(line) == [(KEY, "a", "skip")]
    assert await line.outbox.skip(["a"]) == Repaired(refused={"a": FAILED})


async def test_skip_is_refused_unless_the_event_blocks_its_key(line: Line) -> None:
    await line.emit("a", "b")
    await line.store("unlisted", key="order-18")
    await line.outbox.publish([Event("order.paid", id="plain")])
    await line.change("plain", status={"S": "FAILED"})
    for _ in range(2):
        refused = (await line.outbox.skip(["a", "b", "unlisted", "plain", "nobody"])).refused
        assert refused == {"a": PENDING, "b": QUEUED, "unlisted": QUEUED, "plain": FAILED, "nobody": None}
    await line.claim()
    assert await line.outbox.skip(["a"]) == Repaired(refused={"a": PROCESSING})
    await line.block()
    assert await line.outbox.skip(["b"]) == Repaired(refused={"b": QUEUED})
    assert await line.order() == ["a", "b"]


@pytest.mark.parametrize("count", [1, 2, 12, 31])
async def test_skip_takes_the_front_of_a_line_of_any_length(line: Line, count: int) -> None:
    ids = [f"e{number:02}" for number in range(count)]
    await line.emit(*ids)
    for left in range(count, 0, -1):
        await line.block()
        assert await line.outbox.skip([ids[count - left]])
        assert await line.order() == ids[count - left + 1 :]
    assert await line.queue() is None
    assert await pages_of(line) == []
    assert {await line.state(each) for each in ids} == {"FAILED"}


async def pages_of(line: Line) -> list[str]:
    items = (await line.client.scan(TableName=line.table, ConsistentRead=True))["Items"]
    return [item["id"]["S"] for item in items if item["id"]["S"].startswith("dynamodb-outbox")]


async def test_skip_of_an_event_that_is_over_takes_it_from_the_front(line: Line) -> None:
    """A worker completed the event when another one, that had its lease, had failed the key already."""
    await line.emit("a", "b")
    await line.block()
    await line.change("a", status={"S": "COMPLETED"})
    assert await line.outbox.skip(["a"]) == Repaired(done=("a",))
    assert (await line.order(), await line.state("a")) == (["b"], "COMPLETED")


async def test_front_that_somebody_has_deleted_is_shown_and_repaired_by_the_id_of_its_queue(line: Line) -> None:
    await line.emit("a", "b", "c")
    await line.block()
    await line.client.delete_item(TableName=line.table, Key={"id": {"S": "a"}})
    (letter,) = await line.outbox.failed_events()
    assert (letter.id, letter.type, letter.ordering_key, letter.blocks_key) == (queue_id(KEY), "?", KEY, True)
    event = await line.outbox.get(letter.id)
    assert event is not None
    assert (event.status, event.blocks_key, event.unreadable) == (FAILED, True, "the attribute 'type' is missing")
    assert (await line.outbox.discard([letter.id], **WHO)).refused == {letter.id: None}
    assert await line.outbox.skip([letter.id]) == Repaired(done=(letter.id,))
    assert await line.order() == ["b", "c"]
    await line.block()
    await line.client.delete_item(TableName=line.table, Key={"id": {"S": "b"}})
    assert await line.outbox.redrive([queue_id(KEY)]) == Repaired(done=(queue_id(KEY),))
    queue = await line.queue()
    assert queue is not None
    assert (queue.status, queue.front) == ("PENDING", "b")


async def test_queue_that_cannot_be_read_is_a_dead_letter_and_can_be_retried(line: Line) -> None:
    await line.emit("a", "b")
    await line.block()
    await line.change(queue_id(KEY), ids={"S": "a"})
    (letter,) = await line.outbox.failed_events()
    assert (letter.id, letter.ordering_key, letter.last_error) == (queue_id(KEY), KEY, "mail: refused")
    assert await line.outbox.skip([letter.id]) == Repaired(refused={letter.id: None})
    await line.change(queue_id(KEY), ids=id_list(("a", "b")))
    assert await line.outbox.redrive([letter.id]) == Repaired(done=(letter.id,))
    assert await line.order() == ["a", "b"]


# Discards


async def test_discard_of_a_blocking_event_unblocks_its_key(line: Line) -> None:
    await line.emit("a", "b")
    await line.block()
    line.clock.now += 1
    assert await line.outbox.discard(["a"], **WHO) == Repaired(done=("a",))
    assert (await line.order(), await line.state("a")) == (["b"], "DISCARDED")
    event = await line.outbox.get("a")
    assert event is not None
    assert (event.discarded_by, event.discard_reason) == ("ada@bastion", "sent twice")
    assert unblocked(line) == [(KEY, "a", "discard")]
    line.clock.now += 1
    assert await line.outbox.discard(["a"], **WHO) == Repaired(refused={"a": DISCARDED})


@pytest.mark.parametrize("status", ["PENDING", "HELD"])
async def test_discard_of_the_front_makes_the_next_event_due(line: Line, status: str) -> None:
    await line.emit("a", "b")
    await line.be(status, at=line.clock.now + 500, type={"S": "order.paid"}, lastError={"S": "no"})
    assert await line.outbox.discard(["a"], **WHO) == Repaired(done=("a",))
    event = await line.outbox.get("b")
    assert event is not None
    assert (event.status, event.due_at.timestamp(), event.last_error) == (PENDING, line.clock.now, "")
    assert "type" not in await line.item(queue_id(KEY))
    assert unblocked(line) == []


async def test_discard_of_a_waiting_event_leaves_its_place_to_be_skipped(line: Line) -> None:
    await line.emit("a", "b", "c")
    await line.claim()
    assert await line.outbox.discard(["b", "a"], **WHO) == Repaired(done=("b",), refused={"a": PROCESSING})
    assert (await line.order(), await line.state("b")) == (["a", "b", "c"], "DISCARDED")


async def test_discard_of_events_that_stand_in_no_line(line: Line) -> None:
    await line.store("unlisted")
    await line.store("aside", key="order-18")
    await line.set_aside("aside")
    assert await line.outbox.discard(["unlisted", "aside"], **WHO) == Repaired(done=("unlisted", "aside"))
    assert [await line.state(each) for each in ("unlisted", "aside")] == ["DISCARDED"] * 2


async def test_discard_with_a_fence_is_refused_once_the_event_has_come_to_the_front(line: Line) -> None:
    await line.emit("a", "b")
    seen = await fence(line, "b")
    assert seen == {"b": "QUEUED@"}
    await line.take_front()
    assert await line.outbox.discard(["b"], **WHO, fences=seen) == Repaired(refused={"b": PENDING})
    assert await line.outbox.discard(["b"], **WHO, fences=await fence(line, "b"))
    assert await line.queue() is None


async def test_discard_never_takes_a_queue(line: Line) -> None:
    await line.emit("a", "b")
    assert (await line.outbox.discard([queue_id(KEY)], **WHO)).refused == {queue_id(KEY): None}
    assert await line.order() == ["a", "b"]


async def test_discard_keeps_the_item_until_its_retention_is_over(line: Line) -> None:
    line.outbox._parts.repairs._discards._retention = 60.0
    await line.emit("a", "b")
    assert await line.outbox.discard(["a", "b"], **WHO)
    for each in ("a", "b"):
        assert (await line.item(each))["expireAt"] == {"N": str(int(line.clock.now + 60))}


# Many


async def test_bulk_retry_returns_events_to_their_lines_in_the_order_of_their_failures(
    local_client: Any, table_name: str
) -> None:
    line = line_of(local_client, table_name, Clock())
    await line.outbox.create_table()
    ids = [f"e{number:03}" for number in range(105)]
    await line.store(*ids)
    for each in ids:
        line.clock.now += 1
        await line.set_aside(each)
    await line.emit("first")
    await line.block()
    progress: list[int] = []
    repaired = await OutboxEventBus(line.outbox).retry_events(FailedSelector(), on_progress=progress.append)
    assert (repaired.done, repaired.refused) == (("first", *ids), {})
    assert await line.order() == ["first", *ids]
    assert progress == [1, 1, 101, 106]
