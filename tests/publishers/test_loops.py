"""A publisher, and the event loop that it belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any
from uuid import uuid4

import pytest

from dynamodb_outbox import Event, UsageError
from dynamodb_outbox.publishers import SqsPublisher
from tests.backends import ENDPOINT, SESSION
from tests.publishers.queues import Queue

# The client of a loop that is closed cannot be closed any more.
pytestmark = pytest.mark.filterwarnings("ignore:[Uu]nclosed:ResourceWarning")


async def make_queue(endpoint: str) -> str:
    async with SESSION.create_client("sqs", endpoint_url=endpoint, **ENDPOINT) as client:
        return str((await client.create_queue(QueueName=f"orders-{uuid4().hex[:8]}"))["QueueUrl"])


async def received(endpoint: str, url: str) -> list[str]:
    async with SESSION.create_client("sqs", endpoint_url=endpoint, **ENDPOINT) as client:
        return await Queue(client, url).received_ids()


async def in_time(call: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(60):
        await call


def publisher_of(endpoint: str, url: str) -> SqsPublisher:
    return SqsPublisher(queue_url=url, region_name="us-east-1", endpoint_url=endpoint)


def test_a_publisher_that_was_verified_in_another_run_sends(moto_endpoint: str) -> None:
    url = asyncio.run(make_queue(moto_endpoint))
    publisher = publisher_of(moto_endpoint, url)
    asyncio.run(publisher.verify())

    async def send_and_close() -> None:
        async with publisher:
            await in_time(publisher(Event("a", id="e1")))

    asyncio.run(send_and_close())
    assert asyncio.run(received(moto_endpoint, url)) == ["e1"]


def test_events_that_waited_when_a_run_ended_hold_up_nothing(moto_endpoint: str) -> None:
    url = asyncio.run(make_queue(moto_endpoint))
    publisher = publisher_of(moto_endpoint, url)

    async def leave_waiting() -> None:
        sending = asyncio.create_task(in_time(publisher(Event("a", id="left"))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # it waits for others now
        assert not sending.done()

    async def send_and_close() -> None:
        async with publisher:
            await in_time(publisher(Event("a", id="sent")))

    asyncio.run(leave_waiting())
    asyncio.run(send_and_close())
    assert asyncio.run(received(moto_endpoint, url)) == ["sent"]


async def test_a_publisher_in_two_running_loops_is_refused(moto_endpoint: str) -> None:
    publisher = publisher_of(moto_endpoint, await make_queue(moto_endpoint))
    async with publisher:
        await publisher.verify()
        for call in (publisher.verify, publisher.close, lambda: publisher(Event("a"))):
            with pytest.raises(UsageError, match="belongs to another event loop; make a publisher for each loop"):
                await asyncio.to_thread(lambda call=call: asyncio.run(call()))  # type: ignore[misc]  # of the lambda
        await publisher.verify()
