"""How many requests keys cost, which statements they send, and what works where DynamoDB does not take one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dynamodb_outbox import CredentialsError, DynamoDBOutbox, Event, StorageError
from dynamodb_outbox.claims import Claim
from dynamodb_outbox.dynamodb.conditional.probe import MAX_STATEMENTS
from dynamodb_outbox.outcome import Completed
from reliability.proxy import Proxy, Recorded, Reply, refused
from tests.dynamodb.queues import Line
from tests.dynamodb.test_fallbacks import statements

DENIED = "is not authorized to perform: dynamodb:PartiQLDelete"


@pytest.fixture
def lines(client: Any, outbox: DynamoDBOutbox) -> list[Line]:
    return [Line(client, outbox, key=f"order-{number}") for number in range(10)]


def on_auto(line: Line, **options: Any) -> Line:
    """The same line, seen by an outbox that has to find out what DynamoDB takes."""
    return Line(line.client, line.another(conditional_writes="auto", **options), line.key)


def denying_deletes(request: Recorded) -> Any:
    """Refuse a DELETE alone, as DynamoDB does."""
    texts = [each["Statement"] for each in request.body.get("Statements", [])]
    error = {"Error": {"Code": "AccessDenied", "Message": DENIED}}
    denied = [text.startswith("DELETE") for text in texts]
    if not any(denied):
        return None
    if all(denied):
        return Reply(200, {"Responses": [error] * len(denied)})
    return lambda reply: {
        "Responses": [error if no else each for no, each in zip(denied, reply["Responses"], strict=True)]
    }


def denying_requests_with_deletes(request: Recorded) -> Any:
    """Refuse the whole request."""
    texts = [each["Statement"] for each in request.body.get("Statements", [])]
    return refused("AccessDeniedException", DENIED) if any(text.startswith("DELETE") for text in texts) else None


async def test_events_of_many_keys_share_their_requests(lines: list[Line], proxy: Proxy) -> None:
    for line in lines:
        await line.emit(f"{line.key}-a", f"{line.key}-b")
    outbox = lines[0].outbox
    proxy.requests.clear()
    claims = await outbox.claim(10)
    assert proxy.operations() == ["Query", "BatchExecuteStatement", "BatchGetItem"]
    proxy.requests.clear()
    following = await outbox.settle([(claim, Completed()) for claim in claims], keep_keys=True)
    assert proxy.operations() == ["BatchExecuteStatement", "BatchExecuteStatement", "BatchGetItem"]
    assert all(isinstance(each, Claim) for each in following)
    proxy.requests.clear()
    last = [(claim, Completed()) for claim in following if isinstance(claim, Claim)]
    assert await outbox.settle(last, keep_keys=True) == [None] * 10
    assert proxy.operations() == ["BatchExecuteStatement", "BatchExecuteStatement"]


async def test_events_with_and_without_a_key_are_settled_in_one_batch(lines: list[Line], proxy: Proxy) -> None:
    line = lines[0]
    await line.emit("a", "b")
    await line.outbox.publish([Event("order.placed", id="c")])
    claims = await line.outbox.claim(10)
    assert {claim.event.id for claim in claims} == {"a", "c"}
    proxy.requests.clear()
    assert await line.outbox.settle([(claim, Completed()) for claim in claims]) == [None, None]
    assert [len(texts) for texts in statements(proxy)] == [2, 1]


@pytest.mark.cases(1, thorough=2)
@pytest.mark.parametrize("shards", [1, 4])
async def test_second_probe_has_every_statement_of_queues(
    client: Any, proxy: Proxy, table_name: str, shards: int
) -> None:
    outbox = DynamoDBOutbox(client, table_name=table_name, shards=shards)
    await outbox.create_table()
    await outbox.publish([Event("order.placed")])
    (claim,) = await outbox.claim(1)
    assert await outbox.settle([(claim, Completed())]) == [None]
    assert len(statements(proxy)) == 3  # the probe, the claim and the settle
    first = statements(proxy)[0]
    line = Line(client, outbox)
    ids = [f"e{number}" for number in range(60)]
    await line.emit(*ids[:30])
    proxy.requests.clear()
    assert (await line.claim()).event.id == ids[0]
    assert len(statements(proxy)) == 1  # the claim of a queue is the claim of an event
    await line.expire()
    await outbox.recover()
    for keep in (True, False):
        if not keep:
            await line.emit(*ids[30:])
        assert await line.work_off(keep=keep) == (ids[:30] if keep else ids[30:])
    every = statements(proxy)
    (probe,) = [texts for texts in every if len(texts) > 1]
    assert len(probe) <= MAX_STATEMENTS
    sent = {text for texts in every for text in texts if texts is not probe}
    assert sent - set(first) <= set(probe)
    # One POP each that deletes, and three that do not, with the next claim and without it; a mark.
    assert len(sent - set(first)) == 8


async def test_outbox_without_keys_sends_no_second_probe(outbox: DynamoDBOutbox, client: Any, proxy: Proxy) -> None:
    made = DynamoDBOutbox(client, table_name=outbox.table_name)
    await made.publish([Event("order.placed") for _ in range(3)])
    assert set(await made.settle([(claim, Completed()) for claim in await made.claim(3)])) == {None}
    assert not any("ids" in text for texts in statements(proxy) for text in texts)


@pytest.mark.parametrize("rule", [denying_deletes, denying_requests_with_deletes])
async def test_without_the_right_to_delete_in_batches_queues_are_deleted_one_by_one(
    lines: list[Line], proxy: Proxy, caplog: pytest.LogCaptureFixture, rule: Callable[[Recorded], Any]
) -> None:
    caplog.set_level("WARNING", logger="dynamodb_outbox")
    line = on_auto(lines[0])
    await line.emit("a", "b")
    proxy.rule = rule
    assert await line.work_off() == ["a", "b"]
    assert proxy.count("DeleteItem") == 1
    assert proxy.count("UpdateItem") == 2  # of the appends; all other writes stay in batches
    await line.emit("c")
    assert await line.work_off() == ["c"]
    (warning,) = caplog.messages
    assert "dynamodb:PartiQLDelete" in warning


@pytest.mark.parametrize("rule", [denying_deletes, denying_requests_with_deletes])
async def test_with_batches_only_the_error_names_the_right_that_is_missing(
    lines: list[Line], proxy: Proxy, rule: Callable[[Recorded], Any]
) -> None:
    line = lines[0]
    await line.emit("a")
    claim = await line.claim()
    proxy.rule = rule
    error = await line.settle(claim)
    assert isinstance(error, CredentialsError)
    assert error.action == "dynamodb:PartiQLDelete"
    assert "allow dynamodb:PartiQLDelete" in str(error)
    proxy.rule = lambda request: None
    # Once it is allowed, a repeat takes the event from its queue.
    assert await line.settle(claim) is None
    assert await line.queue() is None


async def test_pop_that_is_refused_as_invalid_becomes_single_writes(
    lines: list[Line], proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", logger="dynamodb_outbox")
    line = on_auto(lines[0])
    await line.emit("a", "b", "c")

    def rule(request: Recorded) -> Any:
        texts = [each["Statement"] for each in request.body.get("Statements", [])]
        return refused("ValidationException", "no lists") if any("ids[0]" in text for text in texts) else None

    proxy.rule = rule
    assert await line.work_off() == ["a", "b", "c"]
    (warning,) = caplog.messages
    assert "'pop by ids'" in warning
    proxy.requests.clear()
    await line.emit("d", "e")
    assert await line.work_off() == ["d", "e"]
    assert not any("ids[0]" in text for texts in statements(proxy) for text in texts)


async def test_probe_that_fails_fails_the_outcomes_of_keys_only(lines: list[Line], proxy: Proxy) -> None:
    line = on_auto(lines[0], processing_timeout=2.0)
    await line.emit("a")
    await line.outbox.publish([Event("order.placed", id="b")])
    claims = await line.outbox.claim(10)

    def rule(request: Recorded) -> Any:
        is_probe = "dynamodb-outbox-probe" in str(request.body)
        return refused("ProvisionedThroughputExceededException", "slow down") if is_probe else None

    proxy.rule = rule
    settled = await line.outbox.settle([(claim, Completed()) for claim in claims])
    answers = {claim.event.id: answer for claim, answer in zip(claims, settled, strict=True)}
    assert answers["b"] is None
    assert isinstance(answers["a"], StorageError)
    assert await line.status("a") == "QUEUED"
    proxy.rule = lambda request: None
    (claim,) = [claim for claim in claims if claim.event.id == "a"]
    assert await line.settle(claim) is None
