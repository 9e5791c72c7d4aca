"""Where DynamoDB takes one statement and not another, the other becomes single writes."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox, Event
from dynamodb_outbox.adapter import Completed, Failed, Released, Retry
from reliability.proxy import Proxy, Recorded, Reply, refused
from tests.fakes import BLAMED

SOME = frozenset({"h"})
DONE_BY_SOME = Retry(delay=0, error="x", handled_by=SOME, **BLAMED)


def statements(proxy: Proxy) -> list[list[str]]:
    return [[each["Statement"] for each in body["Statements"]] for body in proxy.of("BatchExecuteStatement")]


def refuse_request(request: Recorded) -> Any:
    """Refuse the whole request, as DynamoDB does with a statement that it cannot parse."""
    return refused("ValidationException", "Unsupported function") if any(undocumented(request)) else None


def refuse_statement(request: Recorded) -> Any:
    """Refuse the statement alone, as DynamoDB Local does."""
    found = undocumented(request)
    error = {"Error": {"Code": "ValidationError", "Message": "Unrecognized function"}}
    if found and all(found):
        return Reply(200, {"Responses": [error] * len(found)})

    def changed(reply: dict[str, Any]) -> dict[str, Any]:
        pairs = zip(found, reply["Responses"], strict=True)
        return {"Responses": [error if is_refused else response for is_refused, response in pairs]}

    return changed if any(found) else None


def undocumented(request: Recorded) -> list[bool]:
    """Tell which of its statements an engine would not take that knows no `set_add`."""
    return ["set_add" in statement["Statement"] for statement in request.body.get("Statements", [])]


@pytest.mark.parametrize("rule_and_mode", [*itertools.product([refuse_request, refuse_statement], ["auto", "batch"])])
async def test_statement_refused_as_invalid_becomes_single_writes_and_the_others_stay_in_batches(
    client: Any, outbox: DynamoDBOutbox, proxy: Proxy, caplog: pytest.LogCaptureFixture, rule_and_mode: Any
) -> None:
    caplog.set_level("WARNING", logger="dynamodb_outbox")
    proxy.rule, mode = rule_and_mode
    now = 4_000_000_000.0
    made = DynamoDBOutbox(client, table_name=outbox.table_name, conditional_writes=mode, clock=lambda: now)
    await made.publish([Event("order.placed") for _ in range(6)])
    now += 1
    for half in (await made.claim(3), await made.claim(3)):
        assert await made.settle([(claim, DONE_BY_SOME) for claim in half]) == [None] * 3
    now += 1
    claims = await made.claim(6)
    assert [claim.handled_by for claim in claims] == [SOME] * 6
    proxy.requests.clear()
    assert await made.settle([(claim, DONE_BY_SOME) for claim in claims[:3]]) == [None] * 3
    assert proxy.operations() == ["UpdateItem"] * 3
    proxy.requests.clear()
    assert await made.settle([(claim, Completed()) for claim in claims[3:]]) == [None] * 3
    assert proxy.operations() == ["BatchExecuteStatement"]
    said = [record.message for record in caplog.records if "'retry'" in record.message]
    assert len(said) == 1
    assert "single" in said[0]


async def test_item_that_takes_no_handler_name_gives_up_no_statement(
    client: Any, outbox: DynamoDBOutbox, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", logger="dynamodb_outbox")
    await outbox.publish([Event("order.placed", id=event_id) for event_id in ("mistyped", "good")])
    names = {"#h": "handledBy"}
    await client.update_item(
        TableName=outbox.table_name,
        Key={"id": {"S": "mistyped"}},
        UpdateExpression="SET #h = :list",
        ExpressionAttributeNames=names,
        ExpressionAttributeValues={":list": {"L": []}},
    )
    claims = await outbox.claim(2)
    errors = await outbox.settle([(claim, DONE_BY_SOME) for claim in claims])
    assert {claim.event.id: error is None for claim, error in zip(claims, errors, strict=True)}["good"]
    good = next(claim for claim in await outbox.claim(2) if claim.event.id == "good")
    proxy.requests.clear()
    assert await outbox.settle([(good, DONE_BY_SOME)]) == [None]
    assert proxy.operations() == ["BatchExecuteStatement"]
    assert [record.message for record in caplog.records if "PartiQL" in record.message] == []
    assert [record.message for record in caplog.records if "run again" in record.message]


@pytest.mark.parametrize("shards", [1, 4])
async def test_probe_is_one_request_with_every_statement_that_is_sent_in_batches(
    client: Any, proxy: Proxy, table_name: str, shards: int
) -> None:
    outbox = DynamoDBOutbox(client, table_name=table_name, shards=shards, retention=60)
    await outbox.create_table()
    await outbox.publish([Event("order.placed") for _ in range(17)])
    proxy.requests.clear()
    claims = await outbox.claim(17)
    probe, *_ = statements(proxy)
    outcomes: list[Any] = [
        Completed(),
        Retry(delay=9, error="x", **BLAMED),
        Failed(error="x", **BLAMED),
        Released(delay=9),
    ]
    outcomes += [Retry(delay=9, error="x", handled_by=SOME, **BLAMED), Failed(error="x", handled_by=SOME, **BLAMED)]
    outcomes += [Released(delay=9, handled_by=SOME)]
    renewed, *settled = claims
    settled[7:14] = [replace(claim, unhandled_since=1.0) for claim in settled[7:14]]
    outcomes += outcomes
    outcomes += [Released(unhandled_since=1.0), Released(unhandled_since=1.0, handled_by=SOME)]
    assert await outbox.renew([(renewed, renewed.lease_expires_at + 9)]) == [None]
    assert set(await outbox.settle(list(zip(settled, outcomes, strict=True)))) == {None}
    assert len((await outbox.redrive([claim.event.id for claim in claims])).done) == 4
    sent = {text for texts in statements(proxy)[1:] for text in texts}
    # A renewal and a release have one text, and different values.
    assert len(sent) == 18
    assert sent <= set(probe)
    assert len(probe) <= 25
    assert any("statusShard" in text for text in probe) == (shards > 1)


async def test_recovery_needs_no_statement(client: Any, outbox: DynamoDBOutbox, proxy: Proxy) -> None:
    now = 4_000_000_000.0
    made = DynamoDBOutbox(client, table_name=outbox.table_name, clock=lambda: now, conditional_writes="batch")
    await made.publish([Event("order.placed", id="retried"), Event("order.placed", id="failed")])
    await made.claim(2)
    proxy.rule = lambda request: refused("ValidationException") if "Statements" in request.body else None
    now += 31
    assert sorted((await made.recover()).reset) == ["failed", "retried"]
    proxy.rule = lambda request: None
    (claim, _) = await made.claim(2)
    proxy.rule = lambda request: refused("ValidationException") if "Statements" in request.body else None
    now += 31
    recovered = await made.recover(max_retries=1)
    assert claim.attempt == 2
    assert sorted(recovered.failed) == ["failed", "retried"]


async def test_write_that_was_tried_alone_is_not_tried_again(outbox: DynamoDBOutbox, proxy: Proxy) -> None:
    await outbox.publish([Event("order.placed") for _ in range(3)])
    claims = await outbox.claim(3)
    proxy.requests.clear()
    proxy.rule = lambda request: refused("ValidationException", "odd")
    errors = await outbox.settle([(claim, Completed()) for claim in claims])
    assert all("odd" in str(error) for error in errors)
    # All three at once, each alone as a statement, and each alone as an update.
    assert Counter(proxy.operations()) == {"BatchExecuteStatement": 1 + 3, "UpdateItem": 3}
