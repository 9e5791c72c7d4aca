"""A replacement takes the place of a dead letter at the front of its line, and otherwise goes to the end."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodb_outbox import DuplicateEventError, Event, EventStatus, OutboxEventBus, Repaired
from dynamodb_outbox.observations import KeyUnblocked
from tests.dynamodb.lines import Line

PENDING, PROCESSING, COMPLETED, FAILED, HELD, DISCARDED, QUEUED = EventStatus
WHO: dict[str, Any] = {"reason": "wrong address", "by": "ada@bastion"}
KEY = "order-17"


def new(event_id: str = "new", *, key: str | None = KEY) -> Event:
    return Event("order.paid", {"n": 2}, id=event_id, ordering_key=key)


async def test_replacement_of_a_blocking_event_takes_its_place(line: Line) -> None:
    await line.emit("a", "b")
    await line.block()
    line.clock.now += 60
    for _ in range(2):
        assert await line.outbox.replace("a", new(), **WHO) == Repaired(done=("a",))
        line.clock.now += 1
    assert await line.order() == ["new", "b"]
    old, event = await line.outbox.get("a"), await line.outbox.get("new")
    assert old is not None
    assert event is not None
    assert (old.status, old.replaced_by, old.discarded_by) == (DISCARDED, "new", "ada@bastion")
    assert (event.status, event.retry_count, event.last_error, event.handled_by) == (PENDING, 0, "", frozenset())
    assert event.due_at.timestamp() == line.clock.now - 2
    told = [each for each in line.seen if isinstance(each, KeyUnblocked)]
    assert told == [KeyUnblocked(ordering_key=KEY, event_id="a", repair="discard")]


@pytest.mark.parametrize("count", [12, 31])
async def test_replacement_takes_the_place_at_the_head_of_a_long_line(line: Line, count: int) -> None:
    ids = [f"e{number:02}" for number in range(count)]
    await line.emit(*ids)
    await line.block()
    assert await line.outbox.replace("e00", new(), **WHO)
    assert await line.order() == ["new", *ids[1:]]


@pytest.mark.parametrize("count", [3, 10, 20])
async def test_replacement_of_a_waiting_event_goes_to_the_end(line: Line, count: int) -> None:
    ids = [f"e{number:02}" for number in range(count)]
    await line.emit(*ids)
    await line.claim()
    assert await line.outbox.replace("e02", new(), **WHO) == Repaired(done=("e02",))
    assert await line.order() == [*ids, "new"]
    assert (await line.state("e02"), await line.state("new")) == ("DISCARDED", "QUEUED")
    # Its id is in the line, and a worker skips it.
    assert await line.outbox.replace("e00", new("newer"), **WHO) == Repaired(refused={"e00": PROCESSING})
    assert await line.item("newer") == {}


async def test_replacement_of_an_event_that_was_set_aside_goes_to_the_end(line: Line) -> None:
    await line.store("a", "unlisted")
    await line.set_aside("a")
    assert await line.outbox.replace("a", new(), **WHO)
    assert await line.outbox.replace("unlisted", new("newer"), **WHO)
    assert await line.order() == ["new", "newer"]


async def test_replacement_by_an_event_of_another_key_lets_the_line_go_on(line: Line) -> None:
    await line.emit("a", "b", "c")
    await line.emit("x", key="order-18")
    await line.block()
    assert await line.outbox.replace("a", new(key="order-18"), **WHO)
    assert await line.outbox.replace("c", new("plain", key=None), **WHO)
    assert (await line.order(), await line.order("order-18")) == (["b", "c"], ["x", "new"])
    assert (await line.state("c"), await line.state("plain")) == ("DISCARDED", "PENDING")
    assert await line.outbox.replace("b", new("plainer", key=None), **WHO)
    assert await line.order() == ["c"]
    due = (await line.outbox.list_events("due")).events
    assert {each.id for each in due} == {"x", "plain", "plainer"}


async def test_replacement_of_an_event_without_a_key_by_one_with_a_key(line: Line) -> None:
    await line.emit("a")
    await line.outbox.publish([Event("order.paid", id="old"), Event("order.paid", id="other")])
    assert await line.outbox.replace("old", new(), **WHO)
    assert await line.outbox.replace("other", new("first", key="order-18"), **WHO)
    assert (await line.order(), await line.order("order-18")) == (["a", "new"], ["first"])
    assert (await line.state("old"), await line.state("other")) == ("DISCARDED", "DISCARDED")
    assert await line.outbox.replace("old", new("again"), **WHO) == Repaired(refused={"old": DISCARDED})
    assert await line.outbox.replace("nobody", new("again"), **WHO) == Repaired(refused={"nobody": None})


async def test_replacement_by_a_stored_event_changes_nothing(line: Line) -> None:
    await line.emit("a", "b")
    await line.block()
    for each in ("a", "b"):
        with pytest.raises(DuplicateEventError) as info:
            await line.outbox.replace(each, new("b" if each == "a" else "a"), **WHO)
        assert info.value.stored is not None
    assert (await line.order(), await line.state("a"), await line.state("b")) == (["a", "b"], "QUEUED", "QUEUED")


async def test_replacement_of_an_event_that_is_over_is_refused(line: Line) -> None:
    await line.emit("a", "b")
    await line.block()
    await line.change("a", status={"S": "COMPLETED"}, gsiSortKey=None)
    # The queue is FAILED, so a reader sees a dead letter.
    assert await line.outbox.replace("a", new(), **WHO) == Repaired(refused={"a": FAILED})
    assert await line.order() == ["a", "b"]


async def test_replace_event_of_a_bus_keeps_the_key(line: Line) -> None:
    await line.emit("a", "b")
    await line.block()
    event = await OutboxEventBus(line.outbox).replace_event("a", {"n": 3}, **WHO)
    assert event.ordering_key == KEY
    assert await line.order() == [event.id, "b"]
    replaced = await OutboxEventBus(line.outbox).replace_event("b", {"n": 4}, **WHO)
    assert await line.order() == [event.id, "b", replaced.id]
