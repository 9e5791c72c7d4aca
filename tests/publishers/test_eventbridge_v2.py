"""`EventBridgePublisher` with a custom event bus. No emulator has one: the target answers as the service model says."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiobotocore.session import AioSession
from aiohttp import web

from dynamodb_outbox import ConfigurationError, Event, Reject, TargetError
from dynamodb_outbox.publishers import EventBridgePublisher

ARN = "arn:aws:events:us-east-1:123456789012:event-busv2/orders/" + "a" * 25
HAS_CLIENT = "eventbridgev2" in AioSession().get_available_services()
needs_client = pytest.mark.skipif(not HAS_CLIENT, reason="aiobotocore has the client of custom buses from 3.10 on")


def cbor(value: Any) -> bytes:
    """Write texts, numbers, lists and maps in CBOR (RFC 8949), the format of the service."""
    if isinstance(value, str):
        return _head(3, len(value.encode())) + value.encode()
    if isinstance(value, int):
        return _head(0, value)
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(map(cbor, value))
    return _head(5, len(value)) + b"".join(cbor(each) for pair in value.items() for each in pair)


def _head(kind: int, number: int) -> bytes:
    return bytes([kind << 5 | number]) if number < 24 else struct.pack(">BH", kind << 5 | 25, number)


@dataclass
class Target:
    """Answers with what `replies` has, one after the other; then as if each entry had been published."""

    endpoint: str = ""
    requests: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])
    replies: list[tuple[int, dict[str, Any]]] = field(default_factory=list[tuple[int, dict[str, Any]]])

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append((request.path.rpartition("/")[2], body))
        count = body.count(b"DetailType")
        published = {"FailedEntryCount": 0, "Entries": [{"EventId": "e", "SuccessCode": "PUBLISHED"}] * count}
        status, reply = self.replies.pop(0) if self.replies else (200, published)
        headers = {"smithy-protocol": "rpc-v2-cbor", "content-type": "application/cbor"}
        return web.Response(body=cbor(reply), status=status, headers=headers)


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    made = Target()
    application = web.Application(client_max_size=2 << 20)
    application.router.add_post("/{path:.*}", made.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def publisher(target: Target) -> AsyncIterator[EventBridgePublisher]:
    options: dict[str, Any] = {"region_name": "us-east-1", "endpoint_url": target.endpoint}
    async with EventBridgePublisher(bus_arn=ARN, source="shop", **options) as made:
        yield made


async def publish(publisher: EventBridgePublisher, *events: Event) -> list[Any]:
    return await asyncio.gather(*map(publisher, events), return_exceptions=True)


@needs_client
async def test_event_has_its_id_and_its_key_as_deduplication_and_group_id(
    publisher: EventBridgePublisher, target: Target
) -> None:
    assert await publish(publisher, Event("order.placed", {"total": 5}, id="placed-A-1", ordering_key="A-1")) == [None]
    ((operation, body),) = target.requests
    assert operation == "PutEvents"
    for text in (ARN, "shop", "order.placed", '{"total":5}', "placed-A-1", "A-1"):
        assert text.encode() in body
    for name in ("EventBusArn", "DeduplicationId", "EventGroupId"):
        assert cbor(name) in body


@needs_client
async def test_a_request_has_a_hundred_entries_and_a_million_bytes_at_most(
    publisher: EventBridgePublisher, target: Target
) -> None:
    await publish(publisher, *[Event("a", {"n": n}) for n in range(150)])
    await publish(publisher, *[Event("a", {"x": "x" * 399_000}) for _ in range(3)])
    assert [body.count(b"DetailType") for _, body in target.requests] == [100, 50, 2, 1]


@needs_client
async def test_each_event_gets_the_result_of_its_own_entry(publisher: EventBridgePublisher, target: Target) -> None:
    entries = [
        {"EventId": "1", "SuccessCode": "DEDUPLICATED"},
        {"ErrorCode": "InvalidInputException", "ErrorMessage": "no"},
        {"ErrorCode": "ThrottlingException", "ErrorMessage": "later"},
        {},
    ]
    target.replies = [(200, {"FailedEntryCount": 3, "Entries": entries})]
    results = await publish(publisher, Event("a"), Event("b"), Event("c"), Event("d"))
    assert [type(result) for result in results] == [type(None), Reject, TargetError, TargetError]
    assert results[3].code == "Unknown"  # the reply does not say that it was published


@needs_client
async def test_refused_requests_reject_nothing_and_an_invalid_one_is_sent_entry_by_entry(
    publisher: EventBridgePublisher, target: Target
) -> None:
    denied = {"__type": "com.amazonaws.eventbridgev2#AccessDeniedException", "message": "no"}
    invalid = {"__type": "com.amazonaws.eventbridgev2#InvalidInputException", "message": "one is too large"}
    target.replies = [(400, denied)]
    assert [type(result) for result in await publish(publisher, Event("a"), Event("b"))] == [TargetError] * 2
    target.replies = [(400, invalid), (400, invalid)]
    results = await publish(publisher, Event("a"), Event("b"))
    assert [type(result) for result in results] == [TargetError, type(None)]
    assert len(target.requests) == 1 + 3


@needs_client
async def test_verify_asks_for_the_bus(publisher: EventBridgePublisher, target: Target) -> None:
    target.replies = [(200, {"Name": "orders"})]
    await publisher.verify()
    missing = {"__type": "com.amazonaws.eventbridgev2#ResourceNotFoundException", "message": "there is no such bus"}
    target.replies = [(404, missing)]
    with pytest.raises(TargetError, match="there is no such bus"):
        await publisher.verify()
    assert [operation for operation, _ in target.requests] == ["DescribeEventBus"] * 2


@pytest.mark.skipif(HAS_CLIENT, reason="this aiobotocore has the client")
def test_an_aiobotocore_without_the_client_is_told_before_the_first_event() -> None:
    with pytest.raises(ConfigurationError, match="no client of 'eventbridgev2'; install a newer version"):
        EventBridgePublisher(bus_arn=ARN, source="shop")


async def test_the_client_of_a_classic_bus_is_refused(moto_endpoint: str) -> None:
    options = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    async with AioSession().create_client("events", endpoint_url=moto_endpoint, **options) as client:
        with pytest.raises(ConfigurationError, match="client of 'eventbridgev2'"):
            EventBridgePublisher(bus_arn=ARN, source="shop", client=client)
