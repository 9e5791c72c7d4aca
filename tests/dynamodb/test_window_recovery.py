"""Recovery of the windows of dead workers, on every backend and in every form of the index."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from botocore.exceptions import ClientError

from dynamodb_outbox import DynamoDBOutbox, EventStatus, OutboxEventBus, WaitTimeoutError
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.windows.opening import region_of
from dynamodb_outbox.observers import WindowRecovered
from reliability.simulation.backend import Backend
from reliability.simulation.client import direct_client
from tests.adapter_timing import with_timing
from tests.backends import open_client
from tests.dynamodb.dead_worker import LEASE, CrashError, DeadWorker, DyingClient
from tests.dynamodb.queues import Line
from tests.fakes import Clock
from tests.thorough import often

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


@dataclass
class Table:
    """A new table, and who uses it."""

    client: Any
    name: str
    clock: Clock
    shards: Shards
    mode: str

    def dead_worker(self, **changes: Any) -> DeadWorker:
        region = region_of(self.outbox()._parts.caller)
        return DeadWorker(self.client, self.name, self.clock, self.shards, **{"region": region, **changes})

    def outbox(self, client: Any = None, **options: Any) -> DynamoDBOutbox:
        return DynamoDBOutbox(
            self.client if client is None else client,
            table_name=self.name,
            clock=self.clock,
            shards=self.shards.count,
            conditional_writes=self.mode,
            **options,
        )


ENGINES = {
    "simulated-batch": ("simulated", "batch", "ALL", 1),
    "local-batch": ("local", "batch", "ALL", 1),
    "local-single": ("local", "single", "ALL", 1),
    "local-batch-keys-only": ("local", "batch", "KEYS_ONLY", 1),
    "local-batch-sharded": ("local", "batch", "ALL", 4),
    "moto-auto": ("moto", "auto", "ALL", 1),
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=ENGINES.values(), ids=ENGINES)
async def table(request: pytest.FixtureRequest, clock: Clock, table_name: str) -> AsyncIterator[Table]:
    backend, mode, projection, shards = request.param
    if backend == "simulated":
        table = Table(direct_client(Backend(clock=clock)), table_name, clock, Shards(shards), mode)
        await table.outbox().create_table(projection=projection)
        yield table
        return
    async with open_client(request.getfixturevalue(f"{backend}_endpoint")) as client:
        table = Table(client, table_name, clock, Shards(shards), mode)
        await table.outbox().create_table(projection=projection)
        yield table


@pytest.fixture
def worker(table: Table) -> DeadWorker:
    return table.dead_worker()


async def test_every_id_of_a_window_is_settled_and_the_window_is_closed(
    table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    worker = table.dead_worker(end=430)  # three batches of reads
    await worker.store_window()
    opened = [200, 201, 299, 300, 429]
    for number in opened:
        await worker.put(worker.unlisted(number))
    left_alone = {
        210: worker.listed(210, "PENDING"),
        211: worker.listed(211, "PROCESSING"),
        212: worker.listed(212, "FAILED"),
        213: worker.unlisted(213, status={"S": "COMPLETED"}),
        214: {"id": {"S": worker.id_of(214)}, "status": {"S": "VOID"}, "expireAt": {"N": "1790000000"}},
        215: worker.unlisted(215, window={"S": "another window of the process"}),
    }
    for item in left_alone.values():
        await worker.put(item)
    observations: list[Any] = []
    outbox = table.outbox(observers=[observations.append])

    with caplog.at_level(logging.WARNING, logger="dynamodb_outbox"):
        recovered = await outbox.recover()

    ids = {worker.id_of(number) for number in opened}
    assert set(recovered.reset) == ids
    assert len(recovered.reset) == len(ids)
    assert (recovered.failed, recovered.errors) == ((), ())
    for number in opened:
        item = await worker.stored(worker.id_of(number))
        assert (item["status"], item["retryCount"]) == ({"S": "PENDING"}, {"N": "1"})
        assert item["gsiSortKey"] == {"N": str(round(table.clock() * 1000))}
        assert item["claimToken"] == {"S": f"token-{number}"}
        assert "lease ran out" in item["lastError"]["S"]
        assert "window" not in item
    for number, item in left_alone.items():
        assert await worker.stored(worker.id_of(number)) == item
    expiry = {"N": str(int(table.clock() + 86_400))}
    for number in set(range(200, 430)) - set(opened) - set(left_alone):
        event_id = worker.id_of(number)
        assert await worker.stored(event_id) == {"id": {"S": event_id}, "status": {"S": "VOID"}, "expireAt": expiry}
    assert await worker.is_closed()
    tombstones = 230 - len(opened) - len(left_alone)
    assert observations == [WindowRecovered(window=worker.name, events=len(opened), tombstones=tombstones)]
    (line,) = [record.getMessage() for record in caplog.records if "recovered the window" in record.getMessage()]
    assert worker.name in line
    assert f"{len(opened)} of its events" in line
    # The events are in the index, and a second recovery finds nothing to do.
    assert await outbox.count(PENDING) == len(opened) + 1
    assert {claim.event.id: claim.attempt for claim in await table.outbox().claim(20)} == dict.fromkeys(ids, 2)
    again = await outbox.recover()
    assert (again.reset, again.failed, again.errors) == ((), (), ())


async def test_event_that_arrives_after_the_recovery_is_refused(table: Table, worker: DeadWorker) -> None:
    await worker.store_window()
    await table.outbox().recover()
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        await worker.put(worker.unlisted(220))


async def test_event_that_is_in_the_index_by_now_is_not_moved_into_it_again(table: Table, worker: DeadWorker) -> None:
    listed = worker.listed(220, "PROCESSING") | {"window": {"S": worker.name}}
    await worker.put(listed)
    entered = await table.outbox()._parts.fence.enter(worker.name, [worker.id_of(220)], within=5, max_retries=5)
    assert (entered.reset, entered.failed) == ([], [])
    assert await worker.stored(worker.id_of(220)) == listed


async def test_windows_that_are_held_or_of_another_region_are_left_alone(table: Table, worker: DeadWorker) -> None:
    elsewhere = table.dead_worker(region="eu-west-1")
    kept = [await worker.store_window(ended=-0.001), await elsewhere.store_window(ended=3_600)]
    for each in (worker, elsewhere):
        await each.put(each.unlisted(220))
    assert (await table.outbox().recover()).reset == ()
    assert [await worker.stored(item["id"]["S"]) for item in kept] == kept
    assert await worker.statuses() == await elsewhere.statuses() == {220: "PROCESSING"}
    table.clock.now += 0.001
    assert (await table.outbox().recover()).reset == (worker.id_of(220),)


async def test_events_of_the_index_are_recovered_together_with_windows(table: Table, worker: DeadWorker) -> None:
    expired = worker.listed(1, "PROCESSING", gsiSortKey={"N": str(round((table.clock() - 1) * 1000))})
    await worker.put(expired)
    await worker.store_window()
    await worker.put(worker.unlisted(220))
    recovered = await table.outbox().recover()
    assert recovered.reset == (worker.id_of(1), worker.id_of(220))


async def test_event_with_an_ordering_key_stays_in_its_line_though_a_window_covers_its_id(
    table: Table, worker: DeadWorker
) -> None:
    await worker.store_window()
    outbox = table.outbox()
    line = Line(table.client, outbox)
    ids = [worker.id_of(number) for number in (205, 201, 203)]
    await line.emit(*ids)
    await line.claim()
    table.clock.now += LEASE + 1
    recovered = await outbox.recover()
    assert (recovered.reset, recovered.failed, recovered.errors) == ((ids[0],), (), ())
    assert await worker.is_closed()
    assert {await line.status(each) for each in ids} == {"QUEUED"}
    assert await line.work_off() == ids


@pytest.mark.parametrize("max_retries", [0, 2])
async def test_event_without_a_retry_left_becomes_a_dead_letter(
    table: Table, worker: DeadWorker, max_retries: int
) -> None:
    await worker.store_window()
    await worker.put(worker.unlisted(220, retryCount={"N": str(max_retries)}))
    outbox = table.outbox()
    recovered = await outbox.recover(max_retries=max_retries)
    assert (recovered.reset, recovered.failed) == ((), (worker.id_of(220),))
    assert await worker.is_closed()
    (failed,) = await outbox.failed_events()
    assert (failed.id, failed.payload, failed.retry_count) == (worker.id_of(220), {"n": 220}, max_retries)
    assert "lease ran out" in failed.last_error
    assert len((await outbox.redrive([failed.id])).done) == 1
    assert [claim.event.id for claim in await outbox.claim(10)] == [failed.id]


async def test_two_recoveries_at_once_recover_each_event_once(table: Table) -> None:
    workers = [table.dead_worker() for _ in range(3)]
    for worker in workers:
        await worker.store_window()
        for number in (200, 220, 239):
            await worker.put(worker.unlisted(number))
    ids: list[str] = []
    observations: list[Any] = []

    async def recover() -> None:
        recovered = await table.outbox(observers=[observations.append]).recover()
        assert (recovered.failed, recovered.errors) == ((), ())
        ids.extend(recovered.reset)

    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(recover)
    assert sorted(ids) == sorted(worker.id_of(number) for worker in workers for number in (200, 220, 239))
    assert sorted(each.window for each in observations) == sorted(worker.name for worker in workers)
    for worker in workers:
        assert await worker.is_closed()
        assert (await worker.stored(worker.id_of(220)))["retryCount"] == {"N": "1"}


@pytest.mark.cases(2, thorough=4)
@pytest.mark.parametrize("is_sent", [True, False], ids=["after", "before"])
async def test_recovery_that_dies_at_any_step_is_repeated_by_the_next(table: Table, *, is_sent: bool) -> None:
    steps = 0
    while True:
        # In batches, a longer window has more steps. One by one, it would have too many.
        worker = table.dead_worker(end=often(240, thorough=310) if table.mode == "batch" else 206)
        opened = [200, 202, worker.end - 1]
        await worker.store_window()
        for number in opened:
            await worker.put(worker.unlisted(number))
        steps += 1
        client = DyingClient(table.client, steps, is_sent=is_sent)
        try:
            await table.outbox(client).recover()
        except BaseException as error:
            assert client.is_dead
            crash = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error
            assert isinstance(crash, CrashError)
        if not client.is_dead:
            break
        # The recovery may hold the window for one lease.
        table.clock.now += LEASE + 0.001
        await table.outbox().recover()
        assert await worker.is_closed(), steps
        expected = dict.fromkeys(range(worker.start, worker.end), "VOID") | dict.fromkeys(opened, "PENDING")
        assert await worker.statuses() == expected, steps
        for number in opened:
            assert (await worker.stored(worker.id_of(number)))["retryCount"] == {"N": "1"}, steps
    assert steps > 8


async def test_window_item_that_cannot_be_read_is_reported_once_and_holds_up_no_other(
    table: Table, worker: DeadWorker
) -> None:
    broken = [table.dead_worker() for _ in range(5)]
    for each, changes in zip(
        broken,
        (
            {"seed": None},
            {"seed": {"B": b"short"}},
            {"windowFrom": {"S": "200"}},
            {"windowTo": {"N": "199"}},
            {"windowTo": {"N": "99999999"}},
        ),
        strict=True,
    ):
        await each.store_window(ended=5, **changes)
    await worker.store_window()
    await worker.put(worker.unlisted(220))
    outbox = table.outbox()
    recovered = await outbox.recover()
    assert recovered.reset == (worker.id_of(220),)
    assert {error.event_id for error in recovered.errors} == {each.window_id for each in broken}
    assert all(error.is_window and "do not delete it" in str(error) for error in recovered.errors)
    assert (await outbox.recover()).errors == ()
    table.clock.now += LEASE + 0.001
    assert len((await outbox.recover()).errors) == len(broken)


@pytest.mark.parametrize("far", ["1790000000000000000", "1E125"])
async def test_window_with_a_lease_that_no_worker_can_have_is_recovered(
    table: Table, worker: DeadWorker, far: str
) -> None:
    await worker.store_window(gsiSortKey={"N": far})
    await worker.put(worker.unlisted(220))
    held = table.dead_worker()
    await held.store_window(ended=-LEASE)
    assert (await table.outbox().recover()).reset == ()
    assert (await with_timing(table.outbox(), far_leases=0.0).recover()).reset == (worker.id_of(220),)
    assert await worker.is_closed()
    assert not await held.is_closed()


async def test_windows_are_found_soon_after_a_clock_was_set_back(table: Table, worker: DeadWorker) -> None:
    outbox = table.outbox(processing_timeout=LEASE)
    table.clock.now += 3_600
    await outbox.recover()
    table.clock.now -= 3_600
    await worker.store_window()
    await worker.put(worker.unlisted(220))
    assert (await outbox.recover()).reset == (worker.id_of(220),)


# Counting


async def test_events_of_windows_are_counted_as_processing(table: Table) -> None:
    windows = [table.dead_worker(), table.dead_worker(end=1_300), table.dead_worker(region="eu-west-1")]
    for worker in windows:
        await worker.store_window(ended=-LEASE)
        for number in (200, 210, 220, 239):
            await worker.put(worker.unlisted(number))
        await worker.put(worker.unlisted(230, status={"S": "COMPLETED"}))
        await worker.put(worker.listed(231, "PROCESSING"))
        await worker.put(worker.unlisted(232, window={"S": "another window, which has no item"}))
    # The first 1,000 numbers of a window are counted.
    await windows[1].put(windows[1].unlisted(1_199))
    await windows[1].put(windows[1].unlisted(1_200))
    assert await table.outbox().count(PROCESSING) == 3 * (4 + 1) + 1
    assert await table.outbox().count(PENDING) == 0


async def test_events_far_up_in_a_window_are_found_if_no_others_are_open(table: Table) -> None:
    worker = table.dead_worker(end=2_000)
    await worker.store_window(ended=-LEASE)
    for number in (1_700, 1_799, 1_800):
        await worker.put(worker.unlisted(number))
    # Numbers are read in hundreds.
    assert await table.outbox().count(PROCESSING) == 2


@pytest.mark.cases(2, thorough=3)
async def test_drain_waits_for_the_events_of_windows(table: Table, worker: DeadWorker) -> None:
    await worker.store_window(ended=-LEASE)
    item = worker.unlisted(220)
    await worker.put(item)
    bus = OutboxEventBus(table.outbox(poll_interval=0.02))
    with pytest.raises(WaitTimeoutError) as raised:
        await bus.drain(timeout=5)
    assert raised.value.left == {"PENDING": 0, "PROCESSING": 1}
    await table.client.put_item(TableName=table.name, Item=item | {"status": {"S": "COMPLETED"}})
    await bus.drain(timeout=20)
