"""The sampler: one sample for all who want one, and none while nobody does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from threading import Thread
from typing import Any

import anyio
import pytest

from dynamodb_outbox import InMemoryOutbox, Sample, Sampler, UnavailableError
from tests.virtual_time import VirtualTime

DOWN = UnavailableError(operation="query", attempts=1, reason="down", maybe_applied=False)


class SampledOutbox(InMemoryOutbox):
    """Counts its samples, each of which takes a second."""

    def __init__(self) -> None:
        super().__init__()
        self.samples = 0
        self.error: BaseException | None = None

    async def sample(self, *, count_limit: int = 1_000) -> Sample:
        self.samples += 1
        await anyio.sleep(1)
        if self.error is not None:
            raise self.error
        return await super().sample(count_limit=count_limit)


@pytest.fixture
def outbox(virtual_time: VirtualTime) -> SampledOutbox:
    return SampledOutbox()


@pytest.fixture
async def sampler(outbox: SampledOutbox) -> AsyncIterator[Sampler]:
    """A sampler that runs."""
    sampler = Sampler(outbox)
    task = asyncio.create_task(sampler.run())
    yield sampler
    task.cancel()
    await asyncio.wait([task])


async def test_samples_are_taken_only_while_somebody_wants_them(sampler: Sampler, outbox: SampledOutbox) -> None:
    await anyio.sleep(3600)
    assert outbox.samples == 0
    assert sampler.latest is None
    sampler.want()
    await anyio.sleep(2)
    assert outbox.samples == 1
    assert sampler.latest is not None
    await anyio.sleep(3600)
    assert 5 <= outbox.samples <= 6  # for five intervals
    assert sampler.latest is None  # it says nothing of today
    assert sampler.stale_for is None
    for _ in range(60):
        sampler.want()
        await anyio.sleep(10)
        assert sampler.latest is not None
    assert 40 <= outbox.samples <= 48  # 600 s


async def test_sample_is_wanted_from_another_thread(outbox: SampledOutbox) -> None:
    sampler = Sampler(outbox)
    sampler.want()  # before it runs
    task = asyncio.create_task(sampler.run())
    await anyio.sleep(2)
    assert outbox.samples == 1
    await anyio.sleep(3600)
    before = outbox.samples
    thread = Thread(target=sampler.want)
    thread.start()
    thread.join()
    await anyio.sleep(2)
    assert outbox.samples == before + 1
    task.cancel()
    await asyncio.wait([task])
    sampler.want()  # after it ran


async def test_many_who_want_a_sample_share_one(outbox: SampledOutbox) -> None:
    sampler = Sampler(outbox)
    samples: list[Any] = []

    async def get() -> None:
        samples.append(await sampler.get())

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(get)
    assert outbox.samples == 1
    assert len(set(map(id, samples))) == 1
    assert await sampler.get() is samples[0]
    await anyio.sleep(15)
    assert await sampler.get(max_age=60) is samples[0]
    assert await sampler.get() is not samples[0]
    assert outbox.samples == 2


async def test_error_reaches_all_who_waited_and_is_not_kept(outbox: SampledOutbox) -> None:
    sampler = Sampler(outbox)
    outbox.error = DOWN
    errors: list[Any] = []

    async def get() -> None:
        try:
            await sampler.get()
        except UnavailableError as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(get)
    assert outbox.samples == 1
    assert errors == [DOWN] * 10
    assert sampler.error is not None
    outbox.error = None
    assert await sampler.get()
    assert sampler.error is None


async def test_who_waits_takes_the_sample_of_a_caller_that_was_cancelled(outbox: SampledOutbox) -> None:
    sampler = Sampler(outbox)
    first, second = asyncio.create_task(sampler.get()), asyncio.create_task(sampler.get())
    await anyio.sleep(0.5)
    first.cancel()
    assert await second
    assert outbox.samples == 2


async def test_failures_are_stale_after_three_intervals_and_do_not_end_the_sampler(
    sampler: Sampler, outbox: SampledOutbox
) -> None:
    sampler.want()
    await anyio.sleep(2)
    assert sampler.latest is not None
    for error in (DOWN, RuntimeError("a bug in the adapter"), asyncio.CancelledError()):
        outbox.error = error
        for _ in range(6):
            sampler.want()
            await anyio.sleep(10)
        assert sampler.stale_for is not None
        assert sampler.latest is None
        assert sampler.error is not None
        outbox.error = None
        sampler.want()
        await anyio.sleep(17)
        assert (sampler.stale_for, sampler.error) == (None, None)
        assert sampler.latest is not None
