"""One suite for every adapter and mode: what holds here is what the port promises."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    Completed,
    ConfigurationError,
    DuplicateEventError,
    Event,
    EventStatus,
    Failed,
    InvalidEventError,
    LeaseLostError,
    Outbox,
    OutboxEventBus,
    PartialPublishError,
    Released,
    Retry,
    UnstorableValueError,
)
from dynamodb_outbox.dynamodb.schema.shards import Shards
from tests.contract.adapters import Adapter, Clock, claim_one, settle_one
from tests.values import kinds

PENDING, PROCESSING, COMPLETED, FAILED = EventStatus

# Publishing


async def test_published_event_is_pending_and_due_now(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    event = Event("user.created", {"email": "ada@example.org"})
    await outbox.publish([event])
    stored = await adapter.stored(event.id)
    assert stored == {
        "status": PENDING,
        "retries": 0,
        "sort_key": clock.now,
        "token": None,
        "error": "",
        "handled_by": set(),
        "unhandled_since": None,
    }
    assert await outbox.count(PENDING) == 1


async def test_event_comes_back_as_it_was(outbox: Outbox) -> None:
    event = Event(
        "order.placed",
        {"total": 12.5, "lines": [{"sku": "a", "n": 2}, None, True], "note": "", "empty": {}, "tags": {"x", "y"}},
        occurred_at=datetime(2026, 1, 2, 3, 4, 5, 678901, UTC),
        metadata={"traceId": "abc", "depth": 3},
    )
    await outbox.publish([event])
    assert (await claim_one(outbox)).event == event


@pytest.mark.parametrize("payload", [None, "text", 7, [1, 2], {"$value": 1}, {"$value": {"$value": None}}, b"\x00", {}])
async def test_payload_that_is_not_a_plain_mapping_comes_back_as_it_was(outbox: Outbox, payload: Any) -> None:
    await outbox.publish([Event("t", payload)])
    assert (await claim_one(outbox)).event.payload == payload


async def test_whole_numbers_come_back_as_int_and_all_others_as_float(outbox: Outbox) -> None:
    await outbox.publish([Event("t", [Decimal("20.00"), Decimal("19.99"), 20.0, 0.1, 10**37 + 1, {Decimal("0.5"), 2}])])
    received = (await claim_one(outbox)).event.payload
    assert repr(received) == repr([20, 19.99, 20, 0.1, 10**37 + 1, received[-1]])
    assert kinds(received[-1]) == {(float, 0.5), (int, 2)}


async def test_decimal_that_no_float_equals_is_refused_before_anything_is_stored(outbox: Outbox) -> None:
    precise = Event("t", {"lines": [{"price": Decimal("0.1234567890123456789")}]})
    with pytest.raises(UnstorableValueError, match='numbers="decimal"') as caught:
        await outbox.publish([Event("t"), precise])
    assert (caught.value.path, caught.value.event_id) == ("payload.lines[0].price", precise.id)
    assert await outbox.count(PENDING) == 0


async def test_numbers_that_are_not_whole_come_back_as_decimal_where_that_is_chosen(adapter: Adapter) -> None:
    outbox = adapter.make(numbers="decimal")
    precise = Decimal("0.1234567890123456789")
    await outbox.publish([Event("t", [Decimal("20.00"), Decimal("1.10"), 0.1, 1e60, precise], metadata={"of": 0.5})])
    claim = await claim_one(outbox)
    assert repr(claim.event.payload) == repr([20, Decimal("1.1"), Decimal("0.1"), Decimal("1E+60"), precise])
    assert repr(claim.event.metadata) == repr({"of": Decimal("0.5")})
    await settle_one(outbox, claim, Failed(error="x"))
    (failed,) = await outbox.failed_events(type=None, limit=10)
    assert repr(failed.payload) == repr(claim.event.payload)


@pytest.mark.parametrize(
    ("numbers", "fraction", "expected"),
    [
        ("native", "0.5", "[1, 0.5]"),
        # Only this mode takes it: each kind of emit encodes by the mode, too.
        ("decimal", "0.1234567890123456789", "[1, Decimal('0.1234567890123456789')]"),
    ],
)
async def test_handlers_get_numbers_by_the_mode_however_an_event_came_to_them(
    adapter: Adapter, numbers: str, fraction: str, expected: str
) -> None:
    bus = OutboxEventBus(adapter.make(numbers=numbers))
    received: dict[str, str] = {}

    @bus.on("t")
    async def handler(event: Event) -> None:
        received[event.id] = repr(event.payload)

    payload = [Decimal("1.0"), Decimal(fraction)]
    await bus.emit("t", payload, id="polled")
    async with bus:
        # Claimed on emit: no claim reads them from the table.
        async with anyio.create_task_group() as group:
            for _ in range(4):  # the first goes alone, the others share a request
                group.start_soon(bus.emit, "t", payload)
        await bus.emit_many([Event("t", payload, id=f"one of many {n}") for n in range(2)])
        async with bus.transaction() as tx:
            tx.emit("t", payload, id="in a transaction")
        with anyio.fail_after(60):
            while len(received) < 8:
                await anyio.sleep(0.01)
    assert set(received.values()) == {expected}


async def test_number_beyond_a_float_is_delivered_as_the_nearest_one(adapter: Adapter) -> None:
    await adapter.make(numbers="decimal").publish([Event("t", Decimal("0.1234567890123456789"))])
    assert repr((await claim_one(adapter.make())).event.payload) == "0.12345678901234568"


async def test_numbers_are_native_or_decimal(adapter: Adapter) -> None:
    for numbers in ("float", None, ["decimal"], 0):
        with pytest.raises(ConfigurationError, match="'native' or 'decimal'"):
            adapter.make(numbers=numbers)


async def test_reserved_id_is_refused_by_every_kind_of_emit(outbox: Outbox) -> None:
    bus = OutboxEventBus(outbox)
    reserved = {"id": "dynamodb-outbox-workers"}
    with pytest.raises(InvalidEventError, match="'dynamodb-outbox' are reserved"):
        await bus.emit("t", **reserved)
    with pytest.raises(InvalidEventError, match="are reserved"):
        await bus.emit_many([Event("t"), Event("t", **reserved)])
    with pytest.raises(InvalidEventError, match="are reserved"):
        async with bus.transaction() as tx:
            tx.emit("t", **reserved)
    assert await outbox.count(PENDING) == 0


async def test_second_event_of_an_id_is_refused_and_changes_nothing(adapter: Adapter, outbox: Outbox) -> None:
    await outbox.publish([Event("t", {"n": 1}, id="order-1")])
    claim = await claim_one(outbox)
    with pytest.raises(DuplicateEventError) as caught:
        await outbox.publish([Event("t", {"n": 2}, id="order-1")])
    assert caught.value.event_id == "order-1"
    stored = await adapter.stored("order-1")
    assert (stored["status"], stored["token"]) == (PROCESSING, claim.token)


async def test_same_object_emitted_again_never_resets_a_claimed_event(adapter: Adapter, outbox: Outbox) -> None:
    events = [Event("t", {"n": n}) for n in range(3)]
    await outbox.publish(events)
    assert len(await outbox.claim(10)) == 3
    with pytest.raises(PartialPublishError) as caught:
        await outbox.publish([*events, Event("t", {"n": 4}, id="new")])
    assert {event.id for event in caught.value.failed} == {event.id for event in events}
    assert [event.id for event in caught.value.published] == ["new"]
    assert [(await adapter.stored(event.id))["status"] for event in events] == [PROCESSING] * 3


async def test_refused_duplicate_has_the_stored_event(outbox: Outbox) -> None:
    first = Event("order.placed", {"total": 1}, id="order-1", metadata={"by": "ada"})
    await outbox.publish([first])
    with pytest.raises(DuplicateEventError) as caught:
        await outbox.publish([Event("order.placed", {"total": 2}, id="order-1")])
    assert caught.value.stored == first
    with pytest.raises(DuplicateEventError) as caught:
        await outbox.transact([], [(Event("order.placed", {"total": 3}, id="order-1"), None)])
    assert caught.value.stored == first


async def test_emit_that_ignores_a_duplicate_returns_the_stored_event(outbox: Outbox) -> None:
    bus = OutboxEventBus(outbox)
    first = Event("order.placed", {"total": 1}, id="order-1")
    assert await bus.emit(first) is first
    second = await bus.emit("order.placed", {"total": 2}, id="order-1", if_exists="ignore")
    assert second == first
    known, new = await bus.emit_many([Event("t", 3, id="order-1"), Event("t", 4, id="order-2")], if_exists="ignore")
    assert (known, new.payload) == (first, 4)
    assert [event.already_stored for event in (first, second, known, new)] == [False, True, True, False]


async def test_same_id_twice_in_one_publish_is_refused_whole(outbox: Outbox) -> None:
    with pytest.raises(DuplicateEventError):
        await outbox.publish([Event("t", id="a"), Event("t", id="b"), Event("t", id="a")])
    assert await outbox.count(PENDING) == 0


async def test_one_bad_event_among_many_is_refused_and_none_is_stored(outbox: Outbox) -> None:
    events = [Event("t", {"n": n}) for n in range(25)] + [Event("t", {"items": [{"price": float("nan")}]})]
    with pytest.raises(UnstorableValueError) as caught:
        await outbox.publish(events)
    assert caught.value.path == "payload.items[0].price"
    assert caught.value.event_id == events[-1].id
    assert await outbox.count(PENDING) == 0


async def test_delayed_event_is_claimed_only_once_it_is_due(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([Event("t")], due_at=clock.now + 60)
    assert await outbox.claim(10) == []
    clock.now += 60
    assert (await claim_one(outbox)).attempt == 1


# Counting


async def test_count_takes_a_status_by_its_name(outbox: Outbox) -> None:
    await outbox.publish([Event("t") for _ in range(3)])
    (claim, *_) = await outbox.claim(1)
    await settle_one(outbox, claim, Failed(error="x"))
    assert [await outbox.count(status) for status in ("PENDING", "PROCESSING", "FAILED")] == [2, 0, 1]


async def test_count_of_completed_events_is_refused(outbox: Outbox) -> None:
    # They are not in the index: the answer would be 0, however many there are.
    for status in (COMPLETED, "COMPLETED"):
        with pytest.raises(ConfigurationError, match=r"completed events are not in the index.*EventCompleted.*Scan"):
            await outbox.count(status)


async def test_count_of_an_unknown_status_is_refused(outbox: Outbox) -> None:
    unknown: list[Any] = ["failed", "DONE", "", None, 1, ["FAILED"]]
    for status in unknown:
        with pytest.raises(ConfigurationError, match="must be PENDING, PROCESSING or FAILED"):
            await outbox.count(status)


# Claiming


async def test_claim_takes_the_longest_due_first_and_no_more_than_the_limit(outbox: Outbox, clock: Clock) -> None:
    start = clock.now
    # In one shard, where there are any: between them, no order is promised.
    first = Shards(4).key("PENDING", "e0")
    ids = [event_id for n in range(100) if Shards(4).key("PENDING", event_id := f"e{n}") == first]
    for n in range(5):
        clock.now = start + n
        await outbox.publish([Event("t", {"n": n}, id=ids[n])])
    claims = await outbox.claim(3)
    assert sorted(claim.event.payload["n"] for claim in claims) == [0, 1, 2]
    assert sorted(claim.event.payload["n"] for claim in await outbox.claim(3)) == [3, 4]


async def test_claim_writes_token_and_lease(adapter: Adapter, clock: Clock) -> None:
    outbox = adapter.make(processing_timeout=12.5)
    await outbox.publish([Event("t", id="e")])
    claim = await claim_one(outbox)
    stored = await adapter.stored("e")
    assert (stored["status"], stored["token"], stored["sort_key"]) == (PROCESSING, claim.token, clock.now + 12.5)
    assert (claim.attempt, claim.lease_expires_at, claim.handled_by) == (1, clock.now + 12.5, frozenset())


async def test_claimed_event_is_not_claimed_again(adapter: Adapter, outbox: Outbox) -> None:
    await outbox.publish([Event("t", {"n": n}) for n in range(30)])
    other = adapter.make()
    claims = [*await outbox.claim(20), *await other.claim(20)]
    assert len({claim.event.id for claim in claims}) == len(claims) == 30
    assert len({claim.token for claim in claims}) == 30
    assert await outbox.claim(10) == []


# Settling


async def test_completed_event_leaves_the_index_and_is_final(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([Event("t", id="e")])
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
    await outbox.publish([Event("t", id="e")])
    claim = await claim_one(outbox)
    assert await settle_one(outbox, claim, outcome) is None
    once = await adapter.stored("e")
    assert await settle_one(outbox, claim, outcome) is None
    assert await adapter.stored("e") == once


async def test_retry_is_due_after_its_delay_and_counts(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([Event("t", id="e")])
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
    await outbox.publish([Event("t", id="e")])
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
    await outbox.publish([Event("t", id="e")])
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
    await outbox.publish([Event("t", id="e")])
    claim = await claim_one(outbox)
    clock.now += 31
    await adapter.make().recover()
    assert await settle_one(outbox, claim, Completed()) is None
    assert (await adapter.stored("e"))["status"] == COMPLETED


async def test_deleted_event_is_reported_and_not_resurrected(adapter: Adapter, outbox: Outbox) -> None:
    await outbox.publish([Event("t", id="e")])
    claim = await claim_one(outbox)
    await adapter.delete("e")
    for outcome in (Completed(), Retry(delay=0, error="x"), Failed(error="x"), Released()):
        assert isinstance(await settle_one(outbox, claim, outcome), LeaseLostError)
    assert await adapter.stored("e") == {}


async def test_settling_many_gives_each_its_own_result(adapter: Adapter, outbox: Outbox) -> None:
    await outbox.publish([Event("t") for _ in range(30)])
    claims = await outbox.claim(30)
    for n in (7, 24, 29):
        await adapter.delete(claims[n].event.id)
    errors = await outbox.settle([(claim, Completed()) for claim in claims])
    assert [n for n, error in enumerate(errors) if error is not None] == [7, 24, 29]
    assert (await adapter.stored(claims[28].event.id))["status"] == COMPLETED


async def test_two_settles_of_one_event_may_come_together(outbox: Outbox) -> None:
    await outbox.publish([Event("t", id="e")])
    claim = await claim_one(outbox)
    errors = await outbox.settle([(claim, Completed()), (claim, Completed())])
    assert errors == [None, None]


async def test_long_error_is_cut(adapter: Adapter, outbox: Outbox) -> None:
    await outbox.publish([Event("t", id="e")])
    await settle_one(outbox, await claim_one(outbox), Failed(error="x" * 5000))
    assert len((await adapter.stored("e"))["error"]) == 1024


# Recovery


async def test_recovery_counts_a_retry_and_makes_the_event_due(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([Event("t", id="e")])
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
    await outbox.publish([Event("t", id="poison")])
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
    event = Event("order.placed", {"n": 1}, id="e", metadata={"trace": "t"})
    await outbox.publish([event])
    claim = await claim_one(outbox)
    clock.now += 2
    await settle_one(outbox, claim, Failed(error="ValueError: no", handled_by=frozenset({"mail"})))
    (failed,) = await outbox.failed_events(type=None, limit=10)
    assert (failed.id, failed.type, failed.payload) == ("e", "order.placed", {"n": 1})
    assert (failed.occurred_at, failed.metadata) == (event.occurred_at, {"trace": "t"})
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
    await outbox.publish([Event("t", id=f"e{n}") for n in range(4)])
    for claim in await outbox.claim(4):
        if claim.event.id != "e3":
            await settle_one(outbox, claim, Failed(error="x", handled_by=frozenset({"done"})))
    clock.now += 10
    assert await outbox.redrive(["e0", "e1", "e1", "e3", "unknown"]) == 2
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


async def test_redrive_takes_many(outbox: Outbox) -> None:
    events = [Event("t") for _ in range(105)]
    ids = [event.id for event in events]
    await outbox.publish(events)
    for _ in range(2):
        claims = await outbox.claim(100)
        await outbox.settle([(claim, Failed(error="x")) for claim in claims])
    assert len(await outbox.failed_events(type=None, limit=1000)) == 105
    assert await outbox.redrive(ids) == 105
    assert await outbox.count(PENDING) == 105


async def test_late_settle_after_a_redrive_is_refused(adapter: Adapter, outbox: Outbox) -> None:
    await outbox.publish([Event("t", id="e")])
    claim = await claim_one(outbox)
    await settle_one(outbox, claim, Failed(error="x"))
    assert await outbox.redrive(["e"]) == 1
    assert isinstance(await settle_one(outbox, claim, Completed()), LeaseLostError)
    assert (await adapter.stored("e"))["status"] == PENDING


async def test_occurred_at_is_kept_to_the_microsecond_in_utc(outbox: Outbox) -> None:
    from datetime import timezone

    local = datetime(2026, 5, 1, 12, 0, 0, 123456, timezone(timedelta(hours=2)))
    await outbox.publish([Event("t", occurred_at=local)])
    assert (await claim_one(outbox)).event.occurred_at.isoformat() == "2026-05-01T10:00:00.123456+00:00"
