"""Ten minutes of throttling, in a time of their own: few calls, nothing lost, and full recovery."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from random import Random
from typing import Any, Final

import anyio
import pytest

from dynamodb_outbox import Event, EventStatus, OutboxEventBus, ThrottledError
from dynamodb_outbox.worker.backoff import JITTER, LONGEST_POLLING_BACKOFF
from reliability.simulation.faults import throttled
from reliability.simulation.responses import THROTTLED, Refusal
from reliability.simulation.table import Change
from tests.simulated_table import SimulatedService
from tests.virtual_time import VirtualTime, install

STORM: Final = 600.0


class Storm:
    """Throttles every call, or writes to the index alone, while it lasts; the latter as a `Gate`."""

    def __init__(self, *, everything: bool) -> None:
        self._everything = everything
        self._random = Random(7)
        self.lasts = False

    async def before(self, operation: str, parameters: Any) -> None:
        if self.lasts and self._everything:
            raise throttled(operation, self._random)

    def admit(self, change: Change, *, table_name: str, now: float, factor: int = 1) -> Refusal | None:
        """Refuse writes that the index would have to follow."""
        refused = self.lasts and change.indexes
        return Refusal(THROTTLED, "Throughput exceeds the limit of the index") if refused else None


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    return install(asyncio.get_running_loop(), monkeypatch)


@pytest.mark.parametrize("mode", ["batch", "single"])
@pytest.mark.parametrize("everything", [True, False], ids=["every call", "the index"])
async def test_ten_minutes_of_throttling_cost_few_calls_and_delivery_recovers(
    clock: VirtualTime, *, everything: bool, mode: Any
) -> None:
    storm = Storm(everything=everything)
    service = SimulatedService(clock, gate=storm)
    service.before = storm.before
    outbox = service.outbox(conditional_writes=mode, processing_timeout=30.0, on_error=lambda error: None)
    bus = OutboxEventBus(outbox)
    runs: Counter[str] = Counter()
    begun = anyio.Event()

    @bus.on("order.placed")
    async def handler(event: Event) -> None:
        runs[event.id] += 1
        begun.set()
        await asyncio.sleep(1)

    events = [Event("order.placed", id=f"e{n}") for n in range(100)]
    async with bus:
        await bus.emit_many(events[:5])
        await bus.emit_many(events[5:], delay=5)
        await begun.wait()
        storm.lasts = True  # in the middle of their handlers
        before, until = service.calls.total(), clock.time() + STORM
        while clock.time() < until:
            with pytest.raises(ThrottledError):
                await bus.emit("order.placed", id="during")
            await asyncio.sleep(60)
        during = service.calls.total() - before
        storm.lasts = False
        ended = clock.time()
        await bus.emit("order.placed", id="during")
        await bus.drain(timeout=None)
        recovered_in = clock.time() - ended
    assert await outbox.count(EventStatus.FAILED) == 0
    # Those that were done when it began could not say so before their leases ended: once more, and no other.
    assert runs == Counter({event.id: 1 for event in events}) + Counter(
        {event.id: 1 for event in events[:5]} | {"during": 1}
    )
    # An idle worker makes two calls a second. Single updates of the index are refused one by one: a batch of ten.
    most_a_second = 10 if mode == "single" and not everything else 2
    assert during < most_a_second * STORM
    assert recovered_in < LONGEST_POLLING_BACKOFF * (1 + JITTER) + 10


async def test_throttled_recovery_makes_progress_with_rows_that_have_no_retry_left(clock: VirtualTime) -> None:
    writes_left = 0.0

    class Bucket:
        """Lets so many writes pass; refused ones are billed as well."""

        def admit(self, change: Change, *, table_name: str, now: float, factor: int = 1) -> Refusal | None:
            nonlocal writes_left
            if writes_left < 1:
                return Refusal(THROTTLED, "slow down")
            writes_left -= 1
            return None

    service = SimulatedService(clock)
    outbox = service.outbox(max_retries=0)
    await outbox.publish([Event("order.placed", id=f"e{n:03}") for n in range(100)])
    assert len(await outbox.claim(100)) == 100
    service.limit(Bucket())
    await asyncio.sleep(31)
    failed = 0
    for _ in range(40):
        writes_left = 20.0
        with suppress(ThrottledError):
            failed += len((await outbox.recover()).failed)
        await asyncio.sleep(10)
    assert failed == 100
