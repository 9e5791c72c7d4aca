"""`SqsPublisher` with the moto server, and with a proxy that fails as AWS documents."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiobotocore.config import AioConfig

from dynamodb_outbox import ConfigurationError, Event, Reject, TargetError
from dynamodb_outbox.publishers import SqsPublisher
from dynamodb_outbox.publishers.aws_client import AwsClient
from reliability.proxy import CUT_AFTER, CUT_BEFORE, Proxy, Reply, nth, refused
from tests.backends import ENDPOINT, SESSION
from tests.publishers.queues import FailingTarget, Queue


async def publish(publisher: SqsPublisher, *events: Event) -> list[Any]:
    return await asyncio.gather(*map(publisher, events), return_exceptions=True)


async def test_an_event_arrives_as_a_cloudevent_with_attributes(publisher: SqsPublisher, queue: Queue) -> None:
    event = Event("order.placed", {"order": "A-1"}, metadata={"traceparent": "00-ab-cd-01", "tracestate": "a=b"})
    assert await publish(publisher, event) == [None]
    (message,) = await queue.receive_all()
    assert json.loads(message["Body"]) == {
        "specversion": "1.0",
        "id": event.id,
        "source": "/shop",
        "type": "order.placed",
        "time": event.occurred_at.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": {"order": "A-1"},
        "traceparent": "00-ab-cd-01",
        "tracestate": "a=b",
    }
    assert {name: value["StringValue"] for name, value in message["MessageAttributes"].items()} == {
        "type": "order.placed",
        "content-type": "application/cloudevents+json",
        "traceparent": "00-ab-cd-01",
        "tracestate": "a=b",
    }
    assert "MessageGroupId" not in message["Attributes"]


async def test_the_payload_alone_has_the_id_as_an_attribute(sqs: Any, queue: Queue) -> None:
    event = Event("order.placed", {"photo": b"\x01"}, id="A-1")
    await SqsPublisher(queue_url=queue.url, client=sqs, format="payload")(event)
    (message,) = await queue.receive_all()
    assert message["Body"] == '{"photo":"AQ=="}'
    assert {name: value["StringValue"] for name, value in message["MessageAttributes"].items()} == {
        "type": "order.placed",
        "content-type": "application/json",
        "id": "A-1",
        "time": event.occurred_at.isoformat(),
    }


async def test_events_of_several_calls_go_in_one_request(
    publisher: SqsPublisher, queue: Queue, sqs_proxy: Proxy
) -> None:
    # An id of an event may be longer, and have other characters, than the id of an entry.
    events = [Event("a", n, id=f"{n}/ä{'x' * 100}") for n in range(12)]
    assert await publish(publisher, *events) == [None] * 12
    assert [len(body["Entries"]) for body in sqs_proxy.of("SendMessageBatch")] == [10, 2]
    assert sorted(await queue.received_ids()) == sorted(event.id for event in events)


async def test_ten_of_the_largest_events_arrive(publisher: SqsPublisher, queue: Queue, sqs_proxy: Proxy) -> None:
    events = [Event("a", "x" * 399_000) for _ in range(10)]
    assert await publish(publisher, *events) == [None] * 10
    assert [len(body["Entries"]) for body in sqs_proxy.of("SendMessageBatch")] == [2] * 5
    assert len(await queue.receive_all()) == 10


async def test_a_failed_entry_fails_its_own_event_only(
    publisher: SqsPublisher, queue: Queue, sqs: Any, sqs_proxy: Proxy
) -> None:
    events = [Event("a", n, id=f"e{n}") for n in range(4)]
    codes = {"e1": "InternalError", "e2": "InvalidMessageContents", "e3": "KmsAccessDenied"}
    sqs_proxy.rule = FailingTarget(sqs, decide=lambda entry: codes.get(json.loads(entry["MessageBody"])["id"]))
    results = await publish(publisher, *events)
    assert [type(result) for result in results] == [type(None), TargetError, Reject, TargetError]
    assert (results[1].code, results[1].maybe_sent) == ("InternalError", False)
    assert "InvalidMessageContents" in results[2].reason
    assert await queue.received_ids() == ["e0"]


async def test_an_entry_without_a_result_fails(publisher: SqsPublisher, sqs_proxy: Proxy) -> None:
    sqs_proxy.rule = lambda request: Reply(200, {"Successful": [{"Id": "0"}]})
    results = await publish(publisher, Event("a"), Event("b"))
    assert [type(result) for result in results] == [type(None), TargetError]


@pytest.mark.parametrize("code", ["BatchRequestTooLong", "InvalidMessageContents"])
async def test_a_request_that_one_entry_spoils_is_sent_one_by_one(
    publisher: SqsPublisher, queue: Queue, sqs_proxy: Proxy, code: str
) -> None:
    def refuse_bad(request: Any) -> Any:
        bodies = [json.loads(entry["MessageBody"]) for entry in request.body.get("Entries", [])]
        return refused(f"com.amazonaws.sqs#{code}", "no") if any(b["id"] == "bad" for b in bodies) else None

    sqs_proxy.rule = refuse_bad
    results = await publish(publisher, Event("a", id="e1"), Event("a", id="bad"), Event("a", id="e2"))
    assert [type(result) for result in results] == [type(None), Reject, type(None)]
    assert code in results[1].reason
    assert sorted(await queue.received_ids()) == ["e1", "e2"]


async def test_entries_of_a_refused_request_do_not_wait_for_each_other(
    publisher: SqsPublisher, sqs_proxy: Proxy
) -> None:
    requests, all_came = 0, asyncio.Event()

    async def wait() -> None:
        await asyncio.wait_for(all_came.wait(), 10)

    def rule(request: Any) -> Any:
        nonlocal requests
        if len(request.body["Entries"]) > 1:
            return refused("com.amazonaws.sqs#BatchRequestTooLong", "no")
        requests += 1
        if requests == 4:
            all_came.set()
        return wait()

    sqs_proxy.rule = rule
    assert await publish(publisher, *(Event("a", id=f"e{number}") for number in range(4))) == [None] * 4


async def test_entries_of_a_refused_request_that_nobody_waits_for_are_not_sent(
    publisher: SqsPublisher, sqs_proxy: Proxy
) -> None:
    alone: list[str] = []
    first_came, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        await go_on.wait()

    def rule(request: Any) -> Any:
        entries = request.body["Entries"]
        if len(entries) > 1:
            return refused("com.amazonaws.sqs#BatchRequestTooLong", "no")
        alone.append(json.loads(entries[0]["MessageBody"])["id"])
        first_came.set()
        return wait()

    sqs_proxy.rule = rule
    publisher._singles = asyncio.Semaphore(1)
    calls = [asyncio.create_task(publisher(Event("a", id=f"e{number}"))) for number in range(4)]
    await first_came.wait()
    for call in calls[1:3]:
        call.cancel()
    await asyncio.wait(calls[1:3])
    go_on.set()
    await asyncio.gather(calls[0], calls[3])
    assert alone == ["e0", "e3"]


async def test_an_event_whose_caller_has_gone_is_not_sent_when_the_client_is_open_at_last(
    publisher: SqsPublisher, sqs_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, go_on = asyncio.Event(), asyncio.Event()
    open_client = AwsClient._open

    async def open_slowly(client: AwsClient) -> Any:
        opening.set()
        await go_on.wait()
        return await open_client(client)

    monkeypatch.setattr(AwsClient, "_open", open_slowly)
    gone, kept = (asyncio.create_task(publisher(Event("a", id=each))) for each in ("gone", "kept"))
    await opening.wait()
    gone.cancel()
    go_on.set()
    await kept
    (request,) = sqs_proxy.requests
    assert [json.loads(entry["MessageBody"])["id"] for entry in request.body["Entries"]] == ["kept"]


@pytest.mark.parametrize(
    ("action", "code", "maybe_sent"),
    [
        (refused("AccessDeniedException", "not authorized"), "AccessDeniedException", False),
        (refused("AWS.SimpleQueueService.NonExistentQueue", "no"), "NonExistentQueue", False),
        (refused("RequestThrottled", "Rate exceeded"), "RequestThrottled", False),
        (refused("ServiceUnavailable", "later", status=503), "ServiceUnavailable", True),
        (CUT_BEFORE, "", True),
        (CUT_AFTER, "", True),
    ],
)
async def test_other_errors_reject_nothing(
    publisher: SqsPublisher, sqs_proxy: Proxy, action: Any, code: str, maybe_sent: bool
) -> None:
    sqs_proxy.rule = nth(1, "SendMessageBatch", action)
    results = await publish(publisher, Event("a"), Event("b"))
    assert [type(result) for result in results] == [TargetError, TargetError]
    assert code in results[0].code
    assert results[0].maybe_sent is maybe_sent
    assert sqs_proxy.count("SendMessageBatch") == 1  # the SDK does not retry
    assert await publish(publisher, Event("a")) == [None]


async def test_a_message_that_is_too_large_is_rejected_before_it_is_sent(
    publisher: SqsPublisher, sqs_proxy: Proxy
) -> None:
    # JSON needs six characters for a control character.
    results = await publish(publisher, Event("a", "\x01" * 390_000), Event("b"))
    assert isinstance(results[0], Reject)
    assert "2,340," in results[0].reason
    assert results[1] is None


async def test_groups_and_deduplication_of_a_fifo_queue(sqs: Any, fifo: Queue) -> None:
    publisher = SqsPublisher(queue_url=fifo.url, client=sqs)
    long_id = "ü" * 200
    await publish(publisher, Event("a", id="e1", ordering_key="order 17"), Event("a", id="e2", ordering_key="k"))
    await publish(publisher, Event("a", id="e3"), Event("a", id=long_id), Event("a", 2, id="e2", ordering_key="k"))
    received = {json.loads(m["Body"])["id"]: m["Attributes"] for m in await fifo.receive_all()}
    assert received.keys() == {"e1", "e2", "e3", long_id}
    assert received["e2"]["MessageGroupId"] == "k"
    assert received["e3"]["MessageGroupId"] == "e3"
    assert received["e3"]["MessageDeduplicationId"] == "e3"
    # A space does not fit, and neither does an id that is too long.
    for attribute in (received["e1"]["MessageGroupId"], received[long_id]["MessageDeduplicationId"]):
        assert len(attribute) == 64
        assert int(attribute, 16)


async def test_two_services_may_send_events_with_one_id_to_a_fifo_queue(sqs: Any, fifo: Queue) -> None:
    for source in ("/shop", "/billing", "/shop"):
        await SqsPublisher(queue_url=fifo.url, client=sqs, source=source)(Event("a", id="A-1"))
    assert [json.loads(message["Body"])["source"] for message in await fifo.receive_all()] == ["/shop", "/billing"]


async def test_an_id_that_looks_like_a_source_and_an_id_is_no_repeat(sqs: Any, fifo: Queue) -> None:
    await SqsPublisher(queue_url=fifo.url, client=sqs, source="shop")(Event("a", id="1"))
    await SqsPublisher(queue_url=fifo.url, client=sqs)(Event("a", id="shop#1"))
    assert await fifo.received_ids() == ["1", "shop#1"]


async def test_attributes_have_no_characters_that_sqs_refuses(sqs_proxy: Proxy, publisher: SqsPublisher) -> None:
    await publish(publisher, Event("a\x00b", id="x\x1fy", metadata={"traceparent": "\ufffe\t%"}))
    (entry,) = sqs_proxy.of("SendMessageBatch")[0]["Entries"]
    texts = {name: value["StringValue"] for name, value in entry["MessageAttributes"].items()}
    assert (texts["type"], texts["traceparent"]) == ("a%00b", "%EF%BF%BE\t%")


async def test_a_group_of_the_user(queue: Queue, sqs_proxy: Proxy) -> None:
    async with SqsPublisher(
        queue_url=queue.url,
        region_name="us-east-1",
        endpoint_url=sqs_proxy.endpoint,
        group=lambda event: event.payload.get("tenant"),
    ) as publisher:
        await publish(publisher, Event("a", {"tenant": "t1"}), Event("a", {}))
    entries = [entry for body in sqs_proxy.of("SendMessageBatch") for entry in body["Entries"]]
    assert [entry.get("MessageGroupId") for entry in entries] == ["t1", None]
    assert not any("MessageDeduplicationId" in entry for entry in entries)


async def test_verify(sqs: Any, queue: Queue, moto_endpoint: str) -> None:
    publisher = SqsPublisher(queue_url=queue.url, client=sqs)
    await publisher.verify()
    await sqs.set_queue_attributes(QueueUrl=queue.url, Attributes={"MaximumMessageSize": "65536"})
    with pytest.raises(ConfigurationError, match="takes messages of 65,536 bytes at most, and 400,000 are needed"):
        await publisher.verify()
    await publisher.verify(max_message_bytes=65_536)
    with pytest.raises(TargetError, match="SQS queue 'missing' could not be checked: NonExistentQueue"):
        await SqsPublisher(queue_url=f"{moto_endpoint}/123456789012/missing", client=sqs).verify()


async def test_a_client_that_cannot_be_opened_is_an_error_of_the_target(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    publisher = SqsPublisher(queue_url=queue.url)
    (result,) = await publish(publisher, Event("a"))
    assert isinstance(result, TargetError)
    assert (result.code, result.maybe_sent) == ("NoRegionError", False)
    with pytest.raises(TargetError, match=r"a region\. Pass region_name=, or set AWS"):
        await publisher.verify()
    (result,) = await publish(SqsPublisher(queue_url=queue.url, region_name="no region"), Event("a"))
    assert (result.code, result.maybe_sent) == ("InvalidRegionError", False)


async def test_a_closed_publisher_opens_again(publisher: SqsPublisher, queue: Queue) -> None:
    await publish(publisher, Event("a"))
    await publisher.close()
    await publish(publisher, Event("b"))
    assert len(await queue.receive_all()) == 2


async def test_a_client_of_the_caller_stays_open(sqs: Any, queue: Queue) -> None:
    async with SqsPublisher(queue_url=queue.url, client=sqs) as publisher:
        await publish(publisher, Event("a"))
    assert len(await queue.receive_all()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queue_url": ""}, "queue_url=''"),
        ({"queue_url": "orders"}, "must be the URL of a queue"),
        ({"queue_url": "arn:aws:sqs:us-east-1:123456789012:orders"}, "must be the URL of a queue"),
        ({"client": object()}, "must be an open aiobotocore client of 'sqs'"),
        ({"linger": -1}, "linger=-1"),
        ({"format": "xml"}, "format='xml'"),
        ({"source": ""}, "source=''"),
        ({"endpoint_url": "http://x", "client": object()}, "pass either client="),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SqsPublisher(**({"queue_url": "http://x/orders"} | options))


async def test_a_group_that_is_no_text_is_an_error_that_says_so(sqs: Any, queue: Queue) -> None:
    for name in (7, ""):
        publisher = SqsPublisher(queue_url=queue.url, client=sqs, group=lambda event, name=name: name)  # type: ignore[misc,return-value,arg-type]  # wrong
        (result,) = await publish(publisher, Event("a"))
        assert isinstance(result, ConfigurationError)
        assert str(result).endswith(f"or a string that is not empty, not {name!r}")
    assert await queue.receive_all() == []


@pytest.mark.parametrize("retries", [None, {"mode": "standard"}, {"mode": "adaptive", "total_max_attempts": 3}])
async def test_a_client_that_retries_by_itself_is_warned_of(
    queue: Queue, sqs: Any, caplog: pytest.LogCaptureFixture, retries: Any
) -> None:
    SqsPublisher(queue_url=queue.url, client=sqs)
    assert caplog.messages == []
    async with SESSION.create_client("sqs", config=AioConfig(retries=retries), **ENDPOINT) as client:
        SqsPublisher(queue_url=queue.url, client=client)
    (line,) = caplog.messages
    assert line.startswith("The client of 'sqs' can be tuned for the outbox")


async def test_a_client_of_another_service_is_refused(moto_client: Any) -> None:
    with pytest.raises(ConfigurationError, match="client of 'sqs'"):
        SqsPublisher(queue_url="http://x/orders", client=moto_client)
