"""Writes to a queue that another process has changed in the meantime: they are refused, and lose no event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dynamodb_outbox import DynamoDBOutbox, LeaseLostError
from dynamodb_outbox.claims import Claim
from dynamodb_outbox.dynamodb.ordering.appending import Append, NewQueue
from dynamodb_outbox.dynamodb.ordering.queue import WIDTH, Queue, id_list
from dynamodb_outbox.dynamodb.ordering.transitions import Pop, form_of
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.outcome import Failed, Outcome, Released, Retry
from reliability.simulation.backend import Backend
from reliability.simulation.client import direct_client
from tests.dynamodb.queues import Line
from tests.thorough import EVERY_CASE

TABLE = "events"
NOW = 1_790_000_000.0


@pytest.fixture
async def line() -> Line:
    """A queue on the simulated table, whose index shows every change at once."""
    moments = iter(range(10**6))

    def clock() -> float:
        return NOW + next(moments) / 1000

    client = direct_client(Backend(clock=clock))
    outbox = DynamoDBOutbox(client, table_name=TABLE, clock=clock, conditional_writes="single")
    await outbox.create_table()
    return Line(client, outbox)


def append_of(line: Line, *ids: str, new_queue: NewQueue | None = None) -> Append:
    return Append(key=line.key, ids=ids, new_queue=new_queue or NewQueue(now=NOW), shards=Shards(1))


async def events_of(line: Line) -> list[str]:
    """The ids of the queue, in order."""
    queue = await line.queue()
    assert queue is not None
    ids = list(queue.head)
    for number in range(queue.first_page, queue.last_page + 1) if queue.pages else ():
        ids += [member["S"] for member in (await line.item(queue.page_id(number)))["ids"]["L"]]
    return [*ids, *queue.ids]


async def refused(write: Any) -> str:
    """The code with which a write is refused."""
    with pytest.raises(ClientError) as raised:
        await write
    return raised.value.response["Error"]["Code"]


async def filled(line: Line, count: int) -> tuple[list[str], Queue]:
    """A queue of so many events, and what an emitter has seen of it."""
    ids = [f"e{number}" for number in range(count)]
    await line.emit(*ids)
    queue = await line.queue()
    assert queue is not None
    return ids, queue


async def spill(line: Line, append: Append, seen: Queue) -> None:
    entries: Sequence[Any] = append.spill(TABLE, seen)
    await line.client.transact_write_items(TransactItems=entries)


async def test_append_leaves_a_claimed_queue_claimed(line: Line) -> None:
    await line.emit("a")
    claim = await line.claim()
    before = await line.item()
    # Other processes append, and the first would claim the queue if it created it.
    queues = {"b": NewQueue(now=NOW, token="another", ends=NOW + 30), "c": NewQueue(now=NOW)}
    for event_id, new_queue in queues.items():
        await line.client.update_item(**append_of(line, event_id, new_queue=new_queue).append(TABLE))
    after = await line.item()
    assert {name: value for name, value in after.items() if name != "ids"} == {
        name: value for name, value in before.items() if name != "ids"
    }
    assert after["claimToken"] == {"S": claim.token}
    assert await events_of(line) == ["a", "b", "c"]


async def test_repeated_append_lists_no_event_twice(line: Line) -> None:
    ids, queue = await filled(line, 2)
    assert await refused(line.client.update_item(**append_of(line, "e1").append(TABLE))) == (
        "ConditionalCheckFailedException"
    )
    await line.emit(*(more := [f"more {number}" for number in range(WIDTH)]))
    # By now it is in the head.
    assert await refused(line.client.update_item(**append_of(line, "e1").append(TABLE))) == (
        "ConditionalCheckFailedException"
    )
    assert queue.ids == tuple(ids)
    assert await events_of(line) == [*ids, *more]


async def test_second_split_of_a_queue_is_refused(line: Line) -> None:
    ids, _ = await filled(line, WIDTH)
    await line.client.update_item(**append_of(line, "first").split(TABLE))
    more = [f"more {number}" for number in range(WIDTH - 1)]
    await line.emit(*more)
    # Another emitter has seen the full queue when it had no head.
    split = line.client.update_item(**append_of(line, "second").split(TABLE))
    assert await refused(split) == "ConditionalCheckFailedException"
    assert await events_of(line) == [*ids, "first", *more]


async def test_second_spill_of_the_same_ids_is_refused(line: Line) -> None:
    ids, seen = await filled(line, 2 * WIDTH)
    await spill(line, append_of(line, "first"), seen)
    assert await refused(spill(line, append_of(line, "second"), seen)) == "TransactionCanceledException"
    assert await events_of(line) == [*ids, "first"]


async def test_spill_of_ids_that_have_grown_is_refused(line: Line) -> None:
    ids, seen = await filled(line, 2 * WIDTH - 1)
    await line.append("meanwhile")
    assert await refused(spill(line, append_of(line, "late", "later"), seen)) == "TransactionCanceledException"
    assert await events_of(line) == [*ids, "meanwhile"]


async def test_spill_to_an_earlier_generation_of_pages_is_refused(line: Line) -> None:
    _, seen = await filled(line, 2 * WIDTH)
    await spill(line, append_of(line, "a", *(f"x{n}" for n in range(WIDTH - 1))), seen)
    old = await line.queue()
    assert old is not None
    assert old.pages == 1
    # The queue is worked off until only the last list is left, and fills again.
    await line.change(ids={"L": [{"S": each} for each in old.ids]}, epoch={"S": "another"})
    assert await refused(spill(line, append_of(line, "late"), old)) == "TransactionCanceledException"


# How many events a key has, and how many of them are completed first, so that a pop needs the form.
FORMS = {"LAST": (1, 0), "IDS": (3, 0), "HEAD": (12, 0), "UNHEAD": (12, 9), "REFILL": (35, 9)}


@pytest.mark.cases(EVERY_CASE)
@pytest.mark.parametrize("form", FORMS)
async def test_pop_compares_the_front(line: Line, form: str) -> None:
    count, completed = FORMS[form]
    await line.emit(*(f"e{number}" for number in range(count)))
    claim = await line.claim()
    for _ in range(completed):
        following = await line.settle(claim, keep=True)
        assert isinstance(following, Claim)
        claim = following
    queue = await line.queue()
    assert queue is not None
    assert form_of(queue) is Pop[form]
    # An operator has put another event into the place of the first one.
    name, ids = ("head", queue.head) if queue.head else ("ids", queue.ids)
    await line.change(**{name: id_list(("replacement", *ids[1:]))})
    before = await line.item()
    assert isinstance(await line.settle(claim, keep=True), LeaseLostError)
    assert await line.item() == before


@pytest.mark.cases(EVERY_CASE)
@pytest.mark.parametrize(
    "outcome",
    [
        pytest.param(Retry(delay=0, error="late"), id="retry"),
        pytest.param(Failed(error="late"), id="fail"),
        pytest.param(Released(), id="release"),
    ],
)
async def test_outcome_of_a_worker_that_has_lost_the_lease_changes_nothing(line: Line, outcome: Outcome) -> None:
    await line.emit("a", "b")
    late = await line.claim()
    await line.expire()
    await line.outbox.recover()
    claim = await line.claim()
    before = await line.item()
    assert isinstance(await line.settle(late, outcome), LeaseLostError)
    assert await line.item() == before
    assert claim.event.id == "a"


async def test_queue_that_another_worker_has_claimed_meanwhile_is_not_claimed(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    await line.emit("a", "b")
    first, second, update_item = Line(line.client, line.another()), line.outbox, line.client.update_item
    claims: list[Claim] = []

    async def update_after_another_claim(**arguments: Any) -> Any:
        if not claims:
            monkeypatch.undo()
            claims.append(await first.claim())
        return await update_item(**arguments)

    monkeypatch.setattr(line.client, "update_item", update_after_another_claim)
    assert await second.claim(10) == []
    following = await first.settle(claims[0], keep=True)
    assert isinstance(following, Claim)
    assert following.event.id == "b"


async def test_stale_lease_of_a_queue_is_not_recovered(line: Line) -> None:
    await line.emit("a")
    claim = await line.claim()
    now = claim.lease_expires_at
    assert await line.outbox.renew([(claim, now + 1_000)]) == [None]
    row = {"id": {"S": line.queue_id}, "gsiSortKey": {"N": str(round(claim.lease_expires_at * 1000))}}
    recovery = line.outbox._parts.recovery

    class Index:
        """Shows the lease as it was before its renewal."""

        async def keys(self, partition: Any, **_: Any) -> Any:
            yield [row]

        def windows(self) -> list[Any]:
            return []

    recovery._index = Index()  # type: ignore[assignment]  # no backend shows a stale row when it is asked to
    recovered = await line.outbox.recover()
    assert recovered.reset == ()
    assert (await line.item())["claimToken"] == {"S": claim.token}
    assert await line.status() == "PROCESSING"
