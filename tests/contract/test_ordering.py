"""Every adapter hands out the events of an ordering key one at a time, in the order of their emits."""

from __future__ import annotations

import pytest

from dynamodb_outbox import DuplicateEventError, Event, EventStatus, LeaseLostError, PartialPublishError
from dynamodb_outbox.adapter import Claim, Completed, Failed, Outbox, Outcome, Released, Retry
from dynamodb_outbox.port import LEASE_EXPIRED, Settled
from tests.contract.adapters import Adapter, claim_one, settle_one
from tests.contract.lines import WIDTH, emit_claim, keyed, numbered, statuses, work_off
from tests.fakes import Clock

PENDING, PROCESSING, COMPLETED, FAILED, HELD, DISCARDED, QUEUED = EventStatus


# The order


async def test_events_of_a_key_come_one_at_a_time_in_the_order_of_their_emits(adapter: Adapter, outbox: Outbox) -> None:
    for event_id in ("a1", "b1", "a2", "a3", "b2"):
        await outbox.publish(keyed(event_id, key=event_id[0]))
    first = {claim.event.id: claim for claim in await outbox.claim(10)}
    assert first.keys() == {"a1", "b1"}
    assert await adapter.make().claim(10) == []
    assert await settle_one(outbox, first["a1"], Completed()) is None
    second = await claim_one(adapter.make())
    assert (second.event.id, second.attempt) == ("a2", 1)
    assert await settle_one(outbox, first["b1"], Completed()) is None
    assert (await claim_one(adapter.make())).event.id == "b2"
    assert await settle_one(outbox, second, Completed()) is None
    assert (await claim_one(adapter.make())).event.id == "a3"


@pytest.mark.parametrize("keep_keys", [False, True])
@pytest.mark.parametrize("count", [1, 2, WIDTH, 2 * WIDTH + 1, 5 * WIDTH + 3])
async def test_list_keeps_its_order_however_long_it_is(outbox: Outbox, count: int, keep_keys: bool) -> None:
    ids = numbered(count)
    await outbox.publish(keyed(*ids))
    assert await work_off(outbox, keep_keys=keep_keys) == ids
    assert await statuses(outbox, ids[0], ids[-1]) == [COMPLETED, COMPLETED]
    assert [await outbox.count(status) for status in (PENDING, PROCESSING, FAILED)] == [0, 0, 0]


@pytest.mark.cases(2, thorough=4)
async def test_line_that_grows_while_it_is_worked_off_keeps_its_order(adapter: Adapter, outbox: Outbox) -> None:
    ids, handled = numbered(6 * WIDTH), list[str]()
    worker = adapter.make()
    for number, event_id in enumerate(ids):
        await outbox.publish(keyed(event_id))
        # The line becomes longer and longer, then shorter, and longer again.
        if number >= 3 * WIDTH and number % 3:
            handled += await work_off(worker, most=1)
    handled += await work_off(worker)
    assert handled == ids


async def test_events_without_a_key_do_not_wait(outbox: Outbox) -> None:
    await outbox.publish([*keyed("a", "b"), Event("order.paid", id="free")])
    assert {claim.event.id for claim in await outbox.claim(10)} == {"a", "free"}


async def test_key_begins_again_after_it_was_empty(adapter: Adapter, outbox: Outbox) -> None:
    for event_id in ("a", "b", "c"):
        await outbox.publish(keyed(event_id))
        assert await work_off(adapter.make()) == [event_id]


@pytest.mark.parametrize("key", ["#", "a/b", "ключ", " ", "k" * 1024, "dynamodb-outbox-key/x", "a#1"])
async def test_key_may_be_any_text(outbox: Outbox, key: str) -> None:
    ids = numbered(2 * WIDTH + 2)
    await outbox.publish(keyed(*ids, key=key))
    assert await work_off(outbox) == ids
    event = await outbox.get(ids[0])
    assert event is not None
    assert (event.ordering_key, event.status) == (key, COMPLETED)


async def test_waiting_event_is_handed_over_as_it_was_emitted(outbox: Outbox) -> None:
    event = Event("order.paid", {"total": 12.5}, id="b", metadata={"trace": "t"}, ordering_key="order-17")
    await outbox.publish([*keyed("a"), event])
    first = await claim_one(outbox)
    (answer,) = await outbox.settle([(first, Completed())], keep_keys=True)
    assert isinstance(answer, Claim)
    assert (answer.event, answer.attempt, answer.handled_by, answer.last_error) == (event, 1, frozenset(), "")
    assert answer.queue is not None


# Keeping a key


async def test_settle_hands_on_the_claim_of_the_next_event(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await outbox.publish(keyed("a", "b"))
    first = await claim_one(outbox)
    clock.now += 10
    (second,) = await outbox.settle([(first, Completed())], keep_keys=True)
    assert isinstance(second, Claim)
    assert (second.event.id, second.lease_expires_at) == ("b", clock.now + outbox.options.processing_timeout)
    assert second.token != first.token
    assert await statuses(outbox, "a", "b") == [COMPLETED, PROCESSING]
    assert await adapter.make().claim(10) == []
    assert await outbox.settle([(second, Completed())], keep_keys=True) == [None]
    assert await outbox.count(PROCESSING) == 0


async def complete_kept(outbox: Outbox, claim: Claim, *, most: int = 1_000, then: Outcome | None = None) -> list[str]:
    """Complete a claim and the claims that follow from it, at most so many; settle one more with `then`."""
    answer: Settled = claim
    handled: list[str] = []
    while isinstance(answer, Claim) and len(handled) < most:
        handled.append(answer.event.id)
        (answer,) = await outbox.settle([(answer, Completed())], keep_keys=True)
    if isinstance(answer, Claim) and then is not None:
        (answer,) = await outbox.settle([(answer, then)])
    assert answer is None
    return handled


async def test_worker_does_not_keep_a_key_for_ever(adapter: Adapter, outbox: Outbox) -> None:
    await outbox.publish(keyed(*numbered(70)))
    assert await complete_kept(outbox, await claim_one(outbox)) == numbered(50)
    assert (await claim_one(adapter.make())).event.id == "e050"


async def test_worker_keeps_a_key_as_long_after_a_claim_on_emit(adapter: Adapter, outbox: Outbox) -> None:
    emit, claims = emit_claim("e000")
    await outbox.publish(keyed(*numbered(70)), emit_claim=emit)
    assert len(await complete_kept(outbox, *claims)) == 50
    assert len(await complete_kept(outbox, await claim_one(adapter.make()))) == 20


@pytest.mark.parametrize("outcome", [Retry(delay=0, error="no"), Released()], ids=str)
async def test_events_in_a_row_are_counted_from_the_last_poll(
    adapter: Adapter, outbox: Outbox, outcome: Outcome
) -> None:
    await outbox.publish(keyed(*numbered(70)))
    assert len(await complete_kept(outbox, await claim_one(outbox), most=10, then=outcome)) == 10
    assert len(await complete_kept(outbox, await claim_one(adapter.make()))) == 50


@pytest.mark.parametrize("outcome", [Retry(delay=0, error="no"), Released(), Failed(error="no")], ids=str)
async def test_other_outcomes_hand_nothing_on(outbox: Outbox, outcome: Outcome) -> None:
    await outbox.publish(keyed("a", "b"))
    assert await outbox.settle([(await claim_one(outbox), outcome)], keep_keys=True) == [None]
    assert (await statuses(outbox, "b")) == [QUEUED]


async def test_many_keys_are_settled_in_one_call(outbox: Outbox) -> None:
    keys = [f"key-{number}" for number in range(30)]
    await outbox.publish([event for key in keys for event in keyed(f"{key}/a", f"{key}/b", key=key)])
    claims = await outbox.claim(30)
    assert len(claims) == 30
    answers = await outbox.settle([(claim, Completed()) for claim in claims], keep_keys=True)
    following = [answer.event.id for answer in answers if isinstance(answer, Claim)]
    assert following == [f"{claim.event.ordering_key}/b" for claim in claims]


# Retries, releases, leases


async def test_retry_holds_its_own_key_only(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([*keyed("a1", "a2", key="a"), *keyed("b1", "b2", key="b")])
    claims = {claim.event.id: claim for claim in await outbox.claim(10)}
    retry = Retry(delay=16, error="mail: no", handled_by=frozenset({"log"}), error_type="E", error_handler="mail")
    assert await outbox.settle([(claims["a1"], retry), (claims["b1"], Completed())]) == [None, None]
    assert await work_off(adapter.make()) == ["b2"]
    clock.now += 16
    again = await claim_one(adapter.make())
    assert (again.event.id, again.attempt, again.handled_by) == ("a1", 2, {"log"})
    assert (again.last_error, again.error_type, again.error_handler) == ("mail: no", "E", "mail")
    assert await settle_one(outbox, again, Completed()) is None
    following = await claim_one(adapter.make())
    assert (following.event.id, following.attempt, following.handled_by) == ("a2", 1, frozenset())
    assert (following.last_error, following.error_type, following.error_handler) == ("", None, None)


async def test_released_event_is_due_at_once_and_counts_no_attempt(adapter: Adapter, outbox: Outbox) -> None:
    await outbox.publish(keyed("a", "b"))
    released = Released(handled_by=frozenset({"log"}), unhandled_since=5.0)
    assert await settle_one(outbox, await claim_one(outbox), released) is None
    again = await claim_one(adapter.make())
    assert (again.event.id, again.attempt, again.handled_by, again.unhandled_since) == ("a", 1, {"log"}, 5.0)
    assert await settle_one(outbox, again, Completed()) is None
    assert (await claim_one(adapter.make())).unhandled_since is None


async def test_expired_lease_is_recovered_and_counts(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await outbox.publish(keyed("a", "b"))
    lost = await claim_one(outbox)
    clock.now += 31
    assert (await outbox.recover()).reset == ("a",)
    again = await claim_one(adapter.make())
    assert (again.event.id, again.attempt, again.last_error) == ("a", 2, LEASE_EXPIRED)
    for outcome in (Retry(delay=0, error="late"), Failed(error="late"), Released()):
        assert isinstance(await settle_one(outbox, lost, outcome), LeaseLostError)
    assert isinstance(*await outbox.renew([(lost, clock.now + 60)]), LeaseLostError)
    assert await outbox.renew([(again, clock.now + 60)]) == [None]
    clock.now += 31
    assert (await adapter.make().recover()).reset == ()
    assert await settle_one(outbox, again, Completed()) is None
    assert (await claim_one(adapter.make())).event.id == "b"


async def test_recovery_counts_without_a_limit_so_that_a_worker_decides(
    adapter: Adapter, outbox: Outbox, clock: Clock
) -> None:
    await outbox.publish(keyed("a"))
    for attempt in range(1, 5):
        assert (await claim_one(adapter.make())).attempt == attempt
        clock.now += 31
        recovered = await outbox.recover(max_retries=1)
        assert (recovered.reset, recovered.failed) == (("a",), ())


async def test_late_success_lets_the_key_go_on_until_another_worker_claims(
    adapter: Adapter, outbox: Outbox, clock: Clock
) -> None:
    await outbox.publish(keyed("a", "b"))
    claim = await claim_one(outbox)
    clock.now += 31
    await adapter.make().recover()
    assert await settle_one(outbox, claim, Completed()) is None
    assert await work_off(adapter.make()) == ["b"]


async def test_success_of_a_worker_that_lost_the_key_is_not_repeated(
    adapter: Adapter, outbox: Outbox, clock: Clock
) -> None:
    await outbox.publish(keyed("a", "b"))
    lost = await claim_one(outbox)
    clock.now += 31
    await adapter.make().recover()
    holder = await claim_one(adapter.make())
    (answer,) = await outbox.settle([(lost, Completed())], keep_keys=True)
    assert isinstance(answer, LeaseLostError)
    assert await statuses(outbox, "b") == [QUEUED]
    assert await settle_one(outbox, holder, Retry(delay=0, error="no")) is None
    # The handlers have succeeded once: nobody calls them again.
    assert await work_off(adapter.make()) == ["b"]
    assert await statuses(outbox, "a") == [COMPLETED]


async def test_front_that_was_deleted_is_skipped(adapter: Adapter, outbox: Outbox) -> None:
    await outbox.publish(keyed("a", "b", "c", "d"))
    for event_id in ("a", "c"):
        await adapter.delete(event_id)
    assert await work_off(outbox) == ["b", "d"]
    assert await outbox.count(PENDING) == 0


# Emits


async def test_id_is_stored_once_and_lined_up_once(outbox: Outbox) -> None:
    first = keyed("a")[0]
    await outbox.publish([first, *keyed("b")])
    with pytest.raises(DuplicateEventError) as caught:
        await outbox.publish(keyed("a"))
    assert caught.value.stored == first
    with pytest.raises(PartialPublishError) as partial:
        await outbox.publish(keyed("b", "c"))
    assert [event.id for event in partial.value.published] == ["c"]
    assert await work_off(outbox) == ["a", "b", "c"]
    for again in (keyed("a"), keyed("a", key="order-18"), [Event("order.paid", id="a")]):
        with pytest.raises(DuplicateEventError):
            await outbox.publish(again)
    assert await work_off(outbox) == []


async def test_first_event_of_an_idle_key_is_claimed_on_emit(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    emit, claims = emit_claim("a")
    await outbox.publish(keyed("a", "b"), emit_claim=emit)
    (claim,) = claims
    assert (claim.event.id, claim.token, claim.attempt) == ("a", "token-a", 1)
    assert claim.lease_expires_at == clock.now + outbox.options.processing_timeout
    assert await statuses(outbox, "a", "b") == [PROCESSING, QUEUED]
    assert await adapter.make().claim(10) == []
    (following,) = await outbox.settle([(claim, Completed())], keep_keys=True)
    assert isinstance(following, Claim)
    assert following.event.id == "b"


@pytest.mark.parametrize("in_transaction", [False, True])
@pytest.mark.parametrize("busy", ["pending", "processing", "retried", "failed"])
async def test_event_of_a_key_with_work_is_not_claimed_on_emit(outbox: Outbox, busy: str, in_transaction: bool) -> None:
    await outbox.publish(keyed("a"))
    if busy != "pending":
        claim = await claim_one(outbox)
        if busy != "processing":
            await settle_one(outbox, claim, Failed(error="no") if busy == "failed" else Retry(delay=60, error="no"))
    emit, claims = emit_claim("b")
    if in_transaction:
        await outbox.transact([], [(event, None) for event in keyed("b")], emit_claim=emit)
    else:
        await outbox.publish(keyed("b"), emit_claim=emit)
    assert claims == []
    assert await statuses(outbox, "b") == [QUEUED]
