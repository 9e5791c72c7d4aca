"""The guarantees of delivery and of transactions, on DynamoDB Local, with processes that are killed at any moment."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from tests.processes.transfers import ACCOUNTS, account_id, transfer_id
from tests.processes.workers import Workers, items, kill, make_due, statuses

TRANSFERS = 150
MAKERS = 3
BALANCE = 1000
COUNTED = 80


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
            await workers.until(1, "ready", process)
            await anyio.sleep(chance.uniform(0, 0.2))
            kill(process)
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
    await workers.until(1, "start", process)
    await anyio.sleep(random.Random(lane).uniform(0, 0.5))
    kill(process)
    process = workers.start(**options)
    await workers.until(1, "effect", process)
    # Stopped, it does not end meanwhile what its history shows.
    process.send_signal(signal.SIGSTOP)
    while not workers.held_by(process, since="effect"):
        process.send_signal(signal.SIGCONT)
        await anyio.sleep(0.02)
        process.send_signal(signal.SIGSTOP)
    kill(process)


async def test_an_effect_happens_exactly_once_only_in_the_transaction_of_its_delivery(
    workers: Workers, outbox: DynamoDBOutbox, local_client: Any, data_table: str
) -> None:
    # So slow that there is work left for the last that is killed, however late that is.
    counting = {"table_name": data_table, "seconds": 0.2}
    options = {"handler": "counting", "handler_options": counting, "max_retries": 100, "poll_interval": 0.2}
    options |= {"processing_timeout": 2.0, "concurrency": 6, "batch_size": 6}
    bus = OutboxEventBus(outbox)
    await bus.emit_many([Event(kind) for _ in range(COUNTED) for kind in ("inside", "outside")])
    with anyio.fail_after(240):
        async with anyio.create_task_group() as lanes:
            for lane in range(2):
                lanes.start_soon(partial(kill_busy_ones, workers, lane, **options))
        for _ in range(2):
            workers.start(**options)
        await bus.drain()
    assert await statuses(local_client, outbox.table_name) == {"COMPLETED": 2 * COUNTED}
    counters = await items(local_client, data_table)
    assert int(counters["inside"]["n"]["N"]) == COUNTED
    assert int(counters["outside"]["n"]["N"]) > COUNTED


async def kill_while_every_event_waits(
    process: subprocess.Popen[bytes], client: Any, table_name: str, *, retries: int
) -> None:
    """Kill a worker while all events have failed so many times, and wait long for their next attempt."""
    with anyio.fail_after(60):
        while any(
            (item["status"]["S"], item["retryCount"]["N"]) != ("PENDING", str(retries))
            for item in (await items(client, table_name)).values()
        ):
            await anyio.sleep(0.05)
    kill(process)
    await make_due(client, table_name, "PENDING")


@pytest.mark.parametrize("is_killed", [False, True], ids=["one worker", "killed between the attempts"])
async def test_a_handler_that_succeeded_is_not_run_again_with_another_that_failed(
    workers: Workers, outbox: DynamoDBOutbox, local_client: Any, *, is_killed: bool
) -> None:
    flaky = {"failures": 3, "second_backoff": 600.0 if is_killed else 0.1}
    options = {"handler": "steady_and_flaky", "handler_options": flaky, "poll_interval": 0.2}
    worker = workers.start(**options)
    bus = OutboxEventBus(outbox)
    events = [Event("t", {"n": n}) for n in range(10)]
    await bus.emit_many(events)
    if is_killed:
        await kill_while_every_event_waits(worker, local_client, outbox.table_name, retries=2)
        assert Counter(entry["attempt"] for entry in workers.of("flaky")) == {1: 10, 2: 10}
        workers.start(**options)
    await bus.drain(120)
    assert await statuses(local_client, outbox.table_name) == {"COMPLETED": 10}
    assert Counter(entry["id"] for entry in workers.of("steady")) == Counter(event.id for event in events)
    attempts = Counter((entry["id"], entry["attempt"]) for entry in workers.of("flaky"))
    assert attempts == Counter((event.id, attempt) for event in events for attempt in (1, 2, 3, 4))


async def test_a_handler_that_takes_two_leases_runs_once_on_one_worker(
    workers: Workers, outbox: DynamoDBOutbox, local_client: Any
) -> None:
    # Two seconds are left of a lease when it is renewed: machines pause.
    handler = {"seconds": 6.2, "timeout": 60.0}
    started = [workers.start(handler_options=handler, processing_timeout=3.0, poll_interval=0.2) for _ in range(3)]
    await workers.until_ready(*started)
    bus = OutboxEventBus(outbox)
    events = [Event("t", {"n": n}) for n in range(6)]
    await bus.emit_many(events)
    await bus.drain(120)
    for what in ("start", "end"):
        assert Counter(entry["id"] for entry in workers.of(what)) == Counter(event.id for event in events)
    assert {(entry["id"], entry["pid"]) for entry in workers.of("start")} == {
        (entry["id"], entry["pid"]) for entry in workers.of("end")
    }
    for item in (await items(local_client, outbox.table_name)).values():
        assert (item["status"]["S"], item["retryCount"]["N"]) == ("COMPLETED", "0")
    assert workers.errors() == []


@pytest.mark.parametrize("mode", ["batch", "single"])
async def test_what_a_stopped_worker_held_is_completed_by_another_long_before_the_lease_ends(
    workers: Workers, outbox: DynamoDBOutbox, local_client: Any, mode: str
) -> None:
    options = {"processing_timeout": 300.0, "poll_interval": 0.2, "batch_size": 20, "conditional_writes": mode}
    slow = workers.start(handler_options={"seconds": 250.0}, stop_seconds=1.0, **options)
    bus = OutboxEventBus(outbox)
    await bus.emit_many([Event("t", {"n": n}) for n in range(20)])
    await workers.until(20, "start", slow)
    quick = workers.start(**options)
    await workers.until_ready(quick)
    stopped_at = time.time()
    slow.terminate()
    await bus.drain(120)
    found = (await items(local_client, outbox.table_name)).values()
    assert [(item["status"]["S"], item["retryCount"]["N"]) for item in found] == [("COMPLETED", "0")] * 20
    assert stopped_at + 1.0 <= min(int(item["completedOn"]["N"]) / 1000 for item in found)
    assert len(workers.of("end", quick)) == 20
    assert workers.of("end", slow) == []
    assert workers.stop() == [0, 0]
    assert workers.errors() == []


@pytest.mark.parametrize("in_transaction", [True, False], ids=["then commits", "then returns"])
async def test_a_handler_that_blocks_past_its_lease_is_named_and_its_late_result_refused(
    workers: Workers,
    outbox: DynamoDBOutbox,
    local_client: Any,
    data_table: str,
    tmp_path: Path,
    *,
    in_transaction: bool,
) -> None:
    let_go = tmp_path / "let go"
    options = {"table_name": data_table, "in_transaction": in_transaction, "let_go": str(let_go)}
    started = [
        workers.start(handler="blocking", handler_options=options, processing_timeout=3.0, poll_interval=0.2)
        for _ in range(2)
    ]
    await workers.until_ready(*started)
    event = await OutboxEventBus(outbox).emit("t")
    with anyio.fail_after(60):
        while await statuses(local_client, outbox.table_name) != {"COMPLETED": 1}:
            await anyio.sleep(0.05)
    let_go.touch()
    await workers.until(2, "act")
    first, second = workers.of("start")
    assert first["pid"] != second["pid"]
    blocked, other = sorted(started, key=lambda process: process.pid != first["pid"])
    assert [entry["attempt"] for entry in workers.of("act")] == [2, 1]
    await workers.until_error("LoopBlockedError: handler 'blocking' held up the event loop for ", blocked)
    if in_transaction:
        await workers.until(2, "count")
        counts = [(entry["pid"], entry["refused"]) for entry in workers.of("count")]
        assert counts == [(other.pid, False), (blocked.pid, True)]
    else:
        await workers.until_error("LeaseLostError: complete of", blocked)
    assert workers.stop() == [0, 0]
    assert workers.errors(other) == []
    counted = [data["n"]["N"] for data in (await items(local_client, data_table)).values()]
    assert counted == (["1"] if in_transaction else [])
    item = (await items(local_client, outbox.table_name))[event.id]
    assert (item["status"]["S"], item["retryCount"]["N"]) == ("COMPLETED", "1")
    assert int(item["completedOn"]["N"]) / 1000 < workers.of("act", blocked)[0]["at"]


async def test_an_event_that_kills_its_worker_is_set_aside_and_the_others_are_handled(
    workers: Workers, outbox: DynamoDBOutbox, local_client: Any
) -> None:
    bus = OutboxEventBus(outbox)
    poison = await bus.emit("poison")
    events = await bus.emit_many([Event("t", {"n": n}) for n in range(20)])
    # What a worker holds besides the poison loses an attempt with it, but not its last: suspects go one at a time.
    options = {"handler": "deadly", "processing_timeout": 300.0, "poll_interval": 0.2, "max_retries": 3}
    with anyio.fail_after(120):
        worker = workers.start(**options)
        while not (failed := await bus.get_failed_events()):
            if worker.poll() is not None:
                await make_due(local_client, outbox.table_name, "PROCESSING")
                worker = workers.start(**options)
            await anyio.sleep(0.05)
    await bus.drain(120)
    assert [event.id for event in failed] == [poison.id]
    assert failed[0].retry_count == 3
    assert "lease ran out" in failed[0].last_error
    killed = [entry for entry in workers.of("start") if entry["id"] == poison.id]
    assert [entry["attempt"] for entry in killed] == [1, 2, 3, 4]
    assert [process.pid for process in workers.processes] == [*(entry["pid"] for entry in killed), worker.pid]
    assert {entry["id"] for entry in workers.of("end")} == {event.id for event in events}
    assert await statuses(local_client, outbox.table_name) == {"COMPLETED": 20, "FAILED": 1}


async def test_events_claimed_at_birth_outlive_the_process_that_emitted_them(
    workers: Workers, outbox: DynamoDBOutbox, local_client: Any
) -> None:
    emitter = workers.start("emits", count=300)
    with anyio.fail_after(120):
        while emitter.poll() is None:
            await anyio.sleep(0.05)
    emitted = {entry["id"] for entry in workers.of("emitted", emitter)}
    before = await items(local_client, outbox.table_name)
    assert len(emitted) == 300
    # All of them are stored, and some were claimed by the process that is gone.
    assert emitted <= before.keys()
    assert any(before[event_id]["status"] == {"S": "PROCESSING"} for event_id in emitted)
    workers.start(poll_interval=0.2, processing_timeout=2.0)
    await OutboxEventBus(outbox).drain(120)
    after = await items(local_client, outbox.table_name)
    assert {after[event_id]["status"]["S"] for event_id in emitted} == {"COMPLETED"}
