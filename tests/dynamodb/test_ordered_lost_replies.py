"""Writes of queues whose responses are lost, or which arrive late: each event is delivered once, in order."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox, LeaseLostError, StorageError
from dynamodb_outbox.claims import Claim
from dynamodb_outbox.dynamodb.ordering.queue import queue_id
from dynamodb_outbox.outcome import Failed, Held, Released, Retry
from reliability.proxy import CUT_AFTER, CUT_BEFORE, Proxy, Recorded, refused
from tests.dynamodb.impatience import giving_up_after
from tests.dynamodb.queues import Line

STEPS = ("CLAIM", "MARK", "LAST", "IDS", "HEAD", "UNHEAD", "REFILL")
POPS = STEPS[2:]


def steps_of(request: Recorded) -> set[str]:
    """Name the steps of a delivery that a request makes."""
    if request.operation == "DeleteItem":
        return {"LAST"}
    if request.operation == "TransactWriteItems":
        return {"REFILL"}
    texts = [statement["Statement"] for statement in request.body.get("Statements", [])]
    return {step for text in (*texts, request.body.get("UpdateExpression", "")) if (step := _step_of(text))}


def _step_of(text: str) -> str | None:
    if text.startswith("DELETE"):
        return "LAST"
    for pattern, step in (
        (r"completedOn", "MARK"),
        (r"REMOVE ids\[0\]", "IDS"),
        (r"REMOVE head\[0\]", "HEAD"),
        (r"REMOVE head\b", "UNHEAD"),
        (r"startedOn", "CLAIM"),
    ):
        if re.search(pattern, text):
            return step
    return None


def at(step: str, action: Any, *, times: int = 1) -> Callable[[Recorded], Any]:
    """Do something to the first requests that make a step."""
    left = times

    def rule(request: Recorded) -> Any:
        nonlocal left
        if step not in steps_of(request) or left == 0:
            return None
        left -= 1
        return action

    return rule


@pytest.fixture(params=["batch", "single", "batch 4"])
async def line(request: pytest.FixtureRequest, client: Any, proxy: Proxy, table_name: str) -> Line:
    mode, *shards = request.param.split()
    outbox = DynamoDBOutbox(
        client, table_name=table_name, conditional_writes=mode, shards=int(shards[0]) if shards else 1
    )
    await outbox.create_table()
    return Line(client, outbox)


def count_for(step: str) -> int:
    """How many events bring a queue to a step: ten are in `ids`, ten in `head`, and the others in pages."""
    return {"HEAD": 12, "UNHEAD": 12, "REFILL": 35}.get(step, 3)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("cut", [CUT_AFTER, CUT_BEFORE])
@pytest.mark.parametrize("step", STEPS)
async def test_lost_response_loses_no_event_and_repeats_none(
    line: Line, proxy: Proxy, step: str, cut: str, *, keep: bool
) -> None:
    ids = [f"e{number}" for number in range(count_for(step))]
    await line.emit(*ids)
    proxy.rule = at(step, cut)
    assert await line.work_off(keep=keep) == ids
    assert proxy.rule(Recorded("DeleteItem", {})) is None  # the fault has come
    assert await line.item() == {}
    assert {await line.status(each) for each in ids} == {"COMPLETED"}


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("step", POPS)
async def test_pop_that_is_applied_though_no_response_ever_comes_is_found(
    line: Line, proxy: Proxy, step: str, *, keep: bool
) -> None:
    ids = [f"e{number}" for number in range(count_for(step))]
    await line.emit(*ids)
    proxy.rule = at(step, CUT_AFTER, times=2)
    with giving_up_after(2):
        assert await line.work_off(keep=keep) == ids


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("step", POPS)
async def test_pop_that_is_never_answered_nor_applied_is_done_after_the_recovery(
    line: Line, proxy: Proxy, caplog: pytest.LogCaptureFixture, step: str, *, keep: bool
) -> None:
    ids = [f"e{number}" for number in range(count_for(step))]
    await line.emit(*ids)
    claim, done = await line.claim(), list[str]()
    proxy.rule = at(step, CUT_BEFORE, times=2)
    with giving_up_after(2):
        while True:
            done.append(claim.event.id)
            settled = await line.settle(claim, keep=keep)
            if "the later events of its ordering key" in caplog.text:
                break
            assert settled is None or isinstance(settled, Claim)
            claim = settled or await line.claim()
    # The event has ended, so that its handlers will not be called again.
    assert settled is None
    assert await line.status(done[-1]) == "COMPLETED"
    await line.expire()
    assert (await line.outbox.recover()).reset == (done[-1],)
    assert done + await line.work_off(keep=keep) == ids


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("step", STEPS)
async def test_request_that_arrives_again_later_changes_nothing(
    line: Line, client: Any, proxy: Proxy, step: str, *, keep: bool
) -> None:
    ids = [f"e{number}" for number in range(count_for(step))]
    await line.emit(*ids)
    late: list[Recorded] = []

    def again(request: Recorded) -> None:
        if step in steps_of(request):
            late.append(request)

    proxy.rule = again
    claims, done = await line.outbox.claim(10), list[str]()
    while claims:
        (claim,) = claims
        done.append(claim.event.id)
        settled = await line.settle(claim, keep=keep)
        assert settled is None or isinstance(settled, Claim)
        proxy.rule = lambda request: None
        before = await line.item()
        for request in late:
            await replay(client, request)
        assert await line.item() == before
        proxy.rule = again
        claims = [settled] if settled else await line.outbox.claim(10)
    assert late
    assert done == ids


async def replay(client: Any, request: Recorded) -> None:
    """Send a request again, whatever DynamoDB answers."""
    method = re.sub(r"(?<!^)(?=[A-Z])", "_", request.operation).lower()
    # Without the token, for which DynamoDB would answer as it did before.
    body = {name: value for name, value in request.body.items() if name != "ClientRequestToken"}
    try:
        await getattr(client, method)(**body)
    except client.exceptions.ClientError as error:
        assert "ConditionalCheckFailed" in json.dumps(error.response), error.response


@pytest.mark.parametrize("cut", [CUT_AFTER, CUT_BEFORE])
@pytest.mark.parametrize(
    "outcome",
    [Retry(delay=0, error="x"), Released(), Failed(error="x"), Held(due_at=1.0)],
    ids=lambda each: type(each).__name__,
)
async def test_outcome_on_the_queue_is_written_once(line: Line, proxy: Proxy, outcome: Any, cut: str) -> None:
    await line.emit("a", "b")
    claim = await line.claim()
    proxy.rule = of_queue(line, cut)
    assert await line.settle(claim, outcome, keep=True) is None
    item = await line.item()
    status = {Failed: "FAILED", Held: "HELD"}.get(type(outcome), "PENDING")
    assert (item["status"], item["retryCount"]) == ({"S": status}, {"N": str(int(isinstance(outcome, Retry)))})


def of_queue(line: Line, action: Any) -> Callable[[Recorded], Any]:
    """Do something to the first write of the queue."""
    is_over = False

    def rule(request: Recorded) -> Any:
        nonlocal is_over
        if is_over or request.operation == "GetItem" or queue_id(line.key) not in json.dumps(request.body):
            return None
        is_over = True
        return action

    return rule


@pytest.mark.parametrize("keep", [True, False])
async def test_queue_that_has_grown_is_popped_in_its_new_form(line: Line, proxy: Proxy, *, keep: bool) -> None:
    await line.emit("a")
    claims = [await line.claim()]
    done: list[str] = []
    more = [f"e{number}" for number in range(33)]
    # A LAST becomes an IDS, another LAST a HEAD, and an UNHEAD a REFILL.
    growth = iter([more[:1], more[1:12], *[list[str]()] * 8, more[12:]])
    while claims:
        (claim,) = claims
        done.append(claim.event.id)
        await line.emit(*next(growth, []))
        settled = await line.settle(claim, keep=keep)
        assert settled is None or isinstance(settled, Claim)
        claims = [settled] if settled else await line.outbox.claim(10)
    assert done == ["a", *more]


async def test_queue_that_another_worker_has_popped_is_lost(line: Line) -> None:
    await line.emit("a", "b")
    late = await line.claim()
    await line.expire()
    await line.outbox.recover()
    assert await line.work_off() == ["a", "b"]
    error = await line.settle(late, keep=True)
    # Nothing says whose the queue was that is gone now. The event was handled, and is marked.
    assert error is None or isinstance(error, LeaseLostError)


async def test_fronts_that_cannot_be_loaded_are_released(line: Line, proxy: Proxy) -> None:
    await line.emit("a", "b")
    proxy.rule = lambda request: refused("ValidationException", "no") if request.operation == "BatchGetItem" else None
    with pytest.raises(Exception, match="ValidationException"):
        await line.outbox.claim(10)
    assert (await line.status(), (await line.item())["retryCount"]) == ("PENDING", {"N": "0"})
    proxy.rule = lambda request: None
    claim = await line.claim()
    proxy.rule = lambda request: refused("ValidationException", "no") if request.operation == "BatchGetItem" else None
    assert await line.settle(claim, keep=True) is None
    assert (await line.status(), await line.status("a")) == ("PENDING", "COMPLETED")
    proxy.rule = lambda request: None
    assert await line.work_off() == ["b"]


async def test_queue_whose_done_front_cannot_be_popped_is_released(line: Line, proxy: Proxy) -> None:
    await line.emit("a", "b", "c")
    claim = await line.claim()
    await line.change("b", status={"S": "DISCARDED"})
    pops = 0

    def rule(request: Recorded) -> Any:
        nonlocal pops
        pops += "IDS" in steps_of(request)
        return refused("ThrottlingException") if "IDS" in steps_of(request) and pops > 1 else None

    proxy.rule = rule
    with giving_up_after(2):
        assert await line.settle(claim, keep=True) is None
    proxy.rule = lambda request: None
    assert pops > 1
    assert (await line.status(), await line.status("a")) == ("PENDING", "COMPLETED")
    assert await line.work_off() == ["c"]


async def test_unreadable_front_that_could_not_be_marked_stays_in_its_queue(line: Line, proxy: Proxy) -> None:
    await line.emit("a", "b")
    await line.change("a", payload={"S": "no map"})
    proxy.rule = lambda request: refused("ThrottlingException") if request.operation == "TransactWriteItems" else None
    with giving_up_after(2):
        assert await line.another(failed_key="skip").claim(10) == []
    proxy.rule = lambda request: None
    queue = await line.queue()
    assert queue is not None
    assert (await line.status("a"), queue.ids) == ("QUEUED", ("a", "b"))


async def test_event_that_could_not_be_marked_stays_in_front(line: Line, proxy: Proxy) -> None:
    await line.emit("a", "b")
    claim = await line.claim()
    proxy.rule = at("MARK", refused("ThrottlingException"), times=100)
    with giving_up_after(2):
        assert isinstance(await line.settle(claim, keep=True), StorageError)
    proxy.rule = lambda request: None
    queue = await line.queue()
    assert queue is not None
    assert (await line.status("a"), queue.ids) == ("QUEUED", ("a", "b"))
