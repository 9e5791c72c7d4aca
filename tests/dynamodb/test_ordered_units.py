"""The write units of events with an ordering key: polled, and in a busy queue; other events cost what they did."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.units import MeteringClient, Projection, write_units
from dynamodb_outbox import DynamoDBOutbox, Event
from dynamodb_outbox.claims import Claim
from dynamodb_outbox.outcome import Completed
from tests.dynamodb.windows import keeping_leases

KEYS = 10


class Counted:
    """An outbox whose write units are counted."""

    def __init__(self, client: Any, table_name: str, projection: Projection, **options: Any) -> None:
        self.metering: Any = MeteringClient(client, projection)
        self.outbox = DynamoDBOutbox(self.metering, table_name=table_name, conditional_writes="batch", **options)

    @property
    def units(self) -> float:
        """The units since the last time."""
        assert self.metering.refused == 0
        written: float = sum(self.metering.written.values())
        self.metering.start_over()
        return written

    async def emit(self, *, rounds: int, key: bool = True) -> None:
        """Store events of many keys, one event of each key in each round."""
        for _ in range(rounds):
            await self.outbox.publish(
                [Event("order.paid", {"n": 1}, ordering_key=f"order-{n}" if key else None) for n in range(KEYS)]
            )

    async def deliver(self, *, keep: bool) -> int:
        """Complete all events; return how many there were."""
        count = 0
        claims: list[Claim] = await self.outbox.claim(KEYS)
        while claims:
            count += len(claims)
            settled = await self.outbox.settle([(claim, Completed()) for claim in claims], keep_keys=keep)
            claims = [each for each in settled if isinstance(each, Claim)] or await self.outbox.claim(KEYS)
        return count


@pytest.fixture(params=["ALL", "KEYS_ONLY"])
async def counted(request: pytest.FixtureRequest, local_client: Any, table_name: str) -> Counted:
    made = Counted(local_client, table_name, request.param)
    await made.outbox.create_table(projection=request.param)
    await made.emit(rounds=1)
    await made.deliver(keep=True)
    assert made.units > 0
    return made


async def test_polled_event_costs_nine_units(counted: Counted) -> None:
    await counted.emit(rounds=1)
    assert counted.units == 3 * KEYS
    assert await counted.deliver(keep=True) == KEYS
    assert counted.units == 6 * KEYS


async def test_event_in_a_busy_queue_costs_seven_units_or_six_with_small_rows(counted: Counted) -> None:
    is_small = counted.metering._projection == "KEYS_ONLY"
    rounds = 5
    await counted.emit(rounds=rounds)
    # The first event of a key brings its queue into the index. With KEYS_ONLY, the others do not change its row.
    assert counted.units == KEYS * (rounds * 3 - (rounds - 1 if is_small else 0))
    assert await counted.deliver(keep=True) == KEYS * rounds
    # A claim of 3 and a deletion of 2, and in between a POP of 3 for each event; a mark for each.
    assert counted.units == KEYS * (3 + 2 + (rounds - 1) * 3 + rounds)


@pytest.mark.parametrize(("key", "emitted", "delivered"), [(True, 5, 6), (False, 3, 5)])
async def test_event_of_a_transaction_costs_eleven_units_with_a_key_and_eight_without(
    counted: Counted, emitted: int, delivered: int, *, key: bool
) -> None:
    for number in range(KEYS):
        event = Event("order.paid", {"n": 1}, ordering_key=f"order-{number}" if key else None)
        await counted.outbox.transact([], [(event, None)])
    assert counted.units == emitted * KEYS
    assert await counted.deliver(keep=True) == KEYS
    assert counted.units == delivered * KEYS


async def test_event_of_a_transaction_costs_nine_units_in_a_busy_queue_or_eight_with_small_rows(
    counted: Counted,
) -> None:
    is_small = counted.metering._projection == "KEYS_ONLY"
    await counted.emit(rounds=1)
    assert counted.units > 0
    for number in range(KEYS):
        await counted.outbox.transact([], [(Event("order.paid", {"n": 1}, ordering_key=f"order-{number}"), None)])
    assert counted.units == KEYS * (4 if is_small else 5)
    assert await counted.deliver(keep=True) == 2 * KEYS
    # The first event costs 6, as every event that is polled; the second a POP and a mark.
    assert counted.units == KEYS * (6 + 4)


async def test_key_that_is_given_up_costs_a_claim_more(counted: Counted) -> None:
    await counted.emit(rounds=2)
    assert counted.units > 0
    assert await counted.deliver(keep=False) == 2 * KEYS
    assert counted.units == KEYS * (3 + 3 + 3 + 2 + 2)


@pytest.mark.parametrize("projection", ["ALL", "KEYS_ONLY"])
async def test_event_without_a_key_costs_seven_units_when_polled(
    local_client: Any, table_name: str, projection: Projection
) -> None:
    counted = Counted(local_client, table_name, projection)
    await counted.outbox.create_table(projection=projection)
    await counted.emit(rounds=1, key=False)
    assert await counted.deliver(keep=True) == KEYS
    assert counted.units == 7 * KEYS


async def test_event_without_a_key_costs_four_units_when_claimed_on_emit(local_client: Any, table_name: str) -> None:
    counted = Counted(local_client, table_name, "ALL", window=False)
    await counted.outbox.create_table()
    async with keeping_leases(counted.outbox, local_client, opened=False) as desk:
        events = [Event("order.paid") for _ in range(KEYS)]
        await desk.emit(*events)
        assert await desk.settle(*events) == [None] * KEYS
    assert counted.units == 4 * KEYS


def test_deletion_costs_the_table_and_the_row() -> None:
    queue = {"id": {"S": "q"}, "status": {"S": "PROCESSING"}, "gsiSortKey": {"N": "1"}}
    assert write_units(queue, None, "ALL") == 2
