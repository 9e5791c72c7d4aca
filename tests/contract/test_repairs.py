"""Every adapter redrives, discards and replaces events, only as an operator saw them, and reports what it refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dynamodb_outbox import (
    ConfigurationError,
    DuplicateEventError,
    Event,
    EventStatus,
    LeaseLostError,
    Repaired,
    UnstorableValueError,
)
from dynamodb_outbox.adapter import Completed, Failed, Outbox, Outcome, Released, Retry
from tests.contract.adapters import Adapter, claim_one, settle_one
from tests.fakes import Clock

PENDING, PROCESSING, COMPLETED, FAILED, HELD, DISCARDED, *_ = EventStatus
WHO: dict[str, Any] = {"reason": "sent twice", "by": "ada@bastion"}


async def fail(outbox: Outbox, event_id: str, *, clock: Clock) -> None:
    """Emit an event that fails at once."""
    await outbox.publish([Event("order.placed", {"n": 1}, id=event_id, metadata={"trace": "t"})])
    clock.now += 1
    await settle_one(outbox, await claim_one(outbox), Failed(error="bill: no", handled_by=frozenset({"mail"})))
    clock.now += 1


async def one_of_each(outbox: Outbox, clock: Clock) -> None:
    """Store a FAILED, a COMPLETED, a PROCESSING and a PENDING event, with their statuses as ids."""
    await fail(outbox, "FAILED", clock=clock)
    await outbox.publish([Event("order.placed", id="COMPLETED")])
    await settle_one(outbox, await claim_one(outbox), Completed())
    await outbox.publish([Event("order.placed", id="PROCESSING")])
    await claim_one(outbox)
    await outbox.publish([Event("order.placed", id="PENDING")])


async def fence(outbox: Outbox, event_id: str) -> dict[str, str]:
    event = await outbox.get(event_id)
    assert event is not None
    return {event_id: event.fence}


# Redrives


async def test_redrive_tells_the_status_of_each_event_that_it_refused(outbox: Outbox, clock: Clock) -> None:
    await fail(outbox, "a", clock=clock)
    await outbox.publish([Event("order.placed", id="b")])
    repaired = await outbox.redrive(["b", "a", "nobody", "a"])
    assert repaired == Repaired(done=("a",), refused={"b": PENDING, "nobody": None})
    assert repaired
    assert not await outbox.redrive(["a"])


async def test_redrive_with_a_fence_is_refused_once_the_event_has_failed_again(
    adapter: Adapter, outbox: Outbox, clock: Clock
) -> None:
    await fail(outbox, "e", clock=clock)
    seen = await fence(outbox, "e")
    assert (await outbox.redrive(["e"], fences=seen)).done == ("e",)
    await settle_one(outbox, await claim_one(outbox), Failed(error="bill: no"))
    assert await outbox.redrive(["e"], fences=seen) == Repaired(refused={"e": FAILED})
    assert (await adapter.stored("e"))["status"] is FAILED
    assert await outbox.redrive(["e"], fences=await fence(outbox, "e"))


@pytest.mark.parametrize("text", ["", "FAILED", "LOST@1", "FAILED@now", "failed@1", "FAILED@1 OR 1"])
async def test_text_that_is_not_a_fence_is_refused(outbox: Outbox, clock: Clock, text: str) -> None:
    await fail(outbox, "e", clock=clock)
    with pytest.raises(ConfigurationError, match="fence"):
        await outbox.redrive(["e"], fences={"e": text})


# Discards


async def test_discard_takes_events_that_no_worker_holds(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await one_of_each(outbox, clock)
    repaired = await outbox.discard(["FAILED", "PENDING", "COMPLETED", "PROCESSING", "nobody"], **WHO)
    assert repaired.done == ("FAILED", "PENDING")
    assert repaired.refused == {"COMPLETED": COMPLETED, "PROCESSING": PROCESSING, "nobody": None}
    for event_id in repaired.done:
        stored = await adapter.stored(event_id)
        assert (stored["status"], stored["sort_key"], stored["token"]) == (DISCARDED, None, None)
    clock.now += 1
    assert await outbox.discard(["FAILED"], **WHO) == Repaired(refused={"FAILED": DISCARDED})


async def test_discarded_event_keeps_who_why_and_when(outbox: Outbox, clock: Clock) -> None:
    await fail(outbox, "e", clock=clock)
    await outbox.discard(["e"], **WHO)
    event = await outbox.get("e")
    assert event is not None
    assert (event.discard_reason, event.discarded_by, event.replaced_by) == ("sent twice", "ada@bastion", None)
    assert event.discarded_at == datetime.fromtimestamp(clock.now, UTC)
    assert (event.last_error, event.handled_by, event.payload) == ("bill: no", {"mail"}, {"n": 1})


async def test_discarded_event_is_not_delivered_recovered_or_redriven(adapter: Adapter, clock: Clock) -> None:
    outbox = adapter.make()
    await outbox.publish([Event("order.placed", id="e")])
    await outbox.discard(["e"], **WHO)
    clock.now += 100
    assert await adapter.make().claim(10) == []
    recovered = await outbox.recover()
    assert (recovered.reset, recovered.failed) == ((), ())
    assert await outbox.redrive(["e"]) == Repaired(refused={"e": DISCARDED})
    assert (await outbox.count(PENDING), await outbox.count(FAILED)) == (0, 0)
    with pytest.raises(DuplicateEventError):
        await outbox.publish([Event("order.placed", id="e")])


@pytest.mark.parametrize(
    "outcome",
    [Completed(), Failed(error="no"), Retry(delay=0, error="no"), Released()],
    ids=lambda outcome: type(outcome).__name__,
)
async def test_late_outcome_of_a_former_worker_does_not_change_a_discarded_event(
    adapter: Adapter, clock: Clock, outcome: Outcome
) -> None:
    outbox = adapter.make()
    await outbox.publish([Event("order.placed", id="e")])
    claim = await claim_one(outbox)
    clock.now += 31
    assert (await outbox.recover()).reset == ("e",)
    await outbox.discard(["e"], **WHO)
    assert isinstance(await settle_one(outbox, claim, outcome), LeaseLostError)
    (renewed,) = await outbox.renew([(claim, clock.now + 30)])
    assert isinstance(renewed, LeaseLostError)
    stored = await adapter.stored("e")
    assert (stored["status"], stored["sort_key"]) == (DISCARDED, None)


async def test_discard_with_a_fence_is_refused_once_the_event_was_retried(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    seen = await fence(outbox, "e")
    await settle_one(outbox, await claim_one(outbox), Retry(delay=5, error="later"))
    assert await outbox.discard(["e"], **WHO, fences=seen) == Repaired(refused={"e": PENDING})
    assert await outbox.discard(["e"], **WHO, fences=await fence(outbox, "e"))


async def test_discard_of_a_claimed_event_is_refused_with_the_fence_of_the_claim(outbox: Outbox) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    await claim_one(outbox)
    seen = await fence(outbox, "e")
    assert await outbox.discard(["e"], **WHO, fences=seen) == Repaired(refused={"e": PROCESSING})


@pytest.mark.cases(2, thorough=4)
async def test_repairs_take_many(outbox: Outbox, clock: Clock) -> None:
    events = [Event("order.placed") for _ in range(105)]
    ids = [event.id for event in events]
    await outbox.publish(events)
    for _ in range(2):
        await outbox.settle([(claim, Failed(error="x")) for claim in await outbox.claim(100)])
    assert (await outbox.redrive([*ids[:3], "nobody"])).done == tuple(ids[:3])
    clock.now += 1
    repaired = await outbox.discard([*ids, "nobody", ids[0]], **WHO)
    assert repaired == Repaired(done=tuple(ids), refused={"nobody": None})
    assert (await outbox.count(PENDING), await outbox.count(FAILED)) == (0, 0)


# Replacements


async def test_replacement_is_due_at_once_and_the_old_event_is_discarded(adapter: Adapter, clock: Clock) -> None:
    outbox = adapter.make()
    await fail(outbox, "old", clock=clock)
    assert await outbox.replace("old", Event("order.placed", {"n": 2}, id="new"), **WHO) == Repaired(done=("old",))
    old = await outbox.get("old")
    assert old is not None
    assert (old.status, old.replaced_by, old.discarded_by) == (DISCARDED, "new", "ada@bastion")
    claim = await claim_one(adapter.make())
    assert (claim.event.id, claim.event.payload, claim.attempt, claim.handled_by) == ("new", {"n": 2}, 1, frozenset())


async def test_replacement_can_be_repeated_with_the_same_event(outbox: Outbox, clock: Clock) -> None:
    await fail(outbox, "old", clock=clock)
    event = Event("order.placed", {"n": 2}, id="new")
    for _ in range(2):
        assert await outbox.replace("old", event, **WHO) == Repaired(done=("old",))
        clock.now += 1
    assert await outbox.replace("old", Event("order.placed"), **WHO) == Repaired(refused={"old": DISCARDED})
    assert await outbox.count(PENDING) == 1


@pytest.mark.parametrize("event_id", ["PROCESSING", "COMPLETED", "nobody"])
async def test_replacement_of_an_event_that_is_held_or_done_stores_nothing(
    outbox: Outbox, clock: Clock, event_id: str
) -> None:
    await one_of_each(outbox, clock)
    repaired = await outbox.replace(event_id, Event("order.placed", id="new"), **WHO)
    assert repaired == Repaired(refused={event_id: None if event_id == "nobody" else EventStatus(event_id)})
    assert await outbox.get("new") is None


async def test_replacement_by_a_stored_event_changes_nothing(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await one_of_each(outbox, clock)
    with pytest.raises(DuplicateEventError):
        await outbox.replace("FAILED", Event("order.placed", id="PENDING"), **WHO)
    assert (await adapter.stored("FAILED"))["status"] is FAILED


async def test_replacement_that_cannot_be_stored_changes_nothing(
    adapter: Adapter, outbox: Outbox, clock: Clock
) -> None:
    await one_of_each(outbox, clock)
    with pytest.raises(UnstorableValueError):
        await outbox.replace("FAILED", Event("order.placed", {"n": float("nan")}), **WHO)
    assert (await adapter.stored("FAILED"))["status"] is FAILED


# Counts


async def test_discarded_events_are_not_counted(outbox: Outbox) -> None:
    with pytest.raises(ConfigurationError, match="discarded events are not in the index"):
        await outbox.count(DISCARDED)
    assert await outbox.count(HELD) == 0
