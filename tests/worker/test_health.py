"""`bus.health()`: each fault that it knows, whether the process is live and ready with it, and when it is over."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    Check,
    ConfigurationError,
    Event,
    Health,
    HealthOptions,
    HealthStatus,
    LeaseLostError,
    OutboxEventBus,
    UnavailableError,
)
from dynamodb_outbox.stored_events import Count, Sample
from tests.fakes import ScriptedOutbox
from tests.simulated_table import SimulatedService
from tests.virtual_time import VirtualTime

HEALTHY, DEGRADED, UNHEALTHY = HealthStatus
DOWN = UnavailableError(operation="query", attempts=1, reason="down", maybe_applied=False)
STUCK = 3 * (10 + 30 + 1)
"""The seconds after which a loop that polls every second is stuck."""
MINUTE = 60.0


@pytest.fixture
def outbox() -> ScriptedOutbox:
    return ScriptedOutbox(poll_interval=1.0, random=lambda: 0.5)


async def nothing(event: Event) -> None:
    pass


def state(health: Health) -> tuple[HealthStatus, bool, bool]:
    return health.status, health.live, health.ready


def faults(health: Health) -> dict[str, HealthStatus]:
    return {check.name: check.status for check in health.checks if check.status is not HEALTHY}


def check_of(health: Health, name: str) -> Check:
    (check,) = [check for check in health.checks if check.name == name]
    return check


def was_touched(file: Path) -> bool:
    """Whether a file was touched since the last call."""
    touched = file.stat().st_mtime > 1
    os.utime(file, (0, 0))
    return touched


# The worker


async def test_bus_that_runs_is_well(bus: OutboxEventBus) -> None:
    async with bus:
        await anyio.sleep(MINUTE)
        assert state(bus.health()) == (HEALTHY, True, True)
        await anyio.sleep(1)
        assert [check.name for check in bus.health().checks] == [
            "worker", "event_loop", "polling", "recovery", "storage", "leases", "slots", "sample", "holds",
            "oldest_due", "dead_letters",
        ]  # fmt: skip


async def test_bus_that_was_not_started_or_was_stopped_is_live_and_not_ready(bus: OutboxEventBus) -> None:
    assert state(bus.health()) == (UNHEALTHY, True, False)
    assert "not started" in check_of(bus.health(), "worker").reason
    async with bus:
        pass
    assert state(bus.health()) == (UNHEALTHY, True, False)
    assert "was stopped" in check_of(bus.health(), "worker").reason
    async with bus:
        assert state(bus.health()) == (HEALTHY, True, True)


async def test_bus_that_starts_is_live_and_not_ready() -> None:
    opened = anyio.Event()

    class Slow(ScriptedOutbox):
        async def prepare(self) -> None:
            await opened.wait()

    bus = OutboxEventBus(Slow())
    async with anyio.create_task_group() as group:
        group.start_soon(bus.start)
        await anyio.sleep(10)
        assert state(bus.health()) == (UNHEALTHY, True, False)
        assert "starting" in check_of(bus.health(), "worker").reason
        opened.set()
    assert state(bus.health()) == (HEALTHY, True, True)
    await bus.stop()


async def test_bus_that_drains_is_live_and_not_ready_however_long_it_takes(
    outbox: ScriptedOutbox, tmp_path: Path
) -> None:
    file = tmp_path / "alive"
    bus = OutboxEventBus(outbox, health=HealthOptions(heartbeat_file=file))
    done = anyio.Event()

    @bus.on("order.placed", timeout=7200)
    async def slowly(event: Event) -> None:
        await done.wait()

    await bus.start()
    await bus.emit("order.placed")
    async with anyio.create_task_group() as group:
        group.start_soon(bus.stop)
        for _ in range(3):
            await anyio.sleep(5 * MINUTE)
            assert state(bus.health()) == (DEGRADED, True, False)
            assert faults(bus.health()) == {"worker": DEGRADED}
            assert was_touched(file)
        done.set()
    assert state(bus.health()) == (UNHEALTHY, True, False)


async def test_worker_that_was_cancelled_by_the_application_is_not_live(bus: OutboxEventBus) -> None:
    async with bus:
        task = bus._lifecycle.worker._task
        assert task is not None
        task.cancel()
        await asyncio.wait([task])
        assert state(bus.health()) == (UNHEALTHY, False, False)
        assert "nobody has stopped it" in check_of(bus.health(), "worker").reason
        await bus.start()
        assert state(bus.health()) == (HEALTHY, True, True)


async def test_worker_whose_event_loop_was_closed_is_not_live(
    bus: OutboxEventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = asyncio.new_event_loop()
    closed.close()
    async with bus:
        monkeypatch.setattr(bus._lifecycle.worker.vitals, "_event_loop", closed)
        assert state(bus.health()) == (UNHEALTHY, False, False)
        assert "was closed" in check_of(bus.health(), "worker").reason


# The loops


@pytest.mark.parametrize(("operation", "loop"), [("claim", "polling"), ("recover", "recovery")])
async def test_loop_whose_step_never_ends_is_not_live_after_the_limit(
    bus: OutboxEventBus, outbox: ScriptedOutbox, operation: Any, loop: str
) -> None:
    gate = outbox.pause(operation)
    async with bus:
        await anyio.sleep(STUCK - 1)
        assert (bus.health().live, bus.health().ready) == (True, True)
        await anyio.sleep(2)
        health = bus.health()
        assert state(health) == (UNHEALTHY, False, False)
        assert faults(health) == {loop: UNHEALTHY}
        since = check_of(health, loop).since
        assert since is not None
        assert (datetime.fromtimestamp(outbox.options.clock(), UTC) - since).total_seconds() == pytest.approx(STUCK + 1)
        gate.open()
        await anyio.sleep(1)
        assert state(bus.health()) == (HEALTHY, True, True)


async def test_loops_over_many_shards_are_live_while_each_answer_is_slow(virtual_time: VirtualTime) -> None:
    queries = 0

    async def slow(operation: str, parameters: Any) -> None:
        nonlocal queries
        if operation == "query":
            queries += 1
            await anyio.sleep(2.5)

    service = SimulatedService(virtual_time, shards=64)
    service.before = slow
    bus = OutboxEventBus(service.outbox())
    bus.on("order.placed", nothing)
    async with bus:
        for _ in range(20):
            await anyio.sleep(30)
            assert (bus.health().live, bus.health().ready) == (True, True)
    assert queries > 64


async def test_idle_worker_that_polls_once_an_hour_is_live() -> None:
    bus = OutboxEventBus(ScriptedOutbox(poll_interval=60, max_poll_interval=3600, random=lambda: 1.0))
    async with bus:
        for _ in range(9):
            await anyio.sleep(10 * MINUTE)
            assert state(bus.health()) == (HEALTHY, True, True)


async def test_waiting_for_a_slot_is_a_degradation_and_no_reason_to_restart() -> None:
    outbox = ScriptedOutbox(poll_interval=1.0, concurrency=1, claim_on_emit=False)
    bus = OutboxEventBus(outbox)
    done = anyio.Event()

    @bus.on("order.placed", timeout=7200)
    async def slowly(event: Event) -> None:
        await done.wait()

    async with bus:
        await bus.emit("order.placed")
        await anyio.sleep(5)
        assert state(bus.health()) == (HEALTHY, True, True)
        await anyio.sleep(10 * MINUTE)
        assert state(bus.health()) == (DEGRADED, True, True)
        assert faults(bus.health()) == {"slots": DEGRADED}
        done.set()
        await anyio.sleep(2)
        assert state(bus.health()) == (HEALTHY, True, True)


async def test_event_loop_that_stands_still_is_not_ready_and_later_not_live(
    bus: OutboxEventBus, virtual_time: VirtualTime
) -> None:
    async with bus:
        await anyio.sleep(1.5)
        virtual_time.pass_by(15)  # half a lease, and nothing has run meanwhile
        assert state(bus.health()) == (HEALTHY, True, True)
        virtual_time.pass_by(2)
        health = bus.health()
        assert state(health) == (DEGRADED, True, False)
        assert faults(health) == {"event_loop": DEGRADED}
        virtual_time.pass_by(STUCK)
        assert not bus.health().live
        await anyio.sleep(2)
        assert state(bus.health()) == (DEGRADED, True, True)
        assert check_of(bus.health(), "event_loop").data["seconds"] == pytest.approx(15 + 2 + STUCK, abs=1)
        await anyio.sleep(10 * MINUTE)
        assert state(bus.health()) == (HEALTHY, True, True)


# DynamoDB


async def test_outage_degrades_at_once_is_unhealthy_later_and_restarts_nothing(
    bus: OutboxEventBus, outbox: ScriptedOutbox
) -> None:
    async with bus:
        await anyio.sleep(1)
        outbox.fail("claim", DOWN)
        outbox.fail("recover", DOWN)
        await anyio.sleep(2)
        assert state(bus.health()) == (DEGRADED, True, True)
        check = check_of(bus.health(), "storage")
        assert "down" in check.reason
        assert check.data == {"failing": ["polling", "recovery"]}
        await anyio.sleep(5 * MINUTE)
        assert state(bus.health()) == (UNHEALTHY, True, True)
        await anyio.sleep(3600)
        assert (bus.health().live, bus.health().ready) == (True, True)
        outbox.restore("claim", "recover")
        await anyio.sleep(31)
        assert state(bus.health()) == (HEALTHY, True, True)


async def test_readiness_may_need_the_storage(outbox: ScriptedOutbox) -> None:
    options = HealthOptions(readiness_needs_storage=True, storage_unhealthy=10)
    bus = OutboxEventBus(outbox, health=options, on_error=lambda error: None)
    outbox.fail("claim", DOWN)
    async with bus:
        await anyio.sleep(1)
        assert state(bus.health()) == (DEGRADED, True, False)
        await anyio.sleep(11)
        assert state(bus.health()) == (UNHEALTHY, True, False)


async def test_outcomes_that_are_not_written_degrade(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    outbox.refuse("settle", DOWN, nth=1)
    bus.on("order.placed", nothing)
    async with bus:
        await bus.emit("order.placed")
        await anyio.sleep(1)
        assert state(bus.health()) == (DEGRADED, True, True)
        assert check_of(bus.health(), "storage").data == {"failing": ["settling"]}
        await anyio.sleep(MINUTE)
        assert "storage" not in faults(bus.health())


async def test_lost_leases_degrade_for_ten_minutes(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    outbox.refuse("settle", LeaseLostError(event_id="a", event_type="order.placed", outcome="complete"), nth=1)
    bus.on("order.placed", nothing)
    async with bus:
        await bus.emit("order.placed")
        await anyio.sleep(MINUTE)
        assert state(bus.health()) == (DEGRADED, True, True)
        assert check_of(bus.health(), "leases").data == {"lost": 1}
        await anyio.sleep(10 * MINUTE)
        assert state(bus.health()) == (HEALTHY, True, True)


# The sample


async def test_backlog_degrades_and_is_unhealthy_later(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    async with bus:
        bus.health()
        outbox.answer("claim", [])
        await bus.emit("order.placed")
        await anyio.sleep(MINUTE - 1)
        assert faults(bus.health()) == {}
        await anyio.sleep(31)
        assert state(bus.health()) == (DEGRADED, True, True)
        check = check_of(bus.health(), "oldest_due")
        assert check.since is not None
        for _ in range(4):
            await anyio.sleep(MINUTE)
            assert bus.health().ready
        assert state(bus.health()) == (UNHEALTHY, True, True)
        assert check_of(bus.health(), "oldest_due").since == check.since


async def test_dead_letters_degrade(bus: OutboxEventBus) -> None:
    @bus.on("order.placed", max_retries=0)
    async def fails(event: Event) -> None:
        raise ValueError("no address")

    async with bus:
        await bus.emit("order.placed", id="a")
        await anyio.sleep(1)
        bus.health()
        await anyio.sleep(1)
        assert state(bus.health()) == (DEGRADED, True, True)
        assert faults(bus.health()) == {"dead_letters": DEGRADED}
        assert "1 event is FAILED" in check_of(bus.health(), "dead_letters").reason


async def test_dead_letters_that_were_not_counted_may_block_keys(
    bus: OutboxEventBus, outbox: ScriptedOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = replace(
        await outbox.sample(),
        failed=Count(at_least=1_000, is_exact=False),
        blocked_keys=Count(at_least=0, is_exact=False),
    )

    async def sample(**_: Any) -> Sample:
        return unknown

    monkeypatch.setattr(outbox, "sample", sample)
    async with bus:
        bus.health()
        await anyio.sleep(1)
        reason = check_of(bus.health(), "dead_letters").reason
        assert reason.endswith("; only the latest 1,000 were counted, and older ones may block ordering keys")


async def test_outbox_that_cannot_be_sampled_is_unknown_and_degraded(
    bus: OutboxEventBus, outbox: ScriptedOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(**options: Any) -> Any:
        raise DOWN

    async with bus:
        bus.health()
        await anyio.sleep(1)
        monkeypatch.setattr(outbox, "sample", fail)
        await anyio.sleep(40)
        assert faults(bus.health()) == {}
        await anyio.sleep(10)
        health = bus.health()
        assert state(health) == (DEGRADED, True, True)
        assert "down" in check_of(health, "sample").reason
        assert not {"oldest_due", "dead_letters"} & {check.name for check in health.checks}


async def test_samples_can_be_left_out(outbox: ScriptedOutbox) -> None:
    bus = OutboxEventBus(outbox, health=HealthOptions(sample_interval=None))
    async with bus:
        bus.health()
        await anyio.sleep(MINUTE)
        assert "sample" not in {check.name for check in bus.health().checks}
        assert bus.sampler.latest is None


# Holds


async def settled_health(bus: OutboxEventBus) -> Health:
    """The health that a probe sees that comes every ten seconds."""
    for _ in range(3):
        bus.health()
        await anyio.sleep(10)
    return bus.health()


async def test_hold_is_told_and_degrades_after_an_hour() -> None:
    bus = OutboxEventBus(ScriptedOutbox(poll_interval=MINUTE))
    bus.on("order.placed", nothing)
    async with bus:
        await bus.hold("order.placed", reason="the bank is down", by="ada@laptop")
        health = await settled_health(bus)
        assert state(health) == (HEALTHY, True, True)
        check = check_of(health, "holds")
        assert "ada@laptop holds the type 'order.placed': the bank is down" in check.reason
        assert "bus.resume('order.placed')" in check.reason
        assert check.since is not None
        await anyio.sleep(3600)
        health = await settled_health(bus)
        assert state(health) == (DEGRADED, True, True)
        assert faults(health) == {"holds": DEGRADED}
        await bus.resume("order.placed")
        health = await settled_health(bus)
        assert state(health) == (HEALTHY, True, True)
        assert check_of(health, "holds").reason == ""


async def test_backlog_of_an_outbox_that_is_held_is_not_a_fault(bus: OutboxEventBus) -> None:
    bus.on("order.placed", nothing)
    async with bus:
        await bus.hold(reason="the bank is down", by="ada@laptop")
        await bus.emit("order.placed")
        await anyio.sleep(10 * MINUTE)
        health = await settled_health(bus)
        assert state(health) == (HEALTHY, True, True)
        assert "all types are held" in check_of(health, "oldest_due").reason
        await bus.resume()
        assert check_of(await settled_health(bus), "oldest_due").reason == ""


async def test_hold_that_is_over_is_not_told(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    async with bus:
        until = datetime.fromtimestamp(outbox.options.clock() + 35, UTC)
        await bus.hold("order.placed", reason="the bank is down", by="ada@laptop", until=until)
        health = await settled_health(bus)
        assert check_of(health, "holds").reason != ""
        await anyio.sleep(6)  # before the next sample
        assert check_of(bus.health(), "holds").reason == ""


# The call


async def test_health_makes_no_request_and_takes_milliseconds(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    outbox.pause("claim")
    outbox.pause("recover")
    async with bus:
        await anyio.sleep(5)
        before = {operation: len(calls) for operation, calls in outbox.calls.items()}
        took: list[float] = []
        for _ in range(20):
            started = perf_counter()
            bus.health()
            took.append(perf_counter() - started)
        assert min(took) < 0.05
        assert {operation: len(calls) for operation, calls in outbox.calls.items()} == before
        outbox.restore("claim", "recover")
        await bus.stop(0)


async def test_json_has_what_probes_read_and_details_only_on_demand(
    bus: OutboxEventBus, outbox: ScriptedOutbox
) -> None:
    outbox.fail("claim", DOWN)
    async with bus:
        await anyio.sleep(10)
        health = bus.health()
    assert json.loads(health.to_json(details=False)) == {"status": "warn"}
    told = json.loads(health.to_json())
    assert (told["status"], told["live"], told["ready"]) == ("warn", True, True)
    (storage,) = told["checks"]["storage"]
    assert storage["status"] == "warn"
    assert storage["output"] == check_of(health, "storage").reason
    assert datetime.fromisoformat(storage["since"]).tzinfo is not None
    assert storage["data"] == {"failing": ["polling"]}
    assert told["checks"]["polling"] == [{"status": "pass"}]


@pytest.mark.parametrize(
    "options",
    [
        {"oldest_due_degraded": -1},
        {"oldest_due_degraded": 600},  # more than oldest_due_unhealthy
        {"storage_unhealthy": "5"},
        {"readiness_needs_storage": 1},
        {"sample_interval": 0.5},
        {"heartbeat_file": 7},
    ],
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="must be"):
        HealthOptions(**options)


def test_options_are_an_object(outbox: ScriptedOutbox) -> None:
    options: Any = {"sample_interval": None}
    with pytest.raises(ConfigurationError, match=r"health=.*it must be a HealthOptions"):
        OutboxEventBus(outbox, health=options)


# The heartbeat file


async def test_heartbeat_file_is_touched_while_the_loops_turn(outbox: ScriptedOutbox, tmp_path: Path) -> None:
    file = tmp_path / "alive"
    bus = OutboxEventBus(outbox, health=HealthOptions(heartbeat_file=str(file)))

    async with bus:
        await anyio.sleep(0)
        assert was_touched(file)
        await anyio.sleep(3)
        assert not was_touched(file)  # every five seconds is enough
        await anyio.sleep(4)
        assert was_touched(file)
        gate = outbox.pause("claim")
        await anyio.sleep(STUCK)
        assert was_touched(file)
        await anyio.sleep(10)
        was_touched(file)
        await anyio.sleep(5 * MINUTE)
        assert not was_touched(file)
        gate.open()
        outbox.restore("claim")
        await anyio.sleep(10)
        assert was_touched(file)
    assert file.exists()


async def test_heartbeat_file_with_an_impossible_name_harms_nothing(outbox: ScriptedOutbox) -> None:
    async with OutboxEventBus(outbox, health=HealthOptions(heartbeat_file="a\0b")) as bus:
        await anyio.sleep(MINUTE)
        assert state(bus.health()) == (HEALTHY, True, True)


async def test_heartbeat_file_that_cannot_be_written_is_logged_once_and_harms_nothing(
    outbox: ScriptedOutbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "missing" / "alive"
    bus = OutboxEventBus(outbox, health=HealthOptions(heartbeat_file=file))
    async with bus:
        await anyio.sleep(MINUTE)
        (line,) = [record.getMessage() for record in caplog.records if "heartbeat file" in record.getMessage()]
        assert str(file) in line
        assert state(bus.health()) == (HEALTHY, True, True)
        file.parent.mkdir()
        await anyio.sleep(10)
    assert file.exists()
