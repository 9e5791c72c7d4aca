"""A worker that has lost its lease completes an event; another one, whose attempt fails, does not block its key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox, EventStatus, LeaseLostError, Repaired, StorageError
from dynamodb_outbox.claims import Claim
from dynamodb_outbox.dynamodb.ordering.queue import id_list
from dynamodb_outbox.observations import KeyUnblocked
from dynamodb_outbox.outcome import Completed, Failed
from reliability.proxy import CUT_AFTER, Proxy, Recorded, Reply, refused, running_proxy
from tests.backends import open_client
from tests.dynamodb.queues import Line

FAILURE = Failed(error="bill: no")
Others = list[str]


class Late:
    """An event `a` that two workers have: one that has lost its lease, and one that holds the key."""

    def __init__(self, line: Line, proxy: Proxy, seen: list[Any]) -> None:
        self.line, self.proxy, self.seen = line, proxy, seen
        self.late: Claim
        self.held: Claim

    async def begin(self, behind: Others) -> None:
        await self.line.emit("a", *behind)
        self.late = await self.line.claim()
        await self.line.expire()
        await self.line.outbox.recover()
        self.held = await self.line.claim()

    async def complete(self) -> None:
        """Complete the event under the lost lease."""
        assert isinstance(await self.line.settle(self.late, keep=True), LeaseLostError)
        assert await self.line.status("a") == "COMPLETED"

    async def fail(self) -> Any:
        """Let the last attempt of the holder fail."""
        return await self.line.settle(self.held, FAILURE, keep=True)

    def at_first(self, operation: str, action: Callable[[], Awaitable[Any]]) -> None:
        """Let something happen before the first request of a kind."""
        left = [action]

        async def rule(request: Recorded) -> Any:
            return await left.pop()() if request.operation == operation and left else None

        self.proxy.rule = rule

    async def goes_on(self, behind: Others) -> bool:
        """Tell whether the key goes on, and nothing has failed."""
        told = [each for each in self.seen if isinstance(each, KeyUnblocked)]
        assert told == [KeyUnblocked(ordering_key=self.line.key, event_id="a", repair="completed")] * len(told)
        assert await self.line.outbox.failed_events(type=None, limit=10) == []
        return await self.line.work_off() == behind and len(told) == 1


@pytest.fixture(params=["local batch", "local single", "moto single"])
async def late(request: pytest.FixtureRequest, table_name: str) -> AsyncIterator[Late]:
    backend, mode = request.param.split()
    seen: list[Any] = []
    async with (
        running_proxy(request.getfixturevalue(f"{backend}_endpoint")) as proxy,
        open_client(proxy.endpoint) as client,
    ):
        outbox = DynamoDBOutbox(client, table_name=table_name, conditional_writes=mode, observers=[seen.append])
        await outbox.create_table()
        yield Late(Line(client, outbox), proxy, seen)


@pytest.mark.parametrize("count", [0, 1, 12, 45])
async def test_event_that_is_completed_before_the_failure_blocks_nothing(late: Late, count: int) -> None:
    behind = [f"e{number:02}" for number in range(count)]
    await late.begin(behind)
    await late.complete()
    assert isinstance(await late.fail(), LeaseLostError)
    assert await late.goes_on(behind)


@pytest.mark.parametrize("count", [0, 1, 12, 45])
async def test_event_that_is_completed_after_the_failure_lets_its_key_go_on(late: Late, count: int) -> None:
    behind = [f"e{number:02}" for number in range(count)]
    await late.begin(behind)
    assert await late.fail() is None
    assert await late.line.status() == "FAILED"
    await late.complete()
    assert await late.goes_on(behind)


async def test_event_that_is_taken_from_the_front_meanwhile_is_not_told_to_block_its_key(late: Late) -> None:
    await late.begin(["b"])
    late.at_first("BatchGetItem", late.complete)
    assert isinstance(await late.fail(), LeaseLostError)
    late.proxy.rule = lambda request: None
    assert await late.goes_on(["b"])


@pytest.mark.parametrize("operation", ["BatchGetItem", "TransactWriteItems"])
async def test_emits_beside_it_lose_nothing(late: Late, operation: str) -> None:
    await late.begin([])
    await late.complete()
    late.at_first(operation, lambda: late.line.emit("b"))
    assert isinstance(await late.fail(), LeaseLostError)
    assert await late.goes_on(["b"])


async def test_event_that_an_operator_retries_meanwhile_is_left_to_him(late: Late) -> None:
    await late.begin(["b"])
    await late.complete()
    operator = late.line.another()
    late.at_first("TransactWriteItems", lambda: operator.redrive(["a"]))
    assert isinstance(await late.fail(), LeaseLostError)
    late.proxy.rule = lambda request: None
    assert await late.line.work_off() == ["b"]


async def test_key_whose_next_page_is_deleted_is_left_as_it_is(late: Late) -> None:
    await late.begin([f"e{number:02}" for number in range(34)])
    queue = await late.line.queue()
    assert queue is not None
    assert queue.pages > 1
    client, table_name = late.line.client, late.line.outbox.table_name
    await late.line.change(head=id_list(("a",)))
    await client.delete_item(TableName=table_name, Key={"id": {"S": queue.page_id(queue.first_page)}})
    assert await late.fail() is None
    before = await late.line.item()
    await late.complete()
    assert await late.line.item() == before
    assert late.seen == []


async def test_event_that_has_not_ended_blocks_its_key(late: Late) -> None:
    await late.begin(["b"])
    assert await late.fail() is None
    assert await late.line.outbox.claim(10) == []
    (failed,) = await late.line.outbox.failed_events(type=None, limit=10)
    assert (failed.id, failed.blocks_key, late.seen) == ("a", True, [])


async def test_key_stays_blocked_if_the_event_cannot_be_read(late: Late, caplog: pytest.LogCaptureFixture) -> None:
    await late.begin(["b"])
    await late.complete()
    late.proxy.rule = lambda request: refused("AccessDeniedException") if request.operation == "BatchGetItem" else None
    assert await late.fail() is None
    late.proxy.rule = lambda request: None
    assert "it is unknown whether events have ended that block their ordering keys" in caplog.text
    assert await late.line.status() == "FAILED"
    await late.line.outbox.redrive(["a"])
    assert await late.line.work_off() == ["b"]


async def test_event_that_another_worker_has_set_aside_is_not_told_to_be_completed(late: Late) -> None:
    await late.begin(["b"])
    other = late.line.another(failed_key="skip")
    assert await other.settle([(late.held, FAILURE)]) == [None]
    writes: list[str] = []

    def rule(request: Recorded) -> Any:
        if request.operation in {"UpdateItem", "BatchExecuteStatement"}:
            writes.append(request.operation)
        # The first write marks the event. The answer to the second one, which pops it, is lost.
        return CUT_AFTER if len(writes) == 2 and request.operation == writes[-1] else None

    late.proxy.rule = rule
    (answer,) = await late.line.outbox.settle([(late.late, Completed())])
    assert isinstance(answer, LeaseLostError)
    assert len(writes) > 2  # the pop was repeated
    late.proxy.rule = lambda request: None
    assert await late.line.status("a") == "FAILED"
    assert await late.line.work_off() == ["b"]


async def test_mark_as_failed_that_arrives_when_another_worker_has_the_key_is_refused(late: Late) -> None:
    await late.line.emit("a", "b")
    slow = late.line.another(failed_key="skip")
    (claim,) = await slow.claim(10)
    others: list[Claim] = []

    async def lose() -> None:
        await late.line.expire()
        await late.line.outbox.recover()
        others.append(await late.line.claim())

    late.at_first("TransactWriteItems", lose)
    (answer,) = await slow.settle([(claim, FAILURE)], keep_keys=True)
    assert isinstance(answer, LeaseLostError)
    assert await late.line.status("a") == "QUEUED"
    following = await late.line.settle(others[0], keep=True)
    assert isinstance(following, Claim)
    assert (await late.line.status("a"), following.event.id) == ("COMPLETED", "b")


@pytest.mark.parametrize("keeps", [True, False])
async def test_dead_letter_whose_mark_is_written_twice_is_told_as_written(late: Late, keeps: bool) -> None:
    await late.line.emit("a", "b")
    outbox = late.line.another(failed_key="skip")
    claim = await late.line.claim()
    marks: list[str] = []

    def rule(request: Recorded) -> Any:
        if FAILURE.error not in str(request.body):
            return None
        marks.append(request.operation)
        return CUT_AFTER if len(marks) == 1 else None

    late.proxy.rule = rule
    (answer,) = await outbox.settle([(claim, FAILURE)], keep_keys=keeps)
    assert len(marks) > 1  # the mark was repeated
    assert answer is None or (keeps and isinstance(answer, Claim) and answer.event.id == "b")
    assert isinstance(answer, Claim) is keeps
    assert await late.line.status("a") == "FAILED"


async def test_names_of_handlers_that_cannot_be_added_are_left_out_of_a_dead_letter(late: Late) -> None:
    """DynamoDB names the operand in a reason of the cancellation; its emulators refuse the whole request."""
    await late.line.emit("a", "b")
    outbox = late.line.another(failed_key="skip")
    claim = await late.line.claim()
    reason = {"Code": "ValidationError", "Message": "An operand in the update expression has an incorrect data type"}
    cancelled = {"__type": "TransactionCanceledException", "CancellationReasons": [reason, {"Code": "None"}]}
    late.proxy.rule = lambda request: Reply(400, cancelled) if "ADD handledBy" in str(request.body) else None
    failure = Failed(error="bill: no", handled_by=frozenset({"mail"}))
    assert await outbox.settle([(claim, failure)]) == [None]
    assert await late.line.status("a") == "FAILED"
    assert await late.line.work_off() == ["b"]


async def test_names_that_only_the_queue_has_are_left_out_where_they_cannot_be_added(
    late: Late, caplog: pytest.LogCaptureFixture
) -> None:
    await late.line.emit("a", "b")
    outbox = late.line.another(failed_key="skip")
    claim = await late.line.claim()
    await late.line.change(handledBy={"SS": ["mail"]})
    reason = {"Code": "ValidationError", "Message": "An operand in the update expression has an incorrect data type"}
    cancelled = {"__type": "TransactionCanceledException", "CancellationReasons": [reason, {"Code": "None"}]}
    late.proxy.rule = lambda request: Reply(400, cancelled) if "ADD handledBy" in str(request.body) else None
    assert await outbox.settle([(claim, Failed(error="bill: no"))]) == [None]
    assert "The names of the handlers that succeeded could not be stored with event 'a'" in caplog.text
    assert await late.line.status("a") == "FAILED"
    assert await late.line.work_off() == ["b"]


@pytest.mark.parametrize("behind", [[], ["b"]])
async def test_failure_of_a_completed_event_that_cannot_be_read_is_not_told(late: Late, behind: list[str]) -> None:
    await late.begin(behind)
    await late.complete()
    outbox = late.line.another(failed_key="skip")
    late.proxy.rule = lambda request: refused("AccessDeniedException") if request.operation == "BatchGetItem" else None
    (error,) = await outbox.settle([(late.held, FAILURE)])
    assert isinstance(error, StorageError)
    assert error.maybe_applied
    assert "it has ended, perhaps with another outcome" in str(error)
    assert await late.line.status("a") == "COMPLETED"


async def test_completion_of_a_dead_letter_that_cannot_be_read_is_not_told(late: Late) -> None:
    """Another worker has set the event aside; this one has no answer to its pop, and cannot read the event."""
    await late.begin([])
    outbox = late.line.another(failed_key="skip")
    assert await outbox.settle([(late.held, FAILURE)]) == [None]
    assert await late.line.status("a") == "FAILED"
    lost = [CUT_AFTER]

    async def rule(request: Recorded) -> Any:
        if request.operation == "BatchGetItem":
            return refused("AccessDeniedException")
        is_pop = request.operation in ("DeleteItem", "BatchExecuteStatement") and late.line.key in str(request.body)
        return lost.pop() if is_pop and lost else None

    late.proxy.rule = rule
    (error,) = await outbox.settle([(late.late, Completed())])
    assert isinstance(error, (StorageError, LeaseLostError))
    assert await late.line.status("a") == "FAILED"


@pytest.mark.parametrize("repair", ["redrive", "skip"])
async def test_key_of_a_worker_that_died_before_it_looked_is_repaired(late: Late, repair: str) -> None:
    await late.begin(["b"])
    assert await late.fail() is None
    await late.line.change("a", status={"S": "COMPLETED"})
    outbox = late.line.outbox
    (letter,) = await outbox.failed_events(type=None, limit=10)
    assert (letter.id, letter.blocks_key) == ("a", True)
    assert await outbox.discard(["a"], reason="sent twice", by="ada") == Repaired(refused={"a": EventStatus.FAILED})
    assert await getattr(outbox, repair)(["a"]) == Repaired(done=("a",))
    assert await late.line.status("a") == "COMPLETED"
    assert await late.line.work_off() == ["b"]
