"""Every adapter shows what it has stored: one event, pages of the events in a state, and a sample of all."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dynamodb_outbox import ConfigurationError, Count, Event, EventState, EventStatus, StoredEvent
from dynamodb_outbox.adapter import Completed, Failed, Outbox, Released, Retry
from tests.contract.adapters import Adapter, claim_one, settle_one
from tests.fakes import Clock

LISTED = ("due", "scheduled", "processing", "expired", "failed", "held")


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds * 1000) / 1000, UTC)


async def get(outbox: Outbox, event_id: str) -> StoredEvent:
    event = await outbox.get(event_id)
    assert event is not None
    return event


async def ids_of(outbox: Outbox, state: str, **options: Any) -> list[str]:
    """All events of a state, a page at a time."""
    ids: list[str] = []
    after = None
    while True:
        page = await outbox.list_events(state, after=after, **options)
        assert all(event.state == state for event in page.events)
        assert len(page.events) <= options.get("limit", 50)
        ids += [event.id for event in page.events]
        after = page.after
        if after is None:
            return ids


# One event


async def test_event_is_shown_in_every_status(outbox: Outbox, clock: Clock) -> None:
    event = Event("order.placed", {"n": 1}, id="e", metadata={"trace": "t"})
    await outbox.publish([event])
    shown = await get(outbox, "e")
    assert (shown.type, shown.payload, shown.metadata) == ("order.placed", {"n": 1}, {"trace": "t"})
    assert (shown.occurred_at, shown.unreadable) == (event.occurred_at, None)
    assert (shown.status, shown.state, shown.due_at) == (EventStatus.PENDING, EventState.DUE, at(clock.now))
    assert (shown.retry_count, shown.last_error, shown.handled_by) == (0, "", frozenset())

    claim = await claim_one(outbox)
    shown = await get(outbox, "e")
    assert (shown.status, shown.state) == (EventStatus.PROCESSING, EventState.PROCESSING)
    assert (shown.due_at, shown.lease_expires_at) == (None, at(claim.lease_expires_at))

    failed = Retry(
        delay=5, error="b: ValueError: no", handled_by=frozenset({"a"}), error_type="ValueError", error_handler="b"
    )
    assert await settle_one(outbox, claim, failed) is None
    shown = await get(outbox, "e")
    assert (shown.status, shown.state, shown.due_at) == (EventStatus.PENDING, EventState.SCHEDULED, at(clock.now + 5))
    assert (shown.retry_count, shown.handled_by, shown.last_error) == (1, {"a"}, "b: ValueError: no")
    assert (shown.error_type, shown.error_handler) == ("ValueError", "b")

    clock.now += 5
    assert (await get(outbox, "e")).state is EventState.DUE
    claim = await claim_one(outbox)
    clock.now += 30
    assert (await get(outbox, "e")).state is EventState.EXPIRED
    await settle_one(outbox, claim, Failed(error="c: KeyError: 1", error_type="KeyError", error_handler="c"))
    shown = await get(outbox, "e")
    assert (shown.state, shown.failed_at, shown.lease_expires_at) == (EventState.FAILED, at(clock.now), None)
    assert (shown.error_type, shown.error_handler) == ("KeyError", "c")


async def test_completed_event_is_shown(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    claim = await claim_one(outbox)
    clock.now += 2
    await settle_one(outbox, claim, Completed())
    shown = await get(outbox, "e")
    assert (shown.status, shown.state, shown.completed_at) == (
        EventStatus.COMPLETED,
        EventState.COMPLETED,
        at(clock.now),
    )
    assert (shown.due_at, shown.lease_expires_at, shown.failed_at) == (None, None, None)


@pytest.mark.parametrize("event_id", ["unknown", "", "x" * 2049, "\udc00", "dynamodb-outbox-workers"])
async def test_there_is_no_event_of_an_id_that_is_not_stored(outbox: Outbox, event_id: str) -> None:
    assert await outbox.get(event_id) is None


async def test_error_of_nobody_replaces_the_error_of_a_handler(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([Event("order.placed", id=event_id) for event_id in ("unnamed", "typed", "lost")])
    claims = {claim.event.id: claim for claim in await outbox.claim(3)}
    for claim in claims.values():
        blamed = Retry(delay=1, error="h: KeyError", error_type="KeyError", error_handler="h")
        await settle_one(outbox, claim, blamed)
    clock.now += 1
    claims = {claim.event.id: claim for claim in await outbox.claim(3)}
    assert {(claim.error_type, claim.error_handler) for claim in claims.values()} <= {("KeyError", "h"), (None, None)}
    await settle_one(outbox, claims["unnamed"], Failed(error="x"))
    await settle_one(outbox, claims["typed"], Failed(error="x", error_type="NoHandlerError"))
    clock.now += 31
    await outbox.recover(max_retries=0)
    shown = [await get(outbox, event_id) for event_id in ("unnamed", "typed", "lost")]
    assert [event.state for event in shown] == ["failed"] * 3
    assert [event.error_type for event in shown] == [None, "NoHandlerError", "LeaseExpired"]
    assert [event.error_handler for event in shown] == [None] * 3
    failed = {event.id: event for event in await outbox.failed_events(type=None, limit=3)}
    assert [failed[event.id].error_type for event in shown] == [None, "NoHandlerError", "LeaseExpired"]


async def test_fence_of_an_event_changes_with_it(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    fences = [(await get(outbox, "e")).fence]
    claim = await claim_one(outbox)
    fences.append((await get(outbox, "e")).fence)
    clock.now += 1
    await settle_one(outbox, claim, Released())
    fences.append((await get(outbox, "e")).fence)
    claim = await claim_one(outbox)
    await settle_one(outbox, claim, Failed(error="x"))
    fences.append((await get(outbox, "e")).fence)
    assert len(set(fences)) == 4
    assert not await outbox.redrive(["e"], fences={"e": fences[0]})
    assert await outbox.redrive(["e"], fences={"e": fences[3]})


# Pages


async def test_each_event_is_listed_in_its_state_alone(outbox: Outbox, clock: Clock) -> None:
    for number in range(3):
        clock.now += 1
        await outbox.publish([Event("order.placed", id=f"expired{number}")])
        await claim_one(outbox)
    clock.now += 31
    for number in range(3):
        clock.now += 1
        await outbox.publish([Event("order.placed", id=f"failed{number}")])
        await settle_one(outbox, await claim_one(outbox), Failed(error="x"))
    for number in range(3):
        await outbox.publish([Event("order.placed", id=f"processing{number}")])
        await claim_one(outbox)
        clock.now += 1
    for number in range(3):
        await outbox.publish([Event("order.placed", id=f"due{number}")], due_at=clock.now - 10 + number)
        await outbox.publish([Event("order.placed", id=f"scheduled{number}")], due_at=clock.now + 10 + number)
    found = {state: await ids_of(outbox, state) for state in LISTED}
    assert found.pop("held") == []
    # All in the order of their times, but for dead letters: the latest failure comes first.
    assert found.pop("failed") == ["failed2", "failed1", "failed0"]
    assert found == {state: [f"{state}{number}" for number in range(3)] for state in found}
    assert await ids_of(outbox, EventState.DUE) == ["due0", "due1", "due2"]


@pytest.mark.parametrize("limit", [1, 7, 25])
async def test_pages_have_every_event_once_though_all_are_due_at_the_same_time(outbox: Outbox, limit: int) -> None:
    events = [Event("order.placed", id=f"e{number}") for number in range(25)]
    await outbox.publish(events)
    found = await ids_of(outbox, "due", limit=limit)
    assert sorted(found) == sorted(event.id for event in events)


async def test_pages_of_dead_letters_are_in_order(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([Event("order.placed", id=f"e{number}") for number in range(20)])
    order: list[str] = []
    for number, claim in enumerate(await outbox.claim(20)):
        clock.now += number % 2  # two fail at the same time
        await settle_one(outbox, claim, Failed(error="x"))
        order.append(claim.event.id)
    found = await ids_of(outbox, "failed", limit=3)
    times = [(await get(outbox, event_id)).failed_at for event_id in found]
    assert times == sorted(times, reverse=True)  # type: ignore[type-var]
    assert sorted(found) == sorted(order)


async def test_a_page_goes_on_where_the_page_before_ended_whatever_happens_to_its_events(
    outbox: Outbox, clock: Clock
) -> None:
    for number in range(9):
        clock.now += 1
        await outbox.publish([Event("order.placed", id=f"e{number}")])
    page = await outbox.list_events("due", limit=3)
    assert [event.id for event in page.events] == ["e0", "e1", "e2"]
    taken = await outbox.claim(2)
    assert len(taken) == 2
    left = {f"e{number}" for number in range(3, 9)} - {claim.event.id for claim in taken}
    after, found = page.after, []
    while after is not None:
        page = await outbox.list_events("due", limit=3, after=after)
        found += [event.id for event in page.events]
        after = page.after
    assert found == sorted(left)


async def test_events_are_filtered_by_type(outbox: Outbox, clock: Clock) -> None:
    for number in range(10):
        clock.now += 1
        await outbox.publish([Event("even" if number % 2 == 0 else "odd", id=f"e{number}")])
    assert await ids_of(outbox, "due", type="odd") == ["e1", "e3", "e5", "e7", "e9"]
    assert await ids_of(outbox, "due", type="odd", limit=2) == ["e1", "e3", "e5", "e7", "e9"]
    assert await ids_of(outbox, "due", type="none") == []
    page = await outbox.list_events("due", type="odd", limit=2)
    assert page.examined >= len(page.events) == 2


@pytest.mark.parametrize("state", ["completed", "discarded"])
async def test_events_that_are_over_cannot_be_listed(outbox: Outbox, state: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{state} events are not in the index.*get.*Scan"):
        await outbox.list_events(state)


@pytest.mark.parametrize("state", ["DUE", "pending", "PENDING", "", "x"])
async def test_states_have_their_own_names(outbox: Outbox, state: str) -> None:
    with pytest.raises(ConfigurationError, match="must be one of due, scheduled, processing, expired, held, failed"):
        await outbox.list_events(state)


@pytest.mark.parametrize("after", ["", "x", "e30", "W10", "WyJkdWUiLDEsMSwwLCJ4IiwiIiwwXQ", "é"])
async def test_only_a_cursor_continues_a_list(outbox: Outbox, after: str) -> None:
    with pytest.raises(ConfigurationError, match="after="):
        await outbox.list_events("due", after=after)


# Samples


async def test_sample_of_an_empty_outbox(outbox: Outbox, clock: Clock) -> None:
    sample = await outbox.sample()
    none = Count(at_least=0, is_exact=True)
    assert [getattr(sample, state) for state in LISTED] == [none] * 6
    assert (sample.oldest_due, sample.oldest_expired, sample.latest_failed) == (None, None, None)
    assert (sample.oldest_due_age, sample.oldest_expired_age) == (0, 0)
    assert sample.at == datetime.fromtimestamp(clock.now, UTC)


async def test_sample_counts_each_state_and_finds_the_oldest(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([Event("order.placed", id=f"expired{number}") for number in range(2)])
    (claim, _) = await outbox.claim(2)
    clock.now += 35
    await outbox.publish([Event("order.placed", id="failed")])
    await settle_one(outbox, await claim_one(outbox), Failed(error="x"))
    failed_at = clock.now
    await outbox.publish([Event("order.placed", id=f"held{number}") for number in range(3)])
    await outbox.claim(3)
    await outbox.publish([Event("order.placed", id=f"due{number}") for number in range(4)], due_at=clock.now - 7)
    await outbox.publish([Event("order.placed", id=f"later{number}") for number in range(5)], due_at=clock.now + 60)
    sample = await outbox.sample()
    counts = {state: getattr(sample, state) for state in LISTED}
    assert {state: count.at_least for state, count in counts.items()} == {
        "due": 4,
        "scheduled": 5,
        "processing": 3,
        "expired": 2,
        "failed": 1,
        "held": 0,
    }
    assert all(count.is_exact for count in counts.values())
    assert sample.oldest_due_age == pytest.approx(7, abs=0.001)
    assert sample.oldest_expired == at(claim.lease_expires_at)
    assert sample.latest_failed == at(failed_at)


async def test_counts_stop_at_the_limit(outbox: Outbox) -> None:
    await outbox.publish([Event("order.placed", id=f"e{number}") for number in range(12)])
    for limit in (12, 13, 1_000):
        assert (await outbox.sample(count_limit=limit)).due == Count(at_least=12, is_exact=True)
    for limit in (1, 5, 11):
        assert (await outbox.sample(count_limit=limit)).due == Count(at_least=limit, is_exact=False)


async def test_all_outboxes_of_a_table_see_the_same(adapter: Adapter, outbox: Outbox) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    other = adapter.make()
    assert await other.get("e") == await outbox.get("e")
    assert await ids_of(other, "due") == ["e"]
