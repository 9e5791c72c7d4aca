"""`SnsPublisher` with the moto server. It cannot fail single entries: a client around its client does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from aiobotocore.config import AioConfig
from botocore.exceptions import ClientError

from dynamodb_outbox import ConfigurationError, Event, Reject, TargetError
from dynamodb_outbox.publishers import SnsPublisher
from tests.backends import ENDPOINT, SESSION
from tests.publishers.queues import Queue


@pytest.fixture
async def sns(moto_endpoint: str) -> AsyncIterator[Any]:
    config = AioConfig(retries={"mode": "standard", "total_max_attempts": 1})
    async with SESSION.create_client("sns", endpoint_url=moto_endpoint, config=config, **ENDPOINT) as client:
        yield client


async def topic_to(sns: Any, queue: Queue) -> str:
    """Make a topic that passes its messages on to a queue."""
    name = queue.url.rpartition("/")[2]
    attributes = {"FifoTopic": "true"} if name.endswith(".fifo") else {}
    topic: str = (await sns.create_topic(Name=f"topic-{name}", Attributes=attributes))["TopicArn"]
    arn = f"arn:aws:sqs:us-east-1:123456789012:{name}"
    raw = {"RawMessageDelivery": "true"}
    await sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=raw)
    return topic


class FailingClient:
    """Fails entries by the type of the event, and requests if it is told to."""

    def __init__(self, client: Any, *, entries: dict[str, tuple[str, bool]], request: str = "") -> None:
        self.meta = client.meta
        self.calls: list[int] = []
        self._client = client
        self._entries = entries
        self._request = request

    async def publish_batch(self, *, TopicArn: str, PublishBatchRequestEntries: list[dict[str, Any]]) -> Any:  # noqa: N803 - the names of AWS
        self.calls.append(len(PublishBatchRequestEntries))
        types = {each["Id"]: each["MessageAttributes"]["type"]["StringValue"] for each in PublishBatchRequestEntries}
        bad = {n: self._entries[name] for n, name in types.items() if name in self._entries}
        if bad and self._request:
            raise ClientError({"Error": {"Code": self._request, "Message": "no"}}, "PublishBatch")
        good = [entry for entry in PublishBatchRequestEntries if entry["Id"] not in bad]
        reply = await self._client.publish_batch(TopicArn=TopicArn, PublishBatchRequestEntries=good)
        failed = [{"Id": n, "Code": code, "SenderFault": sender} for n, (code, sender) in bad.items()]
        return {"Successful": reply["Successful"], "Failed": failed}


async def publish(publisher: SnsPublisher, *events: Event) -> list[Any]:
    return await asyncio.gather(*map(publisher, events), return_exceptions=True)


async def test_events_arrive_as_cloudevents_in_batches(sns: Any, queue: Queue) -> None:
    publisher = SnsPublisher(topic_arn=await topic_to(sns, queue), client=sns, source="/shop")
    events = [Event("order.placed", {"n": n}, metadata={"traceparent": "00-ab-cd-01"}) for n in range(12)]
    assert await publish(publisher, *events) == [None] * 12
    messages = await queue.receive_all()
    bodies = [json.loads(message["Body"]) for message in messages]
    assert sorted(body["id"] for body in bodies) == sorted(event.id for event in events)
    assert {body["source"] for body in bodies} == {"/shop"}
    assert {name: value["StringValue"] for name, value in messages[0]["MessageAttributes"].items()} == {
        "type": "order.placed",
        "content-type": "application/cloudevents+json",
        "traceparent": "00-ab-cd-01",
    }


async def test_a_fifo_topic_gets_the_ordering_key_as_group_and_removes_repeats(sns: Any, fifo: Queue) -> None:
    topic = await topic_to(sns, fifo)
    publisher = SnsPublisher(topic_arn=topic, client=sns)
    event = Event("a", 1, ordering_key="order-17")
    assert await publish(publisher, event, Event("a", 2)) == [None, None]
    assert await publish(publisher, event) == [None]
    groups = {json.loads(m["Body"])["data"]: m["Attributes"].get("MessageGroupId") for m in await fifo.receive_all()}
    assert groups.keys() == {1, 2}
    assert groups[1] == "order-17"


async def test_a_failed_entry_fails_its_own_event_only(sns: Any, queue: Queue) -> None:
    entries = {"bad": ("InvalidParameter", True), "kms": ("KMSAccessDenied", True), "busy": ("InvalidParameter", False)}
    client = FailingClient(sns, entries=entries)
    publisher = SnsPublisher(topic_arn=await topic_to(sns, queue), client=client)
    results = await publish(publisher, Event("good"), Event("bad"), Event("kms"), Event("busy"))
    assert [type(result) for result in results] == [type(None), Reject, TargetError, TargetError]
    assert client.calls == [4]
    assert len(await queue.receive_all()) == 1


@pytest.mark.parametrize(
    ("code", "calls", "last"),
    [
        ("BatchRequestTooLong", [2, 1, 1], Reject),
        # May be the fault of the ARN, and not of the event: its neighbour arrives, and the event is retried.
        ("InvalidParameter", [2, 1, 1], TargetError),
        ("AuthorizationError", [2], TargetError),
    ],
)
async def test_refused_requests(sns: Any, queue: Queue, code: str, calls: list[int], last: type) -> None:
    client = FailingClient(sns, entries={"bad": ("", True)}, request=code)
    publisher = SnsPublisher(topic_arn=await topic_to(sns, queue), client=client)
    results = await publish(publisher, Event("good"), Event("bad"))
    assert client.calls == calls
    assert type(results[1]) is last
    assert (results[0] is None) is (len(calls) > 1)


async def test_large_events_go_in_requests_that_every_topic_takes(sns: Any, queue: Queue) -> None:
    client = FailingClient(sns, entries={})
    publisher = SnsPublisher(topic_arn=await topic_to(sns, queue), client=client)
    assert await publish(publisher, *[Event("a", "x" * 100_000) for _ in range(5)]) == [None] * 5
    assert client.calls == [2, 2, 1]


@pytest.mark.parametrize(("size", "names_the_limit"), [(100_000, False), (300_000, True)])
async def test_an_event_that_is_too_large_for_most_topics_says_what_to_raise(
    sns: Any, queue: Queue, size: int, *, names_the_limit: bool
) -> None:
    client = FailingClient(sns, entries={"large": ("InvalidParameter", True)})
    publisher = SnsPublisher(topic_arn=await topic_to(sns, queue), client=client)
    (result,) = await publish(publisher, Event("large", "x" * size))
    assert isinstance(result, Reject)
    assert ("a topic takes 262,144 unless you raise its MaximumMessageSize" in result.reason) is names_the_limit


async def test_verify(sns: Any) -> None:
    topic = (await sns.create_topic(Name=f"t-{uuid4().hex[:8]}"))["TopicArn"]
    publisher = SnsPublisher(topic_arn=topic, client=sns)
    await publisher.verify()
    with pytest.raises(ConfigurationError, match="takes messages of 262,144 bytes at most, and 400,000 are needed"):
        await publisher.verify(max_message_bytes=400_000)
    with pytest.raises(TargetError, match="SNS topic 'missing' could not be checked"):
        await SnsPublisher(topic_arn=topic.rpartition(":")[0] + ":missing", client=sns).verify()


async def test_its_own_client_is_closed(sns: Any, queue: Queue, moto_endpoint: str) -> None:
    topic = await topic_to(sns, queue)
    async with SnsPublisher(topic_arn=topic, region_name="us-east-1", endpoint_url=moto_endpoint) as publisher:
        assert await publish(publisher, Event("a")) == [None]


def test_wrong_options() -> None:
    for topic_arn in ("", "orders", "arn:aws:sqs:us-east-1:123456789012:orders"):
        with pytest.raises(ConfigurationError, match=f"topic_arn='{topic_arn}': it must be the ARN of a topic"):
            SnsPublisher(topic_arn=topic_arn)
    SnsPublisher(topic_arn="arn:aws-cn:sns:cn-north-1:123456789012:orders")
