"""Transactions of every adapter keep the order of ordering keys: those of users, and those of handlers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dynamodb_outbox import DuplicateEventError, Event, EventStatus, LeaseLostError, TransactionTooLargeError
from dynamodb_outbox.adapter import Claim, Completed, HandlerDone, Outbox
from tests.contract.adapters import Adapter, claim_one, settle_one
from tests.contract.lines import WIDTH, emit_claim, keyed, numbered, statuses, work_off
from tests.fakes import Clock

PENDING, PROCESSING, COMPLETED, FAILED, HELD, DISCARDED, QUEUED = EventStatus


async def test_transaction_of_several_keys_keeps_the_order_of_each(outbox: Outbox) -> None:
    await outbox.publish(keyed("a1", key="a"))
    events = [event for number in (2, 3) for key in "abc" for event in keyed(f"{key}{number}", key=key)]
    await outbox.transact([], [(event, None) for event in events])
    handled = await work_off(outbox)
    assert sorted(handled) == ["a1", "a2", "a3", "b2", "b3", "c2", "c3"]
    for key in "abc":
        assert [each for each in handled if each[0] == key] == sorted(each for each in handled if each[0] == key)


@pytest.mark.parametrize("before", [WIDTH - 1, WIDTH, 2 * WIDTH - 1, 2 * WIDTH, 3 * WIDTH])
async def test_transaction_finds_room_in_a_full_queue(outbox: Outbox, before: int) -> None:
    ids = numbered(before + 3)
    await outbox.publish(keyed(*ids[:before]))
    await outbox.transact([], [(event, None) for event in keyed(*ids[before:])])
    assert await work_off(outbox) == ids


async def test_refused_transaction_lines_up_nothing(outbox: Outbox) -> None:
    await outbox.publish([*keyed("a"), Event("order.paid", id="taken")])
    with pytest.raises(DuplicateEventError):
        await outbox.transact([], [(event, None) for event in [*keyed("b", "c"), Event("order.paid", id="taken")]])
    assert await statuses(outbox, "b", "c") == [None, None]
    await outbox.publish(keyed("d"))
    assert [each for each in await work_off(outbox) if each != "taken"] == ["a", "d"]


async def test_items_of_queues_count_among_the_hundred_of_a_transaction(outbox: Outbox) -> None:
    one_key = [(event, None) for event in keyed(*numbered(91))]
    with pytest.raises(TransactionTooLargeError, match=r"102 items \(0 writes, 91 events, up to 11 for the queues of"):
        await outbox.transact([], one_key)
    many_keys = [(event, None) for key in numbered(34) for event in keyed(f"{key}-1", key=key)]
    with pytest.raises(TransactionTooLargeError, match=r"102 items \(0 writes, 34 events, up to 68 for the queues of"):
        await outbox.transact([], many_keys)
    await outbox.publish(keyed("parent"))
    claim = await claim_one(outbox)
    children = [(event, None) for event in keyed(*numbered(90))]
    with pytest.raises(
        TransactionTooLargeError, match=r"101 items \(0 writes, 90 events, up to 9 for the .* record of"
    ):
        await outbox.transact([], children, done=HandlerDone(claim=claim, handler="bill", completes=True))


async def test_first_event_of_each_idle_key_is_claimed_on_emit(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await outbox.publish(keyed("c1", key="c"))
    emit, claims = emit_claim("a1", "b1", "c2")
    events = [*keyed("a1", "a2", key="a"), *keyed("b1", key="b"), *keyed("c2", key="c")]
    await outbox.transact([], [(event, None) for event in events], emit_claim=emit)
    assert sorted((claim.event.id, claim.token, claim.attempt) for claim in claims) == [
        ("a1", "token-a1", 1),
        ("b1", "token-b1", 1),
    ]
    assert {claim.lease_expires_at for claim in claims} == {clock.now + outbox.options.processing_timeout}
    assert await statuses(outbox, "a1", "a2", "b1", "c1", "c2") == [PROCESSING, QUEUED, PROCESSING, PENDING, QUEUED]
    (polled,) = await adapter.make().claim(10)
    assert polled.event.id == "c1"
    settled = await outbox.settle([(claim, Completed()) for claim in claims], keep_keys=True)
    assert [each.event.id for each in settled if isinstance(each, Claim)] == ["a2"]


async def test_refused_transaction_claims_nothing(outbox: Outbox) -> None:
    await outbox.publish([Event("order.paid", id="taken")])
    emit, claims = emit_claim("a", "taken")
    events = [*keyed("a"), Event("order.paid", id="taken")]
    with pytest.raises(DuplicateEventError):
        await outbox.transact([], [(event, None) for event in events], emit_claim=emit)
    assert claims == []
    assert await statuses(outbox, "a") == [None]


async def complete(outbox: Outbox, claim: Claim, children: Sequence[Event] = ()) -> None:
    done = HandlerDone(claim=claim, handler="bill", completes=True)
    await outbox.transact([], [(child, None) for child in children], done=done)


@pytest.mark.parametrize("waiting", [0, 1, WIDTH, 2 * WIDTH, 3 * WIDTH])
async def test_delivery_transaction_lines_up_a_child_of_the_same_key(
    adapter: Adapter, outbox: Outbox, waiting: int
) -> None:
    ids = numbered(waiting + 1)
    await outbox.publish(keyed(*ids))
    claim = await claim_one(outbox)
    await complete(outbox, claim, keyed("child"))
    assert await statuses(outbox, ids[0], "child") == [COMPLETED, QUEUED]
    # The event has left its line once it is settled, as every event.
    assert await adapter.make().claim(10) == []
    assert await settle_one(outbox, claim, Completed()) is None
    assert await work_off(adapter.make()) == [*ids[1:], "child"]


async def test_delivery_transaction_claims_a_child_of_another_key_only(outbox: Outbox) -> None:
    await outbox.publish(keyed("parent"))
    claim = await claim_one(outbox)
    emit, claims = emit_claim("child", "other")
    children = [*keyed("child"), *keyed("other", key="order-18")]
    done = HandlerDone(claim=claim, handler="bill", completes=True)
    await outbox.transact([], [(child, None) for child in children], done=done, emit_claim=emit)
    assert [each.event.id for each in claims] == ["other"]
    settled = await outbox.settle([(claim, Completed())], keep_keys=True)
    assert [each.event.id for each in settled if isinstance(each, Claim)] == ["child"]


async def test_transaction_that_completes_an_event_is_not_undone_by_a_crash(
    adapter: Adapter, outbox: Outbox, clock: Clock
) -> None:
    await outbox.publish(keyed("a", "b"))
    await complete(outbox, await claim_one(outbox))
    clock.now += 31
    assert (await adapter.make().recover()).reset == ("a",)
    assert await work_off(adapter.make()) == ["b"]


async def test_handler_that_a_transaction_recorded_does_not_run_again(
    adapter: Adapter, outbox: Outbox, clock: Clock
) -> None:
    await outbox.publish(keyed("a", "b"))
    claim = await claim_one(outbox)
    await outbox.transact([], [], done=HandlerDone(claim=claim, handler="bill", completes=False))
    assert await statuses(outbox, "a") == [PROCESSING]
    clock.now += 31
    await adapter.make().recover()
    again = await claim_one(adapter.make())
    assert (again.event.id, again.handled_by) == ("a", {"bill"})
    with pytest.raises(LeaseLostError):
        await outbox.transact([], [], done=HandlerDone(claim=claim, handler="mail", completes=True))
    assert await settle_one(outbox, again, Completed()) is None
    assert (await claim_one(adapter.make())).handled_by == frozenset()


async def test_transaction_does_not_complete_an_event_that_a_former_worker_has_completed(
    adapter: Adapter, outbox: Outbox, clock: Clock
) -> None:
    await outbox.publish(keyed("a", "b"))
    late = await claim_one(outbox)
    clock.now += 31
    await adapter.make().recover()
    claim = await claim_one(adapter.make())
    await outbox.settle([(late, Completed())])
    with pytest.raises(LeaseLostError):
        await complete(outbox, claim, keyed("child"))
    assert await outbox.get("child") is None
