"""A deploy, as the platform sees it: signals to a service with handlers running, and another worker up."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import httpx
import pytest

from dynamodb_outbox import Delivery, DynamoDBOutbox, Event, OutboxEventBus
from tests.examples.serving import COMMANDS, ended, eventually, serving


@pytest.fixture
def table(moto_client: Any, table_name: str) -> Table:
    return Table(moto_client, table_name)


class Table:
    """What the processes leave in the table."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    async def item(self, event_id: str) -> dict[str, Any]:
        reply = await self._client.get_item(TableName=self._name, Key={"id": {"S": event_id}}, ConsistentRead=True)
        return reply["Item"]

    async def until_claimed(self, event_id: str) -> None:
        async def claimed() -> bool:
            return (await self.item(event_id))["status"] != {"S": "PENDING"}

        await eventually(claimed)


async def post_user(http: httpx.AsyncClient, name: str) -> str:
    """Create a user; returns the id of the event that tells of it."""
    response = await http.post("/users", json={"name": name, "email": f"{name}@example.org"})
    event_id: str = response.json()["event_id"]
    return event_id


@pytest.mark.thorough
@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("runner", COMMANDS)
async def test_a_signal_lets_a_running_handler_finish(
    settings: None, table: Table, runner: str, stop_signal: signal.Signals
) -> None:
    async with serving(runner, MAIL_SECONDS="1") as (server, url):
        async with httpx.AsyncClient(base_url=url) as http:
            event_id = await post_user(http, "ada")
        await table.until_claimed(event_id)
        server.send_signal(stop_signal)
        output = await ended(server)
    assert "Traceback" not in output
    assert (await table.item(event_id))["status"] == {"S": "COMPLETED"}
    if runner == "uvicorn":
        assert "Application shutdown complete" in output
    # After an orderly end uvicorn raises the signal it caught once more; Python has a handler for SIGINT only.
    raised_again = runner == "uvicorn" and stop_signal is signal.SIGTERM
    assert server.returncode in ([0, -signal.SIGTERM] if raised_again else [0])


@pytest.mark.thorough
async def test_running_handlers_finish_and_the_rest_goes_to_another_worker_at_once(
    settings: None, moto_client: Any, table_name: str
) -> None:
    # Side by side, for most of it is waiting.
    async with asyncio.TaskGroup() as deploys:
        for runner in COMMANDS:
            deploys.create_task(deploy(runner, moto_client, f"{table_name}-{runner}"))


async def deploy(runner: str, client: Any, table_name: str) -> None:
    table = Table(client, table_name)
    other = OutboxEventBus(DynamoDBOutbox(client, table_name=table_name, poll_interval=0.2))
    taken: list[tuple[str, int]] = []

    async def welcome(event: Event, delivery: Delivery) -> None:
        taken.append((event.id, delivery.attempt))

    async def log_user(event: Event) -> None:
        raise AssertionError("it had succeeded in the process that stopped")

    other.on("user.created", welcome, name="Mailer.welcome")
    if runner == "uvicorn":
        other.on("user.created", log_user, name="log_user")

    # The first mail ends two seconds and more before the deadline of the stop, the second as much after it.
    seconds = {"MAIL_SECONDS": "7", "STOP_SECONDS": "4.5", "OUTBOX_TABLE": table_name}
    async with serving(runner, **seconds) as (server, url):
        async with httpx.AsyncClient(base_url=url) as http:
            first = await post_user(http, "first")
            await table.until_claimed(first)
            await asyncio.sleep(4.5)
            second = await post_user(http, "second")
            await table.until_claimed(second)
        async with other:
            server.send_signal(signal.SIGTERM)
            await ended(server)
            await other.drain(120)
    # Released: after the end of its lease it would be the second attempt.
    assert taken == [(second, 1)]
    for event_id in (first, second):
        stored = await table.item(event_id)
        assert (stored["status"], stored["retryCount"]) == ({"S": "COMPLETED"}, {"N": "0"})
