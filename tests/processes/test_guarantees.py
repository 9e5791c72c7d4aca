"""The guarantees of delivery and of transactions, on DynamoDB Local, with processes that are killed at any moment."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import pytest

from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from reliability.checker import HandlerRule
from reliability.history import EmitAcknowledged, HandlerEnded, HandlerStarted, Noted
from tests.processes.conftest import Judge
from tests.processes.program import name_of
from tests.processes.transfers import ACCOUNTS, account_id, transfer_id
from tests.processes.workers import PATIENT, Process, Workers, items, statuses

TRANSFERS = 150
MAKERS = 3
BALANCE = 1000
COUNTED = 150


@pytest.mark.thorough
async def test_every_transfer_has_its_event_although_every_process_that_makes_them_is_killed(
    workers: Workers, outbox: DynamoDBOutbox, local_client: Any, data_table: str
) -> None:
    for number in range(ACCOUNTS):
        account = {"id": {"S": account_id(number)}, "balance": {"N": str(BALANCE)}}
        await local_client.put_item(TableName=data_table, Item=account)

    async def make(maker: int) -> None:
        chance = random.Random(maker)
        share = list(range(maker, TRANSFERS, MAKERS))
        for _ in range(2):
            process = workers.start("transfers", accounts=data_table, share=share)
            await workers.until(1, Noted, process)
            await anyio.sleep(chance.uniform(0, 0.2))
            workers.kill(process)
        process = workers.start("transfers", accounts=data_table, share=share)
        with anyio.fail_after(120):
            while process.poll() is None:
                await anyio.sleep(0.05)
        assert process.returncode == 0

    async with anyio.create_task_group() as makers:
        for maker in range(MAKERS):
            makers.start_soon(make, maker)
    killed = [process for process in workers.processes if process.returncode == -signal.SIGKILL]
    assert len(killed) >= MAKERS, "the processes were killed too late to show anything"
    events = await items(local_client, outbox.table_name)
    records = await items(local_client, data_table)
    balances = {number: int(records.pop(account_id(number))["balance"]["N"]) for number in range(ACCOUNTS)}
    assert sum(balances.values()) == ACCOUNTS * BALANCE
    assert records.keys() == events.keys() == {transfer_id(number) for number in range(TRANSFERS)}
    for event_id, event in events.items():
        assert event["payload"]["M"] == {name: value for name, value in records[event_id].items() if name != "id"}
    # What each account has is what the records say: no transfer was made twice.
    moved = Counter({account_id(number): BALANCE for number in range(ACCOUNTS)})
    for record in records.values():
        moved[record["from"]["S"]] -= int(record["amount"]["N"])
        moved[record["to"]["S"]] += int(record["amount"]["N"])
    assert {account_id(number): balance for number, balance in balances.items()} == moved


async def kill_busy_ones(workers: Workers, lane: int, **options: Any) -> None:
    """Start a worker and kill it at a random moment, once it has begun; then another, between effect and settle."""
    process = workers.start(**options)
    await workers.until(1, HandlerStarted, process)
    await anyio.sleep(random.Random(lane).uniform(0, 0.5))
    workers.kill(process)
    process = workers.start(**options)
    await workers.until(1, Noted, process)
    # Stopped, it does not end meanwhile what its history shows.
    workers.suspend(process)
    while not workers.held_by(process, since=Noted):
        workers.resume(process)
        await anyio.sleep(0.02)
        workers.suspend(process)
    workers.kill(process)


@pytest.mark.thorough
async def test_an_effect_happens_exactly_once_only_in_the_transaction_of_its_delivery(
    workers: Workers, bus: OutboxEventBus, local_client: Any, data_table: str, judge: Judge
) -> None:
    # So slow that there is work left for the last that is killed, however late that is.
    counting = {"table_name": data_table, "seconds": 0.2}
    options = {"handler": "counting", "handler_options": counting, "max_retries": 100, "poll_interval": 0.2}
    options |= {"processing_timeout": 2.0, "concurrency": 6, "batch_size": 6}
    await bus.emit_many([Event(kind) for _ in range(COUNTED) for kind in ("inside", "outside")])
    with anyio.fail_after(240):
        async with anyio.create_task_group() as lanes:
            for lane in range(2):
                lanes.start_soon(partial(kill_busy_ones, workers, lane, **options))
        for _ in range(2):
            workers.start(**options)
        await bus.drain()
    assert await statuses(local_client, workers.table_name) == {"COMPLETED": 2 * COUNTED}
    counters = await items(local_client, data_table)
    assert int(counters["inside"]["n"]["N"]) == COUNTED
    assert int(counters["outside"]["n"]["N"]) > COUNTED
    await judge()


async def kill_while_every_event_waits(workers: Workers, process: Process, client: Any, *, retries: int) -> None:
    """Kill a worker while all events have failed so many times, and wait long for their next attempt."""
    with anyio.fail_after(60):
        while any(
            (item["status"]["S"], item["retryCount"]["N"]) != ("PENDING", str(retries))
            for item in (await items(client, workers.table_name)).values()
        ):
            await anyio.sleep(0.05)
    workers.kill(process)
    await workers.make_due(client, "PENDING")


@pytest.mark.thorough
@pytest.mark.parametrize("is_killed", [False, True], ids=["one worker", "killed between the attempts"])
async def test_a_handler_that_succeeded_is_not_run_again_with_another_that_failed(
    workers: Workers, bus: OutboxEventBus, local_client: Any, judge_by_account: Judge, *, is_killed: bool
) -> None:
    flaky = {"failures": 3, "second_backoff": 600.0 if is_killed else 0.1}
    options = {"handler": "steady_and_flaky", "handler_options": flaky, "poll_interval": 0.2}
    worker = workers.start(**options)
    events = [Event("order.placed", {"n": n}) for n in range(10)]
    await bus.emit_many(events)

    def started(handler: str) -> list[HandlerStarted]:
        return [start for start in workers.of(HandlerStarted) if start.handler == handler]

    if is_killed:
        await kill_while_every_event_waits(workers, worker, local_client, retries=2)
        assert Counter(start.attempt for start in started("flaky")) == {1: 10, 2: 10}
        workers.start(**options)
    await bus.drain(120)
    assert await statuses(local_client, workers.table_name) == {"COMPLETED": 10}
    assert Counter(start.event_id for start in started("steady")) == Counter(event.id for event in events)
    attempts = Counter((start.event_id, start.attempt) for start in started("flaky"))
    assert attempts == Counter((event.id, attempt) for event in events for attempt in (1, 2, 3, 4))
    await judge_by_account(limits=replace(PATIENT, handlers={"flaky": HandlerRule(judges=True)}))


@pytest.mark.thorough
async def test_a_handler_that_takes_three_leases_runs_once_on_one_worker(
    workers: Workers, bus: OutboxEventBus, local_client: Any, judge_by_account: Judge
) -> None:
    # Six seconds are left of a lease when it is renewed: machines pause.
    handler = {"seconds": 30.2, "timeout": 120.0}
    started = [workers.start(handler_options=handler, processing_timeout=10.0, poll_interval=0.2) for _ in range(3)]
    await workers.until_ready(*started)
    events = [Event("order.placed", {"n": n}) for n in range(6)]
    await bus.emit_many(events)
    await bus.drain(120)
    for kind in (HandlerStarted, HandlerEnded):
        assert Counter(record.event_id for record in workers.of(kind)) == Counter(event.id for event in events)
    assert {(start.event_id, start.worker) for start in workers.of(HandlerStarted)} == {
        (end.event_id, end.worker) for end in workers.succeeded()
    }
    for item in (await items(local_client, workers.table_name)).values():
        assert (item["status"]["S"], item["retryCount"]["N"]) == ("COMPLETED", "0")
    assert workers.errors() == []
    await judge_by_account()


@pytest.mark.parametrize("mode", ["batch", "single"])
async def test_what_a_stopped_worker_held_is_completed_by_another_long_before_the_lease_ends(
    workers: Workers, bus: OutboxEventBus, local_client: Any, judge_by_account: Judge, mode: str
) -> None:
    options = {"processing_timeout": 300.0, "poll_interval": 0.2, "batch_size": 20, "conditional_writes": mode}
    slow = workers.start(handler_options={"seconds": 250.0}, stop_seconds=1.0, **options)
    await bus.emit_many([Event("order.placed", {"n": n}) for n in range(20)])
    await workers.until(20, HandlerStarted, slow)
    quick = workers.start(**options)
    await workers.until_ready(quick)
    stopped_at = time.time()
    workers.terminate(slow)
    await bus.drain(120)
    found = (await items(local_client, workers.table_name)).values()
    assert [(item["status"]["S"], item["retryCount"]["N"]) for item in found] == [("COMPLETED", "0")] * 20
    completed_at = [int(item["completedOn"]["N"]) / 1000 for item in found]
    # Two seconds on a machine that has the time; a tenth of the lease on any.
    assert stopped_at + 1.0 <= min(completed_at) <= max(completed_at) <= stopped_at + 30.0
    assert len(workers.succeeded(quick)) == 20
    assert workers.succeeded(slow) == []
    assert workers.stop() == [0, 0]
    assert workers.errors() == []
    await judge_by_account()


@pytest.mark.thorough
@pytest.mark.parametrize("in_transaction", [True, False], ids=["then commits", "then returns"])
async def test_a_handler_that_blocks_past_its_lease_is_named_and_its_late_result_refused(
    workers: Workers, bus: OutboxEventBus, local_client: Any, data_table: str, judge: Judge, *, in_transaction: bool
) -> None:
    let_go = workers.folder / "let go"
    options = {"table_name": data_table, "in_transaction": in_transaction, "let_go": str(let_go)}
    started = [
        workers.start(handler="blocking", handler_options=options, processing_timeout=3.0, poll_interval=0.2)
        for _ in range(2)
    ]
    await workers.until_ready(*started)
    event = await bus.emit("order.placed")
    with anyio.fail_after(60):
        while await statuses(local_client, workers.table_name) != {"COMPLETED": 1}:
            await anyio.sleep(0.05)
    let_go.touch()
    await workers.until_noted(1, "act 1")
    first, second = workers.of(HandlerStarted)
    assert first.worker != second.worker
    blocked, other = sorted(started, key=lambda process: name_of(process.pid) != first.worker)
    acts = [note for note in workers.of(Noted) if note.what.startswith("act")]
    assert [note.what for note in acts] == ["act 2", "act 1"]
    await workers.until_error("LoopBlockedError: handler 'blocking' blocked the event loop for ", blocked)
    if in_transaction:
        await workers.until_noted(1, "refused", blocked)
        assert [len(workers.noted("counted", process)) for process in (blocked, other)] == [0, 1]
    else:
        await workers.until_error("LeaseLostError: the write 'complete' of", blocked)
    assert workers.stop() == [0, 0]
    assert workers.errors(other) == []
    counted = [data["n"]["N"] for data in (await items(local_client, data_table)).values()]
    assert counted == (["1"] if in_transaction else [])
    item = (await items(local_client, workers.table_name))[event.id]
    assert (item["status"]["S"], item["retryCount"]["N"]) == ("COMPLETED", "1")
    assert int(item["completedOn"]["N"]) / 1000 < acts[-1].at
    await judge()


@pytest.mark.thorough
async def test_an_event_that_kills_its_worker_is_failed_and_the_others_are_handled(
    workers: Workers, bus: OutboxEventBus, local_client: Any, judge: Judge
) -> None:
    poison = await bus.emit("poison")
    events = await bus.emit_many([Event("order.placed", {"n": n}) for n in range(20)])
    # What a worker holds besides the poison loses an attempt with it, but not its last: suspects go one at a time.
    options = {"handler": "deadly", "processing_timeout": 300.0, "poll_interval": 0.2, "max_retries": 3}
    with anyio.fail_after(120):
        worker = workers.start(**options)
        while not (failed := await bus.get_failed_events()):
            if worker.poll() is not None:
                await workers.make_due(local_client, "PROCESSING")
                worker = workers.start(**options)
            await anyio.sleep(0.05)
    await bus.drain(120)
    assert [event.id for event in failed] == [poison.id]
    assert failed[0].retry_count == 3
    assert "lease ran out" in failed[0].last_error
    killed = [start for start in workers.of(HandlerStarted) if start.event_id == poison.id]
    assert [start.attempt for start in killed] == [1, 2, 3, 4]
    names = [name_of(process.pid) for process in workers.processes]
    assert names == [*(start.worker for start in killed), name_of(worker.pid)]
    assert {end.event_id for end in workers.succeeded()} == {event.id for event in events}
    assert await statuses(local_client, workers.table_name) == {"COMPLETED": 20, "FAILED": 1}
    await judge()


async def test_events_claimed_on_emit_outlive_the_process_that_emitted_them(
    workers: Workers, bus: OutboxEventBus, local_client: Any, judge: Judge
) -> None:
    emitter = workers.start("emits", count=300)
    await workers.until_dead(emitter)
    emitted = {record.event_id for record in workers.of(EmitAcknowledged, emitter)}
    before = await items(local_client, workers.table_name)
    assert len(emitted) == 300
    # All of them are stored, and some were claimed by the process that is gone.
    assert emitted <= before.keys()
    assert any(before[event_id]["status"] == {"S": "PROCESSING"} for event_id in emitted)
    workers.start(poll_interval=0.2, processing_timeout=2.0)
    await bus.drain(120)
    after = await items(local_client, workers.table_name)
    assert {after[event_id]["status"]["S"] for event_id in emitted} == {"COMPLETED"}
    await judge()
