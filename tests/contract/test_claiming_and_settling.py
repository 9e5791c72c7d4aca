"""Every adapter claims what is due, and settles it under the token of its claim."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dynamodb_outbox import Event, EventStatus, LeaseLostError
from dynamodb_outbox.adapter import Completed, Failed, Outbox, Released, Retry
from dynamodb_outbox.dynamodb.schema.shards import Shards
from tests.contract.adapters import Adapter, claim_one, settle_one
from tests.fakes import Clock

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


# Claiming


async def test_claim_takes_the_longest_due_first_and_no_more_than_the_limit(outbox: Outbox, clock: Clock) -> None:
    start = clock.now
    # In one shard, where there are any: between them, no order is promised.
    first = Shards(4).key("PENDING", "e0")
    ids = [event_id for n in range(100) if Shards(4).key("PENDING", event_id := f"e{n}") == first]
    for n in range(5):
        clock.now = start + n
        await outbox.publish([Event("order.placed", {"n": n}, id=ids[n])])
    claims = await outbox.claim(3)
    assert sorted(claim.event.payload["n"] for claim in claims) == [0, 1, 2]
    assert sorted(claim.event.payload["n"] for claim in await outbox.claim(3)) == [3, 4]


async def test_claim_writes_token_and_lease(adapter: Adapter, clock: Clock) -> None:
    outbox = adapter.make(processing_timeout=12.5)
    await outbox.publish([Event("order.placed", id="e")])
    claim = await claim_one(outbox)
    stored = await adapter.stored("e")
    assert (stored["status"], stored["token"], stored["sort_key"]) == (PROCESSING, claim.token, clock.now + 12.5)
    assert (claim.attempt, claim.lease_expires_at, claim.handled_by) == (1, clock.now + 12.5, frozenset())


async def test_claimed_event_is_not_claimed_again(adapter: Adapter, outbox: Outbox) -> None:
    await outbox.publish([Event("order.placed", {"n": n}) for n in range(30)])
    other = adapter.make()
    claims = [*await outbox.claim(20), *await other.claim(20)]
    assert len({claim.event.id for claim in claims}) == len(claims) == 30
    assert len({claim.token for claim in claims}) == 30
    assert await outbox.claim(10) == []


# Settling


async def test_completed_event_leaves_the_index_and_is_final(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    claim = await claim_one(outbox)
    assert await settle_one(outbox, claim, Completed()) is None
    stored = await adapter.stored("e")
    assert (stored["status"], stored["sort_key"]) == (COMPLETED, None)
    assert [await outbox.count(status) for status in (PENDING, PROCESSING, FAILED)] == [0, 0, 0]
    clock.now += 1000
    for outcome in (Retry(delay=0, error="late"), Failed(error="late"), Released()):
        assert isinstance(await settle_one(outbox, claim, outcome), LeaseLostError)
    assert await outbox.recover() == await adapter.make().recover()
    assert (await adapter.stored("e"))["status"] == COMPLETED


@pytest.mark.parametrize("outcome", [Completed(), Retry(delay=5, error="boom"), Failed(error="boom")])
async def test_settling_twice_is_settling_once(adapter: Adapter, outbox: Outbox, outcome: Any) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    claim = await claim_one(outbox)
    assert await settle_one(outbox, claim, outcome) is None
    once = await adapter.stored("e")
    assert await settle_one(outbox, claim, outcome) is None
    assert await adapter.stored("e") == once


async def test_retry_is_due_after_its_delay_and_counts(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    claim = await claim_one(outbox)
    assert await settle_one(outbox, claim, Retry(delay=4, error="boom", handled_by=frozenset({"a", "b"}))) is None
    stored = await adapter.stored("e")
    assert (stored["status"], stored["retries"], stored["sort_key"]) == (PENDING, 1, clock.now + 4)
    assert stored["error"] == "boom"
    assert await outbox.claim(1) == []
    clock.now += 4
    again = await claim_one(outbox)
    assert (again.attempt, again.handled_by) == (2, {"a", "b"})
    assert again.token != claim.token


async def test_release_is_due_at_once_and_counts_no_attempt(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    claim = await claim_one(outbox)
    clock.now += 3
    assert await settle_one(outbox, claim, Released(handled_by=frozenset({"mail"}))) is None
    stored = await adapter.stored("e")
    assert (stored["status"], stored["retries"], stored["sort_key"]) == (PENDING, 0, clock.now)
    again = await claim_one(adapter.make())
    assert (again.attempt, again.handled_by) == (1, {"mail"})


async def test_settle_of_a_lost_lease_is_refused_and_changes_nothing(
    adapter: Adapter, outbox: Outbox, clock: Clock
) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    lost = await claim_one(outbox)
    clock.now += 31
    assert (await outbox.recover()).reset == ("e",)
    held = await claim_one(adapter.make())
    before = await adapter.stored("e")
    for outcome in (Completed(), Retry(delay=0, error="late"), Failed(error="late"), Released()):
        error = await settle_one(outbox, lost, outcome)
        assert isinstance(error, LeaseLostError)
        assert error.event_id == "e"
    assert await adapter.stored("e") == before
    assert before["token"] == held.token


async def test_late_success_is_accepted_until_another_worker_claims(
    adapter: Adapter, outbox: Outbox, clock: Clock
) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    claim = await claim_one(outbox)
    clock.now += 31
    await adapter.make().recover()
    assert await settle_one(outbox, claim, Completed()) is None
    assert (await adapter.stored("e"))["status"] == COMPLETED


async def test_deleted_event_is_reported_and_not_resurrected(adapter: Adapter, outbox: Outbox) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    claim = await claim_one(outbox)
    await adapter.delete("e")
    for outcome in (Completed(), Retry(delay=0, error="x"), Failed(error="x"), Released()):
        assert isinstance(await settle_one(outbox, claim, outcome), LeaseLostError)
    assert await adapter.stored("e") == {}


async def test_settling_many_gives_each_its_own_result(adapter: Adapter, outbox: Outbox) -> None:
    await outbox.publish([Event("order.placed") for _ in range(30)])
    claims = await outbox.claim(30)
    for n in (7, 24, 29):
        await adapter.delete(claims[n].event.id)
    errors = await outbox.settle([(claim, Completed()) for claim in claims])
    assert [n for n, error in enumerate(errors) if error is not None] == [7, 24, 29]
    assert (await adapter.stored(claims[28].event.id))["status"] == COMPLETED


async def test_two_settles_of_one_event_may_come_together(outbox: Outbox) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    claim = await claim_one(outbox)
    errors = await outbox.settle([(claim, Completed()), (claim, Completed())])
    assert errors == [None, None]


async def test_long_error_is_cut(adapter: Adapter, outbox: Outbox) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    await settle_one(outbox, await claim_one(outbox), Failed(error="x" * 5000))
    assert len((await adapter.stored("e"))["error"]) == 1024


# Shared leases


async def test_two_workers_of_a_process_may_keep_the_leases_of_one_outbox(outbox: Outbox) -> None:
    reported: list[Any] = []
    tasks = [asyncio.create_task(outbox.keep_leases(report=reported.append)) for _ in range(2)]
    await asyncio.wait(tasks, timeout=0.05)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert [task for task in tasks if not task.cancelled() and task.exception() is not None] == []
    assert reported == []
