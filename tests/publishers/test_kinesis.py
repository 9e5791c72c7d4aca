"""`KinesisPublisher` with the moto server, and with a proxy that fails as AWS documents."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from dynamodb_outbox import ConfigurationError, Event, Reject, TargetError
from dynamodb_outbox.publishers import KinesisPublisher
from reliability.proxy import CUT_BEFORE, Proxy, Recorded, nth, refused
from tests.backends import ENDPOINT, SESSION


@pytest.fixture
async def kinesis(moto_endpoint: str) -> AsyncIterator[Any]:
    async with SESSION.create_client("kinesis", endpoint_url=moto_endpoint, **ENDPOINT) as client:
        yield client


@pytest.fixture
async def stream(kinesis: Any) -> str:
    name = f"stream-{uuid4().hex[:8]}"
    await kinesis.create_stream(StreamName=name, ShardCount=1)
    return name


@pytest.fixture
async def publisher(stream: str, sqs_proxy: Proxy) -> AsyncIterator[KinesisPublisher]:
    options: dict[str, Any] = {"region_name": "us-east-1", "endpoint_url": sqs_proxy.endpoint}
    async with KinesisPublisher(stream_name=stream, **options) as made:
        yield made


async def publish(publisher: KinesisPublisher, *events: Event) -> list[Any]:
    return await asyncio.gather(*map(publisher, events), return_exceptions=True)


async def records(kinesis: Any, stream: str) -> list[dict[str, Any]]:
    (shard,) = (await kinesis.list_shards(StreamName=stream))["Shards"]
    iterator = await kinesis.get_shard_iterator(
        StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )
    return list((await kinesis.get_records(ShardIterator=iterator["ShardIterator"]))["Records"])


async def test_events_arrive_with_the_ordering_key_as_partition_key(
    publisher: KinesisPublisher, kinesis: Any, stream: str, sqs_proxy: Proxy
) -> None:
    events = [Event("a", 1, ordering_key="k"), Event("a", 2, id="e2"), Event("a", 3, id="ü" * 300)]
    assert await publish(publisher, *events) == [None] * 3
    received = {json.loads(record["Data"])["data"]: record["PartitionKey"] for record in await records(kinesis, stream)}
    assert received.keys() == {1, 2, 3}
    assert (received[1], received[2], len(received[3])) == ("k", "e2", 64)
    assert sqs_proxy.count("PutRecords") == 1


async def test_a_partition_key_of_the_user_and_the_payload_alone(kinesis: Any, stream: str) -> None:
    publisher = KinesisPublisher(
        stream_name=stream, client=kinesis, format="payload", partition_key=lambda event: event.payload["tenant"]
    )
    assert await publish(publisher, Event("a", {"tenant": "t1"})) == [None]
    (record,) = await records(kinesis, stream)
    assert (record["Data"], record["PartitionKey"]) == (b'{"tenant":"t1"}', "t1")


async def test_a_partition_key_that_is_no_text_is_an_error_that_says_so(kinesis: Any, stream: str) -> None:
    publisher = KinesisPublisher(
        stream_name=stream, client=kinesis, partition_key=lambda event: event.payload["tenant"]
    )
    for tenant in (7, ""):
        (result,) = await publish(publisher, Event("a", {"tenant": tenant}))
        assert isinstance(result, ConfigurationError)
        assert str(result) == f"partition_key= must return a string that is not empty, not {tenant!r}"


async def test_a_failed_record_fails_its_own_event_only(publisher: KinesisPublisher, sqs_proxy: Proxy) -> None:
    def rule(request: Recorded) -> Any:
        def change(reply: dict[str, Any]) -> dict[str, Any]:
            reply["Records"][1] = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow down"}
            return {**reply, "FailedRecordCount": 1}

        return change if request.operation == "PutRecords" else None

    sqs_proxy.rule = rule
    results = await publish(publisher, Event("a"), Event("b"), Event("c"))
    assert [type(result) for result in results] == [type(None), TargetError, type(None)]
    assert results[1].code == "ProvisionedThroughputExceededException"


async def test_a_refused_request_rejects_nothing(publisher: KinesisPublisher, sqs_proxy: Proxy) -> None:
    for action in (refused("AccessDeniedException"), CUT_BEFORE):
        sqs_proxy.rule = nth(1, "PutRecords", action)
        assert [type(result) for result in await publish(publisher, Event("a"), Event("b"))] == [TargetError] * 2


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # of aiohttp, which sends it all the same
@pytest.mark.parametrize("code", ["InvalidArgumentException", "ValidationException"])
async def test_a_record_that_is_too_large_for_the_stream_is_rejected(
    publisher: KinesisPublisher, sqs_proxy: Proxy, code: str
) -> None:
    def rule(request: Recorded) -> Any:
        records = request.body.get("Records", [])
        return refused(code, "no") if any(len(record["Data"]) > 1_000_000 for record in records) else None

    sqs_proxy.rule = rule
    # JSON needs six characters for a control character.
    results = await publish(publisher, Event("a", "\x01" * 300_000), Event("b"))
    assert [type(result) for result in results] == [Reject, type(None)]
    assert code in results[0].reason
    sqs_proxy.rule = nth(1, "PutRecords", refused(code))
    assert [type(result) for result in await publish(publisher, Event("a"))] == [TargetError]


async def test_verify(publisher: KinesisPublisher, kinesis: Any) -> None:
    await publisher.verify()
    with pytest.raises(TargetError, match="Kinesis stream 'missing' could not be checked"):
        await KinesisPublisher(stream_name="missing", client=kinesis).verify()


def test_wrong_options() -> None:
    for name in ("", "arn:aws:kinesis:us-east-1:1:stream/orders"):
        with pytest.raises(ConfigurationError, match=f"stream_name='{name}': it must be the name of a stream"):
            KinesisPublisher(stream_name=name)
