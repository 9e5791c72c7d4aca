"""Real engines store what the codec lets through, and return it equal."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynamodb_outbox import DynamoDBOutbox, Event, EventTooLargeError
from dynamodb_outbox.dynamodb.items.codec import DELIVERY_BYTES, MAX_ITEM_BYTES, encode_event
from tests.adapter_timing import with_timing
from tests.backends import open_client, open_tuned_client
from tests.thorough import often
from tests.unit.test_values import nested
from tests.values import payloads_with_decimals, payloads_with_money, same

WEBHOOKS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "github-webhooks.jsonl"


PATIENCE = {"publish": 120.0}
"""Large payloads may keep a backend on a busy machine for longer than a publish takes elsewhere."""


@pytest.fixture(params=["moto", "local"])
def endpoint(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_endpoint"))


@pytest.fixture(params=[open_client, open_tuned_client])
def opened(request: pytest.FixtureRequest, endpoint: str) -> Callable[[], AbstractAsyncContextManager[Any]]:
    """Opens a client, of the SDK's JSON or of ours."""
    return partial(request.param, endpoint)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data(), numbers=st.sampled_from(["native", "decimal"]))
async def test_payloads_come_back_equal(
    opened: Callable[[], AbstractAsyncContextManager[Any]], data: st.DataObject, numbers: Any
) -> None:
    payloads = payloads_with_money if numbers == "native" else payloads_with_decimals
    batch = data.draw(st.lists(payloads, min_size=1, max_size=25))
    async with opened() as client:
        await through_the_table(
            client, "round-trip", [Event("order.placed", payload) for payload in batch], numbers=numbers
        )


async def through_the_table(client: Any, table_name: str, events: list[Event], *, numbers: Any = "native") -> None:
    outbox = with_timing(DynamoDBOutbox(client, table_name=table_name, numbers=numbers), **PATIENCE)
    await outbox.create_table()
    await outbox.publish(events)
    received: dict[str, Event] = {}
    while len(received) < len(events):
        claims = await outbox.claim(25)
        assert claims, "claimed no more, though events are missing"
        received |= {claim.event.id: claim.event for claim in claims}
    for event in events:
        assert same(event.payload, received[event.id].payload, numbers), event.payload
        assert (event.type, event.occurred_at) == (received[event.id].type, received[event.id].occurred_at)


@pytest.mark.skipif(not WEBHOOKS.exists(), reason="the recorded webhooks are not on this machine")
async def test_real_webhooks_go_through_unchanged(
    opened: Callable[[], AbstractAsyncContextManager[Any]], endpoint: str, moto_endpoint: str, table_name: str
) -> None:
    lines = [json.loads(line) for line in WEBHOOKS.read_text().splitlines()]
    assert len(lines) == 197
    async with opened() as client:
        # moto takes a tenth of a second for each of these events.
        chosen = lines[:: often(8, thorough=1)] if endpoint == moto_endpoint else lines
        events = [Event(line["type"], line["payload"]) for line in chosen]
        await through_the_table(client, table_name, events)


async def test_numbers_of_a_connected_outbox_come_back_by_the_mode(local_endpoint: str, table_name: str) -> None:
    async with DynamoDBOutbox.connect(
        table_name=table_name, endpoint_url=local_endpoint, region_name="us-east-1", numbers="decimal"
    ) as outbox:
        await outbox.create_table()
        await outbox.publish([Event("order.placed", [1.0, 0.5, {0.25}])])
        (claim,) = await outbox.claim(1)
    assert repr(claim.event.payload) == "[1, Decimal('0.5'), {Decimal('0.25')}]"


async def test_the_largest_and_the_deepest_event_can_be_delivered(local_client: Any, table_name: str) -> None:
    outbox = with_timing(DynamoDBOutbox(local_client, table_name=table_name), **PATIENCE)
    await outbox.create_table()
    empty = encode_event(Event("order.placed", {"text": ""}), due_at=outbox.options.clock(), numbers="native")[1]
    room = MAX_ITEM_BYTES - DELIVERY_BYTES - empty
    largest = Event("order.placed", {"text": "x" * room})
    with pytest.raises(EventTooLargeError):
        await outbox.publish([Event("order.placed", {"text": "x" * (room + 1)})])
    await outbox.publish([largest, Event("order.placed", nested(31))])
    claims = await outbox.claim(10)
    assert len(claims) == 2
    from dynamodb_outbox.adapter import Failed

    # The error text does not fit: it is cut, and the settle succeeds.
    long_error = Failed(error="€" * 1000, handled_by=frozenset(f"handler-{n}".ljust(250) for n in range(24)))
    assert await outbox.settle([(claim, long_error) for claim in claims]) == [None, None]
    failed = await outbox.failed_events()
    assert {len(event.last_error) for event in failed} == {64, 1000}
    assert {len(event.handled_by) for event in failed} == {24}
