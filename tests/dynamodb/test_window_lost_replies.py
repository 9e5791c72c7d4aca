"""Writes into a window whose replies are lost, late, or errors: each event is stored once, or refused for good."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dynamodb_outbox import (
    EventStatus,
    PartialPublishError,
    ThrottledError,
    UnavailableError,
)
from dynamodb_outbox.dynamodb.items.codec import is_unlisted
from reliability.proxy import CUT_AFTER, CUT_BEFORE, Proxy, Recorded, Reply, nth, refused
from tests.dynamodb.impatience import giving_up_after
from tests.dynamodb.windows import WAYS, Desk, order, until, written

PENDING, PROCESSING, COMPLETED, FAILED, *_ = (str(status) for status in EventStatus)
NEW = "attribute_not_exists(id)"
NEW_OR_VOID = "attribute_not_exists(id) OR #status = :void"


@pytest.mark.parametrize("cut", [CUT_BEFORE, CUT_AFTER])
@pytest.mark.parametrize(("way", "operation"), [("alone", "PutItem"), ("in a transaction", "TransactWriteItems")])
async def test_request_whose_response_is_lost_stores_each_event_once(
    desk: Desk, proxy: Proxy, way: str, operation: str, cut: str
) -> None:
    proxy.rule = nth(1, operation, cut)
    events = [order() for _ in range(2)]
    await WAYS[way](desk, *events)
    assert [is_unlisted(await desk.item(event)) for event in events] == [True, True]
    assert desk.window.open_count == 2
    assert await desk.settle(*events) == [None, None]


@pytest.mark.parametrize("cut", [CUT_BEFORE, CUT_AFTER])
async def test_inserts_whose_response_is_lost_store_each_event_once(inserting: Desk, proxy: Proxy, cut: str) -> None:
    proxy.rule = nth(1, "BatchExecuteStatement", cut)
    events = [order() for _ in range(20)]
    await inserting.emit(*events)
    assert written(proxy) == {"BatchExecuteStatement": 1, "PutItem": 20}
    assert all([is_unlisted(await inserting.item(event)) for event in events])
    assert inserting.window.open_count == 20
    assert await inserting.settle(*events) == [None] * 20


async def test_statements_that_fail_alone_are_repeated_each_as_it_must_be(inserting: Desk, proxy: Proxy) -> None:
    codes = iter(["ThrottlingError", "ValidationError", "InternalServerError", "AccessDenied"])

    def fail(response: dict[str, Any]) -> dict[str, Any]:
        for index, code in enumerate(codes):
            response["Responses"][index] = {"Error": {"Code": code, "Message": "no"}}
        return response

    async def only_the_last(request: Recorded) -> Any:
        # The others did not reach the table.
        statements = request.body["Statements"][4:]
        await inserting.client.batch_execute_statement(Statements=statements)
        return Reply(200, fail({"Responses": [{} for _ in request.body["Statements"]]}))

    count = 0

    def rule(request: Recorded) -> Any:
        nonlocal count
        if request.operation != "BatchExecuteStatement":
            return None
        count += 1
        return only_the_last(request) if count == 1 else None

    proxy.rule = rule
    events = [order() for _ in range(6)]
    await inserting.emit(*events)
    # The throttled one comes again as a statement, with a second batch; three go alone.
    assert proxy.count("PutItem") == 3
    assert {put["Item"]["id"]["S"] for put in proxy.of("PutItem")} == {event.id for event in events[1:4]}
    assert all([is_unlisted(await inserting.item(event)) for event in events])
    assert inserting.window.open_count == 6


@pytest.mark.parametrize("code", ["ValidationException", "AccessDeniedException"])
async def test_inserts_that_are_refused_as_a_whole_go_one_by_one(inserting: Desk, proxy: Proxy, code: str) -> None:
    proxy.rule = lambda request: refused(code, "no") if request.operation == "BatchExecuteStatement" else None
    events = [order() for _ in range(3)]
    await inserting.emit(*events)
    assert written(proxy) == {"BatchExecuteStatement": 1, "PutItem": 3}
    assert inserting.window.open_count == 3


async def test_inserts_that_are_throttled_to_the_end_are_not_stored(inserting: Desk, proxy: Proxy) -> None:
    def throttle(request: Recorded) -> Any:
        if request.operation == "BatchExecuteStatement":
            return refused("ProvisionedThroughputExceededException", "slow down")
        return None

    proxy.rule = throttle
    with giving_up_after(3), pytest.raises(PartialPublishError) as caught:
        await inserting.emit(order(), order())
    assert {type(cause) for cause in caught.value.causes.values()} == {ThrottledError}
    assert not any(cause.maybe_applied for cause in caught.value.causes.values() if isinstance(cause, ThrottledError))
    assert inserting.window.open_count == 0


async def test_second_round_of_an_insert_leaves_a_closed_window(inserting: Desk, proxy: Proxy) -> None:
    window = inserting.window

    def throttle_once(request: Recorded) -> Any:
        if request.operation == "BatchExecuteStatement" and not window.is_closed:
            window.is_closed = True
            return refused("ProvisionedThroughputExceededException", "slow down")
        return None

    proxy.rule = throttle_once
    events = [order(), order()]
    await inserting.emit(*events)
    assert proxy.count("BatchExecuteStatement") == 2
    assert all(["gsiSortKey" in await inserting.item(event) for event in events])
    assert all(inserting.claims[event.id].shared_lease is None for event in events)
    assert window.open_count == 0


@pytest.mark.parametrize("way", ["alone", "together", "in a transaction"])
@pytest.mark.parametrize("applied", [False, True])
async def test_event_whose_write_is_never_answered_is_found_or_cannot_be_stored(
    desk: Desk, proxy: Proxy, way: str, *, applied: bool
) -> None:
    cut = CUT_AFTER if applied else CUT_BEFORE
    is_cut = True
    events = [order(), order()]
    sent = {event.id for event in events}

    def rule(request: Recorded) -> Any:
        mine = any(event_id in str(request.body) for event_id in sent)
        is_emit = mine and "payload" in str(request.body)
        return cut if is_cut and is_emit else None

    proxy.rule = rule
    with giving_up_after(2), pytest.raises((UnavailableError, PartialPublishError)):
        await WAYS[way](desk, *events)
    await until(lambda: desk.window.open_count == 0)
    tried = events[:1] if way == "alone" else events
    statuses = {(await desk.item(event)).get("status", {}).get("S") for event in tried}
    assert statuses == ({PENDING} if applied else {"VOID"})
    is_cut = False
    if not applied:
        # A late request is refused, and a repeat by the user is not.
        await desk.outbox.publish(tried)
    assert {claim.event.id for claim in await desk.outbox.claim(10)} == {event.id for event in tried}


@pytest.mark.parametrize("way", ["alone", "together", "in a transaction"])
async def test_event_that_is_stored_after_the_end_of_its_window_is_released(
    inserting: Desk, proxy: Proxy, way: str
) -> None:
    window = inserting.window

    def end_window(request: Recorded) -> Any:
        if request.operation in {"PutItem", "BatchExecuteStatement", "TransactWriteItems"}:
            window.lease.expires_at = 0.0

    proxy.rule = end_window
    events = [order(), order()][: 1 if way == "alone" else 2]
    await WAYS[way](inserting, *events)
    # The emit has succeeded, and whoever claims the event handles it.
    assert not any(event.id in inserting.claims for event in events)
    for event in events:
        item = await inserting.item(event)
        assert item["status"] == {"S": PENDING}
        assert item["retryCount"] == {"N": "0"}
    assert window.open_count == 0
    assert {claim.event.id for claim in await inserting.outbox.claim(5)} == {event.id for event in events}


async def test_emit_that_is_cancelled_is_found_out_about(desk: Desk, proxy: Proxy) -> None:
    arrived = asyncio.Event()

    async def late(request: Recorded) -> None:
        arrived.set()
        await asyncio.sleep(0.3)

    event = order()
    proxy.rule = lambda request: late(request) if request.operation == "PutItem" else None
    emit = asyncio.create_task(desk.emit(event))
    await arrived.wait()
    emit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await emit
    await until(lambda: desk.window.open_count == 0)
    await asyncio.sleep(0.5)
    # The tombstone was first, so the late write is refused.
    assert (await desk.item(event))["status"] == {"S": "VOID"}
