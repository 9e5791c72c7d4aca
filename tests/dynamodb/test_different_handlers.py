"""Workers of one table whose handlers of a type differ: the one that starts later says so."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from dynamodb_outbox.dynamodb.delivering import handler_digests
from dynamodb_outbox.dynamodb.delivering.announcements import (
    DOUBTFUL_SECONDS,
    FORGOTTEN_SECONDS,
    MAX_OLD,
    OLD_SECONDS,
    UNTIDY,
    WORKERS_ID,
)
from dynamodb_outbox.dynamodb.delivering.handler_digests import HandlerDigests
from dynamodb_outbox.observers import HandlersDiffer
from reliability.proxy import Proxy, refused
from tests.conftest import MakeOutbox


async def handler(event: Event) -> None:
    pass


def bus_of(outbox: Any, **handlers: str) -> OutboxEventBus:
    """A bus with handlers of these names, by type."""
    bus = OutboxEventBus(outbox, on_error=lambda error: None)
    for event_type, names in handlers.items():
        for name in names.split():
            bus.on(event_type, handler, name=name)
    return bus


async def test_worker_warns_of_an_earlier_one_with_other_handlers(
    local_outbox: MakeOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="dynamodb_outbox")
    old = bus_of(local_outbox(poll_interval=0.02), one="mail", two="mail")
    new = bus_of(local_outbox(poll_interval=0.02), one="mail bill", two="mail")
    async with old:
        # Its announcement comes with its first poll.
        await old.emit("one")
        await old.drain(30)
        async with new:
            with anyio.move_on_after(10):
                while not caplog.records:
                    await anyio.sleep(0.02)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    text = caplog.records[0].getMessage()
    assert "'one'" in text
    assert "bill, mail" in text
    assert "harmless while an old release is being stopped" in text
    assert "otherwise register the same handlers in both" in text


async def test_handler_that_is_registered_on_a_running_bus_is_announced(
    local_outbox: MakeOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="dynamodb_outbox")
    old = bus_of(local_outbox(poll_interval=0.02), one="mail")
    new = bus_of(outbox := local_outbox(poll_interval=0.02), one="mail")
    async with old, new:
        for bus in (old, new):
            await bus.emit("one")
            await bus.drain(30)
        assert await announcement_of(outbox)
        assert caplog.records == []
        new.on("one", handler, name="bill")
        with anyio.fail_after(30):
            while not caplog.records:
                await anyio.sleep(0.02)
        announced = await announcement_of(outbox)
        new.once("one", handler, name="only once")
        await anyio.sleep(0.2)
        assert await announcement_of(outbox) == announced
    assert "bill, mail" in caplog.records[0].getMessage()


async def announcement_of(outbox: DynamoDBOutbox) -> str:
    """The digest of handlers that a worker has announced, once it has."""
    with anyio.fail_after(30):
        while True:
            reply = await outbox._client.get_item(
                TableName=outbox.table_name, Key={"id": {"S": WORKERS_ID}}, ConsistentRead=True
            )
            if announced := reply.get("Item", {}).get(outbox._parts.membership._announcements.name):
                return str(announced["S"].split(" ")[1])
            await anyio.sleep(0.02)


async def test_worker_that_stopped_is_not_warned_of(local_outbox: MakeOutbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="dynamodb_outbox")
    for names in ("mail", "mail bill"):
        bus = bus_of(outbox := local_outbox(poll_interval=0.02), one=names)
        async with bus:
            await bus.emit("one")
            await bus.drain(30)
            # Its announcement comes with its first poll.
            with anyio.fail_after(30):
                while not outbox._parts.membership._is_announced:
                    await anyio.sleep(0.02)
    assert [record.getMessage() for record in caplog.records] == []


async def test_worker_that_has_not_announced_itself_withdraws_nothing(outbox: DynamoDBOutbox, proxy: Proxy) -> None:
    await outbox.retire()
    await outbox.prepare()
    outbox.announce_handlers({"order.placed": ["a"]})
    await outbox.retire()
    bus = bus_of(outbox, t="a")
    assert await bus.run_once() == 0
    await bus.stop()
    assert proxy.of("UpdateItem") == []


async def test_failed_withdrawal_is_not_repeated_and_raises_nothing(outbox: DynamoDBOutbox, proxy: Proxy) -> None:
    await outbox.prepare()
    outbox.announce_handlers({"order.placed": ["a"]})
    assert await outbox.claim(1) == []
    proxy.requests.clear()
    proxy.rule = lambda request: refused("InternalServerError", status=500)
    await outbox.retire()
    await outbox.retire()
    assert [body["UpdateExpression"] for body in proxy.of("UpdateItem")] == ["REMOVE #me"]


NOW = 1_800_000_000.0


class Table:
    """Workers that look once, and what they observe."""

    def __init__(self, client: Any, table_name: str) -> None:
        self.client = client
        self.table_name = table_name
        self.now = NOW

    async def worker(self, handlers: dict[str, list[str]] | None, **options: Any) -> tuple[DynamoDBOutbox, list[Any]]:
        """Start a worker with handlers of these names, by type."""
        seen: list[Any] = []

        def observe(observation: Any) -> None:
            if isinstance(observation, HandlersDiffer):
                seen.append(observation)

        outbox = DynamoDBOutbox(
            self.client, table_name=self.table_name, clock=lambda: self.now, observers=[observe], **options
        )
        await outbox.prepare()
        if handlers is not None:
            outbox.announce_handlers(handlers)
        assert await outbox.claim(1) == []
        return outbox, seen

    async def seen_by(self, handlers: dict[str, list[str]] | None) -> list[str]:
        """Start a worker, and tell of which types it says that another one has other handlers."""
        return [observation.event_type for observation in (await self.worker(handlers))[1]]

    async def item(self) -> dict[str, Any]:
        reply = await self.client.get_item(TableName=self.table_name, Key={"id": {"S": WORKERS_ID}})
        item: dict[str, Any] = reply["Item"]
        return item

    async def put(self, **attributes: Any) -> None:
        await self.client.put_item(TableName=self.table_name, Item={"id": {"S": WORKERS_ID}, **attributes})


@pytest.fixture
async def table(local_client: Any, table_name: str) -> Table:
    await DynamoDBOutbox(local_client, table_name=table_name).create_table()
    return Table(local_client, table_name)


async def test_types_are_compared_that_both_handle(table: Table) -> None:
    assert await table.seen_by({"one": ["a"], "two": ["a", "b"], "mine": ["a"]}) == []
    assert await table.seen_by({"one": ["a"], "two": ["b", "a"], "other": ["a"]}) == []
    assert await table.seen_by({}) == []
    assert await table.seen_by(None) == []
    assert sorted(await table.seen_by({"one": ["b"], "two": ["a"], "other": ["a"]})) == ["one", "two"]


async def test_difference_is_reported_once_by_each_worker(table: Table) -> None:
    one, seen_by_one = await table.worker({"order.placed": ["a"]})
    two, seen_by_two = await table.worker({"order.placed": ["b"]})
    assert (seen_by_one, len(seen_by_two)) == ([], 1)
    assert seen_by_two[0].handlers == ("b",)
    assert seen_by_two[0].seconds == 0.0
    for outbox in (one, two, one, two):
        outbox._parts.membership.announce()
        await outbox.claim(1)
    assert (len(seen_by_one), len(seen_by_two)) == (1, 1)
    # A third that has what the second has is nothing new to the first.
    await table.worker({"order.placed": ["b"], "invoice.due": ["a"]})
    one._parts.membership.announce()
    await one.claim(1)
    assert len(seen_by_one) == 1


@pytest.mark.parametrize(("seconds", "told"), [(FORGOTTEN_SECONDS - 1, 1), (FORGOTTEN_SECONDS + 1, 0)])
async def test_worker_that_works_alone_is_known_for_a_day(table: Table, seconds: float, told: int) -> None:
    await table.worker({"order.placed": ["a"]})
    table.now += seconds
    later, seen = await table.worker({"order.placed": ["b"]})
    assert len(seen) == told
    # Whether it still works is not known: it takes no share of the events.
    assert later._parts.membership.count == 1
    assert seconds > OLD_SECONDS


@pytest.mark.parametrize(("seconds", "doubtful"), [(DOUBTFUL_SECONDS - 1, False), (DOUBTFUL_SECONDS + 1, True)])
async def test_worker_that_was_killed_is_said_to_be_gone_perhaps(
    table: Table, caplog: pytest.LogCaptureFixture, seconds: float, *, doubtful: bool
) -> None:
    await table.worker({"order.placed": ["a"]})
    table.now += seconds
    with caplog.at_level(logging.WARNING, logger="dynamodb_outbox"):
        assert await table.seen_by({"order.placed": ["b"]}) == ["order.placed"]
    (text,) = [record.getMessage() for record in caplog.records if "other handlers" in record.getMessage()]
    assert ("may be gone" in text) == doubtful


async def test_start_costs_one_write_whatever_the_handlers(table: Table) -> None:
    handlers = {f"type {n}": [f"handler {m}" for m in range(5)] for n in range(300)}
    for _ in range(3):
        await table.worker(handlers)
    item = await table.item()
    # Once for all of them: 8 bytes for each type, of so many types.
    (details,) = [value["B"] for name, value in item.items() if name.startswith("h-")]
    assert len(details) == 8 * handler_digests.MAX_TYPES
    assert len([name for name in item if name.startswith("w-")]) == 3
    assert sum(len(name) + len(value.get("S", "")) for name, value in item.items() if name.startswith("w-")) < 3 * 40


async def test_what_is_left_of_workers_is_removed(table: Table) -> None:
    def at(seconds_ago: float) -> dict[str, str]:
        return {"S": f"{(NOW - seconds_ago) * 1000:.0f} gone"}

    many = {f"w-{n}": at(OLD_SECONDS + 1) for n in range(MAX_OLD)}
    unused = {f"h-{n}": {"B": b"x" * 8} for n in range(UNTIDY)}
    await table.put(**many, **{"w-recent": at(10), "h-gone": {"B": b""}}, **unused)
    outbox, _ = await table.worker({"order.placed": ["a"]})
    # Not by its first announcement, which did not know of them; nor by one of a worker that found less.
    await outbox.claim(1)
    assert await outbox.claim(1) == []
    own = {f"h-{outbox._parts.membership._announcements.handlers.name}", outbox._parts.membership._announcements.name}
    assert set(await table.item()) == {"id", "w-recent", "h-gone"} | own


async def test_new_handlers_are_announced_once_a_worker_has_them(table: Table) -> None:
    unused = HandlerDigests.of({"order.placed": ["b"]})
    await table.put(**{f"h-{unused.name}": {"B": unused.details}})
    # This worker finds that no other one has those handlers, and is about to remove their digest.
    outbox, _ = await table.worker({"order.placed": ["a"]})
    outbox.announce_handlers({"order.placed": ["b"]})
    assert await outbox.claim(1) == []
    item = await table.item()
    assert item[outbox._parts.membership._announcements.name]["S"].endswith(unused.name)
    assert item[f"h-{unused.name}"] == {"B": unused.details}


@pytest.mark.parametrize(
    "odd",
    [
        {"N": "1800000000000"},
        {"N": "1800000000000.5"},
        {"S": "1800000000000 odd"},
        {"S": "yesterday"},
        {"S": ""},
        {"B": b"x"},
        {"L": []},
    ],
    ids=str,
)
@pytest.mark.parametrize("details", [{"B": b"12345"}, {"B": b""}, {"S": "text"}, {"NULL": True}], ids=str)
async def test_what_others_wrote_there_changes_nothing(table: Table, odd: Any, details: Any) -> None:
    await table.put(**{"w-odd": odd, "h-odd": details, "other": {"S": "x"}})
    assert await table.seen_by({"order.placed": ["a"]}) == []


async def test_worker_that_starts_again_announces_its_handlers_again(table: Table) -> None:
    outbox, _ = await table.worker({"order.placed": ["a"]})
    await outbox.retire()
    # Another worker has removed what no worker used any more.
    await table.client.delete_item(TableName=table.table_name, Key={"id": {"S": WORKERS_ID}})
    await outbox.prepare()
    outbox.announce_handlers({"order.placed": ["a"]})
    assert await outbox.claim(1) == []
    assert await table.seen_by({"order.placed": ["b"]}) == ["order.placed"]
