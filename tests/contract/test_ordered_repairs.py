"""Every adapter retries, skips, discards and replaces events with an ordering key alike, and shows them so."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodb_outbox import Event, EventStatus, Repaired
from dynamodb_outbox.adapter import Claim, Completed, Failed, Outbox, Outcome, Retry
from dynamodb_outbox.observations import KeyUnblocked
from dynamodb_outbox.stored_events import Count, EventState
from tests.contract.adapters import Adapter, claim_one, settle_one
from tests.fakes import Clock

PENDING, PROCESSING, COMPLETED, FAILED, HELD, DISCARDED, QUEUED = EventStatus
WHO: dict[str, Any] = {"reason": "sent twice", "by": "ada@bastion"}
KEY = "order-17"


def keyed(*ids: str, key: str = KEY) -> list[Event]:
    return [Event("order.paid", {"n": 1}, id=each, ordering_key=key) for each in ids]


async def block(outbox: Outbox, clock: Clock) -> None:
    """Let the event at the front fail for good."""
    failed = Failed(error="bill: no", error_type="ValueError", error_handler="bill", handled_by=frozenset({"mail"}))
    await settle(outbox, clock, failed)


async def settle(outbox: Outbox, clock: Clock, outcome: Outcome) -> Claim:
    """Claim what is due, and settle it a second later: a worker leaves out a row that it has just tried."""
    clock.now += 1
    claim = await claim_one(outbox)
    clock.now += 1
    assert await settle_one(outbox, claim, outcome) is None
    clock.now += 1
    return claim


async def handled(outbox: Outbox, clock: Clock) -> list[str]:
    """Complete what is due, one event after the other; return the ids in order."""
    found: list[str] = []
    while True:
        clock.now += 1
        claims = await outbox.claim(1)
        if not claims:
            return found
        found.append(claims[0].event.id)
        clock.now += 1
        assert await settle_one(outbox, claims[0], Completed()) is None


async def get(outbox: Outbox, event_id: str) -> Any:
    event = await outbox.get(event_id)
    assert event is not None
    return event


async def test_blocked_key_is_shown_as_its_dead_letter(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish(keyed("a", "b", "c"))
    await block(outbox, clock)
    (letter,) = await outbox.failed_events(type=None, limit=10)
    assert (letter.id, letter.ordering_key, letter.blocks_key, letter.last_error) == ("a", KEY, True, "bill: no")
    front, behind = await get(outbox, "a"), await get(outbox, "c")
    assert (front.status, front.blocks_key, front.waiting_behind) == (FAILED, True, Count(at_least=2, is_exact=True))
    assert (front.error_handler, front.handled_by, front.waits_for) == ("bill", {"mail"}, None)
    assert (behind.status, behind.state, behind.waits_for) == (QUEUED, EventState.WAITING, "a")
    assert (behind.waiting_behind, behind.blocks_key) == (None, False)
    assert [event.id for event in (await outbox.list_events("failed")).events] == ["a"]
    assert await outbox.count(FAILED) == 1
    sample = await outbox.sample()
    assert (sample.failed, sample.blocked_keys, sample.due.at_least) == (Count(at_least=1, is_exact=True),) * 2 + (0,)
    assert await outbox.claim(10) == []


async def test_retry_of_a_blocking_event_keeps_the_order(adapter: Adapter, clock: Clock) -> None:
    seen: list[Any] = []
    outbox = adapter.make(observers=[seen.append])
    await outbox.publish(keyed("a", "b", "c"))
    await block(outbox, clock)
    assert await outbox.redrive(["a", "b"]) == Repaired(done=("a",), refused={"b": QUEUED})
    claim = await settle(outbox, clock, Completed())
    assert (claim.event.id, claim.attempt, claim.handled_by) == ("a", 1, {"mail"})
    assert await handled(outbox, clock) == ["b", "c"]
    told = [each for each in seen if isinstance(each, KeyUnblocked)]
    assert told == [KeyUnblocked(ordering_key=KEY, event_id="a", repair="retry")]


async def test_skipped_event_stays_a_dead_letter_and_returns_to_the_end_of_its_line(
    adapter: Adapter, clock: Clock
) -> None:
    seen: list[Any] = []
    outbox = adapter.make(observers=[seen.append])
    await outbox.publish(keyed("a", "b", "c"))
    await block(outbox, clock)
    failed_at = (await get(outbox, "a")).failed_at
    clock.now += 60
    assert await outbox.skip(["b", "a", "nobody"]) == Repaired(done=("a",), refused={"b": QUEUED, "nobody": None})
    (letter,) = await outbox.failed_events(type=None, limit=10)
    assert (letter.id, letter.blocks_key, letter.failed_at, letter.handled_by) == ("a", False, failed_at, {"mail"})
    aside = await get(outbox, "a")
    assert (aside.status, aside.blocks_key, aside.last_error, aside.waits_for) == (FAILED, False, "bill: no", None)
    assert (await outbox.sample()).blocked_keys.at_least == 0
    assert [each.repair for each in seen if isinstance(each, KeyUnblocked)] == ["skip"]
    assert await outbox.skip(["a"]) == Repaired(refused={"a": FAILED})
    assert await outbox.redrive(["a"]) == Repaired(done=("a",))
    waiting = await get(outbox, "a")
    assert (waiting.status, waiting.waits_for, waiting.retry_count) == (QUEUED, "b", 0)
    for _ in range(2):
        await settle(outbox, clock, Completed())
    claim = await claim_one(outbox)
    assert (claim.event.id, claim.attempt, claim.handled_by) == ("a", 1, {"mail"})


async def test_event_that_was_skipped_by_the_policy_is_retried_at_the_end(adapter: Adapter, clock: Clock) -> None:
    outbox = adapter.make(failed_key="skip")
    await outbox.publish(keyed("a", "b", "c"))
    await block(outbox, clock)
    assert await outbox.skip(["a"]) == Repaired(refused={"a": FAILED})
    assert await outbox.redrive(["a"]) == Repaired(done=("a",))
    assert await handled(outbox, clock) == ["b", "c", "a"]


async def test_retry_of_an_event_that_was_set_aside_begins_a_new_line(adapter: Adapter, clock: Clock) -> None:
    outbox = adapter.make(failed_key="skip")
    await outbox.publish(keyed("a"))
    await block(outbox, clock)
    assert await outbox.redrive(["a"]) == Repaired(done=("a",))
    await outbox.publish(keyed("b"))
    assert await handled(outbox, clock) == ["a", "b"]


@pytest.mark.parametrize("way", ["skip", "discard", "replace", "complete"])
async def test_event_that_comes_to_the_front_is_not_shown_with_an_earlier_claim(
    outbox: Outbox, clock: Clock, way: str
) -> None:
    await outbox.publish(keyed("a", "b"))
    if way == "complete":
        await settle(outbox, clock, Completed())
    else:
        await block(outbox, clock)
        assert (await get(outbox, "a")).claimed_by is not None
    if way == "skip":
        await outbox.skip(["a"])
    elif way == "discard":
        await outbox.discard(["a"], **WHO)
    elif way == "replace":
        await outbox.replace("a", keyed("x")[0], **WHO)
    front = await get(outbox, "x" if way == "replace" else "b")
    assert (front.state, front.claimed_by, front.started_at) == (EventState.DUE, None, None)


async def test_discards_unblock_a_key_and_leave_out_events_that_wait(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish(keyed("a", "b", "c", "d"))
    await block(outbox, clock)
    assert await outbox.discard(["a", "c", "nobody"], **WHO) == Repaired(done=("a", "c"), refused={"nobody": None})
    event = await get(outbox, "c")
    assert (event.status, event.discarded_by, event.waits_for) == (DISCARDED, "ada@bastion", None)
    assert await handled(outbox, clock) == ["b", "d"]


async def test_event_that_a_worker_holds_is_not_discarded_skipped_or_replaced(outbox: Outbox) -> None:
    await outbox.publish(keyed("a", "b"))
    claim = await claim_one(outbox)
    refused = Repaired(refused={"a": PROCESSING})
    assert await outbox.discard(["a"], **WHO) == refused
    assert await outbox.skip(["a"]) == refused
    assert await outbox.redrive(["a"]) == refused
    assert await outbox.replace("a", keyed("new")[0], **WHO) == refused
    assert await settle_one(outbox, claim, Completed()) is None


@pytest.mark.parametrize("repair", ["redrive", "discard"])
async def test_fence_of_the_front_is_refused_once_the_queue_has_changed(
    outbox: Outbox, clock: Clock, repair: str
) -> None:
    await outbox.publish(keyed("a", "b"))
    await block(outbox, clock)
    seen = {"a": (await get(outbox, "a")).fence}
    await outbox.redrive(["a"], fences=seen)
    await block(outbox, clock)
    options = WHO if repair == "discard" else {}
    change = getattr(outbox, repair)
    assert await change(["a"], fences=seen, **options) == Repaired(refused={"a": FAILED})
    assert await change(["a"], fences={"a": (await get(outbox, "a")).fence}, **options) == Repaired(done=("a",))


async def test_fence_of_an_event_that_waits_is_refused_once_it_has_come_to_the_front(
    outbox: Outbox, clock: Clock
) -> None:
    await outbox.publish(keyed("a", "b"))
    seen = {"b": (await get(outbox, "b")).fence}
    await settle(outbox, clock, Completed())
    assert await outbox.discard(["b"], **WHO, fences=seen) == Repaired(refused={"b": PENDING})


async def test_replacement_takes_the_place_at_the_front_and_goes_to_the_end_otherwise(
    outbox: Outbox, clock: Clock
) -> None:
    await outbox.publish(keyed("a", "b", "c"))
    await block(outbox, clock)
    for old, new in (("a", "a2"), ("b", "b2")):
        for _ in range(2):
            assert await outbox.replace(old, keyed(new)[0], **WHO) == Repaired(done=(old,))
        assert (await get(outbox, old)).replaced_by == new
    assert (await get(outbox, "a2")).handled_by == frozenset()
    assert await handled(outbox, clock) == ["a2", "c", "b2"]


async def test_retry_that_is_scheduled_holds_its_line(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish(keyed("a", "b"))
    await settle(outbox, clock, Retry(delay=5, error="later"))
    event = await get(outbox, "a")
    assert (event.state, event.retry_count, event.waiting_behind) == (
        EventState.SCHEDULED,
        1,
        Count(at_least=1, is_exact=True),
    )
    assert [event.id for event in (await outbox.list_events("scheduled")).events] == ["a"]
    assert await outbox.discard(["a"], **WHO) == Repaired(done=("a",))
    assert await handled(outbox, clock) == ["b"]


async def test_discarded_event_keeps_what_is_known_of_its_delivery(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish(keyed("a", "b", "c"))
    await settle(outbox, clock, Retry(delay=0, error="bill: no", error_handler="bill", handled_by=frozenset({"mail"})))
    await block(outbox, clock)
    assert await outbox.discard(["a"], **WHO) == Repaired(done=("a",))
    event = await get(outbox, "a")
    assert (event.status, event.retry_count, event.last_error) == (DISCARDED, 1, "bill: no")
    assert (event.error_handler, event.handled_by) == ("bill", {"mail"})
    assert (await get(outbox, "b")).last_error == ""


async def test_event_that_is_discarded_behind_the_front_is_taken_by_a_claim(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish(keyed("a", "b", "c"))
    assert await outbox.discard(["b"], **WHO) == Repaired(done=("b",))
    await settle(outbox, clock, Completed())
    # Its key is due, as the next claim has to take it.
    assert await outbox.count(PENDING) == 1
    assert (await outbox.list_events("due")).events == ()
    assert await handled(outbox, clock) == ["c"]
    assert await outbox.count(PENDING) == 0


async def test_event_that_comes_back_to_its_line_keeps_its_last_error(adapter: Adapter, clock: Clock) -> None:
    outbox = adapter.make(failed_key="skip")
    await outbox.publish(keyed("a"))
    await block(outbox, clock)
    await outbox.redrive(["a"])
    event = await get(outbox, "a")
    assert (event.status, event.retry_count, event.last_error, event.error_handler) == (PENDING, 0, "bill: no", "bill")
