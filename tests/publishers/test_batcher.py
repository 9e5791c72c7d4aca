"""The batcher packs entries, and gives each caller its own result; on virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dynamodb_outbox.publishers.batcher import Batcher, Submitted
from tests.virtual_time import VirtualTime, install


@pytest.fixture
async def time(monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    return install(asyncio.get_running_loop(), monkeypatch)


class Target:
    """Takes batches; each takes a second. Fails the entries that it is told to."""

    def __init__(self, time: VirtualTime, **options: Any) -> None:
        self.time = time
        self.batches: list[list[str]] = []
        self.started: list[float] = []
        self.errors: dict[str, Exception] = {}
        self.broken: BaseException | None = None
        self.at_once = self.most_at_once = 0
        limits: dict[str, Any] = {"max_entries": 3, "max_bytes": 100, "linger": 0.005} | options
        self.batcher = Batcher(self.send, **limits)

    async def send(self, batch: list[Submitted[str]]) -> None:
        self.batches.append([submitted.entry for submitted in batch])
        self.started.append(self.time.time())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(1)
        self.at_once -= 1
        if self.broken is not None:
            raise self.broken
        for submitted in batch:
            submitted.settle(self.errors.get(submitted.entry))

    def submit(self, *entries: str, size: int = 1) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self.batcher.submit(entry, size)) for entry in entries]


async def test_entries_of_several_callers_go_together_after_the_linger(time: VirtualTime) -> None:
    target, begun = Target(time), time.time()
    tasks = target.submit("a")
    await asyncio.sleep(0.003)
    tasks += target.submit("b")
    await asyncio.gather(*tasks)
    assert target.batches == [["a", "b"]]
    assert target.started == [pytest.approx(begun + 0.005)]


async def test_a_full_batch_does_not_wait(time: VirtualTime) -> None:
    target, begun = Target(time), time.time()
    await asyncio.gather(*target.submit("a", "b", "c", "d"))
    assert target.batches == [["a", "b", "c"], ["d"]]
    assert target.started == [pytest.approx(begun), pytest.approx(begun + 0.005)]


async def test_batches_are_packed_by_bytes(time: VirtualTime) -> None:
    target = Target(time, max_entries=10)
    await asyncio.gather(*target.submit("a", "b", "c", "d", "e", size=40))
    assert target.batches == [["a", "b"], ["c", "d"], ["e"]]


async def test_an_entry_that_is_larger_than_a_batch_goes_alone(time: VirtualTime) -> None:
    target = Target(time)
    await asyncio.gather(*target.submit("a"), *target.submit("large", size=101), *target.submit("b"))
    assert target.batches == [["a"], ["large"], ["b"]]


async def test_each_caller_gets_the_result_of_its_own_entry(time: VirtualTime) -> None:
    target = Target(time)
    target.errors["b"] = error = ValueError("b")
    assert await asyncio.gather(*target.submit("a", "b", "c"), return_exceptions=True) == [None, error, None]


async def test_a_request_that_fails_fails_all_its_entries_and_no_others(time: VirtualTime) -> None:
    target = Target(time)
    target.broken = error = OSError("reset")
    assert await asyncio.gather(*target.submit("a", "b"), return_exceptions=True) == [error, error]
    target.broken = None
    assert await asyncio.gather(*target.submit("c")) == [None]


async def test_a_waiting_entry_of_a_cancelled_caller_is_not_sent(time: VirtualTime) -> None:
    target = Target(time)
    kept, cancelled = target.submit("a", "b", size=60)
    await asyncio.sleep(0.001)
    assert target.batches == [["a"]]
    cancelled.cancel()
    await kept
    await asyncio.gather(*target.submit("c", size=60))
    assert target.batches == [["a"], ["c"]]
    # The bytes of the cancelled entry count no longer: otherwise the batch would be full at once.
    assert target.started[1] - target.started[0] == pytest.approx(1.005)


async def test_a_batch_under_way_goes_on_without_a_cancelled_caller(time: VirtualTime) -> None:
    target = Target(time)
    tasks = target.submit("a", "b")
    await asyncio.sleep(0.5)
    tasks[0].cancel()
    assert [type(result) for result in await asyncio.gather(*tasks, return_exceptions=True)] == [
        asyncio.CancelledError,
        type(None),
    ]


async def test_no_more_batches_than_allowed_are_in_flight(time: VirtualTime) -> None:
    target = Target(time, max_in_flight=2)
    await asyncio.gather(*target.submit(*"abcdefghijklm"))
    assert target.most_at_once == 2
    assert sorted(entry for batch in target.batches for entry in batch) == list("abcdefghijklm")
    assert [len(batch) for batch in target.batches] == [3, 3, 3, 3, 1]


async def test_flush_sends_what_waits_and_waits_for_all(time: VirtualTime) -> None:
    target = Target(time, linger=60.0, max_in_flight=1)
    tasks = target.submit("a", "b", "c", "d")
    await asyncio.sleep(0)
    begun = time.time()
    await target.batcher.flush()
    assert time.time() - begun == pytest.approx(2)
    assert [task.done() for task in tasks] == [True] * 4
    # Afterwards entries linger again.
    (late,) = target.submit("e")
    await late
    assert target.started[-1] - target.started[-2] == pytest.approx(61)


async def test_a_cancelled_batch_leaves_no_caller_waiting(time: VirtualTime) -> None:
    target = Target(time)
    target.broken = asyncio.CancelledError()
    results = await asyncio.gather(*target.submit("a", "b"), return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 2


async def test_callers_of_one_turn_of_the_loop_go_together_however_long_the_turn_takes(time: VirtualTime) -> None:
    target = Target(time, max_entries=10)

    async def slow(entry: str) -> None:
        time.pass_by(0.004)
        await target.batcher.submit(entry, 1)

    await asyncio.gather(slow("a"), slow("b"), slow("c"), slow("d"))
    assert target.batches == [["a", "b", "c", "d"]]


async def test_flush_does_not_wait_for_what_comes_later(time: VirtualTime) -> None:
    target, begun = Target(time), time.time()
    first = target.submit("a", "b", "c")
    await asyncio.sleep(0.5)
    flush = asyncio.ensure_future(target.batcher.flush())
    second = target.submit("d", "e", "f")
    await flush
    assert time.time() - begun == pytest.approx(1)
    assert [task.done() for task in first + second] == [True] * 3 + [False] * 3
    await asyncio.gather(*second)


async def test_a_batch_that_is_cancelled_before_it_begins_leaves_no_caller_waiting(time: VirtualTime) -> None:
    target = Target(time)
    calls = target.submit("a", "b", "c")
    await asyncio.sleep(0)
    (batch,) = target.batcher._tasks
    batch.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert (target.batches, [type(result) for result in results]) == ([], [asyncio.CancelledError] * 3)
