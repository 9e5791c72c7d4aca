"""`FastStreamPublisher` with a real NATS server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from faststream.nats import NatsBroker
from nats.js import JetStreamContext

from dynamodb_outbox import ConfigurationError, Event, Reject, TargetError
from dynamodb_outbox.publishers import FastStreamPublisher
from tests.publishers.crashes import Watched, a_bus, survives_a_crash
from tests.publishers.servers import MAX_MESSAGE_BYTES, NatsServer


@pytest.fixture
async def broker(nats_server: NatsServer) -> AsyncIterator[NatsBroker]:
    url = f"nats://{nats_server.address}"
    async with NatsBroker(url, reconnect_time_wait=0, max_reconnect_attempts=-1, logger=None) as broker:
        yield broker


@pytest.fixture
def jetstream(broker: NatsBroker) -> JetStreamContext:
    return broker.connection.jetstream()


@pytest.fixture
async def stream(jetstream: JetStreamContext) -> str:
    """A stream whose subjects begin with its name."""
    name = f"s{uuid4().hex[:8]}"
    await jetstream.add_stream(name=name, subjects=[f"{name}.*"])
    return name


async def stored(jetstream: JetStreamContext, stream: str) -> list[Any]:
    count = (await jetstream.stream_info(stream)).state.messages
    return [await jetstream.get_msg(stream, n + 1) for n in range(count)]


async def stored_ids(jetstream: JetStreamContext, stream: str) -> list[str]:
    return [json.loads(message.data)["id"] for message in await stored(jetstream, stream)]


async def test_an_event_is_stored_with_headers(broker: NatsBroker, jetstream: JetStreamContext, stream: str) -> None:
    publisher = FastStreamPublisher(broker, stream=stream, destination=lambda e: f"{stream}.{e.type}", source="/shop")
    event = Event("placed", {"order": "A-1"}, id="e 1", metadata={"traceparent": "00-ab-cd-01"})
    await publisher(event)
    (message,) = await stored(jetstream, stream)
    assert message.subject == f"{stream}.placed"
    assert json.loads(message.data)["data"] == {"order": "A-1"}
    assert message.headers == {
        "Nats-Expected-Stream": stream,
        "Nats-Msg-Id": f"%2Fshop/e%201/{stream}.placed",
        "message_id": "e%201",
        "correlation_id": "e%201",
        "type": "placed",
        "content-type": "application/cloudevents+json",
        "traceparent": "00-ab-cd-01",
    }


async def test_a_repeat_is_stored_once_and_other_subjects_and_sources_get_theirs(
    broker: NatsBroker, jetstream: JetStreamContext, stream: str
) -> None:
    event = Event("order.placed", id="e1")
    for subject, source in (("a", "/shop"), ("a", "/shop"), ("b", "/shop"), ("a", "/bank")):
        await FastStreamPublisher(broker, stream=stream, destination=f"{stream}.{subject}", source=source)(event)
    assert [message.subject[-1] for message in await stored(jetstream, stream)] == ["a", "b", "a"]


@pytest.mark.parametrize("existing", [True, False])
async def test_a_missing_stream_completes_nothing_and_events_arrive_later(
    broker: NatsBroker, jetstream: JetStreamContext, stream: str, existing: bool
) -> None:
    # The subject has no stream, or is one of another stream.
    missing = f"m{uuid4().hex[:8]}"
    subject = f"{stream}.orders" if existing else f"{missing}.orders"
    publisher = Watched(FastStreamPublisher(broker, stream=missing, destination=subject))
    bus = a_bus(publisher, lambda error: None)
    async with bus:
        event = await bus.emit("order.placed")
        await publisher.until(lambda: len(publisher.failed) > 1)
        assert not publisher.confirmed
        assert publisher.failed[0].maybe_sent is False
        if existing:
            await jetstream.delete_stream(stream)
        await jetstream.add_stream(name=missing, subjects=[subject])
        await bus.drain(60)
    assert event is not None
    assert await stored_ids(jetstream, missing) == [event.id]


def sized(stream: str, size: int) -> Event:
    return Event("order.placed", "x" * size, id=f"{size:08}")


async def test_an_event_that_nats_never_takes_is_rejected_and_its_neighbours_arrive(
    broker: NatsBroker, jetstream: JetStreamContext, stream: str
) -> None:
    publisher = FastStreamPublisher(broker, stream=stream, destination=f"{stream}.orders", timeout=60)
    bus = a_bus(publisher, lambda error: None)
    async with bus:
        good = await bus.emit_many([Event("order.placed", {"n": n}) for n in range(5)])
        bad = await bus.emit("order.placed", "x" * MAX_MESSAGE_BYTES)
        await bus.drain(60)
    (failed,) = await bus.get_failed_events()
    assert bad is not None
    assert failed.id == bad.id
    assert f"NATS takes {MAX_MESSAGE_BYTES:,} at most" in failed.last_error
    assert failed.retry_count == 0
    assert sorted(await stored_ids(jetstream, stream)) == sorted(event.id for event in good)


async def test_headers_count(broker: NatsBroker, jetstream: JetStreamContext, stream: str) -> None:
    publisher = FastStreamPublisher(broker, stream=stream, destination=f"{stream}.orders", timeout=60)
    with pytest.raises(Reject) as raised:
        await publisher(sized(stream, MAX_MESSAGE_BYTES))
    too_many = int(raised.value.reason.split()[3].replace(",", "")) - MAX_MESSAGE_BYTES
    # The largest one that fits. A byte more would make the server close the connection.
    await publisher(sized(stream, MAX_MESSAGE_BYTES - too_many))
    with pytest.raises(Reject):
        await publisher(sized(stream, MAX_MESSAGE_BYTES - too_many + 1))
    assert len(await stored(jetstream, stream)) == 1


async def test_an_event_that_is_too_large_for_its_stream_is_rejected(
    broker: NatsBroker, jetstream: JetStreamContext
) -> None:
    name = f"s{uuid4().hex[:8]}"
    await jetstream.add_stream(name=name, subjects=[name], max_msg_size=1000)
    publisher = FastStreamPublisher(broker, stream=name, destination=name)
    with pytest.raises(Reject, match="message size exceeds maximum allowed"):
        await publisher(sized(name, 1000))
    await publisher(Event("order.placed"))


async def test_a_full_stream_refuses_and_nothing_is_rejected(broker: NatsBroker, jetstream: JetStreamContext) -> None:
    from nats.js.api import DiscardPolicy

    name = f"s{uuid4().hex[:8]}"
    await jetstream.add_stream(name=name, subjects=[name], max_msgs=1, discard=DiscardPolicy.NEW)
    publisher = FastStreamPublisher(broker, stream=name, destination=name)
    await publisher(Event("order.placed"))
    with pytest.raises(TargetError, match="maximum messages exceeded") as raised:
        await publisher(Event("order.placed"))
    assert raised.value.maybe_sent is False


async def test_every_event_arrives_though_the_server_is_killed(
    nats_server: NatsServer, broker: NatsBroker, jetstream: JetStreamContext, stream: str
) -> None:
    publisher = FastStreamPublisher(broker, stream=stream, destination=f"{stream}.orders", timeout=0.3)
    emitted = await survives_a_crash(nats_server, publisher)
    # Repeats of what may have been sent are recognised, also by the server that was started again.
    assert sorted(await stored_ids(jetstream, stream)) == sorted(emitted)


async def test_a_server_that_does_not_answer_is_an_error_of_the_target(
    nats_server: NatsServer, broker: NatsBroker, stream: str
) -> None:
    publisher = FastStreamPublisher(broker, stream=stream, destination=f"{stream}.orders", timeout=0.8)
    patient = FastStreamPublisher(broker, stream=stream, destination=f"{stream}.orders", timeout=60)
    await publisher(Event("order.placed"))
    with nats_server.paused():
        # FastStream itself would give up after half a second.
        waiting = asyncio.ensure_future(patient(Event("order.placed")))
        with pytest.raises(TargetError, match=r"no confirmation within 0\.8 s") as raised:
            await publisher(Event("order.placed"))
        assert not waiting.done()
    await waiting
    assert raised.value.maybe_sent is True


async def test_verify_finds_a_stream_that_does_not_fit(
    broker: NatsBroker, jetstream: JetStreamContext, stream: str
) -> None:
    other = f"{stream}-other"
    await jetstream.add_stream(name=other, subjects=[f"{other}.*"])

    async def verify(name: str, destination: Any) -> None:
        await FastStreamPublisher(broker, stream=name, destination=destination).verify()

    await verify(stream, f"{stream}.orders")
    await verify("missing", lambda event: event.type)  # nothing is known but the server
    with pytest.raises(TargetError, match="NatsBroker 'orders' could not be checked: NotFoundError"):
        await verify("missing", "orders")
    with pytest.raises(ConfigurationError, match="does not have the subject 'orders', and no stream has it; add it"):
        await verify(stream, "orders")
    with pytest.raises(ConfigurationError, match=f"the subject '{other}.x', and stream '{other}' has it; add it"):
        await verify(stream, f"{other}.x")


async def test_verify_of_a_server_that_does_not_answer(
    nats_server: NatsServer, broker: NatsBroker, stream: str
) -> None:
    publisher = FastStreamPublisher(broker, stream=stream, destination=f"{stream}.orders", timeout=0.5)
    with nats_server.paused(), pytest.raises(TargetError, match=r"could not be checked.* no answer within 0\.5 s"):
        await publisher.verify()
