"""Closing a publisher: while it sends, and while others use it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import ClientSession

from dynamodb_outbox import Event
from dynamodb_outbox.publishers import SqsPublisher
from reliability.proxy import Recorded, Reply, running_proxy


@dataclass
class SlowTarget:
    """Answers a request once a test lets it."""

    endpoint: str = ""
    came: list[Recorded] = field(default_factory=list[Recorded])
    answers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    has_come: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def answer(self, request: Recorded) -> Reply:
        async with self.has_come:
            self.came.append(request)
            self.has_come.notify_all()
        await self.answers.acquire()
        return Reply(200, {"Successful": [{"Id": entry["Id"]} for entry in request.body["Entries"]]})

    async def until(self, requests: int) -> None:
        async with self.has_come:
            await self.has_come.wait_for(lambda: len(self.came) == requests)


@pytest.fixture
async def target() -> AsyncIterator[SlowTarget]:
    async with running_proxy("http://127.0.0.1:1") as proxy:
        target = SlowTarget(proxy.endpoint)
        proxy.rule = target.answer
        yield target


def open_sessions() -> set[ClientSession]:
    return {each for each in gc.get_objects() if isinstance(each, ClientSession) and not each.closed}


def a_publisher(endpoint: str) -> SqsPublisher:
    return SqsPublisher(queue_url=f"{endpoint}/orders", region_name="us-east-1", endpoint_url=endpoint)


async def test_a_close_that_is_given_up_leaves_no_client_open_and_loses_nothing(target: SlowTarget) -> None:
    before = open_sessions()
    publisher = a_publisher(target.endpoint)
    sending = asyncio.ensure_future(publisher(Event("a")))
    await target.until(1)
    closing = asyncio.ensure_future(publisher.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    target.answers.release()
    await sending
    while open_sessions() != before:
        await asyncio.sleep(0.001)


async def test_a_close_waits_for_earlier_events_only_and_breaks_no_later_one(target: SlowTarget) -> None:
    publisher = a_publisher(target.endpoint)
    first = asyncio.ensure_future(publisher(Event("a")))
    await target.until(1)
    closing = asyncio.ensure_future(publisher.close())
    second = asyncio.ensure_future(publisher(Event("b")))  # of another bus
    await target.until(2)
    target.answers.release()
    await asyncio.gather(first, closing)
    assert not second.done()
    target.answers.release()
    await second
    await publisher.close()


async def test_a_close_waits_for_events_that_wait_for_their_turn(target: SlowTarget) -> None:
    before = open_sessions()
    publisher = a_publisher(target.endpoint)
    sending = [asyncio.ensure_future(publisher(Event("a"))) for _ in range(105)]
    await target.until(10)  # as many as may be under way at a time
    closing = asyncio.ensure_future(publisher.close())
    for _ in range(11):
        target.answers.release()
    await closing
    assert [call.done() for call in sending] == [True] * 105
    assert open_sessions() == before
