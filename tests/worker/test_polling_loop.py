"""Sleeping, waking and group commit, without a storage."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio

from dynamodb_outbox import Claim, Completed, Event, InMemoryOutbox, Released, SettleError
from dynamodb_outbox.worker.loop import Wakeup
from dynamodb_outbox.worker.poll import Slots
from dynamodb_outbox.worker.settle_queue import BATCH, WRITERS, SettleQueue


async def test_wakeup_ends_a_sleep_now_later_and_before_it() -> None:
    now = 100.0
    wakeup = Wakeup(lambda: now)
    with anyio.fail_after(5):
        wakeup.wake()
        await wakeup.sleep(60)
        wakeup.wake_at(99.0)
        await wakeup.sleep(60)
        async with anyio.create_task_group() as group:
            group.start_soon(wakeup.sleep, 60)
            await anyio.sleep(0)
            wakeup.wake()


async def test_wakeup_keeps_many_times_in_little_room() -> None:
    wakeup = Wakeup(lambda: 100.0)
    for n in range(100_000):
        wakeup.wake_at(101 + n / 100_000)
    assert len(wakeup._times) <= 101


async def test_slots_wake_who_waits_and_close() -> None:
    slots = Slots(1)
    slots.take("a")
    got: list[int] = []

    async def wait() -> None:
        await slots.wait_for_one()
        with slots.for_poll(10) as places:
            got.append(places)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.sleep(0)
            slots.give_back("a")
            slots.give_back("a")
        slots.take("b")
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.sleep(0)
            slots.close()
    assert got == [1, 0]


class SlowOutbox(InMemoryOutbox):
    """Takes its time to settle, and notes how many come together."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = anyio.Event()
        self.batches: list[int] = []

    async def settle(self, settlements: Any) -> Any:
        self.batches.append(len(settlements))
        await self.gate.wait()
        return [None] * len(settlements)


def claims(count: int) -> list[Claim]:
    return [Claim(event=Event("t"), token=f"{n}", attempt=1, lease_expires_at=0) for n in range(count)]


async def test_outcomes_that_come_during_a_write_go_with_the_next() -> None:
    outbox, settled = SlowOutbox(), []
    commit = SettleQueue(outbox, on_settled=lambda *args: settled.append(args), report=lambda error: None)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            commit.open(group)
            for claim in claims(100):
                commit.put(claim, Completed())
                await anyio.sleep(0)
            assert outbox.batches == [1] * WRITERS
            outbox.gate.set()
            commit.close()
    assert sum(outbox.batches) == len(settled) == 100
    assert max(outbox.batches) == BATCH
    assert len(outbox.batches) <= WRITERS + 5


async def test_outcomes_are_written_though_everything_is_cancelled() -> None:
    outbox, settled = SlowOutbox(), []
    commit = SettleQueue(outbox, on_settled=lambda *args: settled.append(args), report=lambda error: None)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            commit.open(group)
            commit.put(claims(1)[0], Released())
            await anyio.sleep(0)
            group.cancel_scope.cancel()
            outbox.gate.set()
            commit.close()
    assert len(settled) == 1


async def test_outcomes_are_written_though_each_task_is_cancelled() -> None:
    outbox, settled = SlowOutbox(), []
    outbox.gate.set()
    commit = SettleQueue(outbox, on_settled=lambda *args: settled.append(args), report=lambda error: None)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            commit.open(group)
            await anyio.sleep(0.01)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await anyio.sleep(0.01)
            for claim in claims(100):
                commit.put(claim, Released())
            await anyio.sleep(0.01)
            commit.close()
    # Outside of the group, which ends without a word if one of its tasks does.
    assert len(settled) == 100


async def test_outcomes_that_are_given_up_at_the_deadline_are_reported() -> None:
    outbox = SlowOutbox()
    settled: list[Any] = []
    reported: list[Any] = []
    commit = SettleQueue(outbox, on_settled=lambda *args: settled.append(args), report=reported.append)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            commit.open(group)
            for claim in claims(BATCH * WRITERS + 30):
                commit.put(claim, Completed())
            await anyio.sleep(0.01)
            commit.abandon_at(anyio.current_time() + 0.01)
            commit.close()
    assert {claim.token for claim, _, _ in settled} == {str(n) for n in range(BATCH * WRITERS + 30)}
    assert {type(error) for error in reported} == {SettleError}
    assert len(settled) == len(reported) == BATCH * WRITERS + 30
    # Those that were sent may have been written.
    assert sum(error.maybe_applied for _, _, error in settled) == BATCH * WRITERS


async def test_writes_are_given_up_at_the_deadline() -> None:
    outbox = SlowOutbox()
    commit = SettleQueue(outbox, on_settled=lambda *args: None, report=lambda error: None)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            commit.open(group)
            commit.put(claims(1)[0], Released())
            await anyio.sleep(0)
            commit.abandon_at(anyio.current_time() + 0.01)
