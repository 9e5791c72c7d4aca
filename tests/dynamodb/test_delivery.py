"""Delivery on DynamoDB Local: retries as they are stored, recovery, and an engine that goes away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import dynamodb_local
from dynamodb_outbox import DynamoDBOutbox, Event, NoHandlerError, OutboxEventBus, PollingError
from reliability.proxy import CUT_BEFORE, running_proxy
from tests.backends import CLIENTS, open_client
from tests.conftest import MakeOutbox
from tests.dynamodb.impatience import giving_up_after


@pytest.fixture(params=CLIENTS.values(), ids=CLIENTS)
async def local_client(request: pytest.FixtureRequest, local_endpoint: str) -> AsyncIterator[Any]:
    async with request.param(local_endpoint) as client:
        yield client


async def item_of(client: Any, table_name: str, event_id: str) -> dict[str, Any]:
    reply = await client.get_item(TableName=table_name, Key={"id": {"S": event_id}}, ConsistentRead=True)
    item: dict[str, Any] = reply["Item"]
    return item


@pytest.mark.parametrize("mode", ["single", "batch"])
async def test_failing_event_is_retried_with_doubling_delays_then_failed_and_redriven(
    local_client: Any, local_outbox: MakeOutbox, table_name: str, mode: str
) -> None:
    base = 0.1
    now = 1_800_000_000.0
    outbox = local_outbox(conditional_writes=mode, base_backoff=base, poll_interval=0.01, clock=lambda: now)
    bus = OutboxEventBus(outbox, on_error=lambda error: None)
    works = False
    attempts: list[int] = []

    @bus.on("order.placed")
    async def handler(event: Event, delivery: Any) -> None:
        attempts.append(delivery.attempt)
        if not works:
            raise ValueError("still broken")

    event = await bus.emit("order.placed", {"n": 1})
    delays: list[float] = []
    for _ in range(5):
        assert await bus.run_once() == 1
        item = await item_of(local_client, table_name, event.id)
        assert item["status"] == {"S": "PENDING"}
        delays.append(int(item["gsiSortKey"]["N"]) / 1000 - now)
        assert await bus.run_once() == 0, "the event was claimed before it was due"
        now += delays[-1]
    assert delays == pytest.approx([base * factor for factor in (1, 2, 4, 8, 16)], abs=0.001)
    assert await bus.run_once() == 1
    assert attempts == [1, 2, 3, 4, 5, 6]
    item = await item_of(local_client, table_name, event.id)
    assert (item["status"], item["retryCount"]) == ({"S": "FAILED"}, {"N": "5"})
    assert "still broken" in item["lastError"]["S"]
    (failed,) = await bus.get_failed_events()
    assert (failed.id, failed.retry_count) == (event.id, 5)
    works = True
    now += 1
    assert len((await bus.retry_events([event.id])).done) == 1
    assert await bus.run_once() == 1
    item = await item_of(local_client, table_name, event.id)
    assert item["status"] == {"S": "COMPLETED"}
    assert "gsiSortKey" not in item


async def test_event_left_in_processing_is_recovered_and_delivered_within_one_poll(
    local_client: Any, local_outbox: MakeOutbox, table_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = local_outbox(poll_interval=0.5)
    bus = OutboxEventBus(outbox)
    recover, looks = outbox.recover, 0
    handled: list[int] = []

    async def counted(**options: Any) -> Any:
        nonlocal looks
        looks += 1
        return await recover(**options)

    monkeypatch.setattr(outbox, "recover", counted)

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        handled.append(looks)

    await outbox.publish([Event("order.placed", id="stuck")])
    async with bus:
        await bus.drain(60)
        handled.clear()
        await local_client.update_item(
            TableName=table_name,
            Key={"id": {"S": "stuck"}},
            UpdateExpression="SET #s = :processing, gsiSortKey = :past, claimToken = :token",
            ExpressionAttributeNames={"#s": "status"},
            ExpressionAttributeValues={
                ":processing": {"S": "PROCESSING"},
                ":past": {"N": "1000"},
                ":token": {"S": "of a dead worker"},
            },
        )
        before = looks
        with anyio.fail_after(60):
            while not handled:
                await anyio.sleep(0.01)
        await bus.drain(60)
    # The next look recovers it; on a machine that pauses there may be others before the handler is called.
    assert handled[0] - before <= 3
    item = await item_of(local_client, table_name, "stuck")
    assert (item["status"], item["retryCount"]) == ({"S": "COMPLETED"}, {"N": "1"})


@pytest.mark.thorough
@pytest.mark.parametrize("opened", [CLIENTS["connect"], CLIENTS["plain"]], ids=["connect", "plain"])
async def test_delivery_resumes_after_the_backend_was_down_for_some_seconds(
    local_endpoint: str, table_name: str, opened: Any
) -> None:
    errors: list[Any] = []
    async with running_proxy(local_endpoint) as proxy, opened(proxy.endpoint) as client:
        outbox = DynamoDBOutbox(client, table_name=table_name, poll_interval=0.2, processing_timeout=3.0)
        await outbox.create_table()
        bus = OutboxEventBus(outbox, on_error=errors.append)
        handled: list[Event] = []

        @bus.on("order.placed")
        async def handler(event: Event) -> None:
            handled.append(event)

        async with bus:
            await bus.emit("order.placed")
            await bus.drain(60)
            errors.clear()
            proxy.requests.clear()
            proxy.rule = lambda request: CUT_BEFORE
            with anyio.fail_after(60):
                while len(waits(errors, "polling")) < 3 or len(waits(errors, "recovery")) < 3:
                    await anyio.sleep(0.01)
            during, down = len(proxy.requests), list(errors)
            proxy.rule = lambda request: None
            assert bus.running
            async with open_client(local_endpoint) as other:
                await DynamoDBOutbox(other, table_name=table_name).publish([Event("order.placed") for _ in range(5)])
            with anyio.fail_after(60):
                while len(handled) < 6:
                    await anyio.sleep(0.05)
    for loop in ("polling", "recovery"):
        first, *others = waits(down, loop)
        assert first >= 0.4
        assert others == [min(first * 2**n, 30) for n in range(1, len(others) + 1)]
    # A look takes a second at most, within which it backs off from 0.05 s on.
    # A plain client repeats each of its calls up to ten times by itself.
    attempts = 10 if opened is CLIENTS["plain"] else 1
    assert during < 30 * attempts * (len(down) + 2), "a worker must not hammer an engine that is down"


def waits(errors: list[Any], loop: str) -> list[float]:
    return [error.retry_in for error in errors if isinstance(error, PollingError) and error.loop == loop]


@pytest.mark.thorough
async def test_worker_may_start_before_its_backend(local_endpoint: str, table_name: str) -> None:
    port = dynamodb_local.free_port()
    errors: list[Any] = []
    async with DynamoDBOutbox.connect(
        table_name=table_name,
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{port}",
        poll_interval=0.1,
    ) as outbox:
        bus = OutboxEventBus(outbox, on_error=errors.append)
        handled: list[Event] = []

        @bus.on("order.placed")
        async def handler(event: Event) -> None:
            handled.append(event)

        async with bus:
            with giving_up_after(3), anyio.fail_after(60):
                while not errors:
                    await anyio.sleep(0.02)
            with dynamodb_local.running(port, quick=True):
                await outbox.create_table()
                await bus.emit("order.placed")
                await bus.wait_for("order.placed", timeout=60)
                await bus.stop(timeout=10)
    assert len(handled) == 1
    assert isinstance(errors[0], PollingError)


async def test_two_services_with_different_handlers_share_a_table(local_outbox: MakeOutbox) -> None:
    errors: list[Exception] = []
    handled: list[tuple[str, str]] = []

    def service(event_type: str) -> OutboxEventBus:
        outbox = local_outbox(poll_interval=0.2, max_retries=0, claim_on_emit=False, on_error=errors.append)
        bus = OutboxEventBus(outbox)

        @bus.on(event_type)
        async def handler(event: Event) -> None:
            handled.append((event_type, event.type))

        return bus

    one, two = service("one"), service("two")
    async with one, two:
        for bus in (one, two):
            await bus.emit_many([Event(event_type, {"n": n}) for n in range(20) for event_type in ("one", "two")])
        await one.drain(60)
    assert sorted(handled) == [("one", "one")] * 40 + [("two", "two")] * 40
    assert await one.get_failed_events() == []
    # Each is told once at most, however many of the other's events it met.
    assert [type(error) for error in errors] == [NoHandlerError] * len(errors)
    assert len(errors) <= 2
