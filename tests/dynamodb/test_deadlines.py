"""What goes on in time: looks, settles and requests that are slow or late take nothing from what is beside them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from dynamodb_outbox import Event, OutboxEventBus, StorageError
from dynamodb_outbox.adapter import Claim, Completed, Held, Released
from dynamodb_outbox.dynamodb.delivering.membership import ALONE_SECONDS, MAX_SEEN
from reliability.simulation.responses import client_error
from tests.adapter_timing import with_timing
from tests.simulated_table import SimulatedService
from tests.virtual_time import VirtualTime, install

THROTTLED = client_error("ThrottlingException", "slow down", operation="t")


@pytest.fixture
async def time(monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    return install(asyncio.get_running_loop(), monkeypatch)


@pytest.fixture
def service(time: VirtualTime) -> SimulatedService:
    return SimulatedService(time)


async def claimed(outbox: Any, count: int) -> list[Claim]:
    await outbox.publish([Event("order.placed") for _ in range(count)])
    claims: list[Claim] = await outbox.claim(count)
    assert len(claims) == count
    return claims


# Looks


async def test_poll_ends_soon_after_its_first_claim_however_slow_the_others_are(time: VirtualTime) -> None:
    service = SimulatedService(time, shards=8)
    outbox = service.outbox(processing_timeout=30.0)
    await outbox.publish([Event("order.placed") for _ in range(16)])

    async def slow(operation: str, parameters: Any) -> None:
        if operation == "query":
            await asyncio.sleep(4)

    service.before = slow
    claims = await outbox.claim(25)
    assert claims
    # A look may take ten seconds of this lease after its first claim, and the call that is under way then.
    assert min(claim.lease_expires_at for claim in claims) - time.clock() > 15


async def test_rows_left_by_another_worker_fill_up_a_poll(service: SimulatedService) -> None:
    one, other = service.outbox(poll_interval=0.5), service.outbox(poll_interval=0.5)
    for outbox in (one, other) * 2:
        outbox._parts.membership.announce()
        assert await outbox.claim(1) == []
    events = [Event("order.placed") for _ in range(40)]
    await one.publish(events)
    taken = await one.claim(60)
    assert 0 < len(taken) < 40
    await one.publish([Event("order.placed") for _ in range(20)])  # so that it has some of its own as well
    await asyncio.sleep(1.1)
    taken += await one.claim(60)
    assert {claim.event.id for claim in taken} > {event.id for event in events}


async def test_workers_that_were_met_long_ago_are_forgotten(service: SimulatedService) -> None:
    one, gone = service.outbox(), service.outbox()
    for outbox in (one, gone) * 2:
        outbox._parts.membership.announce()
        assert await outbox.claim(1) == []
    assert one._parts.membership.count == 2
    await asyncio.sleep(ALONE_SECONDS + 1)  # all its places were taken, say
    await one.publish([Event("order.placed") for _ in range(20)])
    assert len(await one.claim(20)) == 20


async def test_events_of_other_workers_are_taken_in_the_end(service: SimulatedService) -> None:
    one, gone = service.outbox(poll_interval=1.0), service.outbox()
    for outbox in (one, gone) * 2:
        outbox._parts.membership.announce()
        assert await outbox.claim(1) == []
    rows = [{"id": {"S": f"e{n}"}} for n in range(4 * MAX_SEEN)]
    left: list[Any] = []
    for _ in range(4):
        left = one._parts.membership.split_rows(rows)[1]
        await asyncio.sleep(1.0)
    assert len(left) == MAX_SEEN
    assert len(one._parts.membership._seen_at) == MAX_SEEN
    await asyncio.sleep(20)
    one._parts.membership.split_rows([])
    assert one._parts.membership._seen_at == {}


# Settles


async def test_settle_of_a_long_lease_outlasts_one_of_a_short_lease(
    service: SimulatedService, time: VirtualTime
) -> None:
    outbox = service.outbox(processing_timeout=30.0)
    (short,) = await claimed(outbox, 1)
    await asyncio.sleep(29)
    claims = [short, *await claimed(outbox, 5)]
    until = time.time() + 8

    async def storm(operation: str, parameters: Any) -> None:
        if time.time() < until:
            raise THROTTLED

    service.before = storm
    assert await outbox.settle([(claim, Completed()) for claim in claims]) == [None] * 6


async def test_error_of_a_write_that_may_have_been_applied_says_so_though_the_last_was_throttled(
    service: SimulatedService,
) -> None:
    outbox = service.outbox()
    claims = await claimed(outbox, 3)
    replies = 0

    async def lose_the_first(operation: str, parameters: Any) -> None:
        nonlocal replies
        replies += 1
        if replies == 1:
            raise client_error("InternalServerError", "no", operation=operation)

    async def then_throttle(operation: str, parameters: Any) -> None:
        if replies:
            raise THROTTLED

    service.after, service.before = lose_the_first, then_throttle
    errors = await outbox.settle([(claim, Released()) for claim in claims])
    assert all(isinstance(error, StorageError) and error.maybe_applied for error in errors)


async def test_redrive_whose_response_was_lost_counts(service: SimulatedService) -> None:
    outbox = service.outbox(max_retries=0)
    await claimed(outbox, 2)
    await asyncio.sleep(31)
    failed = (await outbox.recover()).failed
    lost = False

    async def lose_one(operation: str, parameters: Any) -> None:
        nonlocal lost
        if operation == "batch_execute_statement" and not lost:
            lost = True
            raise client_error("InternalServerError", "no", operation=operation)

    service.after = lose_one
    assert len((await outbox.redrive(failed)).done) == len(failed) == 2


# Emits


async def test_emits_continue_after_the_task_that_writes_them_was_cancelled(
    service: SimulatedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = service.outbox()
    bus, queue = OutboxEventBus(outbox), outbox._parts.publisher._queue
    send_what_may_go = queue._send_what_may_go

    def cancelled_before_its_first_step() -> None:
        send_what_may_go()
        for task in queue._tasks:
            task.cancel()

    with monkeypatch.context() as patch:
        patch.setattr(queue, "_send_what_may_go", cancelled_before_its_first_step)
        results = await asyncio.gather(*(bus.emit("order.placed") for _ in range(3)), return_exceptions=True)
    assert [isinstance(result, StorageError) and result.maybe_applied for result in results] == [False, True, True]
    assert service.calls["batch_write_item"] == 0
    await asyncio.wait_for(asyncio.gather(*(bus.emit("order.placed") for _ in range(5))), timeout=60)


# Held events


async def test_recovery_resumes_many_held_events_in_parts(service: SimulatedService) -> None:
    outbox = with_timing(service.outbox(), held_part=0.0)
    until = datetime.fromtimestamp(outbox.options.clock() + 5, UTC)
    await outbox.hold("order.placed", reason="the bank is down", by="ada", until=until)
    for _ in range(3):
        claims = await claimed(outbox, 80)
        await outbox.settle([(claim, Held(due_at=claim.due_at or 0)) for claim in claims])
    await asyncio.sleep(20)
    parts: list[int] = []
    while not parts or parts[-1]:
        await outbox.publish([Event("order.placed")], due_at=outbox.options.clock() - 1000)
        # Leases that run out are recovered meanwhile.
        await outbox.claim(1)
        await asyncio.sleep(31)
        recovered = await outbox.recover()
        assert len(recovered.reset) == 1
        parts.append(len(recovered.resumed))
    assert parts == [100, 100, 40, 0]
    assert await outbox.count("HELD") == 0


async def test_types_that_are_held_again_meanwhile_are_not_resumed(service: SimulatedService) -> None:
    outbox = with_timing(service.outbox(), held_part=0.0)
    until = datetime.fromtimestamp(outbox.options.clock() + 5, UTC)
    await outbox.hold("order.placed", reason="the bank is down", by="ada", until=until)
    for _ in range(3):
        claims = await claimed(outbox, 80)
        await outbox.settle([(claim, Held(due_at=claim.due_at or 0)) for claim in claims])
    await asyncio.sleep(20)
    assert len((await outbox.recover()).resumed) == 100
    await outbox.hold("order.placed", reason="down again", by="ada", until=None)
    await asyncio.sleep(1)
    assert [len((await outbox.recover()).resumed) for _ in range(3)] == [0, 0, 0]
    await outbox.resume("order.placed")
    assert await outbox.count("HELD") == 0
