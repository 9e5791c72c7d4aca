"""What the outbox says of a table, a right or an option that does not fit, before somebody has to search for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from botocore.exceptions import ConnectTimeoutError

from dynamodb_outbox import CredentialsError, DynamoDBOutbox, Event, OutboxError, OutboxEventBus, UnavailableError
from dynamodb_outbox.adapter import Claim
from dynamodb_outbox.outcome import Completed
from reliability.proxy import Proxy, refused
from reliability.simulation.client import Client
from tests.dynamodb.raw_tables import raw_table
from tests.virtual_time import install


def warnings(caplog: pytest.LogCaptureFixture, about: str) -> list[str]:
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    return [message for message in messages if about in message]


# A table of other keys


def attribute_type(definition: dict[str, Any], name: str, kind: str) -> None:
    for attribute in definition["AttributeDefinitions"]:
        if attribute["AttributeName"] == name:
            attribute["AttributeType"] = kind


def another_key(definition: dict[str, Any]) -> None:
    definition["AttributeDefinitions"][0]["AttributeName"] = "pk"
    definition["KeySchema"][0]["AttributeName"] = "pk"


def a_sort_key(definition: dict[str, Any]) -> None:
    definition["AttributeDefinitions"].append({"AttributeName": "sk", "AttributeType": "S"})
    definition["KeySchema"].append({"AttributeName": "sk", "KeyType": "RANGE"})


MISFITS: dict[str, Callable[[dict[str, Any]], None]] = {
    "an id of another type": lambda definition: attribute_type(definition, "id", "N"),
    "a key of another name": another_key,
    "a sort key": a_sort_key,
    "a time of another type": lambda definition: attribute_type(definition, "gsiSortKey", "S"),
    "a status of another type": lambda definition: attribute_type(definition, "status", "N"),
}


@pytest.mark.parametrize("mode", ["batch", "single"])
@pytest.mark.parametrize("misfit", MISFITS)
async def test_request_that_does_not_fit_the_keys_of_the_table_names_verify_table(
    local_client: Any, table_name: str, misfit: str, mode: Any
) -> None:
    definition = raw_table(table_name)
    MISFITS[misfit](definition)
    await local_client.create_table(**definition)
    outbox = DynamoDBOutbox(local_client, table_name=table_name, conditional_writes=mode)
    bus = OutboxEventBus(outbox)
    claim = Claim(event=Event("invoice.due"), token="invoice.due", attempt=1, lease_expires_at=2e9)

    async def emit_in_a_transaction() -> None:
        async with bus.transaction() as tx:
            tx.emit("invoice.due")

    async def settle() -> None:
        (error,) = await outbox.settle([(claim, Completed())])
        if error is not None:
            raise error

    emits: list[Callable[[], Awaitable[Any]]] = [
        lambda: bus.emit("invoice.due"),
        lambda: bus.emit_many([Event("invoice.due"), Event("invoice.due")]),
        emit_in_a_transaction,
    ]
    # Some of the rest are not refused: an empty index has no keys that could be wrong.
    for call in (*emits, lambda: outbox.claim(1), outbox.recover, lambda: bus.retry_events(["e"]), settle):
        try:
            await call()
        except OutboxError as error:
            if "the lease ran out" not in str(error):
                assert "verify_table" in str(error), error
        else:
            assert call not in emits


async def test_transaction_with_keys_that_do_not_fit_does_not_blame_the_table_of_the_outbox(
    local_client: Any, table_name: str
) -> None:
    outbox = DynamoDBOutbox(local_client, table_name=table_name)
    await outbox.create_table()
    bus = OutboxEventBus(outbox)
    with pytest.raises(OutboxError, match="verify_table") as caught:
        async with bus.transaction() as tx:
            tx.put(TableName=table_name, Item={"no id": "x"})
    assert "does not fit the outbox" not in str(caught.value)


# A verification that gets no answer


@pytest.mark.parametrize("silent", ["describe_table", "describe_time_to_live"])
@pytest.mark.parametrize("how", ["no answer", "no connection"])
async def test_verification_that_gets_no_answer_fails_within_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, silent: str, how: str
) -> None:
    time = install(asyncio.get_running_loop(), monkeypatch)
    table: dict[str, Any] = {}

    async def send(operation: str, parameters: dict[str, Any]) -> Any:
        if operation == silent:
            if how == "no answer":
                await asyncio.sleep(3600)
            raise ConnectTimeoutError(endpoint_url="https://x")
        return {"Table": table}

    client: Any = Client(send)
    outbox = DynamoDBOutbox(client, table_name="events", retention=60)
    table |= raw_table("events") | {"TableStatus": "ACTIVE"}
    began = time.time()
    with pytest.raises(UnavailableError, match=silent):
        await outbox.verify_table()
    assert time.time() - began <= 10


# A retention without a time to live


@pytest.fixture
async def retaining(client: Any, proxy: Proxy, table_name: str) -> DynamoDBOutbox:
    """An outbox with a retention, on a table whose time to live is off."""
    await DynamoDBOutbox(client, table_name=table_name).create_table()
    proxy.requests.clear()
    return DynamoDBOutbox(client, table_name=table_name, retention=3600, poll_interval=0.02)


async def handle(bus: OutboxEventBus, *, until: Callable[[], bool]) -> None:
    """Start the bus, have an event handled, and wait for a condition."""
    async with bus:
        await bus.emit("invoice.due")
        await bus.wait_for("invoice.due", timeout=60)
        with anyio.fail_after(60):
            while not until():
                await anyio.sleep(0.01)


def bus_of(outbox: DynamoDBOutbox) -> OutboxEventBus:
    bus = OutboxEventBus(outbox)

    @bus.on("invoice.due")
    async def confirm(event: Event) -> None:
        pass

    return bus


def looks_after(proxy: Proxy, count: int) -> Callable[[], bool]:
    """Tell when workers have asked so often for the time to live, and have gone on for some looks since."""

    def are_over() -> bool:
        asked = [index for index, name in enumerate(proxy.operations()) if name == "DescribeTimeToLive"]
        return len(asked) == count and proxy.operations()[asked[-1] :].count("Query") > 6

    return are_over


async def test_retention_without_time_to_live_is_warned_of_once_per_start(
    retaining: DynamoDBOutbox, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    bus = bus_of(retaining)
    async with bus:
        await anyio.sleep(0.2)
    assert proxy.count("DescribeTimeToLive") == 0
    for start in (1, 2):
        await handle(bus, until=looks_after(proxy, start))
        assert proxy.count("DescribeTimeToLive") == start
        assert len(warnings(caplog, "expireAt")) == start
    (first, _) = warnings(caplog, "expireAt")
    assert "retention" in first
    assert "create_table" in first
    assert retaining.table_name in first


async def test_retention_with_time_to_live_is_not_warned_of(
    retaining: DynamoDBOutbox, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    await retaining.create_table()
    proxy.requests.clear()
    await handle(bus_of(retaining), until=looks_after(proxy, 1))
    assert warnings(caplog, "expireAt") == []


async def test_time_to_live_that_may_not_be_read_is_not_warned_of(
    retaining: DynamoDBOutbox, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    denied = refused("AccessDeniedException", "no")
    proxy.rule = lambda request: denied if request.operation == "DescribeTimeToLive" else None
    await handle(bus_of(retaining), until=looks_after(proxy, 1))
    assert warnings(caplog, "time to live") == []
    assert warnings(caplog, "DescribeTimeToLive") == []


async def test_outbox_without_a_retention_does_not_ask_for_the_time_to_live(
    client: Any, retaining: DynamoDBOutbox, proxy: Proxy
) -> None:
    outbox = DynamoDBOutbox(client, table_name=retaining.table_name, poll_interval=0.02)
    await handle(bus_of(outbox), until=lambda: proxy.count("Query") > 10)
    assert proxy.count("DescribeTimeToLive") == 0


# A role that may not send batches


@pytest.mark.parametrize("code", ["AccessDeniedException", "ExpiredTokenException"])
async def test_missing_right_to_send_batches_is_warned_of_and_expired_credentials_are_not_taken_for_it(
    client: Any, retaining: DynamoDBOutbox, proxy: Proxy, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    outbox = DynamoDBOutbox(client, table_name=retaining.table_name)
    await outbox.publish([Event("invoice.due"), Event("invoice.due")])
    denied = refused(code, "not authorized to perform: dynamodb:PartiQLUpdate")
    proxy.rule = lambda request: denied if request.operation == "BatchExecuteStatement" else None
    if code == "AccessDeniedException":
        assert len(await outbox.claim(1)) == 1
        assert len(warnings(caplog, "dynamodb:PartiQLUpdate")) == 1
        (warning,) = warnings(caplog, "dynamodb:PartiQLUpdate")
        assert "seven times the CPU" in warning
        assert len(await outbox.claim(1)) == 1
        assert warnings(caplog, "dynamodb:PartiQLUpdate") == [warning]
        return
    with pytest.raises(CredentialsError):
        await outbox.claim(1)
    proxy.rule = lambda request: None
    proxy.requests.clear()
    assert len(await outbox.claim(2)) == 2
    assert proxy.count("BatchExecuteStatement") > 1
    assert warnings(caplog, "dynamodb:PartiQLUpdate") == []


async def test_emulator_without_batches_is_not_warned_of(
    client: Any, retaining: DynamoDBOutbox, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="dynamodb_outbox")
    outbox = DynamoDBOutbox(client, table_name=retaining.table_name)
    await outbox.publish([Event("invoice.due")])
    missing = refused("InternalServerError", "no PartiQL here", status=500)
    proxy.rule = lambda request: missing if request.operation == "BatchExecuteStatement" else None
    assert len(await outbox.claim(1)) == 1
    assert warnings(caplog, "one by one") == []
    assert "one by one" in caplog.text
