"""What an operator reads of a table: events of windows, stale rows, strange items, and what all of it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from dynamodb_outbox import ConfigurationError, Count, DynamoDBOutbox, Event, EventState, EventStatus, StorageError
from dynamodb_outbox.adapter import Failed
from dynamodb_outbox.cursors import Cursor, read_cursor
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.transport.read_units import ReadUnits
from reliability.simulation.backend import Backend
from reliability.simulation.client import direct_client
from reliability.simulation.responses import client_error
from tests.dynamodb.dead_worker import DEAD, DeadWorker
from tests.fakes import Clock

TABLE = "events"
REGION = "unknown"
"""The Region of a simulated client."""


@dataclass
class RecordingClient:
    """A client of a simulated backend that keeps the requests and the read units of their responses."""

    client: Any
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    units: float = 0.0
    broken: str | None = None

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.client, name)
        if name.startswith("_") or name in {"meta", "exceptions"}:
            return attribute

        async def call(**params: Any) -> Any:
            self.calls.append((name, params))
            if name == self.broken:
                raise client_error("AccessDeniedException", "no", operation=name)
            if name not in {"query", "batch_get_item"}:
                return await attribute(**params)
            asked = params.get("ReturnConsumedCapacity")
            response = await attribute(**params | {"ReturnConsumedCapacity": "TOTAL"})
            capacity = response["ConsumedCapacity"] if asked else response.pop("ConsumedCapacity")
            self.units += sum(
                each["CapacityUnits"] for each in (capacity if isinstance(capacity, list) else [capacity])
            )
            return response

        return call

    def count(self, name: str) -> int:
        return sum(called == name for called, _ in self.calls)

    def forget(self) -> None:
        self.calls.clear()
        self.units = 0.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(clock: Clock) -> RecordingClient:
    return RecordingClient(direct_client(Backend(clock=clock)))


async def outbox_of(client: Any, clock: Clock, *, projection: Any = "ALL", **options: Any) -> DynamoDBOutbox:
    outbox = DynamoDBOutbox(client, table_name=TABLE, clock=clock, **options)
    await outbox.create_table(projection=projection)
    return outbox


async def pages_of(outbox: DynamoDBOutbox, state: str, **options: Any) -> list[list[str]]:
    pages: list[list[str]] = []
    after = None
    while True:
        page = await outbox.list_events(state, after=after, **options)
        pages.append([event.id for event in page.events])
        after = page.after
        if after is None:
            return pages


def flat(pages: Sequence[Sequence[str]]) -> list[str]:
    return [event_id for page in pages for event_id in page]


# Windows


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize(("ended", "state"), [(-10.0, EventState.PROCESSING), (1.0, EventState.EXPIRED)])
async def test_events_of_windows_are_shown(
    client: Any, clock: Clock, shards: int, ended: float, state: EventState
) -> None:
    outbox = await outbox_of(client, clock, shards=shards)
    workers = [DeadWorker(client, TABLE, clock, Shards(shards), end=360, region=REGION) for _ in range(2)]
    wanted: set[str] = set()
    for worker in workers:
        await worker.store_window(ended=ended)
        for number in (200, 201, 299, 300, 359):
            wanted.add(await worker.put(worker.unlisted(number)))
        await worker.put(worker.unlisted(250, status={"S": "COMPLETED"}))
        await worker.put(worker.unlisted(251, window={"S": "0" * 16}))  # moved here from another window
    other = EventState.EXPIRED if state is EventState.PROCESSING else EventState.PROCESSING
    for limit in (1, 3, 50):
        found = flat(await pages_of(outbox, state, limit=limit))
        assert sorted(found) == sorted(wanted)
        assert await pages_of(outbox, other, limit=limit) == [[]]
    shown = await outbox.get(workers[0].id_of(300))
    assert shown is not None
    assert (shown.state, shown.status, shown.window) == (state, EventStatus.PROCESSING, workers[0].name)
    assert shown.lease_expires_at is not None
    assert shown.lease_expires_at.timestamp() == clock.now - ended
    assert (shown.claimed_by, shown.fence) == (DEAD, "PROCESSING@")


async def test_rows_follow_the_events_of_windows(client: Any, clock: Clock) -> None:
    outbox = await outbox_of(client, clock)
    worker = DeadWorker(client, TABLE, clock, region=REGION)
    await worker.store_window(ended=-10)
    in_window = {await worker.put(worker.unlisted(number)) for number in (205, 239)}
    await outbox.publish([Event("order.placed", id=f"e{number}") for number in range(5)])
    await outbox.claim(5)
    found = flat(await pages_of(outbox, "processing", limit=2))
    assert set(found[:2]) == in_window
    assert sorted(found[2:]) == [f"e{number}" for number in range(5)]


async def test_event_whose_window_is_gone_is_shown_without_a_lease(client: Any, clock: Clock) -> None:
    outbox = await outbox_of(client, clock)
    worker = DeadWorker(client, TABLE, clock, region=REGION)
    event_id = await worker.put(worker.unlisted(205))
    shown = await outbox.get(event_id)
    assert shown is not None
    assert (shown.state, shown.lease_expires_at, shown.window) == (EventState.PROCESSING, None, worker.name)


async def test_tombstones_and_windows_are_not_events(client: Any, clock: Clock) -> None:
    outbox = await outbox_of(client, clock)
    worker = DeadWorker(client, TABLE, clock, region=REGION)
    await worker.store_window()
    await outbox.recover()
    assert (await worker.stored(worker.id_of(200)))["status"] == {"S": "VOID"}
    assert await outbox.get(worker.id_of(200)) is None
    assert await outbox.get(worker.window_id) is None


async def test_sample_counts_windows_up_to_a_part_of_the_limit(client: RecordingClient, clock: Clock) -> None:
    outbox = await outbox_of(client, clock)
    dead, alive = (DeadWorker(client, TABLE, clock, region=REGION, start=0, end=80) for _ in range(2))
    await dead.store_window(ended=5)
    await alive.store_window(ended=-5)
    for worker in (dead, alive):
        for number in (0, 1, 79):
            await worker.put(worker.unlisted(number))
    sample = await outbox.sample(count_limit=2_000)
    assert sample.processing == sample.expired == Count(at_least=3, is_exact=True)
    assert sample.oldest_expired_age == 5
    # 100 numbers: all of the window that waits for its recovery, and the first 20 of the other one.
    sample = await outbox.sample(count_limit=1_000)
    assert sample.expired == Count(at_least=3, is_exact=True)
    assert sample.processing == Count(at_least=2, is_exact=False)
    # A window that waits for its recovery is late, whether it has events or not.
    sample = await outbox.sample(count_limit=1)
    assert sample.expired == Count(at_least=1, is_exact=False)
    assert sample.oldest_expired_age == 5


# Rows and items


async def test_rows_that_are_stale_are_left_out(clock: Clock) -> None:
    lag = 0.0
    outbox = await outbox_of(direct_client(Backend(clock=clock, lag=lambda replica: lag)), clock)
    await outbox.publish([Event("order.placed", id=f"e{number}") for number in range(6)])
    lag = 100.0
    claimed = {claim.event.id for claim in await outbox.claim(2)}
    page = await outbox.list_events("due", limit=5)
    assert {event.id for event in page.events} == {f"e{number}" for number in range(6)} - claimed
    assert (page.examined, page.after) == (6, None)
    assert (await outbox.list_events("processing")).events == ()
    clock.now += 101
    assert {event.id for event in (await outbox.list_events("expired")).events} == claimed


@pytest.mark.parametrize("shards", [1, 4])
async def test_an_index_of_keys_shows_as_much(client: Any, clock: Clock, shards: int) -> None:
    outbox = await outbox_of(client, clock, projection="KEYS_ONLY", shards=shards)
    await outbox.publish([Event("order.placed", {"n": number}, id=f"e{number}") for number in range(9)])
    page = await outbox.list_events("due", type="order.placed")
    assert sorted(event.payload["n"] for event in page.events) == list(range(9))
    assert (await outbox.sample()).due == Count(at_least=9, is_exact=True)


async def test_former_index_shows_each_event_once(client: Any, clock: Clock) -> None:
    former = "status-gsiSortKey-index"
    outbox = DynamoDBOutbox(client, table_name=TABLE, clock=clock, shards=4, former_index_name=former)
    await outbox.create_table()
    plain = DynamoDBOutbox(client, table_name=TABLE, clock=clock)
    await plain.publish([Event("order.placed", id=f"old{number}") for number in range(5)])
    await outbox.publish([Event("order.placed", id=f"new{number}") for number in range(5)])
    found = flat(await pages_of(outbox, "due", limit=3))
    assert sorted(found) == sorted(f"{age}{number}" for age in ("old", "new") for number in range(5))
    assert (await outbox.sample()).due == Count(at_least=10, is_exact=True)


async def test_items_of_other_programs_are_shown_as_far_as_they_can_be_read(client: Any, clock: Clock) -> None:
    outbox = await outbox_of(client, clock)
    now = str(round(clock.now * 1000))
    odd: dict[str, Any] = {
        "id": {"S": "odd"},
        "status": {"S": "FAILED"},
        "gsiSortKey": {"N": "1E+30"},
        "payload": {"S": "text"},
        "type": {"N": "5"},
        "retryCount": {"S": "x"},
        "claimedBy": {"N": "1"},
        "errorType": {"NULL": True},
        "startedOn": {"S": "never"},
        "completedOn": {"N": "-1E+40"},
        "handledBy": {"L": []},
        "expireAt": {"N": "1.5"},
    }
    await client.put_item(TableName=TABLE, Item=odd)
    bare = {"id": {"S": "bare"}, "status": {"S": "PENDING"}, "gsiSortKey": {"N": f"{now}.25"}}
    await client.put_item(TableName=TABLE, Item=bare)
    await client.put_item(TableName=TABLE, Item={"id": {"S": "none"}, "status": {"S": "ODD"}})
    (shown,) = (await outbox.list_events("failed")).events
    assert shown.unreadable is not None
    assert (shown.id, shown.type, shown.payload, shown.metadata, shown.retry_count) == ("odd", "?", None, {}, 0)
    assert (shown.claimed_by, shown.error_type, shown.started_at) == (None, None, None)
    assert shown.failed_at is not None
    assert shown.failed_at.year == 9999
    assert shown.completed_at is not None
    assert shown.completed_at.year == 1
    bare_event = await outbox.get("bare")
    assert bare_event is not None
    assert bare_event.unreadable is not None
    assert await outbox.get("none") is None
    assert await outbox.redrive(["odd"], fences={"odd": shown.fence})


# Costs


@pytest.mark.parametrize("shards", [1, 4])
async def test_cost_of_a_sample_is_bounded_and_known(client: RecordingClient, clock: Clock, shards: int) -> None:
    outbox = await outbox_of(client, clock, shards=shards)
    await outbox.publish([Event("order.placed", "x" * 900, id=f"e{number}") for number in range(3_000)])
    for claim in await outbox.claim(10):
        await outbox.settle([(claim, Failed(error="x"))])
    for count_limit, most in ((1, 30.0), (100, 70.0), (1_000, 250.0)):
        client.forget()
        sample = await outbox.sample(count_limit=count_limit)
        assert sample.due == Count(at_least=count_limit, is_exact=False)
        assert sample.read_units == client.units <= most
    client.forget()
    sample = await outbox.sample(count_limit=5_000)
    assert sample.due == Count(at_least=2_990, is_exact=True)
    assert {each["IndexName"] for name, each in client.calls if name == "query"} == {outbox._parts.caller.index_name}


async def test_sample_of_large_events_ends_with_its_pages(client: RecordingClient, clock: Clock) -> None:
    outbox = await outbox_of(client, clock)
    await outbox.publish([Event("order.placed", "x" * 100_000, id=f"e{number}") for number in range(60)])
    client.forget()
    sample = await outbox.sample()
    assert not sample.due.is_exact
    assert sample.due.at_least == 22  # two pages of 1 MB
    assert sample.read_units == client.units <= 2 * 140 + 6


async def test_page_reads_a_bounded_number_of_events(client: RecordingClient, clock: Clock) -> None:
    outbox = await outbox_of(client, clock)
    await outbox.publish([Event("common", id=f"e{number}") for number in range(1_100)])
    clock.now += 1
    await outbox.publish([Event("rare", id="rare")])
    client.forget()
    page = await outbox.list_events("due", type="rare")
    assert (page.events, page.examined) == ((), 1_000)
    assert client.count("batch_get_item") == 10
    assert client.count("query") == 10
    assert page.after is not None
    page = await outbox.list_events("due", type="rare", after=page.after)
    assert [event.id for event in page.events] == ["rare"]
    assert (page.after, page.examined) == (None, 101)


async def test_page_of_windows_reads_a_bounded_number_of_ids(client: RecordingClient, clock: Clock) -> None:
    outbox = await outbox_of(client, clock)
    worker = DeadWorker(client, TABLE, clock, region=REGION, start=0, end=2_500)
    await worker.store_window(ended=-10)
    last = await worker.put(worker.unlisted(2_499))
    client.forget()
    page = await outbox.list_events("processing")
    assert (page.events, page.examined) == ((), 0)
    assert client.count("batch_get_item") == 11  # the window, and ten times 100 numbers
    assert await pages_of(outbox, "processing") == [[], [], [last]]


@pytest.mark.parametrize("limit", [1, 10, 100])
async def test_page_without_a_filter_reads_no_more_events_than_it_lists(
    client: RecordingClient, clock: Clock, limit: int
) -> None:
    outbox = await outbox_of(client, clock)
    await outbox.publish([Event("order.placed", id=f"e{number}") for number in range(200)])
    client.forget()
    page = await outbox.list_events("due", limit=limit)
    assert (len(page.events), page.examined) == (limit, limit)
    assert Counter(name for name, _ in client.calls) == {"query": 1, "batch_get_item": 1}
    assert client.units <= limit * 1.1 + 0.5


@pytest.mark.parametrize("broken", ["query", "batch_get_item"])
async def test_errors_are_those_of_the_library(client: RecordingClient, clock: Clock, broken: str) -> None:
    outbox = await outbox_of(client, clock, shards=4)
    await outbox.publish([Event("order.placed", id="e")])
    client.broken = broken
    with pytest.raises(StorageError):
        await outbox.list_events("due")
    if broken == "query":
        with pytest.raises(StorageError):
            await outbox.sample()
    else:
        with pytest.raises(StorageError):
            await outbox.get("e")


# Cursors


async def test_a_cursor_is_of_one_state_and_one_number_of_shards(client: Any, clock: Clock) -> None:
    outbox = await outbox_of(client, clock, shards=4)
    await outbox.publish([Event("order.placed", id=f"e{number}") for number in range(9)])
    after = (await outbox.list_events("due", limit=3)).after
    with pytest.raises(ConfigurationError, match="cursor of due events, not of failed ones"):
        await outbox.list_events("failed", after=after)
    other = DynamoDBOutbox(client, table_name=TABLE, clock=clock, shards=8)
    with pytest.raises(ConfigurationError, match="number of shards has changed"):
        await other.list_events("due", after=after)


@pytest.mark.parametrize("event_id", ["e", "/?#% \n", "é" * 1000, '"'])
def test_cursors_keep_any_id(event_id: str) -> None:
    cursor = Cursor(state=EventState.DUE, now=5, partitions=4, partition=3, sort_key="17.5", id=event_id)
    assert read_cursor(cursor.text, state=EventState.DUE, partitions=4) == cursor
    assert cursor.text.isascii()
    assert cursor.text.replace("-", "").replace("_", "").isalnum()


def test_read_units_are_unknown_once_a_response_lacks_them() -> None:
    units = ReadUnits()
    units.add({"ConsumedCapacity": {"CapacityUnits": 2.5}})
    units.add({"ConsumedCapacity": [{"CapacityUnits": 1}, {"CapacityUnits": 0.5}]})
    assert units.total == 4.0
    units.add({})
    units.add({"ConsumedCapacity": {"CapacityUnits": 1}})
    assert units.total is None
