"""Rows that a poll has read and not claimed: a full poll keeps its own rows for the next poll."""

from __future__ import annotations

import asyncio

import pytest

from dynamodb_outbox import DynamoDBOutbox, Event
from dynamodb_outbox.dynamodb.items.codec import Item
from reliability.simulation.responses import client_error
from tests.adapter_timing import with_timing
from tests.simulated_table import Parameters, SimulatedService
from tests.virtual_time import install


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> SimulatedService:
    return SimulatedService(install(asyncio.get_running_loop(), monkeypatch), shards=2)


@pytest.fixture
def outbox(service: SimulatedService, monkeypatch: pytest.MonkeyPatch) -> DynamoDBOutbox:
    """An outbox that owns the events `mine-...`; all other events are left to it by other workers."""
    outbox = with_timing(service.outbox(), read_ahead=600.0)

    def select(page: list[Item]) -> tuple[list[Item], list[Item]]:
        mine = [row for row in page if row["id"]["S"].startswith("mine")]
        return mine, [row for row in page if row not in mine]

    monkeypatch.setattr(outbox._parts.claimer._rows, "select", select)
    return outbox


async def claimed(outbox: DynamoDBOutbox) -> str:
    (claim,) = await outbox.claim(1)
    return claim.event.id.partition("-")[0]


async def test_poll_that_its_throttled_rows_fill_keeps_the_rest_of_them(
    service: SimulatedService, outbox: DynamoDBOutbox
) -> None:
    await outbox.publish([Event("order.placed", id=f"other-{n}") for n in range(8)], due_at=outbox.options.clock() - 10)
    await outbox.publish([Event("order.placed", id=f"mine-{n}") for n in range(8)])
    tried: set[str] = set()

    async def throttle_the_first_try(operation: str, parameters: Parameters) -> None:
        if operation == "batch_execute_statement":
            ids = {value["S"] for each in parameters["Statements"] for value in each["Parameters"] if "S" in value}
            new = {event_id for event_id in ids if event_id.startswith(("mine", "other"))} - tried
            tried.update(new)
            if new:
                raise client_error("ThrottlingException", "slow down", operation=operation)

    service.before = throttle_the_first_try
    # Both shards are read, each up to its first row of this worker. The claim of one of these two rows is tried again.
    assert await claimed(outbox) == "mine"
    service.calls.clear()
    assert (await claimed(outbox), service.calls["query"]) == ("mine", 0)


async def test_poll_that_is_full_reads_no_further_shard(service: SimulatedService, outbox: DynamoDBOutbox) -> None:
    await outbox.publish([Event("order.placed", id=f"mine-{n}") for n in range(40)])
    for _ in range(2):  # the first full poll reads one row, the second reads ahead
        await claimed(outbox)
    assert service.calls["query"] == 2
    for _ in range(5):
        await claimed(outbox)
    assert service.calls["query"] == 2
