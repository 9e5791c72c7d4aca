"""Every adapter recovers expired leases, lists dead letters and redrives them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dynamodb_outbox import Event, EventStatus, LeaseLostError
from dynamodb_outbox.adapter import Completed, Failed, Outbox
from tests.contract.adapters import Adapter, claim_one, settle_one
from tests.fakes import Clock

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


# Recovery


async def test_recovery_counts_a_retry_and_makes_the_event_due(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    claim = await claim_one(outbox)
    clock.now += 29.9
    assert (await outbox.recover()).reset == ()
    clock.now += 0.1
    assert (await outbox.recover()).reset == ("e",)
    stored = await adapter.stored("e")
    assert (stored["status"], stored["retries"], stored["sort_key"]) == (PENDING, 1, clock.now)
    assert stored["token"] == claim.token
    assert "lease" in stored["error"]
    assert (await claim_one(adapter.make())).attempt == 2


async def test_event_that_kills_every_worker_ends_failed(adapter: Adapter, clock: Clock) -> None:
    outbox = adapter.make(max_retries=2)
    await outbox.publish([Event("order.placed", id="poison")])
    for attempt in (1, 2, 3):
        assert (await claim_one(adapter.make(max_retries=2))).attempt == attempt
        clock.now += 31
        recovered = await outbox.recover()
        assert recovered.reset == (("poison",) if attempt < 3 else ())
    assert recovered.failed == ("poison",)
    stored = await adapter.stored("poison")
    assert (stored["status"], stored["retries"]) == (FAILED, 2)
    (failed,) = await outbox.failed_events(type=None, limit=10)
    assert "lease" in failed.last_error


# Dead letters


async def test_dead_letter_has_the_event_and_its_last_error(outbox: Outbox, clock: Clock) -> None:
    event = Event("order.placed", {"n": 1}, id="e", metadata={"trace": "order.placed"})
    await outbox.publish([event])
    claim = await claim_one(outbox)
    clock.now += 2
    await settle_one(outbox, claim, Failed(error="ValueError: no", handled_by=frozenset({"mail"})))
    (failed,) = await outbox.failed_events(type=None, limit=10)
    assert (failed.id, failed.type, failed.payload) == ("e", "order.placed", {"n": 1})
    assert (failed.occurred_at, failed.metadata) == (event.occurred_at, {"trace": "order.placed"})
    assert (failed.retry_count, failed.last_error, failed.handled_by) == (0, "ValueError: no", {"mail"})
    assert failed.failed_at == datetime.fromtimestamp(clock.now, UTC)


async def test_dead_letters_are_filtered_limited_and_latest_first(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([Event("even" if n % 2 == 0 else "odd", id=f"{n}") for n in range(6)])
    for claim in sorted(await outbox.claim(6), key=lambda claim: claim.event.id):
        clock.now += 1
        await settle_one(outbox, claim, Failed(error="x"))
    assert [failed.id for failed in await outbox.failed_events(type=None, limit=4)] == ["5", "4", "3", "2"]
    assert [failed.id for failed in await outbox.failed_events(type="even", limit=10)] == ["4", "2", "0"]


async def test_redrive_counts_what_it_did_and_leaves_the_rest(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([Event("order.placed", id=f"e{n}") for n in range(4)])
    for claim in await outbox.claim(4):
        if claim.event.id != "e3":
            await settle_one(outbox, claim, Failed(error="x", handled_by=frozenset({"done"})))
    clock.now += 10
    assert len((await outbox.redrive(["e0", "e1", "e1", "e3", "unknown"])).done) == 2
    stored = await adapter.stored("e0")
    assert (stored["status"], stored["retries"], stored["sort_key"]) == (PENDING, 0, clock.now)
    assert stored["token"] is None
    assert (await adapter.stored("e3"))["status"] == PROCESSING
    assert (await adapter.stored("e2"))["status"] == FAILED
    again = await adapter.make().claim(10)
    assert {(claim.event.id, claim.attempt, claim.handled_by) for claim in again} == {
        ("e0", 1, frozenset({"done"})),
        ("e1", 1, frozenset({"done"})),
    }


@pytest.mark.cases(2, thorough=4)
async def test_redrive_takes_many(outbox: Outbox) -> None:
    events = [Event("order.placed") for _ in range(105)]
    ids = [event.id for event in events]
    await outbox.publish(events)
    for _ in range(2):
        claims = await outbox.claim(100)
        await outbox.settle([(claim, Failed(error="x")) for claim in claims])
    assert len(await outbox.failed_events(type=None, limit=1000)) == 105
    assert len((await outbox.redrive(ids)).done) == 105
    assert await outbox.count(PENDING) == 105


async def test_late_settle_after_a_redrive_is_refused(adapter: Adapter, outbox: Outbox) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    claim = await claim_one(outbox)
    await settle_one(outbox, claim, Failed(error="x"))
    assert len((await outbox.redrive(["e"])).done) == 1
    assert isinstance(await settle_one(outbox, claim, Completed()), LeaseLostError)
    assert (await adapter.stored("e"))["status"] == PENDING
