"""Renewals, transactions, and the record of a handler, on every adapter."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodb_outbox import (
    DuplicateEventError,
    Event,
    EventStatus,
    LeaseLostError,
    TransactionTooLargeError,
    UnstorableValueError,
)
from dynamodb_outbox.adapter import Claim, Completed, Failed, HandlerDone, Outbox, Released, Retry
from tests.contract.adapters import Adapter, claim_one, settle_one
from tests.fakes import Clock

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


@pytest.fixture
async def claim(outbox: Outbox) -> Claim:
    await outbox.publish([Event("invoice.due", id="e")])
    return await claim_one(outbox)


def done(claim: Claim, handler: str = "h", *, completes: bool = False) -> HandlerDone:
    return HandlerDone(claim=claim, handler=handler, completes=completes)


# Renewals


async def test_renewal_moves_the_deadline(adapter: Adapter, outbox: Outbox, claim: Claim, clock: Clock) -> None:
    clock.now += 20
    assert await outbox.renew([(claim, clock.now + 30)]) == [None]
    assert (await adapter.stored("e"))["sort_key"] == clock.now + 30
    clock.now += 29
    assert (await outbox.recover()).reset == ()
    clock.now += 1
    assert (await outbox.recover()).reset == ("e",)


@pytest.mark.parametrize("outcome", [Completed(), Retry(delay=0, error="x"), Failed(error="x"), Released()])
async def test_renewal_of_what_is_settled_is_refused(
    adapter: Adapter, outbox: Outbox, claim: Claim, clock: Clock, outcome: Any
) -> None:
    await settle_one(outbox, claim, outcome)
    before = await adapter.stored("e")
    (error,) = await outbox.renew([(claim, clock.now + 60)])
    assert isinstance(error, LeaseLostError)
    assert await adapter.stored("e") == before


async def test_renewal_by_one_who_lost_the_lease_is_refused(
    adapter: Adapter, outbox: Outbox, claim: Claim, clock: Clock
) -> None:
    clock.now += 31
    await outbox.recover()
    second = await claim_one(outbox)
    errors = await outbox.renew([(claim, clock.now + 60), (second, clock.now + 60)])
    assert isinstance(errors[0], LeaseLostError)
    assert "renewal' of 'invoice.due' event 'e' was refused: the lease ran out" in str(errors[0])
    assert errors[1] is None
    assert (await adapter.stored("e"))["sort_key"] == clock.now + 60


# What handlers have done


@pytest.mark.parametrize("make", [lambda names: Retry(delay=0, error="x", handled_by=names),
                                  lambda names: Released(handled_by=names)])  # fmt: skip
async def test_handlers_that_succeeded_are_remembered_over_attempts(
    adapter: Adapter, outbox: Outbox, claim: Claim, clock: Clock, make: Any
) -> None:
    clock.now += 1
    await settle_one(outbox, claim, make(frozenset({"a"})))
    second = await claim_one(outbox)
    assert second.handled_by == {"a"}
    # What one attempt does not know of, it does not wipe out.
    await settle_one(outbox, second, make(frozenset({"b"})))
    assert (await adapter.stored("e"))["handled_by"] == {"a", "b"}


async def test_handlers_that_succeeded_are_remembered_over_a_redrive(
    outbox: Outbox, claim: Claim, clock: Clock
) -> None:
    clock.now += 1
    await settle_one(outbox, claim, Failed(error="x", handled_by=frozenset({"a"})))
    assert (await outbox.failed_events(type=None, limit=1))[0].handled_by == {"a"}
    assert len((await outbox.redrive(["e"])).done) == 1
    assert (await claim_one(outbox)).handled_by == {"a"}


# Transactions


async def test_events_of_a_transaction_are_stored_each_at_its_time(
    adapter: Adapter, outbox: Outbox, clock: Clock
) -> None:
    await outbox.transact(
        [], [(Event("invoice.due", id="now"), None), (Event("invoice.due", id="later"), clock.now + 60)]
    )
    assert (await adapter.stored("now"))["sort_key"] == clock.now
    assert (await adapter.stored("later"))["sort_key"] == clock.now + 60
    assert [claim.event.id for claim in await outbox.claim(10)] == ["now"]


async def test_one_event_that_is_stored_already_keeps_the_others_out(
    adapter: Adapter, outbox: Outbox, claim: Claim
) -> None:
    with pytest.raises(DuplicateEventError) as caught:
        await outbox.transact([], [(Event("invoice.due", id="new"), None), (Event("invoice.due", id="e"), None)])
    assert caught.value.event_id == "e"
    assert await adapter.stored("new") == {}
    assert (await adapter.stored("e"))["token"] == claim.token


async def test_bad_event_is_refused_before_anything_is_stored(adapter: Adapter, outbox: Outbox) -> None:
    with pytest.raises(UnstorableValueError, match=r"payload\.n of event 'b'"):
        await outbox.transact(
            [], [(Event("invoice.due", id="a"), None), (Event("invoice.due", {"n": float("inf")}, id="b"), None)]
        )
    with pytest.raises(DuplicateEventError):
        await outbox.transact([], [(Event("invoice.due", id="a"), None), (Event("invoice.due", id="a"), None)])
    assert await adapter.stored("a") == {}


async def test_more_than_a_hundred_items_or_four_megabytes_are_refused(outbox: Outbox, claim: Claim) -> None:
    events: list[tuple[Event, None]] = [(Event("invoice.due"), None) for _ in range(100)]
    with pytest.raises(TransactionTooLargeError, match=r"101 items \(0 writes, 100 events and the record of") as many:
        await outbox.transact([], events, done=done(claim))
    assert (many.value.items, many.value.max_items) == (101, 100)
    large: list[tuple[Event, None]] = [(Event("invoice.due", "x" * 400_000), None) for _ in range(11)]
    with pytest.raises(TransactionTooLargeError, match=r"4,40\d,\d{3} bytes, but the limit is 4,194,304; nothing"):
        await outbox.transact([], large)
    assert await outbox.count(PENDING) == 0
    await outbox.transact([], events)
    assert await outbox.count(PENDING) == 100


# The record of a handler


async def test_transaction_tells_that_it_is_written(outbox: Outbox, claim: Claim) -> None:
    told: list[str] = []
    await outbox.publish([Event("invoice.due", id="taken")])
    record = HandlerDone(claim=claim, handler="h", completes=True, written=lambda: told.append("written"))
    with pytest.raises(DuplicateEventError):
        await outbox.transact([], [(Event("invoice.due", id="taken"), None)], done=record)
    assert told == []
    for _ in range(2):
        # A repeat finds that it is written.
        await outbox.transact([], [], done=record)
    assert told == ["written", "written"]


async def test_record_of_a_handler_goes_with_its_events(adapter: Adapter, outbox: Outbox, claim: Claim) -> None:
    await outbox.transact([], [(Event("invoice.due", id="child"), None)], done=done(claim, "a"))
    stored = await adapter.stored("e")
    assert (stored["status"], stored["handled_by"], stored["token"]) == (PROCESSING, {"a"}, claim.token)
    assert (await adapter.stored("child"))["status"] is PENDING
    await outbox.transact([], [], done=done(claim, "b"))
    assert (await adapter.stored("e"))["handled_by"] == {"a", "b"}


async def test_record_survives_a_settle_that_does_not_know_of_it(outbox: Outbox, claim: Claim, clock: Clock) -> None:
    clock.now += 1
    await outbox.transact([], [], done=done(claim, "a"))
    assert await settle_one(outbox, claim, Retry(delay=0, error="x", handled_by=frozenset({"b"}))) is None
    assert (await claim_one(outbox)).handled_by == {"a", "b"}


async def test_last_handler_completes_the_event(adapter: Adapter, outbox: Outbox, claim: Claim) -> None:
    await outbox.transact([], [(Event("invoice.due", id="child"), None)], done=done(claim, completes=True))
    stored = await adapter.stored("e")
    assert (stored["status"], stored["sort_key"]) == (COMPLETED, None)
    assert isinstance(await settle_one(outbox, claim, Retry(delay=0, error="x")), LeaseLostError)
    assert (await adapter.stored("e"))["status"] is COMPLETED


@pytest.mark.parametrize("completes", [True, False])
async def test_transaction_of_a_handler_that_lost_its_lease_writes_nothing(
    adapter: Adapter, outbox: Outbox, claim: Claim, clock: Clock, completes: bool
) -> None:
    clock.now += 31
    await outbox.recover()
    second = await claim_one(outbox)
    with pytest.raises(
        LeaseLostError, match=r"delivery transaction' of 'invoice\.due' event 'e' was refused: the lease ran out"
    ):
        await outbox.transact([], [(Event("invoice.due", id="child"), None)], done=done(claim, completes=completes))
    assert await adapter.stored("child") == {}
    stored = await adapter.stored("e")
    assert (stored["status"], stored["token"], stored["handled_by"]) == (PROCESSING, second.token, set())


async def test_lost_lease_is_raised_though_the_child_is_stored_already(
    outbox: Outbox, claim: Claim, clock: Clock
) -> None:
    clock.now += 31
    await outbox.recover()
    await claim_one(outbox)
    await outbox.publish([Event("invoice.due", id="child")])
    with pytest.raises(LeaseLostError):
        await outbox.transact([], [(Event("invoice.due", id="child"), None)], done=done(claim))


@pytest.mark.parametrize("outcome", [Completed(), Retry(delay=0, error="x"), Failed(error="x"), Released()])
async def test_transaction_after_the_settle_writes_nothing(
    adapter: Adapter, outbox: Outbox, claim: Claim, outcome: Any
) -> None:
    await settle_one(outbox, claim, outcome)
    before = await adapter.stored("e")
    with pytest.raises(LeaseLostError):
        await outbox.transact([], [(Event("invoice.due", id="child"), None)], done=done(claim))
    assert await adapter.stored("child") == {}
    assert await adapter.stored("e") == before


@pytest.mark.parametrize("completes", [True, False])
async def test_second_transaction_of_a_handler_changes_nothing(
    adapter: Adapter, outbox: Outbox, claim: Claim, completes: bool
) -> None:
    # As after a commit whose reply was lost for good: what is recorded, has happened.
    await outbox.transact([], [(Event("invoice.due", id="first"), None)], done=done(claim, completes=completes))
    await outbox.transact([], [(Event("invoice.due", id="second"), None)], done=done(claim, completes=completes))
    assert await adapter.stored("first")
    assert await adapter.stored("second") == {}


async def test_recovery_has_the_retries_that_it_is_asked_for(adapter: Adapter, clock: Clock) -> None:
    outbox = adapter.make(max_retries=1)
    await outbox.publish([Event("invoice.due", id="e")])
    for retries in range(1, 4):
        await claim_one(outbox)
        clock.now += 31
        assert (await outbox.recover(max_retries=3)).reset == ("e",)
        assert (await adapter.stored("e"))["retries"] == retries
    await claim_one(outbox)
    clock.now += 31
    assert (await outbox.recover(max_retries=3)).failed == ("e",)
