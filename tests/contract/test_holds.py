"""Every adapter keeps holds, takes events of a held type as HELD, and resumes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dynamodb_outbox import Event, EventStatus, Hold, LeaseLostError, Repaired
from dynamodb_outbox.adapter import Completed, Failed, Held, Outbox, Outcome, Released, Retry
from tests.contract.adapters import Adapter, claim_one, settle_one
from tests.fakes import Clock

PENDING, PROCESSING, COMPLETED, FAILED, HELD, DISCARDED, *_ = EventStatus
WHO: dict[str, Any] = {"reason": "the bank is down", "by": "ada@bastion"}


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


async def hold_one(outbox: Outbox, event_id: str, *, type: str = "refund", due_at: float | None = None) -> None:
    """Store an event, claim it, and settle it as held."""
    await outbox.publish([Event(type, id=event_id)], due_at=due_at)
    claim = await claim_one(outbox)
    assert claim.due_at is not None
    assert await settle_one(outbox, claim, Held(due_at=claim.due_at)) is None


# Holds


async def test_holds_are_listed_until_they_are_resumed(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    assert await outbox.holds() == []
    await outbox.hold("refund", **WHO, until=None)
    await outbox.hold(None, reason="deploy", by="bob", until=at(clock.now + 60))
    expected = [
        Hold(type=None, reason="deploy", by="bob", since=at(clock.now), until=at(clock.now + 60)),
        Hold(type="refund", reason="the bank is down", by="ada@bastion", since=at(clock.now)),
    ]
    for each in (outbox, adapter.make()):
        assert await each.holds() == expected
    await outbox.resume("refund")
    await outbox.resume("another")
    assert await outbox.holds() == expected[:1]
    await outbox.resume(None)
    assert await outbox.holds() == []


async def test_hold_ends_at_its_time(outbox: Outbox, clock: Clock) -> None:
    await outbox.hold("refund", **WHO, until=at(clock.now + 60))
    clock.now += 59
    assert len(await outbox.holds()) == 1
    clock.now += 1
    assert await outbox.holds() == []


async def test_second_hold_replaces_the_first(outbox: Outbox, clock: Clock) -> None:
    await outbox.hold("refund", **WHO, until=at(clock.now + 60))
    clock.now += 10
    await outbox.hold("refund", reason="still down", by="bob", until=None)
    assert await outbox.holds() == [Hold(type="refund", reason="still down", by="bob", since=at(clock.now))]
    await outbox.resume("refund")
    await outbox.hold("refund", **WHO, until=None)
    assert [hold.reason for hold in await outbox.holds()] == ["the bank is down"]


# HELD events


async def test_held_event_is_not_claimed_and_counts_no_attempt(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await outbox.hold("refund", **WHO, until=None)
    await outbox.publish([Event("refund", id="e")])
    await settle_one(outbox, await claim_one(outbox), Retry(delay=0, error="no", handled_by=frozenset({"mail"})))
    clock.now += 7
    claim = await claim_one(adapter.make())
    assert await settle_one(outbox, claim, Held(due_at=claim.due_at or 0)) is None
    stored = await adapter.stored("e")
    assert (stored["status"], stored["retries"], stored["sort_key"]) == (HELD, 1, clock.now - 7)
    assert (stored["token"], stored["handled_by"], stored["error"]) == (None, {"mail"}, "no")
    assert (await outbox.count(HELD), await outbox.count(PENDING)) == (1, 0)
    clock.now += 1000
    assert await adapter.make().claim(10) == []
    recovered = await outbox.recover()
    assert (recovered.reset, recovered.failed) == ((), ())
    assert await outbox.redrive(["e"]) == Repaired(refused={"e": HELD})


@pytest.mark.parametrize(
    "outcome",
    [Completed(), Failed(error="no"), Retry(delay=0, error="no"), Released(), Held(due_at=0)],
    ids=lambda outcome: type(outcome).__name__,
)
async def test_held_event_takes_no_outcome(adapter: Adapter, outbox: Outbox, outcome: Outcome) -> None:
    await outbox.publish([Event("refund", id="e")])
    claim = await claim_one(outbox)
    await settle_one(outbox, claim, Held(due_at=claim.due_at or 0))
    for _ in range(2):
        assert isinstance(await settle_one(outbox, claim, outcome), LeaseLostError)
        status = (await adapter.stored("e"))["status"]
        assert status in (HELD, PENDING)
        await outbox.resume("refund")


async def test_only_the_holder_of_a_claim_holds_an_event(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([Event("refund", id="e")])
    claim = await claim_one(outbox)
    clock.now += 31
    await outbox.recover()
    assert isinstance(await settle_one(outbox, claim, Held(due_at=clock.now)), LeaseLostError)
    assert (await adapter.stored("e"))["status"] is PENDING


async def test_time_without_a_handler_does_not_count_while_an_event_is_held(adapter: Adapter, outbox: Outbox) -> None:
    await outbox.publish([Event("refund", id="e")])
    await settle_one(outbox, await claim_one(outbox), Released(unhandled_since=5.0))
    claim = await claim_one(adapter.make())
    assert claim.unhandled_since == 5.0
    await settle_one(outbox, claim, Held(due_at=claim.due_at or 0))
    assert (await adapter.stored("e"))["unhandled_since"] is None


# Resuming


async def test_resume_makes_the_held_events_of_one_type_due_as_before(
    adapter: Adapter, outbox: Outbox, clock: Clock
) -> None:
    for number in range(3):
        await hold_one(outbox, f"refund{number}", due_at=clock.now - number)
        await hold_one(outbox, f"order{number}", type="order", due_at=clock.now)
    await outbox.hold("refund", **WHO, until=None)
    await outbox.hold("order", **WHO, until=None)
    clock.now += 60
    assert await outbox.resume("refund") == 3
    assert await outbox.resume("refund") == 0
    assert (await outbox.count(HELD), await outbox.count(PENDING)) == (3, 3)
    claims = await adapter.make().claim(10)
    assert sorted(claim.event.id for claim in claims) == ["refund0", "refund1", "refund2"]
    assert {claim.due_at for claim in claims} == {clock.now - 60 - number for number in range(3)}
    assert {claim.attempt for claim in claims} == {1}


async def test_resume_of_all_types_leaves_held_events(outbox: Outbox) -> None:
    await outbox.hold("refund", **WHO, until=None)
    await hold_one(outbox, "e")
    assert await outbox.resume(None) == 0
    assert await outbox.count(HELD) == 1


@pytest.mark.cases(2, thorough=4)
async def test_resume_takes_many(outbox: Outbox) -> None:
    await outbox.publish([Event("refund", id=f"e{number}") for number in range(105)])
    for _ in range(2):
        claims = await outbox.claim(100)
        await outbox.settle([(claim, Held(due_at=claim.due_at or 0)) for claim in claims])
    assert await outbox.count(HELD) == 105
    assert await outbox.resume("refund") == 105
    assert await outbox.count(PENDING) == 105


async def test_recovery_resumes_events_when_their_hold_ends_by_itself(outbox: Outbox, clock: Clock) -> None:
    await outbox.hold("refund", **WHO, until=at(clock.now + 60))
    await hold_one(outbox, "e")
    clock.now += 59
    assert (await outbox.recover()).resumed == ()
    clock.now += 11
    assert (await outbox.recover()).resumed == ("e",)
    assert await outbox.count(PENDING) == 1


async def test_recovery_resumes_an_event_that_was_held_after_the_resume(outbox: Outbox, clock: Clock) -> None:
    await outbox.hold("refund", **WHO, until=None)
    await outbox.hold("order", **WHO, until=None)
    await outbox.resume("refund")
    await hold_one(outbox, "late")
    await hold_one(outbox, "order", type="order")
    clock.now += 11
    assert (await outbox.recover()).resumed == ("late",)
    assert await outbox.count(HELD) == 1


async def test_worker_that_does_not_know_of_a_resume_finds_what_it_held_late(adapter: Adapter, clock: Clock) -> None:
    outbox, operator = adapter.make(), adapter.make()
    await operator.hold("refund", **WHO, until=None)
    await operator.resume("refund")
    await hold_one(outbox, "late")
    clock.now += 11
    assert (await outbox.recover()).resumed == ("late",)


async def test_recovery_of_any_worker_finds_events_that_were_left_behind(adapter: Adapter, clock: Clock) -> None:
    await hold_one(adapter.make(), "e")
    outbox, resumed = adapter.make(), []
    for _ in range(3):
        resumed += (await outbox.recover()).resumed
        clock.now += 300
    assert resumed == ["e"]


async def test_new_worker_finds_events_of_a_hold_that_was_forgotten_while_another_type_is_held(
    adapter: Adapter, clock: Clock
) -> None:
    outbox = adapter.make()
    await outbox.hold("refund", **WHO, until=at(clock.now + 60))
    await hold_one(outbox, "e")
    # No worker runs meanwhile, and the record of a hold that is over is removed after an hour.
    clock.now += 7200
    await outbox.hold("order", **WHO, until=None)
    another, resumed = adapter.make(), []
    for _ in range(3):
        resumed += (await another.recover()).resumed
        clock.now += 300
    assert resumed == ["e"]


# Repairs of HELD events


async def test_held_event_can_be_discarded_as_it_was_seen(adapter: Adapter, outbox: Outbox) -> None:
    await hold_one(outbox, "e")
    event = await outbox.get("e")
    assert event is not None
    assert await outbox.discard(["e"], **WHO, fences={"e": event.fence}) == Repaired(done=("e",))
    assert (await adapter.stored("e"))["status"] is DISCARDED
    assert await outbox.resume("refund") == 0


async def test_held_event_can_be_replaced(outbox: Outbox) -> None:
    await hold_one(outbox, "old")
    assert await outbox.replace("old", Event("refund", id="new"), **WHO)
    assert (await outbox.count(HELD), await outbox.count(PENDING)) == (0, 1)
