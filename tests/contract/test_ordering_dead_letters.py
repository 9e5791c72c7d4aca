"""Every adapter blocks a key or sets its event aside, and shows and holds a key as the event at its front.

`test_ordered_repairs.py` has the repairs.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dynamodb_outbox import (
    ConfigurationError,
    Count,
    Event,
    EventState,
    EventStatus,
    LeaseLostError,
    Repaired,
    StoredEvent,
)
from dynamodb_outbox.adapter import Claim, Completed, Failed, Held, Outbox, Released, Retry
from dynamodb_outbox.claims import HandlerDone
from dynamodb_outbox.observers import KeyUnblocked
from tests.contract.adapters import Adapter, claim_one, settle_one
from tests.contract.lines import WIDTH, keyed, numbered, statuses, work_off
from tests.fakes import Clock

PENDING, PROCESSING, COMPLETED, FAILED, HELD, DISCARDED, QUEUED = EventStatus
WHO: dict[str, Any] = {"reason": "sent twice", "by": "ada@bastion"}
FAILURE = Failed(error="bill: no", handled_by=frozenset({"mail"}), error_type="ValueError", error_handler="bill")


async def fail(outbox: Outbox, event_id: str, clock: Clock) -> None:
    """Let the event at the front fail."""
    claim = await claim_one(outbox)
    assert claim.event.id == event_id
    clock.now += 1
    assert await settle_one(outbox, claim, FAILURE) is None


async def see(outbox: Outbox, event_id: str) -> StoredEvent:
    event = await outbox.get(event_id)
    assert event is not None
    return event


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds * 1000) / 1000, UTC)


@pytest.fixture
def told(outbox: Outbox) -> list[Any]:
    """The observations of the adapter about keys."""
    observations: list[Any] = []

    def note(observation: Any) -> None:
        if isinstance(observation, KeyUnblocked):
            observations.append((observation.ordering_key, observation.event_id, observation.repair))

    outbox.observers.add(note)
    return observations


# Dead letters


async def test_dead_letter_blocks_its_key_and_no_other(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await outbox.publish(keyed("a", "b"))
    await fail(outbox, "a", clock)
    await outbox.publish(keyed("other", key="order-18"))
    clock.now += 1000
    assert await work_off(adapter.make()) == ["other"]
    (failed,) = await outbox.failed_events(type=None, limit=10)
    assert (failed.id, failed.ordering_key, failed.blocks_key) == ("a", "order-17", True)
    assert (failed.last_error, failed.error_type, failed.error_handler) == ("bill: no", "ValueError", "bill")
    assert (failed.handled_by, failed.payload) == ({"mail"}, {"id": "a"})
    assert await statuses(outbox, "a", "b") == [FAILED, QUEUED]
    assert [await outbox.count(status) for status in (PENDING, FAILED)] == [0, 1]


async def test_dead_letter_is_set_aside_where_that_is_chosen(adapter: Adapter, clock: Clock) -> None:
    outbox = adapter.make(failed_key="skip")
    await outbox.publish(keyed("a", "b", "c"))
    assert await settle_one(outbox, await claim_one(outbox), Retry(delay=1, error="no")) is None
    clock.now += 1
    (answer,) = await outbox.settle([(await claim_one(outbox), FAILURE)], keep_keys=True)
    assert isinstance(answer, Claim)
    assert (answer.event.id, answer.attempt, answer.handled_by, answer.last_error) == ("b", 1, frozenset(), "")
    (failed,) = await outbox.failed_events(type=None, limit=10)
    assert (failed.id, failed.ordering_key, failed.blocks_key) == ("a", "order-17", False)
    assert (failed.last_error, failed.handled_by, failed.retry_count) == ("bill: no", {"mail"}, 1)
    assert failed.failed_at == at(clock.now)
    assert await settle_one(outbox, answer, FAILURE) is None
    assert await work_off(adapter.make()) == ["c"]
    assert await outbox.count(FAILED) == 2


async def test_dead_letter_has_the_handlers_whose_transactions_were_not_answered(
    adapter: Adapter, clock: Clock
) -> None:
    outbox = adapter.make(failed_key="skip")
    await outbox.publish(keyed("a", "b"))
    claim = await claim_one(outbox)
    for handler in ("bill", "ship"):
        await outbox.transact([], [], done=HandlerDone(claim=claim, handler=handler, completes=False))
    # The worker has had no answer, and knows of its other handler only.
    assert await settle_one(outbox, claim, FAILURE) is None
    (failed,) = await outbox.failed_events(type=None, limit=10)
    assert (failed.id, failed.handled_by) == ("a", {"bill", "mail", "ship"})
    assert await work_off(adapter.make()) == ["b"]
    await outbox.redrive(["a"])
    assert (await claim_one(adapter.make())).handled_by == {"bill", "mail", "ship"}


async def test_failure_of_a_worker_that_lost_the_key_changes_nothing(adapter: Adapter, clock: Clock) -> None:
    outbox = adapter.make(failed_key="skip")
    await outbox.publish(keyed("a", "b"))
    lost = await claim_one(outbox)
    clock.now += 31
    await adapter.make().recover()
    holder = await claim_one(adapter.make())
    assert isinstance(await settle_one(outbox, lost, FAILURE), LeaseLostError)
    assert await settle_one(outbox, holder, Completed()) is None
    assert await statuses(outbox, "a", "b") == [COMPLETED, PENDING]


@pytest.mark.parametrize("keep", [True, False])
async def test_failure_after_the_lease_counts_until_another_worker_has_the_key(
    adapter: Adapter, clock: Clock, *, keep: bool
) -> None:
    outbox = adapter.make(failed_key="skip")
    await outbox.publish(keyed("a", "b"))
    late = await claim_one(outbox)
    clock.now += 31
    await adapter.make().recover()
    (answer,) = await outbox.settle([(late, FAILURE)], keep_keys=keep)
    assert isinstance(answer, Claim) if keep else answer is None
    (failed,) = await outbox.failed_events(type=None, limit=10)
    assert failed.id == "a"
    if isinstance(answer, Claim):
        assert answer.event.id == "b"
        assert await settle_one(outbox, answer, Completed()) is None
    else:
        assert await work_off(adapter.make()) == ["b"]
    assert await statuses(outbox, "a", "b") == [FAILED, COMPLETED]


@pytest.mark.parametrize("completed", ["before", "after"])
async def test_event_that_is_completed_under_a_lost_lease_blocks_nothing(
    adapter: Adapter, outbox: Outbox, clock: Clock, told: list[Any], completed: str
) -> None:
    await outbox.publish(keyed("a", "b"))
    late = await claim_one(outbox)
    clock.now += 31
    await outbox.recover()
    held = await claim_one(outbox)
    settlements = [(late, Completed()), (held, FAILURE)]
    (first, first_outcome), (second, second_outcome) = settlements if completed == "before" else settlements[::-1]
    assert (await settle_one(outbox, first, first_outcome) is None) is (completed == "after")
    assert isinstance(await settle_one(outbox, second, second_outcome), LeaseLostError)
    assert told == [("order-17", "a", "completed")]
    assert await outbox.failed_events(type=None, limit=10) == []
    assert await statuses(outbox, "a", "b") == [COMPLETED, PENDING]
    assert await work_off(adapter.make()) == ["b"]


async def test_failure_of_an_event_that_is_completed_already_is_not_told_as_written(
    adapter: Adapter, clock: Clock
) -> None:
    outbox = adapter.make(failed_key="skip")
    told: list[Any] = []
    outbox.observers.add(told.append)
    await outbox.publish(keyed("a", "b", "c"))
    late = await claim_one(outbox)
    clock.now += 31
    await outbox.recover()
    held = await claim_one(outbox)
    assert isinstance(await settle_one(outbox, late, Completed()), LeaseLostError)
    (answer,) = await outbox.settle([(held, FAILURE)], keep_keys=True)
    assert isinstance(answer, LeaseLostError)
    assert not [each for each in told if isinstance(each, KeyUnblocked)]
    assert await outbox.failed_events(type=None, limit=10) == []
    assert await statuses(outbox, "a") == [COMPLETED]
    assert await work_off(adapter.make()) == ["b", "c"]


# Repairs


@pytest.mark.parametrize("waiting", [0, 1, WIDTH, 3 * WIDTH])
async def test_redrive_of_an_event_that_was_set_aside_puts_it_at_the_end(
    adapter: Adapter, outbox: Outbox, clock: Clock, waiting: int, told: list[Any]
) -> None:
    ids = numbered(waiting)
    await outbox.publish(keyed("a"))
    await fail(adapter.make(failed_key="skip"), "a", clock)
    await outbox.publish(keyed(*ids)) if ids else None
    assert await outbox.redrive(["a"]) == Repaired(done=("a",))
    assert await outbox.failed_events(type=None, limit=10) == []
    assert told == []
    worker = adapter.make()
    assert await work_off(worker, most=waiting) == ids if ids else True
    last = await claim_one(worker)
    # Handlers that have succeeded do not run again, as for any other event.
    assert (last.event.id, last.attempt, last.handled_by) == ("a", 1, {"mail"})
    assert await settle_one(worker, last, Completed()) is None
    assert await outbox.redrive(["a"]) == Repaired(refused={"a": COMPLETED})


async def test_late_outcome_after_a_redrive_is_refused(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await outbox.publish(keyed("a", "b"))
    claim = await claim_one(outbox)
    await settle_one(outbox, claim, FAILURE)
    await outbox.redrive(["a"])
    for outcome in (Retry(delay=0, error="late"), FAILURE, Released()):
        assert isinstance(await settle_one(outbox, claim, outcome), LeaseLostError)
    assert (await claim_one(adapter.make())).event.id == "a"


async def test_skip_of_the_last_event_empties_the_key(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await outbox.publish(keyed("a"))
    await fail(outbox, "a", clock)
    assert (await outbox.skip(["a"])).done == ("a",)
    assert await outbox.count(FAILED) == 1
    await outbox.publish(keyed("b"))
    assert await work_off(adapter.make()) == ["b"]


async def test_skip_is_refused_for_events_that_block_no_key(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([*keyed("a", "b"), Event("order.paid", id="free")])
    for claim in await outbox.claim(10):
        await settle_one(outbox, claim, Retry(delay=60, error="no") if claim.event.id == "a" else FAILURE)
    refused = {"a": PENDING, "b": QUEUED, "free": FAILED, "nobody": None}
    assert await outbox.skip(["a", "b", "free", "nobody"]) == Repaired(refused=refused)
    assert await statuses(outbox, "a", "b", "free") == [PENDING, QUEUED, FAILED]


async def test_event_that_was_set_aside_is_discarded(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await outbox.publish(keyed("a", "b"))
    await fail(adapter.make(failed_key="skip"), "a", clock)
    assert (await outbox.discard(["a"], **WHO)).done == ("a",)
    assert await outbox.redrive(["a"]) == Repaired(refused={"a": DISCARDED})
    assert await work_off(adapter.make()) == ["b"]


async def test_replacement_of_a_dead_letter_takes_its_place(
    adapter: Adapter, outbox: Outbox, clock: Clock, told: list[Any]
) -> None:
    await outbox.publish(keyed("a", "b"))
    await fail(outbox, "a", clock)
    new = keyed("new")[0]
    for _ in range(2):
        assert await outbox.replace("a", new, **WHO) == Repaired(done=("a",))
    assert told == [("order-17", "a", "discard")]
    assert (await see(outbox, "a")).replaced_by == "new"
    claim = await claim_one(adapter.make())
    assert (claim.event, claim.attempt, claim.handled_by, claim.last_error) == (new, 1, frozenset(), "")
    assert await settle_one(outbox, claim, Completed()) is None
    assert await work_off(adapter.make()) == ["b"]


# Reading


async def test_waiting_events_are_shown_behind_the_front(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish(keyed("a", "b", "c"))
    front, waiting = await see(outbox, "a"), await see(outbox, "b")
    assert (front.status, front.state, front.due_at) == (PENDING, EventState.DUE, at(clock.now))
    assert (front.ordering_key, front.waiting_behind) == ("order-17", Count(at_least=2, is_exact=True))
    assert (waiting.status, waiting.state, waiting.due_at) == (QUEUED, EventState.WAITING, None)
    assert (waiting.ordering_key, waiting.waiting_behind, waiting.payload) == ("order-17", None, {"id": "b"})
    claim = await claim_one(outbox)
    front = await see(outbox, "a")
    assert (front.status, front.state) == (PROCESSING, EventState.PROCESSING)
    assert (front.lease_expires_at, front.claimed_by is not None) == (at(claim.lease_expires_at), True)
    clock.now += 1
    await settle_one(outbox, claim, Retry(delay=5, error="bill: no", handled_by=frozenset({"mail"})))
    front = await see(outbox, "a")
    assert (front.state, front.retry_count, front.last_error) == (EventState.SCHEDULED, 1, "bill: no")
    assert (front.due_at, front.handled_by) == (at(clock.now + 5), {"mail"})
    clock.now += 5
    await settle_one(outbox, await claim_one(outbox), Completed())
    done, front = await see(outbox, "a"), await see(outbox, "b")
    assert (done.status, done.completed_at, done.waiting_behind) == (COMPLETED, at(clock.now), None)
    assert (front.status, front.waiting_behind) == (PENDING, Count(at_least=1, is_exact=True))


async def test_key_leads_to_the_event_at_its_front(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish(keyed("a", "b"))
    await fail(outbox, "a", clock)
    front = await outbox.get_front("order-17")
    assert front is not None
    assert front == await see(outbox, "a")
    assert (front.blocks_key, front.waiting_behind) == (True, Count(at_least=1, is_exact=True))
    assert await outbox.skip(["a"]) == Repaired(done=("a",))
    assert await outbox.get_front("order-17") == await see(outbox, "b")
    assert await work_off(outbox) == ["b"]
    assert await outbox.get_front("order-17") is None


async def test_front_has_no_claim_before_a_worker_claims_it(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish(keyed("a", "b"))
    front = await outbox.get_front("order-17")
    assert front is not None
    assert (front.id, front.started_at, front.claimed_by) == ("a", None, None)
    await fail(outbox, "a", clock)
    started_at = (await see(outbox, "a")).started_at
    assert started_at is not None
    assert await outbox.redrive(["a"]) == Repaired(done=("a",))
    assert (await see(outbox, "a")).started_at == started_at
    await fail(outbox, "a", clock)
    # The next event comes to the front without a worker.
    assert await outbox.skip(["a"]) == Repaired(done=("a",))
    front = await see(outbox, "b")
    assert (front.started_at, front.claimed_by) == (None, None)
    await claim_one(outbox)
    assert (await see(outbox, "b")).started_at is not None


async def test_front_that_is_done_is_shown_until_a_claim_takes_it(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish(keyed("a", "b", "c"))
    await outbox.discard(["b"], **WHO)
    claim = await claim_one(outbox)
    clock.now += 1
    await settle_one(outbox, claim, Completed())
    front = await outbox.get_front("order-17")
    assert front is not None
    assert (front.id, front.status, front.waiting_behind) == ("b", DISCARDED, None)
    assert await work_off(outbox) == ["c"]
    assert await outbox.get_front("order-17") is None


@pytest.mark.parametrize("key", ["", "k" * 1025, "\ud800", None, 17])
async def test_front_of_a_key_that_no_event_can_have_is_refused(outbox: Outbox, key: Any) -> None:
    with pytest.raises(ConfigurationError, match="ordering_key"):
        await outbox.get_front(key)


@pytest.mark.parametrize("count", [2 * WIDTH + 5, 5 * WIDTH])
async def test_long_line_is_counted_as_far_as_it_is_known(outbox: Outbox, count: int) -> None:
    await outbox.publish(keyed(*numbered(count)))
    behind = (await see(outbox, "e000")).waiting_behind
    assert behind is not None
    assert WIDTH < behind.at_least <= count - 1
    assert behind.is_exact is (behind.at_least == count - 1)


async def test_key_is_listed_and_counted_as_the_event_at_its_front(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([*keyed("a1", "a2", key="a"), *keyed("b1", "b2", key="b"), Event("order.paid", id="free")])
    assert await outbox.count(PENDING) == 3
    page = await outbox.list_events("due")
    assert {event.id: event.ordering_key for event in page.events} == {"a1": "a", "b1": "b", "free": None}
    behind = {event.id: event.waiting_behind for event in page.events}
    assert behind == {"a1": Count(at_least=1, is_exact=True), "b1": Count(at_least=1, is_exact=True), "free": None}
    claims = {claim.event.id: claim for claim in await outbox.claim(10)}
    clock.now += 1
    await settle_one(outbox, claims["a1"], FAILURE)
    await settle_one(outbox, claims["free"], Completed())
    sample = await outbox.sample()
    assert (sample.due.at_least, sample.processing.at_least, sample.failed.at_least) == (0, 1, 1)
    (failed,) = (await outbox.list_events("failed", type="order.paid")).events
    assert (failed.id, failed.ordering_key, failed.last_error) == ("a1", "a", "bill: no")
    assert (await outbox.list_events("failed", type="another")).events == ()


# Holds


async def test_hold_of_the_type_at_the_front_holds_its_key(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([*keyed("a", type="refund"), *keyed("b"), *keyed("other", key="order-18")])
    await outbox.hold("refund", **WHO, until=None)
    claims = {claim.event.id: claim for claim in await outbox.claim(10)}
    due_at = claims["a"].due_at
    assert due_at is not None
    held = Held(due_at=due_at)
    assert await outbox.settle([(claims["a"], held), (claims["other"], Completed())], keep_keys=True) == [None, None]
    shown = await see(outbox, "a")
    assert (shown.status, shown.state, shown.due_at) == (HELD, EventState.HELD, at(due_at))
    assert [await outbox.count(status) for status in (HELD, PENDING)] == [1, 0]
    clock.now += 100
    assert await adapter.make().claim(10) == []
    assert isinstance(await settle_one(outbox, claims["a"], Completed()), LeaseLostError)
    assert await outbox.resume("another") == 0
    assert await outbox.resume("refund") == 1


async def test_resumed_key_goes_on_in_order(adapter: Adapter, outbox: Outbox) -> None:
    await outbox.publish([*keyed("a", type="refund"), *keyed("b")])
    await outbox.hold("refund", **WHO, until=None)
    claim = await claim_one(outbox)
    await settle_one(outbox, claim, Held(due_at=claim.due_at or 0))
    assert await outbox.resume("refund") == 1
    again = await claim_one(adapter.make())
    assert (again.event.id, again.attempt, again.due_at) == ("a", 1, claim.due_at)
    assert await settle_one(outbox, again, Completed()) is None
    assert await work_off(adapter.make()) == ["b"]


async def test_recovery_resumes_a_key_whose_hold_is_over(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish(keyed("a", type="refund"))
    await outbox.hold("refund", **WHO, until=at(clock.now + 60))
    claim = await claim_one(outbox)
    await settle_one(outbox, claim, Held(due_at=claim.due_at or 0))
    clock.now += 71
    assert (await outbox.recover()).resumed == ("a",)
    assert await outbox.count(PENDING) == 1
