"""What works without the permissions for windows, as docs/how-to/iam.md says."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox, Event
from dynamodb_outbox.errors import CredentialsError, UnavailableError
from dynamodb_outbox.observers import WindowRecovered
from reliability.proxy import Proxy, Recorded, refused
from tests.dynamodb.windows import keeping_leases, order, until, written

LEASE = 3.0


def deny(action: str, is_denied: Callable[[Recorded], bool]) -> Any:
    """Refuse requests as IAM does."""
    message = f"User: arn:aws:iam::123456789012:user/ada is not authorized to perform: {action}"

    def rule(request: Recorded) -> Any:
        return refused("AccessDeniedException", message) if is_denied(request) else None

    return rule


def has_inserts(request: Recorded) -> bool:
    return any(each["Statement"].startswith("INSERT") for each in request.body.get("Statements", []))


async def test_without_insert_groups_enter_the_window_one_by_one(
    client: Any, proxy: Proxy, table_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="dynamodb_outbox")
    outbox = DynamoDBOutbox(client, table_name=table_name)
    await outbox.create_table()
    proxy.rule = deny("dynamodb:PartiQLInsert", has_inserts)
    async with keeping_leases(outbox, client) as desk:
        proxy.requests.clear()
        alone, group = order(), [order() for _ in range(3)]
        await desk.emit(alone)
        await desk.emit(*group)
        assert written(proxy) == {"PutItem": 4}
        for event in [alone, *group]:
            assert "window" in await desk.item(event)
        assert await desk.settle(alone, *group) == [None] * 4
    (warning,) = caplog.messages
    assert "dynamodb:PartiQLInsert" in warning


async def test_without_delete_the_window_is_left_to_recovery(client: Any, proxy: Proxy, table_name: str) -> None:
    outbox = DynamoDBOutbox(client, table_name=table_name, processing_timeout=LEASE)
    await outbox.create_table()
    proxy.rule = deny("dynamodb:DeleteItem", lambda request: request.operation == "DeleteItem")
    async with keeping_leases(outbox, client) as desk:
        window_id = desk.window.item_id
        # Nothing is emitted any more, so that the worker wants to delete the window.
        await until(lambda: not desk.windows)
        assert proxy.count("DeleteItem") == 1
        assert (await desk.item(window_id))["status"] == {"S": "WINDOW"}
        recovered: list[WindowRecovered] = []
        outbox.observers.add(lambda each: recovered.append(each) if isinstance(each, WindowRecovered) else None)
        await until(lambda: _is_recovered(outbox, recovered))
        assert (await desk.item(window_id))["status"] == {"S": "VOID"}


async def _is_recovered(outbox: DynamoDBOutbox, recovered: list[WindowRecovered]) -> bool:
    with suppress(UnavailableError):  # a busy machine may answer late; the next recovery goes on
        assert (await outbox.recover()).reset == ()
    return bool(recovered)


async def test_without_batch_get_the_events_of_a_dead_worker_wait(client: Any, proxy: Proxy, table_name: str) -> None:
    now = 1_790_000_000.0
    outbox = DynamoDBOutbox(client, table_name=table_name, clock=lambda: now)
    await outbox.create_table()
    async with keeping_leases(outbox, client) as desk:
        event = Event("order.placed")
        await desk.emit(event)
        later = now + 60
        other = DynamoDBOutbox(client, table_name=table_name, clock=lambda: later)
        proxy.rule = deny("dynamodb:BatchGetItem", lambda request: request.operation == "BatchGetItem")
        with pytest.raises(CredentialsError, match="BatchGetItem"):
            await other.recover()
        assert "window" in await desk.item(event)
        proxy.rule = lambda request: None
        later += 60
        assert (await other.recover()).reset == (event.id,)
