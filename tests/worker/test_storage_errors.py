"""Errors of the storage are reported and retried, and end no worker."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    Delivery,
    Event,
    EventStatus,
    LeaseLostError,
    OutboxEventBus,
    PollingError,
    SettleError,
    UnavailableError,
    WorkerError,
)
from tests.fakes import Recorder, ScriptedOutbox, quick_outbox

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


DOWN = UnavailableError(operation="query", attempts=3, reason="connection refused", maybe_applied=False)


async def test_polling_errors_back_off_and_end(errors: list[Any]) -> None:
    outbox = ScriptedOutbox(poll_interval=0.01, claim_on_emit=False)
    bus = OutboxEventBus(outbox, on_error=errors.append)
    bus.on("order.placed", handled := Recorder())
    outbox.fail("claim", DOWN)
    async with bus:
        while len(errors) < 3:
            await anyio.sleep(0.005)
        assert bus.running
        outbox.restore("claim")
        await bus.emit("order.placed")
        await bus.drain(5)
        assert len(handled.events) == 1
        outbox.fail("claim", DOWN)
        count = len(errors)
        while len(errors) == count:
            await anyio.sleep(0.005)
    assert [type(error) for error in errors] == [PollingError] * len(errors)
    assert [error.errors for error in errors[:3]] == [1, 2, 3]
    assert [error.retry_in for error in errors[:3]] == [0.02, 0.04, 0.08]
    assert errors[count].errors == 1
    assert errors[0].__cause__ is DOWN


async def test_unforeseen_error_in_a_loop_is_reported_and_ends_nothing(errors: list[Any]) -> None:
    outbox = ScriptedOutbox(poll_interval=0.01)
    outbox.fail("claim", ZeroDivisionError("bug"))
    outbox.fail("recover", RuntimeError("bug"))
    bus = OutboxEventBus(outbox, on_error=errors.append)
    bus.on("order.placed", handled := Recorder())
    async with bus:
        while {error.loop for error in errors} != {"polling", "recovery"}:
            await anyio.sleep(0.005)
        outbox.restore("claim", "recover")
        await bus.emit("order.placed")
        await bus.drain(5)
    assert {type(error) for error in errors} == {WorkerError}
    assert len(handled.events) == 1


async def test_settle_that_fails_is_reported_and_the_event_comes_again(errors: list[Any]) -> None:
    outbox = ScriptedOutbox(poll_interval=0.01, processing_timeout=0.2)
    outbox.refuse("settle", DOWN)
    bus = OutboxEventBus(outbox, on_error=errors.append)
    bus.on("order.placed", handled := Recorder())
    async with bus:
        await bus.emit("order.placed")
        while not errors:
            await anyio.sleep(0.005)
        outbox.restore("settle")
        await bus.drain(5)
    assert isinstance(errors[0], SettleError)
    assert len(handled.events) == 2


async def test_lost_lease_is_reported(errors: list[Any]) -> None:
    outbox = ScriptedOutbox(poll_interval=0.01)
    lost = LeaseLostError(event_id="e", event_type="order.placed", outcome="complete")
    outbox.refuse("settle", lost)
    bus = OutboxEventBus(outbox, on_error=errors.append)
    bus.on("order.placed", Recorder())
    async with bus:
        await bus.emit("order.placed", id="e")
        while not errors:
            await anyio.sleep(0.005)
    assert errors == [lost]


@pytest.mark.parametrize("is_async", [False, True])
async def test_on_error_that_raises_changes_nothing(
    outbox: ScriptedOutbox, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []

    def tell(error: Exception) -> None:
        told.append(error)
        raise RuntimeError("the reporter is broken")

    async def tell_async(error: Exception) -> None:
        tell(error)

    bus = OutboxEventBus(outbox, on_error=tell_async if is_async else tell)

    @bus.on("order.placed")
    async def handler(event: Event, delivery: Delivery) -> None:
        if delivery.attempt == 1:
            raise ValueError

    async with bus:
        await bus.emit("order.placed")
        await bus.drain(5)
    assert len(told) == 1
    assert "on_error raised" in caplog.text


async def test_errors_go_to_the_outbox_callback_or_the_log(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []

    async def fail(event: Event) -> None:
        raise ValueError("boom")

    for outbox in (quick_outbox(max_retries=0, on_error=told.append), quick_outbox(max_retries=0)):
        bus = OutboxEventBus(outbox)
        bus.on("order.placed", fail)
        async with bus:
            await bus.emit("order.placed")
            await bus.drain(5)
    assert len(told) == 1
    assert [record.name for record in caplog.records if "boom" in record.message] == ["dynamodb_outbox"]
