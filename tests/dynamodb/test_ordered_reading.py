"""An operator reads events with an ordering key: where each stands in its line, and what it waits for."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox, Event, EventState, EventStatus
from dynamodb_outbox.dynamodb.ordering.queue import WIDTH, queue_id
from dynamodb_outbox.stored_events import Count
from reliability.proxy import Proxy, Recorded
from tests.dynamodb.lines import Line, line_of
from tests.fakes import Clock

PENDING, PROCESSING, COMPLETED, FAILED, HELD, DISCARDED, QUEUED = EventStatus
KEY = "order-17"


async def get(line: Line, event_id: str) -> Any:
    event = await line.outbox.get(event_id)
    assert event is not None
    return event


# One event


async def test_event_at_the_front_has_the_state_of_its_queue(line: Line) -> None:
    await line.emit("a", "b", "c")
    event = await get(line, "a")
    assert (event.status, event.state, event.ordering_key) == (PENDING, EventState.DUE, KEY)
    assert (event.waiting_behind, event.waits_for) == (Count(at_least=2, is_exact=True), None)
    assert event.fence == f"PENDING@{round(line.clock.now * 1000)}"
    await line.claim()
    event = await get(line, "a")
    assert (event.state, event.lease_expires_at.timestamp()) == (EventState.PROCESSING, line.clock.now + 30)
    await line.be("PENDING", at=line.clock.now + 8, retryCount={"N": "3"}, lastError={"S": "no"})
    event = await get(line, "a")
    assert (event.state, event.retry_count, event.last_error) == (EventState.SCHEDULED, 3, "no")
    await line.be("HELD", type={"S": "order.paid"})
    assert (await get(line, "a")).state is EventState.HELD
    await line.block()
    event = await get(line, "a")
    assert (event.state, event.error_handler, event.handled_by) == (EventState.FAILED, "mail", {"bill"})
    assert event.blocks_key


async def test_event_behind_the_front_waits_for_it(line: Line) -> None:
    await line.emit("a", "b", "c")
    await line.block()
    for each in ("b", "c"):
        event = await get(line, each)
        assert (event.status, event.state, event.waits_for) == (QUEUED, EventState.WAITING, "a")
        assert (event.waiting_behind, event.retry_count, event.due_at, event.last_error) == (None, 0, None, "")
        assert not event.blocks_key


async def test_event_that_no_queue_lists_waits_for_nothing(line: Line) -> None:
    await line.store("unlisted")
    for each in ("a", "b"):
        event = await get(line, "unlisted")
        assert (event.status, event.state, event.waits_for) == (QUEUED, EventState.WAITING, None)
        await line.emit(each)


async def test_event_that_was_set_aside_is_a_dead_letter_that_blocks_nothing(line: Line) -> None:
    await line.emit("a", "b")
    await line.block()
    await line.outbox.skip(["a"])
    event = await get(line, "a")
    assert (event.status, event.waiting_behind, event.blocks_key, event.ordering_key) == (FAILED, None, False, KEY)


@pytest.mark.parametrize(
    ("count", "behind"), [(1, "0"), (2 * WIDTH, "19"), (2 * WIDTH + 1, "20"), (60, "59"), (61, "51+"), (72, "53+")]
)
async def test_number_of_events_behind_is_exact_unless_the_queue_has_many_pages(
    line: Line, count: int, behind: str
) -> None:
    await line.emit(*(f"e{number:02}" for number in range(count)))
    assert str((await get(line, "e00")).waiting_behind) == behind
    page = await line.outbox.list_events(EventState.DUE)
    assert [str(event.waiting_behind) for event in page.events] == [behind]


async def test_event_that_leaves_its_queue_during_the_read_is_shown_as_it_is_now(
    client: Any, proxy: Proxy, table_name: str
) -> None:
    line = line_of(client, table_name, Clock())
    await line.outbox.create_table()
    await line.emit("a", "b")
    reads = 0

    async def rule(request: Recorded) -> None:
        nonlocal reads
        reads += request.operation == "BatchGetItem"
        # The event was read, and its queue was not.
        if request.operation == "BatchGetItem" and reads == 2:
            await line.take_front()

    proxy.rule = rule
    assert (await get(line, "a")).status is COMPLETED


async def test_events_without_a_key_cost_one_read(client: Any, proxy: Proxy, table_name: str) -> None:
    outbox = DynamoDBOutbox(client, table_name=table_name)
    await outbox.create_table()
    await outbox.publish([Event("order.paid", id="a")])
    proxy.requests.clear()
    event = await outbox.get("a")
    assert event is not None
    assert (event.ordering_key, proxy.operations()) == (None, ["BatchGetItem"])


# Many events


async def test_lists_show_the_fronts_of_queues(line: Line) -> None:
    await line.emit("a", "b")
    await line.emit("x", "y", key="order-18")
    await line.emit("h", key="order-19")
    await line.outbox.publish([Event("order.paid", id="plain")])
    await line.block()
    await line.be("HELD", key="order-19", type={"S": "order.paid"})

    async def listed(state: str) -> dict[str, str | None]:
        page = await line.outbox.list_events(state)
        return {event.id: event.ordering_key for event in page.events}

    assert await listed("failed") == {"a": KEY}
    assert await listed("due") == {"x": "order-18", "plain": None}
    assert await listed("held") == {"h": "order-19"}
    (event,) = (await line.outbox.list_events("failed")).events
    assert (event.blocks_key, event.fence) == (True, f"FAILED@{round(line.clock.now * 1000)}")
    assert await line.outbox.redrive(["a"], fences={"a": event.fence})
    await line.claim()
    assert await listed("processing") == {"a": KEY}


async def test_lists_filter_by_the_type_of_the_front(line: Line) -> None:
    await line.emit("a", "b")
    await line.emit("x", key="order-18")
    await line.change("x", type={"S": "order.sent"})
    assert [event.id for event in (await line.outbox.list_events("due", type="order.sent")).events] == ["x"]
    assert [event.id for event in (await line.outbox.list_events("due", type="order.paid")).events] == ["a"]
    await line.block(key="order-18")
    await line.block()
    assert [letter.id for letter in await line.outbox.failed_events(type="order.sent")] == ["x"]
    assert [letter.id for letter in await line.outbox.failed_events(type="order.paid", limit=1)] == ["a"]


async def test_pages_go_on_from_the_row_of_a_queue(line: Line) -> None:
    keys = [f"order-{number}" for number in range(5)]
    for number, key in enumerate(keys):
        await line.emit(f"e{number}", f"f{number}", key=key)
        line.clock.now += 1
    found: list[str] = []
    after: str | None = None
    while True:
        page = await line.outbox.list_events("due", after=after, limit=2)
        found += [event.id for event in page.events]
        if page.after is None:
            break
        after = page.after
    assert found == [f"e{number}" for number in range(5)]


async def test_page_reads_the_fronts_of_all_its_queues_at_once(client: Any, proxy: Proxy, table_name: str) -> None:
    line = line_of(client, table_name, Clock())
    await line.outbox.create_table()
    for number in range(5):
        await line.emit(f"e{number}", key=f"order-{number}")
    proxy.requests.clear()
    assert len((await line.outbox.list_events("due")).events) == 5
    assert proxy.count("BatchGetItem") == 2
    proxy.requests.clear()
    await line.outbox.sample()
    assert proxy.count("BatchGetItem") == 0


async def test_queue_whose_front_is_done_is_not_listed_and_a_worker_will_take_it(line: Line) -> None:
    await line.emit("a", "b")
    await line.change("a", status={"S": "COMPLETED"})
    assert (await line.outbox.list_events("due")).events == ()
    assert (await get(line, "a")).status is COMPLETED


async def test_dead_letters_that_block_their_keys_are_marked(line: Line) -> None:
    await line.emit("a", "b")
    await line.store("aside", key="order-18")
    await line.set_aside("aside")
    line.clock.now += 1
    await line.block()
    found = [(letter.id, letter.ordering_key, letter.blocks_key) for letter in await line.outbox.failed_events()]
    assert found == [("a", KEY, True), ("aside", "order-18", False)]
    assert await line.outbox.count("FAILED") == 2


async def test_dead_letter_that_blocks_its_key_and_is_set_aside_is_listed_once(line: Line) -> None:
    """A worker set it aside, and another one, which had its lease before, failed the key."""
    await line.emit("a", "b")
    await line.set_aside("a")
    line.clock.now += 1
    await line.block()
    assert [(letter.id, letter.blocks_key) for letter in await line.outbox.failed_events()] == [("a", True)]
    (event,) = (await line.outbox.list_events("failed")).events
    assert (event.id, event.blocks_key) == ("a", True)
    assert (await get(line, "a")).blocks_key


async def test_sample_counts_a_line_as_one(line: Line) -> None:
    await line.emit("a", "b", "c")
    await line.emit("x", "y", key="order-18")
    await line.block(key="order-18")
    sample = await line.outbox.sample()
    assert (sample.due, sample.failed) == (Count(at_least=1, is_exact=True), Count(at_least=1, is_exact=True))
    assert sample.blocked_keys == Count(at_least=1, is_exact=True)
    assert sample.latest_failed is not None
    assert sample.latest_failed.timestamp() == line.clock.now
    assert await line.outbox.count("PENDING") == 1


async def test_sample_counts_blocked_keys_and_no_other_dead_letters(line: Line) -> None:
    for number in range(4):
        await line.emit(f"e{number}", key=f"order-{number}")
        await line.block(key=f"order-{number}")
        await line.store(f"aside{number}")
        await line.set_aside(f"aside{number}")
    sample = await line.outbox.sample()
    assert (sample.failed.at_least, sample.blocked_keys) == (8, Count(at_least=4, is_exact=True))
    assert not (await line.outbox.sample(count_limit=3)).blocked_keys.is_exact


async def test_id_of_a_queue_reads_the_event_at_its_front(line: Line) -> None:
    await line.emit("a", "b")
    event = await get(line, queue_id(KEY))
    assert (event.id, event.waiting_behind) == ("a", Count(at_least=1, is_exact=True))
    assert await line.outbox.get(queue_id("order-18")) is None
