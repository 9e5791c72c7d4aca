"""Repairs of events with an ordering key, when responses are lost, and when others change the queue meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

from dynamodb_outbox import DynamoDBOutbox, Event, EventStatus, Repaired, UnavailableError
from dynamodb_outbox.dynamodb.ordering.queue import WIDTH
from dynamodb_outbox.observations import KeyUnblocked
from dynamodb_outbox.outcome import Failed
from reliability.proxy import CUT_AFTER, CUT_BEFORE, Proxy, Recorded, Reply, running_proxy
from tests.adapter_timing import with_timing
from tests.backends import open_client
from tests.dynamodb.lines import Line, line_of
from tests.fakes import Clock

PENDING, PROCESSING, COMPLETED, FAILED, HELD, DISCARDED, QUEUED = EventStatus
WHO: dict[str, Any] = {"reason": "sent twice", "by": "ada@bastion"}
WRITES = "TransactWriteItems"


class Broken:
    """A line whose repairs go through a proxy, and which a test changes beside them."""

    def __init__(self, line: Line, outbox: DynamoDBOutbox, proxy: Proxy) -> None:
        self.line, self.outbox, self.proxy = line, outbox, proxy

    def at_first(self, action: Any) -> None:
        """Let something happen to the first transaction, or before it."""
        left = [action]

        async def rule(request: Recorded) -> Any:
            if request.operation != WRITES or not left:
                return None
            chosen = left.pop()
            return await chosen() if callable(chosen) else chosen

        self.proxy.rule = rule


@pytest.fixture(params=["moto", "local"])
async def broken(request: pytest.FixtureRequest, table_name: str) -> AsyncIterator[Broken]:
    """A line on moto, which does not know the token of a transaction, and on DynamoDB Local, which does."""
    endpoint, clock = request.getfixturevalue(f"{request.param}_endpoint"), Clock()
    async with (
        running_proxy(endpoint) as proxy,
        open_client(endpoint) as direct,
        open_client(proxy.endpoint) as client,
    ):
        line = line_of(direct, table_name, clock)
        await line.outbox.create_table()
        outbox = DynamoDBOutbox(client, table_name=table_name, clock=clock, observers=[line.seen.append])
        yield Broken(line, with_timing(outbox, busy_line=0.001), proxy)


Repair = Callable[[DynamoDBOutbox], Awaitable[Repaired]]
REPAIRS: dict[str, Repair] = {
    "retry": lambda outbox: outbox.redrive(["a"]),
    "skip": lambda outbox: outbox.skip(["a"]),
    "discard": lambda outbox: outbox.discard(["a"], **WHO),
    "replace": lambda outbox: outbox.replace("a", Event("order.paid", id="new", ordering_key="order-17"), **WHO),
}
ORDER = {"retry": ["a", "b", "c"], "skip": ["b", "c"], "discard": ["b", "c"], "replace": ["new", "b", "c"]}


@pytest.mark.parametrize("fault", [CUT_AFTER, CUT_BEFORE, Reply(500, {"__type": "InternalServerError"})], ids=str)
@pytest.mark.parametrize("repair", REPAIRS)
async def test_repair_whose_response_is_lost_happens_once(broken: Broken, repair: str, fault: Any) -> None:
    line = broken.line
    await line.emit("a", "b", "c")
    await line.block()
    broken.at_first(fault)
    assert await REPAIRS[repair](broken.outbox) == Repaired(done=("a",))
    assert await line.order() == ORDER[repair]
    assert broken.proxy.count(WRITES) >= 2


@pytest.mark.parametrize("fault", [CUT_AFTER, CUT_BEFORE], ids=str)
@pytest.mark.parametrize("count", [0, 3, WIDTH, 2 * WIDTH, 3 * WIDTH])
async def test_return_to_the_line_whose_response_is_lost_lists_the_event_once(
    broken: Broken, count: int, fault: Any
) -> None:
    line, ids = broken.line, [f"e{number:02}" for number in range(count)]
    await line.store("x")
    await line.set_aside("x")
    await line.emit(*ids)
    broken.at_first(fault)
    assert await broken.outbox.redrive(["x"]) == Repaired(done=("x",))
    assert (await line.order(), await line.state("x")) == ([*ids, "x"], "QUEUED")


@pytest.mark.parametrize("repair", REPAIRS)
async def test_repair_that_is_never_answered_raises_and_can_be_repeated(broken: Broken, repair: str) -> None:
    line = broken.line
    await line.emit("a", "b", "c")
    await line.block()
    outbox = with_timing(broken.outbox, transact=0.5)
    broken.proxy.rule = lambda request: CUT_AFTER if request.operation == WRITES else None
    with pytest.raises(UnavailableError) as info:
        await REPAIRS[repair](outbox)
    assert info.value.maybe_applied
    broken.proxy.rule = lambda request: None
    repeated = await REPAIRS[repair](with_timing(broken.outbox, transact=10.0))
    known = {"retry": PENDING, "skip": FAILED, "discard": None, "replace": None}[repair]
    if repair in ("discard", "replace"):
        assert repeated == Repaired(done=("a",))
    else:
        assert repeated == Repaired(refused={"a": known})
    assert await line.order() == ORDER[repair]


@pytest.mark.parametrize("repair", REPAIRS)
@pytest.mark.parametrize("before", [1, 2, WIDTH, 2 * WIDTH, 2 * WIDTH + 1])
async def test_event_that_is_appended_meanwhile_is_kept(broken: Broken, repair: str, before: int) -> None:
    """Each number of events is one before another form of the write is right."""
    line, ids = broken.line, ["a", *(f"e{number:02}" for number in range(1, before))]
    await line.emit(*ids)
    await line.block()
    broken.at_first(lambda: line.emit("late"))
    assert await REPAIRS[repair](broken.outbox) == Repaired(done=("a",))
    first = {"retry": ["a"], "replace": ["new"]}.get(repair, [])
    assert await line.order() == [*first, *ids[1:], "late"]


@pytest.mark.parametrize("before", [WIDTH - 1, WIDTH, 2 * WIDTH - 1, 2 * WIDTH])
async def test_return_to_a_line_that_grows_meanwhile(broken: Broken, before: int) -> None:
    line, ids = broken.line, [f"e{number:02}" for number in range(before)]
    await line.store("x")
    await line.set_aside("x")
    await line.emit(*ids)
    broken.at_first(lambda: line.emit("late"))
    assert await broken.outbox.redrive(["x"])
    assert await line.order() == [*ids, "late", "x"]


@pytest.mark.parametrize("repair", REPAIRS)
async def test_repair_after_another_one_is_refused_with_the_status_of_now(broken: Broken, repair: str) -> None:
    line = broken.line
    await line.emit("a", "b", "c")
    await line.block()

    async def retry_and_claim() -> None:
        await line.outbox.redrive(["a"])
        await line.claim()

    broken.at_first(retry_and_claim)
    assert await REPAIRS[repair](broken.outbox) == Repaired(refused={"a": PROCESSING})
    assert (await line.order(), await line.state("a")) == (["a", "b", "c"], "QUEUED")
    assert await line.item("new") == {}
    assert Counter(type(each) for each in line.seen)[KeyUnblocked] == 1


async def test_event_that_has_come_back_and_is_completed_meanwhile_does_not_come_back_again(broken: Broken) -> None:
    line = broken.line
    await line.store("a")
    await line.set_aside("a")

    async def retry_and_complete() -> None:
        await line.outbox.redrive(["a"])
        await line.emit("b")
        await line.take_front()

    broken.at_first(retry_and_complete)
    assert await broken.outbox.redrive(["a"]) == Repaired(refused={"a": COMPLETED})
    assert (await line.order(), await line.state("a")) == (["b"], "COMPLETED")


@pytest.mark.parametrize("repair", ["discard", "replace"])
async def test_waiting_event_whose_turn_comes_meanwhile_is_not_taken_from_its_worker(
    broken: Broken, repair: str
) -> None:
    line = broken.line
    await line.emit("z", "a", "b")

    async def come_to_the_front() -> None:
        await line.take_front()
        await line.claim()

    broken.at_first(come_to_the_front)
    assert await REPAIRS[repair](broken.outbox) == Repaired(refused={"a": PROCESSING})
    assert (await line.order(), await line.state("a"), await line.item("new")) == (["a", "b"], "QUEUED", {})


async def test_unlisted_event_whose_emit_goes_on_meanwhile_is_not_taken_from_its_worker(broken: Broken) -> None:
    line = broken.line
    await line.store("a")

    async def append_and_claim() -> None:
        await line.append("a")
        await line.claim()

    broken.at_first(append_and_claim)
    assert await broken.outbox.discard(["a"], **WHO) == Repaired(refused={"a": PROCESSING})


async def test_retry_waits_until_the_worker_has_taken_the_event_from_the_front(broken: Broken) -> None:
    """With `failed_key="skip"`, the worker writes the failure first, and takes the event from the line then."""
    line = broken.line
    await line.emit("a", "b")
    await line.claim()
    await line.set_aside("a")
    reads = 0

    async def rule(request: Recorded) -> None:
        nonlocal reads
        reads += request.operation == "BatchGetItem"
        if reads == 6:
            await line.be("PENDING", ids={"L": [{"S": "b"}]})

    broken.proxy.rule = rule
    assert await broken.outbox.redrive(["a"]) == Repaired(done=("a",))
    assert await line.order() == ["b", "a"]


async def test_conflict_with_another_transaction_is_repeated(broken: Broken) -> None:
    line = broken.line
    await line.emit("a", "b")
    await line.block()
    reasons = [{"Code": "TransactionConflict", "Message": "in use"}, {"Code": "None"}]
    cancelled = {"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"}
    broken.at_first(Reply(400, {**cancelled, "Message": "cancelled", "CancellationReasons": reasons}))
    assert await broken.outbox.skip(["a"]) == Repaired(done=("a",))
    assert await line.order() == ["b"]


async def test_line_that_changes_all_the_time_ends_the_repair_with_an_error(broken: Broken) -> None:
    line, counted = broken.line, 0
    await line.emit("a", "b")
    await line.block()

    async def fail_again(request: Recorded) -> None:
        nonlocal counted
        if request.operation == WRITES:
            counted += 1
            line.clock.now += 1
            await line.block()

    broken.proxy.rule = fail_again
    with pytest.raises(UnavailableError, match="changed between each read and the write"):
        await broken.outbox.skip(["a"])
    assert (counted, await line.order(), await line.state("a")) == (20, ["a", "b"], "QUEUED")


async def test_repairs_of_several_operators_at_once_keep_every_event(broken: Broken) -> None:
    """They retry and skip the same dead letters, while events come; each is listed once, or set aside."""
    line, ids = broken.line, [f"e{number}" for number in range(6)]
    await line.store(*ids)
    for each in ids:
        await line.set_aside(each)

    async def repair(outbox: DynamoDBOutbox) -> None:
        await outbox.redrive(ids)
        await line.block()
        await outbox.skip(ids)

    async with anyio.create_task_group() as group:
        for outbox in (broken.outbox, line.outbox):
            group.start_soon(repair, outbox)
    listed = await line.order()
    assert len(listed) == len(set(listed))
    assert {each for each in ids if await line.state(each) == "QUEUED"} == set(listed)
    assert {await line.state(each) for each in set(ids) - set(listed)} <= {"FAILED"}


@pytest.mark.parametrize("handled_by", [(), ("mail",)], ids=["none", "handled"])
async def test_late_request_does_not_set_an_event_aside_again(broken: Broken, handled_by: tuple[str, ...]) -> None:
    line = broken.line
    await line.emit("a", "b")
    worker = DynamoDBOutbox(broken.outbox._client, table_name=line.table, clock=line.clock, failed_key="skip")
    failure = Failed(error="bill: no", handled_by=frozenset(handled_by))

    async def fail(event_id: str) -> Recorded:
        line.clock.now += 1
        (claim,) = await worker.claim(10)
        assert claim.event.id == event_id
        broken.proxy.requests.clear()
        assert await worker.settle([(claim, failure)]) == [None]
        (request,) = [each for each in broken.proxy.requests if each.operation == WRITES]
        del request.body["ClientRequestToken"]  # DynamoDB knows it for ten minutes
        return request

    late = await fail("a")
    assert await line.outbox.redrive(["a"]) == Repaired(done=("a",))
    with pytest.raises(line.client.exceptions.TransactionCanceledException):
        await line.client.transact_write_items(**late.body)
    assert (await line.state("a"), await line.order()) == ("QUEUED", ["b", "a"])
    await fail("b")
    await fail("a")
    assert [await line.state(each) for each in "ab"] == ["FAILED", "FAILED"]
