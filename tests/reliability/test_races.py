"""Settles that are cut off at any await, or meet a redrive: there is one winner, and nothing half done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from dynamodb_outbox import DynamoDBOutbox, Event, LeaseLostError, OutboxEventBus
from dynamodb_outbox.adapter import Completed, Failed, Released, Retry
from tests.fakes import BLAMED
from tests.reliability.conftest import Items
from tests.reliability.proxy_rules import Runs, eventually

NOW = 1_790_000_000.0
LEASE = 30.0


class Stepping:
    """A client that can be left at every step: before a request is sent, and before its reply is passed on."""

    def __init__(self, client: Any) -> None:
        self.meta = client.meta
        self._client = client
        self.step: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint
        self.sent: list[asyncio.Future[Any]] = []

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        async def call(**params: Any) -> Any:
            await self.step()
            # What is sent is carried out, whoever waits for it.
            self.sent.append(asyncio.ensure_future(getattr(self._client, operation)(**params)))
            reply = await asyncio.shield(self.sent[-1])
            await self.step()
            return reply

        return call


class LeaveAt:
    """Cancels the task that makes a certain step."""

    def __init__(self, place: int) -> None:
        self._place = place
        self.made = 0

    async def __call__(self) -> None:
        self.made += 1
        if self.made == self._place:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        await asyncio.sleep(0)


def is_whole(item: dict[str, Any], token: str, outcome: Any) -> bool:
    """Whether an item is either settled or leased as it was, in every attribute."""
    status, due = item["status"]["S"], item.get("gsiSortKey", {}).get("N")
    if status == "PROCESSING":
        leased = (item["claimToken"]["S"], due) == (token, str(int((NOW + LEASE) * 1000)))
        return leased and not item.keys() & {"completedOn", "lastError", "expireAt", "handledBy"}
    match outcome:
        case Completed():
            return (status, due) == ("COMPLETED", None) and {"completedOn", "expireAt"} <= item.keys()
        case Retry():
            whole = (status, item["retryCount"]["N"], due) == ("PENDING", "1", str(int((NOW + 5) * 1000)))
            return whole and (item["lastError"], item["handledBy"]) == ({"S": "x"}, {"SS": ["h"]})
        case Failed():
            return (status, item["lastError"]) == ("FAILED", {"S": "x"})
        case _:
            return (status, item["retryCount"]["N"], due) == ("PENDING", "0", str(int(NOW * 1000)))


OUTCOMES = [
    Completed(),
    Retry(delay=5, error="x", handled_by=frozenset({"h"}), **BLAMED),
    Failed(error="x", **BLAMED),
    Released(),
]


@pytest.mark.parametrize("mode", ["batch", "single"])
async def test_settle_that_is_cancelled_at_any_step_is_whole_or_not_at_all(
    local_client: Any, table: str, items: Items, mode: Any
) -> None:
    stepping = Stepping(local_client)
    client: Any = stepping
    outbox = DynamoDBOutbox(
        client,
        table_name=table,
        conditional_writes=mode,
        processing_timeout=LEASE,
        retention=60,
        clock=lambda: NOW,
    )
    statuses: list[set[str]] = []
    place = 0
    while True:
        place += 1
        await outbox.publish([Event("order.placed") for _ in OUTCOMES])
        claims = await outbox.claim(len(OUTCOMES))
        settling = asyncio.ensure_future(outbox.settle(list(zip(claims, OUTCOMES, strict=True))))
        stepping.step = leave = LeaveAt(place)
        await asyncio.wait([settling])
        stepping.step = anyio.lowlevel.checkpoint
        await asyncio.gather(*stepping.sent, return_exceptions=True)
        stored = await items()
        for claim, outcome in zip(claims, OUTCOMES, strict=True):
            assert is_whole(stored[claim.event.id], claim.token, outcome), (place, stored[claim.event.id])
        statuses.append({stored[claim.event.id]["status"]["S"] for claim in claims})
        for claim in claims:
            await local_client.delete_item(TableName=table, Key={"id": {"S": claim.event.id}})
        if leave.made < place:
            assert settling.result() == [None] * len(OUTCOMES)
            break
    assert place >= 3
    assert "PROCESSING" in statuses[0]
    assert "COMPLETED" in statuses[-1]


@pytest.mark.parametrize("place", [1, 2])
async def test_worker_that_is_cancelled_in_a_settle_leaves_the_event_settled_or_leased(
    local_client: Any, table: str, items: Items, place: int
) -> None:
    stepping = Stepping(local_client)
    client: Any = stepping
    outbox = DynamoDBOutbox(client, table_name=table, conditional_writes="batch", poll_interval=30)
    bus = OutboxEventBus(outbox, on_error=lambda error: None)
    runs = Runs()
    host: list[asyncio.Task[Any]] = []
    count = 0

    async def cancel_the_host() -> None:
        nonlocal count
        count += 1
        if count == place:
            for task in host:
                task.cancel()
            # Long enough for the cancellation to come through all groups of the worker.
            for _ in range(100):
                await asyncio.sleep(0)

    @bus.on("order.placed")
    async def handler(event: Event) -> None:
        await runs(event)
        host[:] = [task for task in asyncio.all_tasks() if task.get_name() == "dynamodb-outbox worker"]
        stepping.step = cancel_the_host

    await outbox.publish([Event("order.placed", id="e")])
    await bus.start()
    await eventually(lambda: count >= place)
    with anyio.fail_after(20):
        await bus.stop()
    stored = (await items())["e"]
    # Settles are written although everything else is cancelled.
    assert (stored["status"]["S"], runs.ids) == ("COMPLETED", ["e"])
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("dynamodb-outbox")]


@pytest.mark.parametrize("mode", ["batch", "single"])
async def test_redrive_that_meets_the_settle_of_a_recovered_event_has_one_winner(
    local_client: Any, table: str, items: Items, mode: Any
) -> None:
    now = NOW

    def make() -> DynamoDBOutbox:
        return DynamoDBOutbox(local_client, table_name=table, conditional_writes=mode, max_retries=0, clock=lambda: now)

    holder, operator = make(), make()
    await holder.publish([Event("order.placed", id=f"e{n}") for n in range(12)])
    claims = await holder.claim(12)
    now += 31
    assert len((await operator.recover()).failed) == 12
    outcomes: list[Any] = [OUTCOMES[n % 3] for n in range(12)]
    settled, redriven = await asyncio.gather(
        holder.settle(list(zip(claims, outcomes, strict=True))), operator.redrive([claim.event.id for claim in claims])
    )
    # Whatever came first: all were redriven, and what the holder said of a FAILED event changed at most its error.
    assert len(redriven.done) == 12
    stored = await items()
    assert {(item["status"]["S"], item["retryCount"]["N"]) for item in stored.values()} == {("PENDING", "0")}
    assert not [item for item in stored.values() if "claimToken" in item]
    for outcome, error in zip(outcomes, settled, strict=True):
        assert isinstance(error, LeaseLostError) or (error is None and isinstance(outcome, Failed))
    # From now on the old holder changes nothing at all.
    again = await holder.settle(list(zip(claims, outcomes, strict=True)))
    assert {type(error) for error in again} == {LeaseLostError}
    assert await items() == stored
    winners = await operator.claim(12)
    assert {type(error) for error in await holder.settle([(claim, Completed()) for claim in claims])} == {
        LeaseLostError
    }
    assert await operator.settle([(claim, Completed()) for claim in winners]) == [None] * 12


@pytest.mark.parametrize("mode", ["batch", "single"])
async def test_two_redrives_and_a_claim_at_once_make_one_event(
    local_client: Any, table: str, items: Items, mode: Any
) -> None:
    outbox = DynamoDBOutbox(local_client, table_name=table, conditional_writes=mode)
    await outbox.publish([Event("order.placed", id=f"e{n}") for n in range(10)])
    claims = await outbox.claim(10)
    ids = [claim.event.id for claim in claims]
    assert await outbox.settle([(claim, Failed(error="x", **BLAMED)) for claim in claims]) == [None] * 10
    first, second = await asyncio.gather(outbox.redrive(ids), outbox.redrive(ids))
    assert len(first.done) + len(second.done) == 10
    again = await outbox.claim(20)
    assert sorted(claim.event.id for claim in again) == sorted(ids)
    assert len((await outbox.redrive(ids)).done) == 0
    assert await outbox.settle([(claim, Completed()) for claim in again]) == [None] * 10
