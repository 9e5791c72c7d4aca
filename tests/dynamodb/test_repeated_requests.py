"""Requests whose responses are lost, that are throttled or refused in part: what is repeated, and what is not."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    DuplicateEventError,
    DynamoDBOutbox,
    Event,
    EventStatus,
    LeaseLostError,
    PartialPublishError,
    ThrottledError,
    UnavailableError,
)
from dynamodb_outbox.adapter import Completed, Released, Retry
from dynamodb_outbox.dynamodb.emitting import publish_result
from dynamodb_outbox.observers import ClaimRefused, Observation
from reliability.proxy import CUT_AFTER, CUT_BEFORE, RESET_AFTER, Proxy, Recorded, Reply, nth, refused
from tests.backends import open_client
from tests.dynamodb.impatience import giving_up_after
from tests.fakes import BLAMED

PENDING = EventStatus.PENDING


@pytest.fixture
def client(either_client: Any) -> Any:
    return either_client


def single(client: Any, table_name: str) -> DynamoDBOutbox:
    return DynamoDBOutbox(client, table_name=table_name, conditional_writes="single")


# Lost responses


@pytest.mark.parametrize("mode", ["batch", "single"])
async def test_claim_whose_response_was_lost_is_held(
    outbox: DynamoDBOutbox, client: Any, proxy: Proxy, mode: str
) -> None:
    operation = "BatchExecuteStatement" if mode == "batch" else "UpdateItem"
    if mode == "single":
        outbox = single(client, outbox.table_name)
    await outbox.publish([Event("order.placed", id="e")])
    proxy.rule = nth(1, operation, CUT_AFTER)
    (claim,) = await outbox.claim(5)
    assert (claim.event.id, claim.attempt, proxy.count(operation)) == ("e", 1, 2)


@pytest.mark.parametrize("mode", ["batch", "single"])
@pytest.mark.parametrize("outcome", [Completed(), Retry(delay=5, error="x", **BLAMED), Released()])
async def test_settle_whose_response_was_lost_succeeds(
    outbox: DynamoDBOutbox, client: Any, proxy: Proxy, mode: str, outcome: Any
) -> None:
    operation = "BatchExecuteStatement" if mode == "batch" else "UpdateItem"
    if mode == "single":
        outbox = single(client, outbox.table_name)
    await outbox.publish([Event("order.placed", id="e")])
    (claim,) = await outbox.claim(1)
    proxy.rule = nth(1, operation, CUT_AFTER)
    assert await outbox.settle([(claim, outcome)]) == [None]


async def test_put_whose_response_was_lost_is_known_to_be_stored(outbox: DynamoDBOutbox, proxy: Proxy) -> None:
    proxy.rule = nth(1, "PutItem", CUT_AFTER)
    await outbox.publish([Event("order.placed", id="order-1")])
    assert proxy.count("PutItem") == 2
    assert await outbox.count(PENDING) == 1


async def test_event_of_another_emitter_is_not_taken_for_a_repeat(outbox: DynamoDBOutbox, proxy: Proxy) -> None:
    await outbox.publish([Event("order.placed", {"of": "somebody else"}, id="order-1")])
    proxy.rule = nth(1, "PutItem", CUT_BEFORE)
    with pytest.raises(DuplicateEventError):
        await outbox.publish([Event("order.placed", {"of": "us"}, id="order-1")])
    assert (await outbox.claim(1))[0].event.payload == {"of": "somebody else"}


@pytest.mark.parametrize("cut", [CUT_AFTER, CUT_BEFORE])
@pytest.mark.parametrize("retries", ["none", "legacy"])
async def test_batch_whose_response_was_lost_is_repeated_as_conditional_puts(
    outbox: DynamoDBOutbox, proxy: Proxy, cut: str, retries: str
) -> None:
    settings: dict[str, Any] = {} if retries == "none" else {"retries": {"mode": "legacy"}}
    async with open_client(proxy.endpoint, **settings) as client:
        supplied = DynamoDBOutbox(client, table_name=outbox.table_name)
        events = [Event("order.placed", {"n": n}) for n in range(5)]
        proxy.rule = nth(1, "BatchWriteItem", cut)
        await supplied.publish(events)
    # Once only, even by a client that retries by itself: the repeat would reset what was claimed in between.
    assert (proxy.count("BatchWriteItem"), proxy.count("PutItem")) == (1, 5)
    assert {claim.event.id for claim in await outbox.claim(10)} == {event.id for event in events}


@pytest.mark.parametrize("cut", [CUT_AFTER, RESET_AFTER])
async def test_event_handled_meanwhile_survives_the_repeat_of_its_publish(
    outbox: DynamoDBOutbox, client: Any, proxy: Proxy, cut: str
) -> None:
    cuts = 0
    settled: list[Any] = []

    async def handle_meanwhile(request: Recorded) -> None:
        if not settled:
            settled.append(None)
            claims = await outbox.claim(5)
            settled.extend(await outbox.settle([(claim, Completed()) for claim in claims]))

    def rule(request: Recorded) -> Any:
        nonlocal cuts
        if request.operation == "BatchWriteItem" and not cuts:
            cuts = 1
            return cut
        # Another worker is quicker than the repeat.
        return handle_meanwhile(request) if request.operation in ("BatchWriteItem", "PutItem") else None

    proxy.rule = rule
    await DynamoDBOutbox(client, table_name=outbox.table_name).publish(
        [Event("order.placed", {"n": n}) for n in range(5)]
    )
    assert settled == [None] * 6
    assert [await outbox.count(status) for status in (PENDING, EventStatus.PROCESSING)] == [0, 0]


@pytest.mark.parametrize("cut", [CUT_AFTER, RESET_AFTER])
@pytest.mark.parametrize("mode", ["legacy", "standard"])
async def test_new_event_is_not_a_duplicate_of_itself_when_the_client_repeats(
    outbox: DynamoDBOutbox, proxy: Proxy, cut: str, mode: str
) -> None:
    async with open_client(proxy.endpoint, retries={"mode": mode, "max_attempts": 4}) as client:
        supplied = DynamoDBOutbox(client, table_name=outbox.table_name)
        for event in (Event("order.placed"), Event("order.placed", id=f"mine-{cut}")):
            proxy.rule = nth(1, "PutItem", cut)
            await supplied.publish([event])
    assert await outbox.count(PENDING) == 2


async def test_stale_row_of_a_retried_event_is_not_claimed_before_its_time(
    outbox: DynamoDBOutbox, client: Any, proxy: Proxy, table_name: str
) -> None:
    for mode in ("batch", "single"):
        event_id = f"e-{mode}"
        await outbox.publish([Event("order.placed", id=event_id)])
        stale: dict[str, Any] = {}

        def lagging(reply: dict[str, Any], stale: dict[str, Any] = stale) -> dict[str, Any]:
            stale.setdefault("Items", reply["Items"])
            return stale

        def rule(request: Recorded, lagging: Any = lagging) -> Any:
            return lagging if request.operation == "Query" else None

        proxy.rule = rule
        (claim,) = await outbox.claim(1)
        assert await outbox.settle([(claim, Retry(delay=60, error="x", **BLAMED))]) == [None]
        other = DynamoDBOutbox(client, table_name=table_name, conditional_writes=mode)
        assert await other.claim(1) == []
        proxy.rule = lambda request: None


async def test_invalid_statement_does_not_take_the_others_with_it(outbox: DynamoDBOutbox, proxy: Proxy) -> None:
    await outbox.publish([Event("order.placed") for _ in range(4)])
    claims = await outbox.claim(4)
    outcomes: list[Any] = [Completed(), Retry(delay=1e37, error="x", **BLAMED), Completed(), Completed()]
    errors = await outbox.settle(list(zip(claims, outcomes, strict=True)))
    assert [error is None for error in errors] == [True, False, True, True]
    assert "refused" in str(errors[1])


async def test_many_emits_give_up_together_when_the_backend_is_down(outbox: DynamoDBOutbox, proxy: Proxy) -> None:
    proxy.rule = lambda request: CUT_BEFORE
    with anyio.fail_after(60), giving_up_after(3):
        with pytest.raises(PartialPublishError) as caught:
            await outbox.publish([Event("order.placed", id=f"{n}") for n in range(100)])
        assert len(caught.value.failed) == 100
        # Those that are under way when the first gives up are the last that are sent.
        most = 3 * publish_result.CONCURRENT_REQUESTS
        assert 3 <= proxy.count("PutItem") <= most
        proxy.requests.clear()
        async with anyio.create_task_group() as group:

            async def emit() -> None:
                with pytest.raises(UnavailableError):
                    await outbox.publish([Event("order.placed")])

            for _ in range(40):
                group.start_soon(emit)
    # The first alone, the others in two writes; after these each event again, as long as none has given up.
    assert proxy.count("BatchWriteItem") == 2
    assert proxy.count("PutItem") <= 3 + 2 * most


# Throttling and unprocessed items


async def test_unprocessed_items_are_repeated_and_only_those(outbox: DynamoDBOutbox, proxy: Proxy) -> None:
    def rule(request: Recorded) -> Any:
        if request.operation != "BatchWriteItem" or proxy.count("BatchWriteItem") > 1:
            return None
        ((table, requests),) = request.body["RequestItems"].items()
        return Reply(200, {"UnprocessedItems": {table: requests}})

    proxy.rule = rule
    await outbox.publish([Event("order.placed", {"n": n}) for n in range(7)])
    assert proxy.count("BatchWriteItem") == 2
    assert proxy.count("PutItem") == 0
    assert await outbox.count(PENDING) == 7


async def test_what_cannot_be_stored_in_the_end_is_named(outbox: DynamoDBOutbox, proxy: Proxy) -> None:
    def rule(request: Recorded) -> Any:
        if request.operation != "BatchWriteItem":
            return None
        ((table, requests),) = request.body["RequestItems"].items()
        first = requests[0]["PutRequest"]["Item"]["payload"]["M"]["n"]["N"]
        return Reply(200, {"UnprocessedItems": {table: requests}}) if first != "0" else None

    proxy.rule = rule
    events = [Event("order.placed", {"n": n}) for n in range(30)]
    with giving_up_after(3), pytest.raises(PartialPublishError) as caught:
        await outbox.publish(events)
    assert caught.value.published == events[:25]
    assert caught.value.failed == events[25:]
    assert all(isinstance(cause, ThrottledError) for cause in caught.value.causes.values())
    assert "25 of 30 events are stored now, 5 could not be stored" in str(caught.value)
    proxy.rule = lambda request: None
    await outbox.publish(caught.value.failed)
    assert await outbox.count(PENDING) == 30


async def test_statement_throttled_inside_a_200_is_repeated_alone(outbox: DynamoDBOutbox, proxy: Proxy) -> None:
    await outbox.publish([Event("order.placed") for _ in range(5)])
    claims = await outbox.claim(5)
    proxy.requests.clear()

    def throttle_second(request: Recorded) -> Any:
        if request.operation != "BatchExecuteStatement" or proxy.count("BatchExecuteStatement") > 1:
            return None
        # Only the others reach the engine, as if DynamoDB had throttled this one.
        responses: list[dict[str, Any]] = [{"TableName": "order.placed"} for _ in request.body["Statements"]]
        responses[1] = {"Error": {"Code": "ThrottlingError", "Message": "slow down"}}
        return Reply(200, {"Responses": responses})

    proxy.rule = throttle_second
    assert await outbox.settle([(claim, Completed()) for claim in claims]) == [None] * 5
    batches = [len(body["Statements"]) for body in proxy.of("BatchExecuteStatement")]
    assert batches == [5, 1]


@pytest.mark.parametrize(
    "code", ["ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"]
)
async def test_throttled_put_is_repeated_until_it_succeeds(outbox: DynamoDBOutbox, proxy: Proxy, code: str) -> None:
    answers = [refused(code), refused(code)]
    proxy.rule = lambda request: answers.pop() if answers and request.operation == "PutItem" else None
    await outbox.publish([Event("order.placed")])
    assert proxy.count("PutItem") == 3


async def test_settle_of_a_lost_lease_is_not_repeated(outbox: DynamoDBOutbox, client: Any, proxy: Proxy) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    (claim,) = await outbox.claim(1)
    await client.delete_item(TableName=outbox.table_name, Key={"id": {"S": "e"}})
    proxy.requests.clear()
    (error,) = await outbox.settle([(claim, Completed())])
    assert isinstance(error, LeaseLostError)
    assert proxy.operations() == ["BatchExecuteStatement"]


async def test_refused_claim_is_observed(outbox: DynamoDBOutbox, client: Any, proxy: Proxy) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    seen: list[dict[str, Any]] = []

    def keep(reply: dict[str, Any]) -> dict[str, Any]:
        seen.append(reply)
        return reply

    proxy.rule = nth(1, "Query", keep)
    assert len(await outbox.claim(1)) == 1
    told: list[Observation] = []
    late = DynamoDBOutbox(client, table_name=outbox.table_name, observers=[told.append])
    # The index shows the event to the second worker as it was.
    proxy.rule = nth(1, "Query", Reply(200, seen[0]))
    assert await late.claim(1) == []
    assert told == [ClaimRefused(event_id="e")]
