"""Errors that leave open what became of a request say so, also when it was repeated and then refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError

from dynamodb_outbox import (
    CredentialsError,
    Delivery,
    DynamoDBOutbox,
    Event,
    OutboxEventBus,
    PartialPublishError,
    StorageError,
    ThrottledError,
    TransactionCancelledError,
    UnavailableError,
)
from dynamodb_outbox.claims import Claim, EmitClaim
from dynamodb_outbox.dynamodb.delivering.announcements import WORKERS_ID
from dynamodb_outbox.dynamodb.emitting.publish_result import CONCURRENT_REQUESTS
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.transaction import TransactionWrite
from reliability.simulation.client import Client
from reliability.simulation.responses import client_error
from tests.simulated_table import SimulatedService
from tests.virtual_time import VirtualTime, install

TIMEOUT = ReadTimeoutError(endpoint_url="https://dynamodb.test")
WRITE = TransactionWrite(operation="Put", arguments={"TableName": "business", "Item": {"id": "b"}})

ONCE = {"mode": "standard", "total_max_attempts": 1}


def cancelled(code: str) -> ClientError:
    reasons = [{"Code": code, "Message": "no"}, {"Code": "None"}]
    return client_error("TransactionCanceledException", "no", operation="t", CancellationReasons=reasons)


@pytest.fixture
async def time(monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    """A time in which a deadline of ten seconds is over at once."""
    return install(asyncio.get_running_loop(), monkeypatch)


@pytest.fixture
def answering(time: VirtualTime) -> Callable[..., DynamoDBOutbox]:
    """Makes an outbox whose calls are answered with these errors, the last of them again and again."""

    def make(*errors: Exception) -> DynamoDBOutbox:
        left = list(errors)

        async def send(operation: str, parameters: dict[str, Any]) -> Any:
            raise left.pop(0) if len(left) > 1 else left[0]

        client: Any = Client(send)
        return DynamoDBOutbox(client, table_name="events")

    return make


@pytest.mark.parametrize("code", ["ConditionalCheckFailed", "TransactionConflict"])
async def test_transaction_that_is_refused_after_a_lost_response_may_still_be_applied(
    answering: Callable[..., DynamoDBOutbox], code: str
) -> None:
    with pytest.raises(TransactionCancelledError, match="may still be carried out") as caught:
        await answering(TIMEOUT, cancelled(code)).transact([WRITE], [(Event("order.placed"), None)])
    assert caught.value.maybe_applied
    with pytest.raises(TransactionCancelledError, match="nothing of it was written") as caught:
        await answering(cancelled(code)).transact([WRITE], [(Event("order.placed"), None)])
    assert not caught.value.maybe_applied


async def test_throttling_after_a_lost_response_says_that_the_request_may_have_been_applied(
    answering: Callable[..., DynamoDBOutbox],
) -> None:
    throttled = client_error("ThrottlingException", "slow down", operation="t")
    with pytest.raises(ThrottledError, match="may have been applied") as caught:
        await answering(TIMEOUT, throttled).transact([], [(Event("order.placed"), None)])
    assert caught.value.maybe_applied
    with pytest.raises(ThrottledError) as caught:
        await answering(throttled).transact([], [(Event("order.placed"), None)])
    assert not caught.value.maybe_applied


FAILING = {
    "ThrottlingException": (client_error("ThrottlingException", "slow down", operation="put_item"), ThrottledError),
    "no connection": (ConnectTimeoutError(endpoint_url="https://x"), UnavailableError),
    "ExpiredTokenException": (client_error("ExpiredTokenException", "expired", operation="put_item"), CredentialsError),
}


@pytest.mark.parametrize("then", FAILING)
@pytest.mark.parametrize("count", [1, 2])
async def test_events_of_a_write_that_was_not_answered_may_be_stored_whatever_stops_their_repeat(
    answering: Callable[..., DynamoDBOutbox], then: str, count: int
) -> None:
    failing, kind = FAILING[then]
    events = [Event("order.placed") for _ in range(count)]
    causes = await causes_of(answering(TIMEOUT, failing), events)
    assert causes.keys() == {event.id for event in events}
    for cause in causes.values():
        assert isinstance(cause, kind)
        assert cause.maybe_applied
        assert "may have been applied" in str(cause)
    for cause in (await causes_of(answering(failing), [Event("order.placed") for _ in range(count)])).values():
        assert isinstance(cause, kind)
        assert not cause.maybe_applied
        assert "may have been applied" not in str(cause)


@pytest.mark.parametrize(("retries", "is_doubtful"), [({}, True), ({"max_attempts": 4}, True), (ONCE, False)])
async def test_client_that_repeats_by_itself_does_not_know_that_nothing_was_sent(
    answering: Callable[..., DynamoDBOutbox], retries: dict[str, Any], is_doubtful: bool
) -> None:
    outbox = answering(ConnectTimeoutError(endpoint_url="https://x"))
    outbox._client.meta.config.retries = retries
    with pytest.raises(UnavailableError) as caught:
        await outbox.publish([Event("order.placed", id="e")])
    assert caught.value.maybe_applied is is_doubtful


async def test_throttling_that_a_client_repeated_by_itself_may_hide_an_attempt_that_was_applied(
    answering: Callable[..., DynamoDBOutbox],
) -> None:
    throttled = client_error("ThrottlingException", "slow down", operation="t")
    throttled.response["ResponseMetadata"]["RetryAttempts"] = 1
    with pytest.raises(ThrottledError) as caught:
        await answering(throttled).publish([Event("order.placed", id="e")])
    assert caught.value.maybe_applied


async def test_events_that_were_not_sent_are_surely_not_stored(answering: Callable[..., DynamoDBOutbox]) -> None:
    events = [Event("order.placed", id=f"own-{number}") for number in range(CONCURRENT_REQUESTS + 2)]
    causes = await causes_of(answering(TIMEOUT), events)
    sent = [isinstance(cause, UnavailableError) and cause.maybe_applied for cause in causes.values()]
    assert len(causes) == len(events)
    assert sum(sent) == CONCURRENT_REQUESTS


async def test_event_that_may_be_stored_has_its_cause_among_others(
    answering: Callable[..., DynamoDBOutbox],
) -> None:
    expired, _ = FAILING["ExpiredTokenException"]
    certain, doubtful = Event("order.placed", id="certain"), Event("order.placed", id="doubtful")
    causes = await causes_of(answering(expired, TIMEOUT, expired), [certain, doubtful])
    doubts = {event_id: isinstance(cause, StorageError) and cause.maybe_applied for event_id, cause in causes.items()}
    assert doubts == {"certain": False, "doubtful": True}


async def test_transaction_of_a_delivery_that_is_tried_again_makes_the_same_child_and_no_other(
    time: VirtualTime,
) -> None:
    service = SimulatedService(time)
    errors: list[Any] = []
    bus = OutboxEventBus(service.outbox(on_error=errors.append))
    children: Counter[str] = Counter()
    gave_up: list[StorageError] = []

    async def lose(operation: str, parameters: Any) -> None:
        if operation == "transact_write_items" and not gave_up:
            raise TIMEOUT

    service.after = lose

    @bus.on("order.placed")
    async def parent(event: Event, delivery: Delivery) -> None:
        try:
            async with delivery.transaction() as tx:
                tx.emit("child")
        except UnavailableError as error:
            gave_up.append(error)
            async with delivery.transaction() as tx:
                tx.emit("child")

    @bus.on("child")
    async def child(event: Event) -> None:
        children[event.id] += 1

    async with bus:
        parent_event = await bus.emit("order.placed")
        await bus.drain(timeout=300)
    assert [error.maybe_applied for error in gave_up] == [True]
    assert list(children.values()) == [1]
    assert service.backend.tables["events"].items.keys() - {WORKERS_ID} == {parent_event.id, *children}
    assert errors == []


async def causes_of(outbox: DynamoDBOutbox, events: list[Event]) -> Mapping[str, Exception]:
    """Publish what cannot be published; why, by id."""
    try:
        await outbox.publish(events)
    except PartialPublishError as error:
        assert error.failed == events
        return error.causes
    except StorageError as error:
        return dict.fromkeys([event.id for event in events], error)
    raise AssertionError("all is stored")


async def test_batch_that_is_sent_late_has_its_whole_time_to_be_answered(time: VirtualTime) -> None:
    began, sent = time.time(), Counter[str]()

    async def send(operation: str, parameters: dict[str, Any]) -> Any:
        sent[operation] += 1
        if operation == "put_item":
            return {}
        if time.time() - began < Timing().publish - 2.0:
            raise client_error("ThrottlingException", "slow down", operation=operation)
        await asyncio.sleep(Timing().batch_response - 0.1)
        return {"UnprocessedItems": {}}

    client: Any = Client(send)
    await DynamoDBOutbox(client, table_name="events", random=lambda: 0.5).publish(
        [Event("order.placed"), Event("order.placed")]
    )
    # Given up sooner, it could be carried out after its events have gone again, and been claimed.
    assert sent["put_item"] == 0
    assert time.time() - began > Timing().publish + 1.0


async def test_lease_of_a_claim_on_emit_begins_when_its_batch_is_sent(time: VirtualTime) -> None:
    lease, began = 5.0, time.clock()

    async def send(operation: str, parameters: dict[str, Any]) -> Any:
        if time.clock() - began < lease + 1.0:
            raise client_error("ThrottlingException", "slow down", operation=operation)
        return {"UnprocessedItems": {}}

    client: Any = Client(send)
    outbox = DynamoDBOutbox(client, table_name="events", processing_timeout=lease, clock=time.clock, random=lambda: 0.5)
    claims: list[Claim] = []
    events = [Event("order.placed"), Event("order.placed")]
    await outbox.publish(
        events, emit_claim=EmitClaim(tokens={event.id: event.id for event in events}, claimed=claims.append)
    )
    assert [claim.event.id for claim in claims] == [event.id for event in events]
    assert all(claim.lease_expires_at > time.clock() + lease / 2 for claim in claims)
