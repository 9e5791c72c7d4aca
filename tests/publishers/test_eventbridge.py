"""`EventBridgePublisher` with the moto server, and with a proxy that fails as AWS documents."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from dynamodb_outbox import ConfigurationError, Event, Reject, TargetError
from dynamodb_outbox.publishers import EventBridgePublisher
from reliability.proxy import CUT_AFTER, Proxy, Recorded, nth, refused
from tests.backends import ENDPOINT, SESSION
from tests.publishers.queues import Queue


@pytest.fixture
async def event_bus(moto_endpoint: str, queue: Queue) -> str:
    """A bus whose events go to the queue."""
    name = f"bus-{uuid4().hex[:8]}"
    arn = f"arn:aws:sqs:us-east-1:123456789012:{queue.url.rpartition('/')[2]}"
    async with SESSION.create_client("events", endpoint_url=moto_endpoint, **ENDPOINT) as client:
        await client.create_event_bus(Name=name)
        pattern = json.dumps({"source": ["shop"]})
        await client.put_rule(Name=f"rule-{name}", EventBusName=name, EventPattern=pattern)
        await client.put_targets(Rule=f"rule-{name}", EventBusName=name, Targets=[{"Id": "1", "Arn": arn}])
    return name


@pytest.fixture
async def publisher(event_bus: str, sqs_proxy: Proxy) -> AsyncIterator[EventBridgePublisher]:
    options: dict[str, Any] = {"region_name": "us-east-1", "endpoint_url": sqs_proxy.endpoint}
    async with EventBridgePublisher(bus_name=event_bus, source="shop", **options) as made:
        yield made


async def publish(publisher: EventBridgePublisher, *events: Event) -> list[Any]:
    return await asyncio.gather(*map(publisher, events), return_exceptions=True)


def fail(codes: dict[str, str]) -> Any:
    """Make a rule that fails the entries whose detail-type has a code."""

    def rule(request: Recorded) -> Any:
        def change(reply: dict[str, Any]) -> dict[str, Any]:
            found = [codes.get(entry["DetailType"]) for entry in request.body["Entries"]]
            results = [
                result if code is None else {"ErrorCode": code, "ErrorMessage": "no"}
                for code, result in zip(found, reply["Entries"], strict=True)
            ]
            return {"FailedEntryCount": sum(code is not None for code in found), "Entries": results}

        return change if request.operation == "PutEvents" else None

    return rule


async def test_the_payload_is_the_detail(publisher: EventBridgePublisher, queue: Queue) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert (
        await publish(publisher, Event("order.placed", {"order": "A-1"}, occurred_at=at), Event("n", 5)) == [None] * 2
    )
    received = {body["detail-type"]: body for body in (json.loads(m["Body"]) for m in await queue.receive_all())}
    assert received["order.placed"]["detail"] == {"order": "A-1"}
    assert received["order.placed"]["source"] == "shop"
    assert received["order.placed"]["time"].startswith("2026-01-02T03:04:05")
    assert received["n"]["detail"] == {"data": 5}


async def test_a_cloudevent_as_the_detail(event_bus: str, moto_endpoint: str, queue: Queue) -> None:
    options: dict[str, Any] = {"region_name": "us-east-1", "endpoint_url": moto_endpoint, "format": "cloudevents"}
    async with EventBridgePublisher(bus_name=event_bus, source="shop", **options) as publisher:
        assert await publish(publisher, Event("a", {"n": 1}, id="e1")) == [None]
    (message,) = await queue.receive_all()
    detail = json.loads(message["Body"])["detail"]
    assert (detail["id"], detail["data"], detail["specversion"]) == ("e1", {"n": 1}, "1.0")


async def test_batches_are_packed_by_count_and_bytes(publisher: EventBridgePublisher, sqs_proxy: Proxy) -> None:
    await publish(publisher, *[Event("a", {"n": n}) for n in range(12)])
    await publish(publisher, *[Event("a", {"x": "x" * 399_000}) for _ in range(3)])
    assert [len(body["Entries"]) for body in sqs_proxy.of("PutEvents")] == [10, 2, 2, 1]


async def test_a_failed_entry_fails_its_own_event_only(publisher: EventBridgePublisher, sqs_proxy: Proxy) -> None:
    sqs_proxy.rule = fail({"bad": "MalformedDetail", "denied": "AccessDeniedException", "busy": "ThrottlingException"})
    results = await publish(publisher, Event("good"), Event("bad"), Event("denied"), Event("busy"), Event("good"))
    assert [type(result) for result in results] == [type(None), Reject, TargetError, TargetError, type(None)]
    assert sqs_proxy.count("PutEvents") == 1


async def test_a_refused_request_rejects_nothing(publisher: EventBridgePublisher, sqs_proxy: Proxy) -> None:
    for action in (refused("AccessDeniedException"), CUT_AFTER):
        sqs_proxy.rule = nth(1, "PutEvents", action)
        assert [type(result) for result in await publish(publisher, Event("a"), Event("b"))] == [TargetError] * 2


async def test_what_eventbridge_never_takes_is_rejected(publisher: EventBridgePublisher, sqs_proxy: Proxy) -> None:
    results = await publish(publisher, Event("t" * 129), Event("a", "\x01" * 200_000))
    assert "129 characters" in results[0].reason
    assert "takes 1,000,000 at most" in results[1].reason
    assert sqs_proxy.requests == []


async def test_verify(publisher: EventBridgePublisher, moto_endpoint: str) -> None:
    await publisher.verify()
    options: dict[str, Any] = {"region_name": "us-east-1", "endpoint_url": moto_endpoint}
    async with EventBridgePublisher(bus_name="missing", source="shop", **options) as missing:
        with pytest.raises(TargetError, match="EventBridge bus 'missing' could not be checked"):
            await missing.verify()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "aws.s3"}, "source='aws.s3'"),
        ({"source": "shop", "bus_name": "a", "bus_arn": "b"}, "pass one of them"),
        ({"source": "shop", "bus_name": ""}, "bus_name='': it must be a name, or None for the default bus"),
        ({"source": "shop", "bus_arn": ""}, "bus_arn='': it must be the ARN of a bus"),
        ({"source": "shop", "bus_arn": "arn:aws:sns:us-east-1:1:orders"}, "must be the ARN of a bus"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        EventBridgePublisher(**options)
