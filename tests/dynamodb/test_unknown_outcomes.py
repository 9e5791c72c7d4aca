"""Errors that leave open what became of a request say so, also when it was repeated and then refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError

from dynamodb_outbox import (
    DynamoDBOutbox,
    Event,
    PartialPublishError,
    ThrottledError,
    TransactionCancelledError,
    UnavailableError,
)
from dynamodb_outbox.dynamodb.publish import PUBLISH_SECONDS
from dynamodb_outbox.transaction import TransactionWrite
from reliability.simulation.client import Client
from reliability.simulation.replies import client_error
from tests.virtual_time import install

TIMEOUT = ReadTimeoutError(endpoint_url="https://dynamodb.test")
WRITE = TransactionWrite(operation="Put", arguments={"TableName": "business", "Item": {"id": "b"}})


def cancelled(code: str) -> ClientError:
    reasons = [{"Code": code, "Message": "no"}, {"Code": "None"}]
    return client_error("TransactionCanceledException", "no", operation="t", CancellationReasons=reasons)


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[..., DynamoDBOutbox]:
    """Makes an outbox whose calls are answered with these errors, the last of them again and again."""
    # The deadline of a transaction, which is ten seconds.
    monkeypatch.setattr("dynamodb_outbox.dynamodb.transact.TRANSACT_SECONDS", 0.5)
    monkeypatch.setattr("dynamodb_outbox.dynamodb.publish.PUBLISH_SECONDS", 0.5)

    def make(*errors: Exception) -> DynamoDBOutbox:
        left = list(errors)

        async def send(operation: str, parameters: dict[str, Any]) -> Any:
            raise left.pop(0) if len(left) > 1 else left[0]

        client: Any = Client(send)
        return DynamoDBOutbox(client, table_name="events")

    return make


@pytest.mark.parametrize("code", ["ConditionalCheckFailed", "TransactionConflict"])
async def test_transaction_that_is_refused_after_a_lost_reply_may_still_be_carried_out(
    answering: Callable[..., DynamoDBOutbox], code: str
) -> None:
    with pytest.raises(TransactionCancelledError, match="may still be carried out") as caught:
        await answering(TIMEOUT, cancelled(code)).transact([WRITE], [(Event("t"), None)])
    assert caught.value.maybe_applied
    with pytest.raises(TransactionCancelledError, match="nothing of it was written") as caught:
        await answering(cancelled(code)).transact([WRITE], [(Event("t"), None)])
    assert not caught.value.maybe_applied


async def test_throttling_after_a_lost_reply_says_that_the_request_may_have_been_applied(
    answering: Callable[..., DynamoDBOutbox],
) -> None:
    throttled = client_error("ThrottlingException", "slow down", operation="t")
    with pytest.raises(ThrottledError, match="may have been applied all the same") as caught:
        await answering(TIMEOUT, throttled).transact([], [(Event("t"), None)])
    assert caught.value.maybe_applied
    with pytest.raises(ThrottledError) as caught:
        await answering(throttled).transact([], [(Event("t"), None)])
    assert not caught.value.maybe_applied


@pytest.mark.parametrize("then", ["ThrottlingException", "no connection"])
async def test_events_of_a_batch_that_was_not_answered_may_be_stored_whatever_stops_their_repeat(
    answering: Callable[..., DynamoDBOutbox], then: str
) -> None:
    unsent = ConnectTimeoutError(endpoint_url="https://x")
    failing = unsent if then == "no connection" else client_error(then, "slow down", operation="put_item")
    events = [Event("t"), Event("t")]
    with pytest.raises(PartialPublishError) as caught:
        await answering(TIMEOUT, failing).publish(events)
    kind = UnavailableError if then == "no connection" else ThrottledError
    assert caught.value.failed == events
    for cause in caught.value.causes.values():
        assert isinstance(cause, kind)
        assert cause.maybe_applied
        assert "may have been applied all the same" in str(cause)
    with pytest.raises(PartialPublishError) as caught:
        await answering(failing).publish([Event("t"), Event("t")])
    assert not any(cause.maybe_applied for cause in caught.value.causes.values() if isinstance(cause, kind))


async def test_batch_that_is_sent_late_has_its_whole_time_to_be_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    time = install(asyncio.get_running_loop(), monkeypatch)
    began, sent = time.time(), Counter[str]()

    async def send(operation: str, parameters: dict[str, Any]) -> Any:
        sent[operation] += 1
        if operation == "put_item":
            return {}
        if time.time() - began < PUBLISH_SECONDS - 2.0:
            raise client_error("ThrottlingException", "slow down", operation=operation)
        await asyncio.sleep(PUBLISH_SECONDS / 2 - 0.1)
        return {"UnprocessedItems": {}}

    client: Any = Client(send)
    await DynamoDBOutbox(client, table_name="events", random=lambda: 0.5).publish([Event("t"), Event("t")])
    # Given up sooner, it could be carried out after its events have gone again, and been claimed.
    assert sent["put_item"] == 0
    assert time.time() - began > PUBLISH_SECONDS + 1.0
