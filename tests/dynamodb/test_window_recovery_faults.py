"""Recovery of windows while others write at the same time, or DynamoDB fails, throttles or refuses."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from dynamodb_outbox import DynamoDBOutbox, Event, ThrottledError, UnavailableError
from dynamodb_outbox.adapter import Claim, Completed, Failed, Released, Retry
from dynamodb_outbox.dynamodb.windows.item import extend
from dynamodb_outbox.observers import WindowRecovered
from reliability.proxy import CUT_AFTER, CUT_BEFORE, Proxy, Recorded, Reply, nth, refused
from tests.adapter_timing import with_timing
from tests.dynamodb.dead_worker import LEASE, DeadWorker
from tests.fakes import BLAMED, Clock
from tests.full_items import put_full


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["batch", "single"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def outbox(client: Any, table_name: str, clock: Clock, mode: Any) -> DynamoDBOutbox:
    made = DynamoDBOutbox(client, table_name=table_name, clock=clock, conditional_writes=mode, random=lambda: 0.1)
    await made.create_table()
    await made.count("PENDING")
    return made


@pytest.fixture
async def worker(outbox: DynamoDBOutbox, proxy: Proxy, local_client: Any, table_name: str, clock: Clock) -> DeadWorker:
    """A dead worker with a window and one open event; what it stores does not pass the proxy."""
    worker = DeadWorker(local_client, table_name, clock)
    await worker.store_window()
    await worker.put(worker.unlisted(220))
    proxy.requests.clear()
    return worker


def is_tombstone(request: Recorded) -> bool:
    """Tell whether a request writes tombstones."""
    if "Statements" in request.body:
        return any(each["Statement"].startswith("INSERT") for each in request.body["Statements"])
    return ":VOID" in request.body.get("ExpressionAttributeValues", {})


def is_take(request: Recorded) -> bool:
    return ":window" in request.body.get("ExpressionAttributeValues", {}) and ":seen" in request.body.get(
        "ExpressionAttributeValues", {}
    )


def is_enter(request: Recorded) -> bool:
    return request.operation == "UpdateItem" and "REMOVE #window" in request.body["UpdateExpression"]


async def check_recovered(worker: DeadWorker, *opened: int, but: int | None = None) -> None:
    """Check that the window is closed, that each open event had one more attempt, and that no id is free but one."""
    assert await worker.is_closed()
    expected = dict.fromkeys(range(worker.start, worker.end), "VOID") | dict.fromkeys(opened, "PENDING")
    expected.pop(but, None)
    assert await worker.statuses() == expected
    for number in opened:
        assert (await worker.stored(worker.id_of(number)))["retryCount"] == {"N": "1"}


# Writes of others meanwhile


async def test_event_that_is_stored_just_before_its_tombstone_is_recovered(
    outbox: DynamoDBOutbox, proxy: Proxy, worker: DeadWorker
) -> None:
    # Another outbox of the process has a window with the same numbers, which is not recovered here.
    of_another_window = worker.unlisted(222, window={"S": "another"})

    async def store_late(request: Recorded) -> Any:
        if is_tombstone(request) and not await worker.stored(worker.id_of(221)):
            await worker.put(of_another_window)
            await worker.put(worker.unlisted(221))

    proxy.rule = store_late
    recovered = await outbox.recover()
    assert set(recovered.reset) == {worker.id_of(220), worker.id_of(221)}
    assert await worker.is_closed()
    assert await worker.stored(worker.id_of(222)) == of_another_window
    await worker.client.delete_item(TableName=worker.table, Key={"id": {"S": worker.id_of(222)}})
    proxy.rule = lambda request: None
    await check_recovered(worker, 220, 221, but=222)


async def test_outcome_that_is_written_just_before_the_event_enters_the_index_stands(
    outbox: DynamoDBOutbox, proxy: Proxy, worker: DeadWorker
) -> None:
    completed = worker.unlisted(220, status={"S": "COMPLETED"})

    async def complete(request: Recorded) -> Any:
        if is_enter(request):
            await worker.client.put_item(TableName=worker.table, Item=completed)

    proxy.rule = complete
    recovered = await outbox.recover()
    assert (recovered.reset, recovered.failed, recovered.errors) == ((), (), ())
    assert await worker.stored(worker.id_of(220)) == completed
    assert await worker.is_closed()


async def test_window_that_is_renewed_just_before_it_is_taken_is_left_alone(
    outbox: DynamoDBOutbox, proxy: Proxy, worker: DeadWorker, clock: Clock
) -> None:
    async def renew(request: Recorded) -> Any:
        if is_take(request):
            deadline = clock() + LEASE
            arguments = extend(
                worker.window_id, token="worker", start=205, end=240, version="1", earlier=["0"], deadline=deadline
            )
            await worker.client.update_item(TableName=worker.table, **arguments)

    proxy.rule = renew
    recovered = await outbox.recover()
    assert (recovered.reset, recovered.errors) == ((), ())
    assert proxy.operations() == ["Query", "Query", "UpdateItem"]
    assert (await worker.stored(worker.window_id))["claimToken"] == {"S": "worker"}
    # The other way round, the worker cannot renew a window that was taken.
    proxy.rule = lambda request: None
    clock.now += LEASE + 0.001
    assert (await outbox.recover()).reset == (worker.id_of(220),)
    with pytest.raises(worker.client.exceptions.ConditionalCheckFailedException):
        arguments = extend(
            worker.window_id, token="worker", start=205, end=240, version="2", earlier=["1"], deadline=clock() + LEASE
        )
        await worker.client.update_item(TableName=worker.table, **arguments)


async def test_recovery_that_pauses_for_longer_than_its_lease_changes_nothing_after_another_one(
    outbox: DynamoDBOutbox, proxy: Proxy, worker: DeadWorker, clock: Clock, mode: Any
) -> None:
    paused, may_go_on = anyio.Event(), anyio.Event()
    observations: list[Any] = []
    outbox.observers.add(observations.append)

    async def pause(request: Recorded) -> Any:
        if is_tombstone(request):
            paused.set()
            await may_go_on.wait()

    proxy.rule = pause
    results: list[Any] = []

    async def recover() -> None:
        results.append(await outbox.recover())

    async with anyio.create_task_group() as group:
        group.start_soon(recover)
        await paused.wait()
        clock.now += LEASE + 0.001
        other = DynamoDBOutbox(
            worker.client,
            table_name=worker.table,
            clock=clock,
            conditional_writes=mode,
            observers=[observations.append],
        )
        results.append(await other.recover())
        may_go_on.set()
    assert [result.reset for result in results] == [(worker.id_of(220),), ()]
    await check_recovered(worker, 220)
    assert observations == [WindowRecovered(window=worker.name, events=1, tombstones=39)]


async def test_long_recovery_renews_its_hold_and_ends_when_it_has_lost_the_window(
    client: Any, proxy: Proxy, local_client: Any, table_name: str
) -> None:
    clock = Clock()
    outbox = with_timing(
        DynamoDBOutbox(client, table_name=table_name, clock=clock, conditional_writes="batch"), window_hold=0.3
    )
    await outbox.create_table()
    worker = DeadWorker(local_client, table_name, clock, end=700)
    await worker.store_window()
    await worker.put(worker.unlisted(699))
    reads = 0

    async def slow(request: Recorded) -> Any:
        nonlocal reads
        if request.operation != "BatchGetItem":
            return
        reads += 1
        await anyio.sleep(0.12)
        clock.now += 0.12
        if reads == 3:
            item = await worker.stored(worker.window_id)
            await worker.store_window(ended=-LEASE, claimToken={"S": "another recovery"}, startedOn=item["startedOn"])

    proxy.rule = slow
    recovered = await outbox.recover()
    assert (recovered.reset, recovered.errors) == ((), ())
    assert reads == 3
    takes = [request.body["ExpressionAttributeValues"] for request in proxy.requests if is_take(request)]
    # The first, at least one renewal, and one that was refused.
    assert len(takes) >= 3
    assert len({take[":token"]["S"] for take in takes}) == 1
    assert [take[":seen"] for take in takes][1:] == [take[":deadline"] for take in takes][:-1]
    assert (await worker.stored(worker.window_id))["claimToken"] == {"S": "another recovery"}
    assert (await worker.stored(worker.id_of(699)))["status"] == {"S": "PROCESSING"}


# Faults of DynamoDB


@pytest.mark.parametrize("action", [CUT_BEFORE, CUT_AFTER])
@pytest.mark.parametrize("operation", ["Query", "UpdateItem", "BatchGetItem", "BatchExecuteStatement"])
async def test_request_without_a_response_is_repeated(  # noqa: PLR0917 - fixtures
    outbox: DynamoDBOutbox, proxy: Proxy, worker: DeadWorker, clock: Clock, operation: str, action: str
) -> None:
    count = 0
    while True:
        count += 1
        dead = DeadWorker(worker.client, worker.table, clock)
        await dead.store_window()
        await dead.put(dead.unlisted(220))
        await dead.put(dead.unlisted(239))
        proxy.requests.clear()
        proxy.rule = nth(count, operation, action)
        await outbox.recover()
        is_done = proxy.count(operation) < count
        # A take whose response is lost holds the window for one lease.
        clock.now += LEASE + 0.001
        proxy.rule = lambda request: None
        await outbox.recover()
        await check_recovered(dead, 220, 239)
        if is_done:
            break


@pytest.mark.thorough
async def test_throttled_recovery_is_raised_and_goes_on_when_its_hold_has_run_out(
    outbox: DynamoDBOutbox, proxy: Proxy, worker: DeadWorker, clock: Clock
) -> None:
    with_timing(outbox, poll=3.0)
    proxy.rule = lambda request: refused("ThrottlingException") if is_tombstone(request) else None
    # Something was recovered, so the result is returned. The next recovery meets the error again.
    assert (await outbox.recover()).reset == (worker.id_of(220),)
    assert not await worker.is_closed()
    assert (await outbox.recover()).reset == ()
    clock.now += LEASE + 0.001
    # The last attempt may end for want of time, not by the refusal.
    with pytest.raises((ThrottledError, UnavailableError)):
        await outbox.recover()
    proxy.rule = lambda request: None
    clock.now += LEASE + 0.001
    assert (await outbox.recover()).reset == ()
    await check_recovered(worker, 220)


async def test_role_without_the_permission_to_insert_writes_tombstones_one_by_one(
    outbox: DynamoDBOutbox, proxy: Proxy, worker: DeadWorker, clock: Clock, mode: str
) -> None:
    def deny(request: Recorded) -> Any:
        if "Statements" not in request.body or not is_tombstone(request):
            return None
        denied = {"Error": {"Code": "AccessDenied", "Message": "not authorized to perform: dynamodb:PartiQLInsert"}}
        return Reply(200, {"Responses": [denied for _ in request.body["Statements"]]})

    proxy.rule = deny
    assert (await outbox.recover()).reset == (worker.id_of(220),)
    await check_recovered(worker, 220)
    denials = 2 if mode == "batch" else 0
    assert sum("Statements" in request.body and is_tombstone(request) for request in proxy.requests) == denials
    # It is not tried again.
    dead = DeadWorker(worker.client, worker.table, clock)
    await dead.store_window()
    assert (await outbox.recover()).reset == ()
    await check_recovered(dead)
    assert sum("Statements" in request.body and is_tombstone(request) for request in proxy.requests) == denials


async def test_event_that_cannot_be_written_keeps_only_its_window_open(
    outbox: DynamoDBOutbox, proxy: Proxy, worker: DeadWorker, clock: Clock
) -> None:
    await worker.put(worker.unlisted(201))
    await worker.put(worker.unlisted(239))
    broken = worker.id_of(220)

    def rule(request: Recorded) -> Any:
        is_broken = request.body.get("Key", {}).get("id", {}).get("S") == broken
        return refused("ValidationException", "odd") if is_broken else None

    proxy.rule = rule
    recovered = await outbox.recover()
    assert set(recovered.reset) == {worker.id_of(201), worker.id_of(239)}
    assert [(error.event_id, error.is_window) for error in recovered.errors] == [(broken, False)]
    assert not await worker.is_closed()
    proxy.requests.clear()
    # The hold on the window has run out, but the event would most likely be refused again.
    clock.now += 11
    assert (await outbox.recover()).errors == ()
    assert proxy.operations() == ["Query", "Query"]
    clock.now += LEASE + 1
    assert [error.event_id for error in (await outbox.recover()).errors] == [broken]
    proxy.rule = lambda request: None
    clock.now += LEASE + 1
    assert (await outbox.recover()).reset == (broken,)
    await check_recovered(worker, 201, 220, 239)


# Full items


FULL: dict[str, dict[str, Any]] = {
    "plain": {},
    "ninth retry": {"retryCount": {"N": "9"}},
    "ninety-ninth retry": {"retryCount": {"N": "99"}},
    "short error": {"lastError": {"S": "x"}},
    "handlers": {"handledBy": {"SS": ["h"]}},
}


@pytest.mark.parametrize("shards", [1, 256])
@pytest.mark.parametrize("max_retries", [0, 100])
async def test_full_event_of_a_window_ends_in_the_index(
    client: Any, local_client: Any, table_name: str, shards: int, max_retries: int
) -> None:
    clock = Clock()
    outbox = DynamoDBOutbox(client, table_name=table_name, clock=clock, shards=shards, max_retries=max_retries)
    await outbox.create_table()
    worker = DeadWorker(local_client, table_name, clock, outbox._config.placement)
    await worker.store_window()
    for number, odd in enumerate(FULL.values(), 200):
        await put_full(local_client, table_name, worker.unlisted(number, **odd))
    recovered = await outbox.recover()
    assert recovered.errors == ()
    assert await worker.is_closed()
    assert len(recovered.reset) + len(recovered.failed) == len(FULL)
    if not max_retries:
        assert recovered.reset == ()
    if shards == 1:
        counts = [await outbox.count("PENDING"), await outbox.count("FAILED")]
        assert counts == [len(recovered.reset), len(recovered.failed)]
    for number in range(200, 200 + len(FULL)):
        item = await worker.stored(worker.id_of(number))
        assert item["status"]["S"] in {"PENDING", "FAILED"}
        assert item["gsiSortKey"] == {"N": str(round(clock() * 1000))}
        assert ("statusShard" in item) is (shards > 1)


OUTCOMES = {
    "retry": Retry(delay=5, error="no", **BLAMED),
    "fail": Failed(error="no", **BLAMED),
    "release": Released(),
    "complete": Completed(),
}


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES)
async def test_outcome_of_a_full_event_of_a_window_is_written(
    client: Any, local_client: Any, table_name: str, outcome: Any
) -> None:
    clock = Clock()
    outbox = DynamoDBOutbox(client, table_name=table_name, clock=clock, shards=256)
    await outbox.create_table()
    worker = DeadWorker(local_client, table_name, clock, outbox._config.placement)
    await put_full(local_client, table_name, worker.unlisted(200))
    event = Event("order.placed", id=worker.id_of(200))
    claim = Claim(event=event, token="token-200", attempt=1, lease_expires_at=clock() + 10)
    assert await outbox.settle([(claim, outcome)]) == [None]
    item = await worker.stored(event.id)
    assert item["status"]["S"] != "PROCESSING"
    assert ("gsiSortKey" in item) is ("statusShard" in item) is not isinstance(outcome, Completed)


# A table that is moved to shards


async def test_window_of_a_worker_without_shards_is_found_during_the_move_and_after_it(
    client: Any, local_client: Any, table_name: str
) -> None:
    clock = Clock()
    moving = DynamoDBOutbox(
        client, table_name=table_name, clock=clock, shards=4, former_index_name="status-gsiSortKey-index"
    )
    after = DynamoDBOutbox(client, table_name=table_name, clock=clock, shards=4)
    await moving.create_table()
    first, second = [DeadWorker(local_client, table_name, clock) for _ in range(2)]
    for worker in (first, second):
        await worker.put(worker.unlisted(220))
    await first.store_window()
    assert (await after.recover()).reset == ()
    assert (await moving.recover()).reset == (first.id_of(220),)
    await second.store_window(ended=-LEASE)
    assert await moving.count("PROCESSING") == 1
    await moving.move_to_shards()
    assert (await second.stored(second.window_id))["statusShard"] == {"S": "WINDOW#0"}
    clock.now += LEASE + 0.001
    assert (await after.recover()).reset == (second.id_of(220),)
    assert await second.is_closed()
