"""The time of the worker's tests: it passes without a wait, in the order of the timers, and only when it has to."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from tests.virtual_time import EPOCH, VirtualTime, install


@pytest.fixture
async def virtual_time(monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    return install(asyncio.get_running_loop(), monkeypatch)


async def test_timers_are_due_in_their_order_and_at_once(virtual_time: VirtualTime) -> None:
    loop = asyncio.get_running_loop()
    began, really = loop.time(), monotonic()
    woken: list[tuple[float, float]] = []

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append((seconds, loop.time() - began))

    await asyncio.gather(*(sleep(seconds) for seconds in (86_400.0, 0.5, 3600.0, 0.001)))
    assert [seconds for seconds, _ in woken] == [0.001, 0.5, 3600.0, 86_400.0]
    assert [at for _, at in woken] == pytest.approx([0.001, 0.5, 3600.0, 86_400.0])
    assert virtual_time.clock() == EPOCH + loop.time()
    assert monotonic() - really < 3600


async def test_no_time_passes_while_there_is_something_to_do(virtual_time: VirtualTime) -> None:
    loop = asyncio.get_running_loop()
    limit = loop.call_later(0.001, asyncio.current_task().cancel)  # type: ignore[union-attr] # there is one
    for _ in range(1000):
        await asyncio.sleep(0)
    limit.cancel()
    began = loop.time()
    virtual_time.pass_by(5)
    assert loop.time() == began + 5
