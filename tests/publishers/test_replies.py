"""Replies that AWS never documents: what is not certainly accepted is not completed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from dynamodb_outbox import Event, TargetError
from dynamodb_outbox.publishers import EventBridgePublisher, KinesisPublisher, SqsPublisher
from reliability.proxy import Proxy, Recorded, Reply, running_proxy

MADE: dict[str, Callable[..., SqsPublisher | KinesisPublisher | EventBridgePublisher]] = {
    "sqs": lambda **options: SqsPublisher(queue_url="http://x/orders", **options),
    "kinesis": lambda **options: KinesisPublisher(stream_name="orders", **options),
    "eventbridge": lambda **options: EventBridgePublisher(source="shop", **options),
}


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """Answers everything by itself: there is nothing behind it."""
    async with running_proxy("http://127.0.0.1:1") as made:
        yield made


async def publish(name: str, proxy: Proxy, *events: Event, **options: Any) -> list[Any]:
    async with MADE[name](region_name="us-east-1", endpoint_url=proxy.endpoint, **options) as publisher:
        return await asyncio.gather(*[publisher(event) for event in events], return_exceptions=True)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("sqs", {"Successful": [{"Id": "0"}, {"Id": "1"}], "Failed": [{"Id": "0", "Code": "InternalError"}]}),
        ("sqs", {"Successful": [{"Id": "1"}, {"Id": "1"}, {"Id": "7"}, {}]}),
        ("kinesis", {"Records": [{}, {"SequenceNumber": "1", "ShardId": "s"}]}),
        ("eventbridge", {"Entries": [{"ErrorMessage": "no"}, {"EventId": "e"}]}),
    ],
)
async def test_an_event_whose_result_is_not_certain_is_not_completed(
    name: str, body: dict[str, Any], proxy: Proxy
) -> None:
    proxy.rule = lambda request: Reply(200, body)
    uncertain, sent = await publish(name, proxy, Event("a"), Event("b"))
    assert isinstance(uncertain, TargetError)
    assert uncertain.maybe_sent is True
    assert sent is None


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff", b'{"Records": [{"SequenceNumber": "1"}]}'])
async def test_a_reply_that_cannot_be_read_completes_nothing(name: str, body: bytes, proxy: Proxy) -> None:
    proxy.rule = lambda request: Reply(200, body)
    results = await publish(name, proxy, Event("a"), Event("b"))
    assert [(type(result), result.maybe_sent) for result in results] == [(TargetError, True)] * 2


def kinesis_takes(request: Recorded) -> Reply:
    return Reply(200, {"Records": [{"SequenceNumber": "1", "ShardId": "s"}] * len(request.body["Records"])})


async def test_a_request_that_is_too_large_is_sent_one_by_one(proxy: Proxy) -> None:
    def rule(request: Recorded) -> Reply:
        too_large = sum(len(record["Data"]) for record in request.body["Records"]) > 1000
        return Reply(413, b"<html>too large</html>") if too_large else kinesis_takes(request)

    proxy.rule = rule
    large, *small = await publish("kinesis", proxy, Event("a", "x" * 1000), Event("b"), Event("c"))
    assert isinstance(large, TargetError)
    assert small == [None, None]
