"""Events that shared a lease, and have an own one since: by an extension, or because the adapter moved them out."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    Delivery,
    Event,
    EventStatus,
    HandlerTimeoutError,
    LeaseLostError,
    OutboxEventBus,
    PollingError,
    ThrottledError,
    UnavailableError,
)
from dynamodb_outbox.observers import LeaseRenewed
from tests.sharing import LEASE, LOST, MARGIN, Handler, SharingOutbox, now

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


@pytest.fixture
async def outbox(errors: list[Any]) -> SharingOutbox:
    return SharingOutbox(on_error=errors.append)


@pytest.fixture
def bus(outbox: SharingOutbox) -> OutboxEventBus:
    return OutboxEventBus(outbox)


@pytest.fixture
def told(bus: OutboxEventBus) -> list[Any]:
    """What the observers of the bus were told."""
    observations: list[Any] = []
    bus.add_observer(observations.append)
    return observations


async def test_extension_within_the_lease_writes_nothing_and_holds(
    outbox: SharingOutbox, bus: OutboxEventBus, errors: list[Any]
) -> None:
    ended: list[float] = []

    @bus.on("video.uploaded")
    async def transcode(event: Event, delivery: Delivery) -> None:
        start = now()
        for _ in range(4):
            await delivery.extend(LEASE / 2)
            await anyio.sleep(LEASE / 2 - 0.1)
        ended.append(now() - start)

    async with bus:
        await bus.emit("video.uploaded")
        await bus.drain()
    assert ended == pytest.approx([2 * LEASE - 0.4])
    assert (outbox.count_of("renew"), errors) == (0, [])


async def test_extension_beyond_the_lease_gives_the_event_an_own_one(
    outbox: SharingOutbox, bus: OutboxEventBus, errors: list[Any], told: list[Any]
) -> None:
    lasted: list[float] = []

    @bus.on("video.uploaded")
    async def transcode(event: Event, delivery: Delivery) -> None:
        await delivery.extend(3 * LEASE)
        lasted.append(delivery.lease_expires_at - outbox.options.clock())
        await anyio.sleep(2 * LEASE)
        lasted.append(delivery.lease_expires_at - outbox.options.clock())

    async with bus:
        event = await bus.emit("video.uploaded")
        await anyio.sleep(1)
        outbox.lose()
        await bus.drain()
    assert lasted == pytest.approx([3 * LEASE + MARGIN, LEASE + MARGIN], abs=0.001)
    assert (outbox.count_of("renew"), errors) == (1, [LOST])
    assert [fact.event_id for fact in told if isinstance(fact, LeaseRenewed)] == [event.id]
    assert outbox.status_of(event.id) is COMPLETED


async def test_worker_renews_an_extended_lease_for_the_other_handlers(
    outbox: SharingOutbox, bus: OutboxEventBus, errors: list[Any]
) -> None:
    bus.on("video.uploaded", long := Handler(4 * LEASE), timeout=100, name="long")

    @bus.on("video.uploaded")
    async def transcode(event: Event, delivery: Delivery) -> None:
        await delivery.extend(2 * LEASE)

    async with bus:
        event = await bus.emit("video.uploaded")
        await bus.drain()
    assert long.ends == [("returned", 4 * LEASE)]
    assert errors == []
    # The extension at once, and a renewal each third of a lease once less than two thirds are left of it.
    assert [call.at - outbox.calls["renew"][0].at for call in outbox.calls["renew"]] == pytest.approx(
        [0.0, *(2 * LEASE + MARGIN - LEASE * 2 / 3 + n * LEASE / 3 for n in range(8))], abs=0.01
    )
    assert outbox.stored(event.id).status is COMPLETED


@pytest.mark.parametrize("how", ["answered late", "raised", "not applied"])
async def test_extension_without_an_answer_is_renewed_by_the_worker_if_it_was_perhaps_applied(
    how: str, outbox: SharingOutbox, bus: OutboxEventBus, errors: list[Any]
) -> None:
    unavailable = UnavailableError(operation="UpdateItem", attempts=3, reason="x", maybe_applied=True)
    throttled = ThrottledError(operation="UpdateItem", attempts=3, reason="x")
    match how:
        case "answered late":
            outbox.refuse("renew", unavailable, nth=1, after=True)
        case "raised":
            outbox.fail("renew", ValueError("x"), nth=1)
        case "not applied":
            outbox.refuse("renew", throttled, nth=1)

    @bus.on("video.uploaded", timeout=100)
    async def transcode(event: Event, delivery: Delivery) -> None:
        with suppress(UnavailableError, ThrottledError, ValueError):
            await delivery.extend(LEASE * 1.5)
        await anyio.sleep(3 * LEASE)

    async with bus:
        event = await bus.emit("video.uploaded")
        await anyio.sleep(2.5 * LEASE)
        if how != "not applied":
            # The event has an own lease now, which does not end with the shared one.
            outbox.lose()
            errors.clear()
        await bus.drain()
    assert outbox.status_of(event.id) is COMPLETED
    assert (outbox.count_of("renew") > 1) is (how != "not applied")
    assert errors == ([] if how == "not applied" else [LOST])


async def test_extension_that_was_perhaps_applied_limits_the_handlers(
    outbox: SharingOutbox, bus: OutboxEventBus, errors: list[Any]
) -> None:
    outbox.refuse("renew", UnavailableError(operation="UpdateItem", attempts=3, reason="x", maybe_applied=True))
    bus.on("video.uploaded", long := Handler(100), timeout=200, max_retries=0, name="long")

    @bus.on("video.uploaded")
    async def transcode(event: Event, delivery: Delivery) -> None:
        with suppress(UnavailableError):
            await delivery.extend(1.5 * LEASE)

    async with bus:
        await bus.emit("video.uploaded")
        await anyio.sleep(3 * LEASE)
    # The adapter goes on renewing the shared lease, but the event may have a lease that ends sooner.
    assert long.ends == [("cancelled", 1.5 * LEASE)]
    assert {type(error) for error in errors} == {PollingError, HandlerTimeoutError}


async def test_worker_renews_the_lease_of_an_event_that_was_moved_out(
    outbox: SharingOutbox, bus: OutboxEventBus, errors: list[Any], told: list[Any]
) -> None:
    bus.on("video.uploaded", handler := Handler(4 * LEASE - 0.5), timeout=100)
    async with bus:
        event = await bus.emit("video.uploaded")
        await anyio.sleep(2 * LEASE)
        outbox.move_out(event)
        moved_at = now()
        (renewed,) = (fact for fact in told if isinstance(fact, LeaseRenewed))
        assert renewed.lease_expires_at == pytest.approx(outbox.options.clock() + LEASE)
        outbox.lose()
        await bus.drain()
    assert handler.ends == [("returned", 4 * LEASE - 0.5)]
    assert [call.at - moved_at for call in outbox.calls["renew"]] == pytest.approx(
        [n * LEASE / 3 for n in range(1, 6)], abs=0.01
    )
    assert errors == [LOST]


async def test_refused_renewal_of_an_event_that_was_moved_out_is_reported(
    outbox: SharingOutbox, bus: OutboxEventBus, errors: list[Any]
) -> None:
    lost = LeaseLostError(event_id="e", event_type="video.uploaded", outcome="renewal")
    outbox.refuse("renew", lost)
    bus.on("video.uploaded", handler := Handler(100), timeout=200)
    async with bus:
        event = await bus.emit("video.uploaded")
        await anyio.sleep(1)
        outbox.move_out(event)
        await anyio.sleep(LEASE)
    assert handler.ends == [("cancelled", 1 + LEASE / 3)]
    assert errors == [lost]


async def test_event_that_was_moved_out_is_not_renewed_for_a_handler_without_a_timeout(
    outbox: SharingOutbox, bus: OutboxEventBus, errors: list[Any]
) -> None:
    bus.on("video.uploaded", handler := Handler(100), max_retries=0)
    async with bus:
        event = await bus.emit("video.uploaded")
        await anyio.sleep(3)
        outbox.move_out(event)
        await anyio.sleep(2 * LEASE)
    assert handler.ends == [("cancelled", LEASE - MARGIN)]
    assert (outbox.count_of("renew"), [type(error) for error in errors]) == (0, [HandlerTimeoutError])
