"""Leases: renewal, extension and loss."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    Delivery,
    Event,
    EventStatus,
    FixedBackoff,
    HandlerError,
    HandlerTimeoutError,
    LeaseLostError,
    OutboxError,
    OutboxEventBus,
    PollingError,
    ThrottledError,
    UnavailableError,
)
from dynamodb_outbox.observers import EventCompleted, HandlerCancelled, LeaseLost, LeaseRenewed, RetryScheduled
from dynamodb_outbox.worker.timing import Timing
from tests.fakes import ScriptedOutbox

LEASE = 0.6


def outbox_of(errors: list[Any], **options: Any) -> ScriptedOutbox:
    """An outbox of short leases, that polls and retries soon."""
    defaults = {"poll_interval": 0.02, "base_backoff": 0.0, "processing_timeout": LEASE, "on_error": errors.append}
    return ScriptedOutbox(**(defaults | options))


@pytest.fixture
def outbox(errors: list[Any]) -> ScriptedOutbox:
    return outbox_of(errors)


@pytest.fixture
def bus(outbox: ScriptedOutbox) -> OutboxEventBus:
    return OutboxEventBus(outbox)


async def test_lease_is_renewed_at_a_third_of_its_length_for_a_declared_timeout(
    outbox: ScriptedOutbox, bus: OutboxEventBus, errors: list[Any]
) -> None:
    runs: list[int] = []
    expiries: list[float] = []
    told: list[Any] = []
    bus.add_observer(told.append)

    @bus.on("video.uploaded", timeout=10)
    async def long(event: Event, delivery: Delivery) -> None:
        runs.append(delivery.attempt)
        expiries.append(delivery.lease_expires_at)
        await anyio.sleep(2.9 * LEASE)
        expiries.append(delivery.lease_expires_at)

    other = OutboxEventBus(outbox)
    other.on("video.uploaded", long, name="test.other")
    with anyio.fail_after(10):
        async with bus, other:
            start = anyio.current_time()
            event = await bus.emit("video.uploaded")
            await bus.drain(8)
    assert (runs, errors) == ([1], [])
    times = [call.at for call in outbox.calls["renew"]]
    gaps = [b - a for a, b in zip([start, *times], times, strict=False)]
    assert gaps == pytest.approx([LEASE / 3] * 8, abs=0.001)
    assert expiries[1] > expiries[0] + 2 * LEASE
    assert {type(fact) for fact in told if getattr(fact, "event_id", "") == event.id} >= {LeaseRenewed}


async def test_handler_without_a_timeout_is_not_renewed(outbox: ScriptedOutbox, bus: OutboxEventBus) -> None:
    @bus.on("video.uploaded", max_retries=0)
    async def slow(event: Event) -> None:
        await anyio.sleep(10)

    await bus.emit("video.uploaded")
    with anyio.fail_after(5):
        await bus.run_once()
    assert outbox.count_of("renew") == 0


async def test_leases_that_are_due_together_are_renewed_together(outbox: ScriptedOutbox, bus: OutboxEventBus) -> None:
    @bus.on("video.uploaded", timeout=10)
    async def long(event: Event) -> None:
        await anyio.sleep(LEASE / 2)

    await bus.emit_many([Event("video.uploaded") for _ in range(10)])
    with anyio.fail_after(5):
        assert await bus.run_once() == 10
    assert {len(call.argument) for call in outbox.calls["renew"]} == {10}


@pytest.mark.parametrize(
    "error",
    [
        ThrottledError(operation="UpdateItem", attempts=3, reason="x"),
        UnavailableError(operation="UpdateItem", attempts=3, reason="x", maybe_applied=True),
    ],
)
async def test_renewals_that_fail_have_the_handler_cancelled_while_the_lease_holds(
    outbox: ScriptedOutbox, bus: OutboxEventBus, errors: list[Any], error: OutboxError
) -> None:
    outbox.refuse("renew", error)
    left: list[float] = []

    @bus.on("video.uploaded", timeout=10, max_retries=0, name="long")
    async def long(event: Event, delivery: Delivery) -> None:
        try:
            await anyio.sleep(10)
        finally:
            left.append(delivery.lease_expires_at - outbox.options.clock())

    await bus.emit("video.uploaded")
    with anyio.fail_after(5):
        assert await bus.run_once() == 1
    assert left == pytest.approx([Timing().margin_part * LEASE], abs=0.001)
    assert [type(reported) for reported in errors[:-1]] == [PollingError] * (len(errors) - 1)
    assert 2 <= outbox.count_of("renew") <= 8
    assert isinstance(errors[-1], HandlerTimeoutError)
    assert "or because the lease could not be renewed" in str(errors[-1])


async def test_handler_is_cancelled_when_its_renewal_is_refused(
    outbox: ScriptedOutbox, bus: OutboxEventBus, errors: list[Any]
) -> None:
    lost = LeaseLostError(event_id="e", event_type="video.uploaded", outcome="renewal")
    outbox.refuse("renew", lost)
    told: list[Any] = []
    bus.add_observer(told.append)

    @bus.on("video.uploaded", timeout=10)
    async def long(event: Event) -> None:
        await anyio.sleep(10)

    event = await bus.emit("video.uploaded")
    before = anyio.current_time()
    with anyio.fail_after(5):
        assert await bus.run_once() == 0
    assert anyio.current_time() - before < LEASE
    # Reported once; nothing is written about an event that another worker holds.
    assert errors == [lost]
    assert outbox.status_of(event.id) is EventStatus.PROCESSING
    assert [type(fact) for fact in told if isinstance(fact, HandlerCancelled)] == [HandlerCancelled]


@pytest.mark.parametrize("way", ["settle", "transaction"])
async def test_renewal_that_comes_after_the_completion_changes_nothing(
    outbox: ScriptedOutbox, bus: OutboxEventBus, errors: list[Any], way: str
) -> None:
    answered = anyio.Event()
    ended: list[str] = []
    gate = outbox.pause("renew")

    async def answer() -> None:
        answered.set()

    outbox.script("renew", answer, after=True)

    def watch(observation: Any) -> None:
        if isinstance(observation, EventCompleted):
            gate.open()

    bus.add_observer(watch)

    @bus.on("video.uploaded", timeout=10)
    async def transcode(event: Event, delivery: Delivery) -> None:
        await gate.reached.wait()
        if way == "transaction":
            async with delivery.transaction() as tx:
                tx.put(TableName="accounts", Item={"id": "ada"})
            gate.open()
            await answered.wait()
            await anyio.sleep(0.01)
        ended.append("in its own time")

    with anyio.fail_after(5):
        async with bus:
            await bus.emit("video.uploaded")
            await answered.wait()
            await bus.drain()
    (renewal,) = outbox.calls["renew"]
    assert [type(error) for error in renewal.result] == [LeaseLostError]
    assert (ended, errors) == (["in its own time"], [])


async def test_handler_goes_on_after_its_completing_commit_for_its_whole_timeout(
    outbox: ScriptedOutbox, bus: OutboxEventBus, errors: list[Any]
) -> None:
    ended: list[EventStatus | None] = []

    @bus.on("video.uploaded", timeout=10)
    async def transcode(event: Event, delivery: Delivery) -> None:
        async with delivery.transaction() as tx:
            tx.put(TableName="accounts", Item={"id": "ada"})
        await anyio.sleep(1.5 * LEASE)
        ended.append(outbox.status_of(event.id))

    await bus.emit("video.uploaded")
    with anyio.fail_after(5):
        assert await bus.run_once() == 1
    assert (ended, errors, outbox.count_of("renew")) == ([EventStatus.COMPLETED], [], 0)


async def test_refused_transaction_leaves_the_settle_of_an_event_that_was_only_reset(
    outbox: ScriptedOutbox, bus: OutboxEventBus, errors: list[Any]
) -> None:
    runs: list[str] = []

    @bus.on("video.uploaded", name="sibling")
    async def sibling(event: Event) -> None:
        runs.append("sibling")

    @bus.on("video.uploaded", name="tx")
    async def transcode(event: Event, delivery: Delivery) -> None:
        runs.append(f"tx {delivery.attempt}")
        if delivery.attempt == 1:
            # A worker whose clock is ahead recovers the event, and has not claimed it yet.
            outbox.stored(event.id).sort_key = 0
            await outbox.recover()
        async with delivery.transaction() as tx:
            tx.put(TableName="accounts", Item={"id": "ada"})

    event = await bus.emit("video.uploaded")
    assert await bus.run_once() == 1
    stored = outbox.stored(event.id)
    assert (stored.status, stored.retry_count, stored.handled_by) == (EventStatus.PENDING, 1, {"sibling"})
    assert await bus.run_once() == 1
    assert runs == ["sibling", "tx 1", "tx 2"]
    assert outbox.status_of(event.id) is EventStatus.COMPLETED
    assert errors == []


@pytest.mark.parametrize("is_claimed", [False, True])
async def test_retry_after_a_lost_lease_is_written_until_another_worker_claims_the_event(
    outbox: ScriptedOutbox, bus: OutboxEventBus, errors: list[Any], *, is_claimed: bool
) -> None:
    told: list[Any] = []
    bus.add_observer(told.append)

    @bus.on("video.uploaded", name="thumbnail")
    async def thumbnail(event: Event) -> None:
        pass

    @bus.on("video.uploaded", name="broken", backoff=FixedBackoff(60))
    async def broken(event: Event) -> None:
        raise ValueError("no codec")

    @bus.on("video.uploaded", name="long", timeout=10)
    async def long(event: Event) -> None:
        # A worker whose clock is ahead recovers the event. The next renewal is refused.
        outbox.stored(event.id).sort_key = 0
        await outbox.recover()
        if is_claimed:
            await outbox.claim(1)
        await anyio.sleep(10)

    event = await bus.emit("video.uploaded")
    with anyio.fail_after(5):
        assert await bus.run_once() == (0 if is_claimed else 1)
    stored = outbox.stored(event.id)
    assert [type(error) for error in errors] == [HandlerError, LeaseLostError]
    assert errors[1].outcome == "renewal"
    if is_claimed:
        assert (stored.status, stored.retry_count, stored.handled_by) == (EventStatus.PROCESSING, 1, set())
        assert LeaseLost(event_id=event.id, event_type="video.uploaded") in told
    else:
        assert (stored.status, stored.retry_count, stored.handled_by) == (EventStatus.PENDING, 1, {"thumbnail"})
        assert (stored.sort_key / 1000) == pytest.approx(outbox.options.clock() + 60, abs=1)
        assert RetryScheduled in map(type, told)


async def test_extend_gives_handler_and_lease_more_time(
    outbox: ScriptedOutbox, bus: OutboxEventBus, errors: list[Any]
) -> None:
    ended: list[float] = []

    @bus.on("video.uploaded")
    async def transcode(event: Event, delivery: Delivery) -> None:
        await delivery.extend(3 * LEASE)
        ended.append(delivery.lease_expires_at - outbox.options.clock())
        await anyio.sleep(2 * LEASE)
        await delivery.extend(0.001)
        ended.append(delivery.lease_expires_at - outbox.options.clock())

    other = OutboxEventBus(outbox)
    other.on("video.uploaded", transcode)
    with anyio.fail_after(10):
        async with bus, other:
            await bus.emit("video.uploaded")
            await bus.drain(5)
    assert outbox.count_of("renew") == 1
    # The margin for settling comes on top of what was asked for; and no extension makes the time shorter.
    margin = Timing().margin_part * LEASE
    assert ended == pytest.approx([3 * LEASE + margin, LEASE + margin], abs=0.001)
    assert errors == []


async def test_extension_that_is_refused_or_fails_is_raised(outbox: ScriptedOutbox, bus: OutboxEventBus) -> None:
    raised: list[Exception] = []

    @bus.on("video.uploaded", max_retries=0)
    async def transcode(event: Event, delivery: Delivery) -> None:
        for error in (
            ThrottledError(operation="UpdateItem", attempts=3, reason="x"),
            LeaseLostError(event_id="e", event_type="video.uploaded", outcome="renewal"),
        ):
            outbox.restore("renew")
            outbox.refuse("renew", error)
            try:
                await delivery.extend(10)
            except Exception as caught:
                raised.append(caught)

    await bus.emit("video.uploaded")
    await bus.run_once()
    assert [type(error) for error in raised] == [ThrottledError, LeaseLostError]


async def test_extended_handler_is_cancelled_at_its_new_limit(bus: OutboxEventBus, errors: list[Any]) -> None:
    @bus.on("video.uploaded", max_retries=0)
    async def transcode(event: Event, delivery: Delivery) -> None:
        await delivery.extend(2 * LEASE)
        await anyio.sleep(60)

    await bus.emit("video.uploaded")
    before = anyio.current_time()
    with anyio.fail_after(5):
        await bus.run_once()
    assert anyio.current_time() - before == pytest.approx(2 * LEASE)
    assert isinstance(errors[0], HandlerTimeoutError)


async def test_handler_that_has_committed_keeps_its_time_when_another_one_completes_the_event(
    bus: OutboxEventBus, errors: list[Any]
) -> None:
    committed = anyio.Event()
    done: list[str] = []

    @bus.on("video.uploaded", timeout=10 * LEASE)
    async def transcode(event: Event, delivery: Delivery) -> None:
        async with delivery.transaction():
            pass
        committed.set()
        await anyio.sleep(5 * LEASE)
        done.append("transcode")

    @bus.on("video.uploaded")
    async def index(event: Event, delivery: Delivery) -> None:
        await committed.wait()
        async with delivery.transaction():
            pass
        done.append("index")

    async with bus:
        await bus.emit("video.uploaded")
        await anyio.sleep(8 * LEASE)
    assert (done, errors) == (["index", "transcode"], [])
