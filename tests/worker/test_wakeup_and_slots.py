"""What the loops of a worker wait for: a wakeup, and free slots."""

from __future__ import annotations

import anyio

from dynamodb_outbox.worker.loop import Wakeup
from dynamodb_outbox.worker.poll import Slots


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


async def test_slot_that_is_given_back_wakes_a_poll() -> None:
    slots = Slots(1)
    slots.take("a")
    got: list[int] = []

    async def wait() -> None:
        await slots.wait_for_one()
        with slots.for_poll(10) as free:
            got.append(free)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.sleep(0)
            slots.give_back("a")
            slots.give_back("a")
    assert got == [1]
