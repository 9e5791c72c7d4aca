"""Items that vanish, and items that another release or another writer has stored."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from dynamodb_outbox import Delivery, Event, LeaseLostError, OutboxEventBus, StoredEventError
from dynamodb_outbox.adapter import Completed, Failed, Released, Retry
from dynamodb_outbox.observers import LeaseLost
from tests.conftest import MakeOutbox
from tests.fakes import BLAMED
from tests.reliability.conftest import Items
from tests.reliability.proxy_rules import Runs, eventually

NOW = 1_790_000_000.0


@pytest.mark.parametrize("mode", ["batch", "single"])
async def test_no_write_about_a_claim_brings_back_an_item_that_was_deleted(
    make_outbox: MakeOutbox, local_client: Any, table: str, items: Items, mode: str
) -> None:
    outbox = make_outbox(conditional_writes=mode, retention=60)
    outcomes = [
        Completed(),
        Retry(delay=1, error="x", handled_by=frozenset({"h"}), **BLAMED),
        Failed(error="x", **BLAMED),
        Released(),
    ]
    await outbox.publish([Event("order.placed") for _ in range(5)])
    *claims, renewed = await outbox.claim(5)
    for claim in [*claims, renewed]:
        await local_client.delete_item(TableName=table, Key={"id": {"S": claim.event.id}})
    errors = await outbox.settle(list(zip(claims, outcomes, strict=True)))
    errors += await outbox.renew([(renewed, outbox.options.clock() + 60)])
    assert {type(error) for error in errors} == {LeaseLostError}
    recovered = await make_outbox(conditional_writes=mode, clock=lambda: 4_000_000_000.0).recover()
    assert (recovered.reset, recovered.failed) == ((), ())
    assert len((await outbox.redrive([claim.event.id for claim in claims])).done) == 0
    assert await items() == {}


async def test_handler_whose_item_is_deleted_meanwhile_is_reported_and_leaves_nothing(
    make_outbox: MakeOutbox, local_client: Any, table: str, items: Items
) -> None:
    errors: list[Any] = []
    told: list[Any] = []
    outbox = make_outbox(on_error=errors.append, observers=[told.append])
    bus = OutboxEventBus(outbox)

    @bus.on("plain")
    async def plain(event: Event) -> None:
        await local_client.delete_item(TableName=table, Key={"id": {"S": event.id}})

    @bus.on("transactional")
    async def transactional(event: Event, delivery: Delivery) -> None:
        await local_client.delete_item(TableName=table, Key={"id": {"S": event.id}})
        async with delivery.transaction() as tx:
            tx.emit("child")

    await outbox.publish([Event("plain", id="p"), Event("transactional", id="t")])
    assert await bus.run_once() == 0
    assert await items() == {}
    assert {(type(error), error.event_id) for error in errors} == {(LeaseLostError, "p"), (LeaseLostError, "t")}
    assert {fact.event_id for fact in told if isinstance(fact, LeaseLost)} == {"p", "t"}


def item(event_id: str, status: str, sort_key: int, **more: Any) -> dict[str, Any]:
    """An item as the least that a release ever wrote."""
    return {
        "id": {"S": event_id},
        "type": {"S": "order.placed"},
        "payload": {"M": {"n": {"N": "1"}}},
        "occurredAt": {"S": "2024-01-02T03:04:05Z"},
        "status": {"S": status},
        "gsiSortKey": {"N": str(sort_key)},
        **more,
    }


@pytest.mark.parametrize("mode", ["batch", "single"])
async def test_items_of_an_older_release_are_delivered_recovered_and_redriven(
    make_outbox: MakeOutbox, local_client: Any, table: str, items: Items, mode: str
) -> None:
    now = NOW
    past = int(NOW * 1000) - 60_000
    for stored in (
        item("pending", "PENDING", past),
        # Without its retries, its token and the attributes that came later; the lease ran out.
        item("processing", "PROCESSING", past),
        item("last lease", "PROCESSING", past, retryCount={"N": "5"}),
        item("failed", "FAILED", past),
        item("wrapped", "PENDING", past, payload={"M": {"$value": {"L": [{"N": "1"}]}}}, oneOfLater={"S": "x"}),
        {name: value for name, value in item("done", "COMPLETED", past).items() if name != "gsiSortKey"},
    ):
        await local_client.put_item(TableName=table, Item=stored)
    outbox = make_outbox(conditional_writes=mode, clock=lambda: now)
    bus = OutboxEventBus(outbox)
    attempts: dict[str, int] = {}

    @bus.on("order.placed")
    async def handler(event: Event, delivery: Delivery) -> None:
        attempts[event.id] = delivery.attempt

    while await bus.run_once():
        now += 1
    assert attempts == {"pending": 1, "processing": 2, "wrapped": 1}
    failed = {event.id: event for event in await bus.get_failed_events()}
    assert {event_id: event.retry_count for event_id, event in failed.items()} == {"last lease": 5, "failed": 0}
    assert failed["failed"].last_error == ""
    assert len((await bus.retry_events(list(failed))).done) == 2
    while await bus.run_once():
        now += 1
    assert {event_id: attempts[event_id] for event_id in failed} == {"last lease": 1, "failed": 1}
    stored_items = await items()
    assert {stored["status"]["S"] for stored in stored_items.values()} == {"COMPLETED"}
    assert stored_items["wrapped"]["oneOfLater"] == {"S": "x"}


async def test_unreadable_item_costs_one_claim_and_is_read_after_it_was_fixed(
    make_outbox: MakeOutbox, local_client: Any, table: str, items: Items
) -> None:
    errors: list[Any] = []
    outbox = make_outbox(on_error=errors.append, batch_size=1)
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", runs := Runs())
    # Due before all others, and a batch is one event: whoever stumbled over it would stay there.
    broken = item("broken", "PENDING", 1) | {"occurredAt": {"S": "9999-12-31T23:59:59-23:59"}}
    await local_client.put_item(TableName=table, Item=broken)
    async with bus:
        await bus.emit("order.placed", id="good")
        await eventually(lambda: errors)
        await bus.drain(20)
        assert runs.ids == ["good"]
        assert [type(error) for error in errors] == [StoredEventError]
        assert "is not in a year from 1 to 9999 of UTC" in (await items())["broken"]["lastError"]["S"]
        await local_client.put_item(TableName=table, Item=item("broken", "FAILED", 1))
        assert len((await bus.retry_events(["broken"])).done) == 1
        with anyio.fail_after(20):
            await bus.drain(20)
    assert runs.ids == ["good", "broken"]


async def test_item_of_a_reserved_id_ends_as_a_dead_letter_that_can_be_listed(
    make_outbox: MakeOutbox, local_client: Any, table: str
) -> None:
    errors: list[Any] = []
    bus = OutboxEventBus(make_outbox(on_error=errors.append))
    bus.on("order.placed", runs := Runs())
    await local_client.put_item(TableName=table, Item=item("dynamodb-outbox-of-others", "PENDING", 1))
    await bus.emit("order.placed", id="good")
    while await bus.run_once():
        pass
    assert runs.ids == ["good"]
    assert [(type(error), error.event_id) for error in errors] == [(StoredEventError, "dynamodb-outbox-of-others")]
    (failed,) = await bus.get_failed_events()
    assert (failed.id, failed.type) == ("dynamodb-outbox-of-others", "order.placed")
    assert "reserved" in failed.last_error
