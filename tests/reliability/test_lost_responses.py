"""Replies that are lost, cut, corrupt or errors: was it applied? Nothing is lost, and no handler runs twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web
from botocore.exceptions import ClientError
from microburst.app import make_app
from microburst.core.pipeline import Microburst

from dynamodb_outbox import (
    CredentialsError,
    Delivery,
    DynamoDBOutbox,
    Event,
    OutboxEventBus,
    PartialPublishError,
    TransactionCancelledError,
)
from dynamodb_outbox.outcome import Failed, Held, Released
from dynamodb_outbox.transaction import TransactionWrite
from reliability.proxy import CUT_AFTER, RESET_AFTER, Proxy, Reply, nth, refused
from tests.adapter_timing import with_timing
from tests.backends import CLIENTS
from tests.conftest import MakeOutbox
from tests.fakes import BLAMED
from tests.reliability.conftest import Items
from tests.reliability.proxy_rules import Runs, first_of_each, ids_and_tokens, kind_of


@pytest.fixture
def client(each_client: Any) -> Any:
    return each_client


def tokens_by_event(proxy: Proxy) -> dict[str, set[str]]:
    """The tokens that claims were sent with."""
    tokens: dict[str, set[str]] = {}
    for request in proxy.requests:
        if kind_of(request) != "claim":
            continue
        for event_id, token in ids_and_tokens(request).items():
            tokens.setdefault(event_id, set()).add(token)
    return tokens


@pytest.mark.parametrize("lost", [CUT_AFTER, RESET_AFTER])
@pytest.mark.parametrize("kind", ["claim", "complete"])
@pytest.mark.parametrize(("mode", "count"), [("single", 2), ("batch", 1), ("batch", 30)])
async def test_handler_runs_once_though_each_response_is_lost_once(
    make_outbox: MakeOutbox, proxy: Proxy, items: Items, *, mode: str, count: int, kind: str, lost: str
) -> None:
    errors: list[Any] = []
    outbox = make_outbox(conditional_writes=mode, batch_size=count, on_error=errors.append)
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", runs := Runs())
    events = [Event("order.placed", {"n": n}) for n in range(count)]
    await outbox.publish(events)
    proxy.rule = first_of_each(kind, lost)
    assert await bus.run_once() == count
    assert await bus.run_once() == 0
    assert runs.counts == {event.id: 1 for event in events}
    assert {item["status"]["S"] for item in (await items()).values()} == {"COMPLETED"}
    assert errors == []
    # A claim is repeated with its own token: only so does the engine accept it again.
    assert {event_id: len(tokens) for event_id, tokens in tokens_by_event(proxy).items()} == dict(runs.counts)
    repeated = sum(kind_of(request) == kind for request in proxy.requests)
    assert repeated == 2 * (count if mode == "single" else -(-count // 25))


async def test_response_that_does_not_say_what_was_stored_is_not_taken_for_a_yes(
    make_outbox: MakeOutbox, proxy: Proxy, items: Items
) -> None:
    # An empty reply is what the SDK makes of a body that it cannot read; here nothing was stored.
    proxy.rule = nth(1, "BatchWriteItem", Reply(200, {}))
    events = [Event("order.placed") for _ in range(5)]
    await make_outbox().publish(events)
    assert (await items()).keys() == {event.id for event in events}
    assert (proxy.count("BatchWriteItem"), proxy.count("PutItem")) == (1, 5)


async def test_claim_is_not_lost_when_its_item_is_missing_in_the_response(
    make_outbox: MakeOutbox, proxy: Proxy
) -> None:
    outbox = make_outbox()
    await outbox.publish([Event("order.placed", id=f"e{n}") for n in range(3)])
    proxy.rule = nth(1, "BatchExecuteStatement", lambda reply: {"Responses": [{}, *reply["Responses"][1:]]})
    assert {claim.event.id for claim in await outbox.claim(3)} == {"e0", "e1", "e2"}
    assert [len(body["Statements"]) for body in proxy.of("BatchExecuteStatement")] == [3, 1]


@pytest.mark.parametrize("mode", ["single", "batch"])
async def test_release_and_redrive_whose_responses_are_lost_are_known_to_be_applied(
    make_outbox: MakeOutbox, proxy: Proxy, items: Items, mode: str
) -> None:
    outbox = make_outbox(conditional_writes=mode)
    await outbox.publish([Event("order.placed", id="released"), Event("order.placed", id="failed")])
    by_id = {claim.event.id: claim for claim in await outbox.claim(2)}
    assert await outbox.settle([(by_id["failed"], Failed(error="no", **BLAMED))]) == [None]
    proxy.rule = first_of_each("release", CUT_AFTER)
    assert await outbox.settle([(by_id["released"], Released())]) == [None]
    proxy.rule = first_of_each("retry", CUT_AFTER)
    assert len((await outbox.redrive(["failed"])).done) == 1
    assert {item["status"]["S"] for item in (await items()).values()} == {"PENDING"}


async def test_repairs_and_holds_whose_responses_are_lost_are_known_to_be_applied(
    make_outbox: MakeOutbox, proxy: Proxy, items: Items
) -> None:
    outbox = with_timing(make_outbox(), operator=60.0, transact=60.0)
    await outbox.publish([Event("refund", id=name) for name in ("held", "discarded", "replaced", "seen")])
    claims = {claim.event.id: claim for claim in await outbox.claim(4)}
    failed = [(claims[name], Failed(error="no")) for name in ("discarded", "replaced", "seen")]
    assert await outbox.settle(failed) == [None] * 3
    proxy.rule = first_of_each("hold", CUT_AFTER)
    assert await outbox.settle([(claims["held"], Held(due_at=5.0))]) == [None]
    seen = await outbox.get("seen")
    assert seen is not None
    proxy.rule = first_of_each("discard", CUT_AFTER)
    assert (await outbox.discard(["discarded", "held"], reason="r", by="b")).done == ("discarded", "held")
    proxy.rule = first_of_each("retry", CUT_AFTER)
    assert (await outbox.redrive(["seen"], fences={"seen": seen.fence})).done == ("seen",)
    proxy.rule = nth(1, "TransactWriteItems", CUT_AFTER)
    assert (await outbox.replace("replaced", Event("refund", id="new"), reason="r", by="b")).done == ("replaced",)
    assert {name: item["status"]["S"] for name, item in (await items()).items()} == {
        "held": "DISCARDED",
        "discarded": "DISCARDED",
        "replaced": "DISCARDED",
        "seen": "PENDING",
        "new": "PENDING",
    }


async def test_late_repeat_of_a_hold_does_not_undo_its_end(make_outbox: MakeOutbox, proxy: Proxy) -> None:
    outbox, other = (with_timing(make_outbox(), operator=60.0, holds=60.0) for _ in range(2))
    sent: list[Any] = []

    def keep(request: Any) -> Any:
        if "#hold" in request.body.get("UpdateExpression", "") and not sent:
            sent.append(request)
        return None

    proxy.rule = keep
    await outbox.hold("refund", reason="r", by="b", until=None)
    await other.resume("refund")
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        await outbox._client.update_item(**sent[0].body)
    assert await other.holds() == []


async def test_refusal_after_a_request_that_was_not_answered_says_that_it_may_have_been_applied(
    make_outbox: MakeOutbox, proxy: Proxy, table: str
) -> None:
    outbox = make_outbox()
    exists = {"TableName": table, "Key": {"id": {"S": "no"}}, "ConditionExpression": "attribute_exists(id)"}
    check = TransactionWrite(operation="ConditionCheck", arguments=exists)
    failing = refused("InternalServerError", status=500)
    for first, is_doubtful in ((failing, True), (None, False)):
        proxy.rule = nth(1, "TransactWriteItems", first)
        with pytest.raises(TransactionCancelledError) as cancelled:
            await outbox.transact([check], [(Event("order.placed"), None)])
        assert cancelled.value.maybe_applied is is_doubtful


@pytest.mark.parametrize("count", [1, 2])
async def test_event_that_was_stored_without_an_answer_and_then_denied_may_be_stored(
    make_outbox: MakeOutbox, proxy: Proxy, count: int
) -> None:
    answers = [CUT_AFTER]
    proxy.rule = lambda request: answers.pop() if answers else refused("AccessDeniedException", "no")
    with pytest.raises((CredentialsError, PartialPublishError)) as denied:
        await make_outbox().publish([Event("order.placed") for _ in range(count)])
    error = denied.value
    causes = list(error.causes.values()) if isinstance(error, PartialPublishError) else [error]
    assert [isinstance(cause, CredentialsError) and cause.maybe_applied for cause in causes] == [True] * count


@dataclass
class Burst:
    microburst: Microburst
    endpoint: str


@pytest.fixture
async def burst(local_endpoint: str, table: str) -> AsyncIterator[Burst]:
    """A proxy that renders errors from AWS's own service models, and spoils bodies."""
    microburst = Microburst(local_endpoint)
    runner = web.AppRunner(make_app(microburst), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    # By an address with dots it would look for a service, in the models of all 400, which takes seconds to read.
    yield Burst(microburst, f"http://localhost:{runner.addresses[0][1]}")
    await runner.cleanup()


SPOILED = {
    "lost": {"response": {"abort_bytes": 0}},
    "cut": {"response": {"abort_frac": 0.5}},
    "truncated": {"response": {"truncate_frac": 0.5}},
    "empty": {"response": {"truncate_bytes": 0}},
    "corrupt": {"response": {"corrupt_bytes": 16}},
    "500": {"error": {"code": "InternalServerError"}},
    "503": {"error": {"code": "ServiceUnavailable", "status": 503}},
    "reset": {"reset": True},
}
OPERATIONS = ["PutItem", "BatchWriteItem", "TransactWriteItems", "Query", "BatchExecuteStatement", "UpdateItem"]


@pytest.mark.parametrize("spoiled", SPOILED)
@pytest.mark.parametrize("mode", ["batch", "single"])
@pytest.mark.parametrize("opened", CLIENTS.values(), ids=CLIENTS)
async def test_spoiled_responses_of_every_operation(
    *, burst: Burst, table: str, items: Items, opened: Any, mode: Any, spoiled: str
) -> None:
    errors: list[Any] = []
    rules = [{"service": "dynamodb", "operation": name, "times": 2, **SPOILED[spoiled]} for name in OPERATIONS]
    async with opened(burst.endpoint) as client:
        outbox = DynamoDBOutbox(
            client, table_name=table, conditional_writes=mode, on_error=errors.append, random=lambda: 0.1
        )
        bus = OutboxEventBus(outbox)
        bus.on("order.placed", runs := Runs())

        @bus.on("parent")
        async def parent(event: Event, delivery: Delivery) -> None:
            async with delivery.transaction() as tx:
                tx.emit("order.placed", id="child")

        burst.microburst.engine.set_rules(rules)
        await bus.emit("order.placed", id="single")
        await bus.emit_many([Event("order.placed") for _ in range(4)])
        await bus.emit("parent", id="parent")
        while await bus.run_once():
            pass
    stored = await items()
    assert len(stored) == 7
    assert runs.counts == {event_id: 1 for event_id in stored if event_id != "parent"}
    assert {item["status"]["S"] for item in stored.values()} == {"COMPLETED"}
    assert errors == []
    faulted = {event.operation for event in burst.microburst.fired}
    assert faulted >= {"PutItem", "BatchWriteItem", "TransactWriteItems", "Query"}
    assert len(faulted) == 5
