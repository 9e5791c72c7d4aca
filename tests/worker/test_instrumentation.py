"""The brackets of a tracer: what they surround, and that their own errors change nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import anyio
import pytest

from dynamodb_outbox import Event, HandlerTimeoutError, OutboxEventBus
from dynamodb_outbox.delivery import Delivery
from dynamodb_outbox.instrumentation import HandlerCall
from tests.fakes import Recorder, ScriptedOutbox


class Tracer:
    """Notes the beginning and the end of each bracket, and the error that it ends with."""

    def __init__(self) -> None:
        self.notes: list[Any] = []
        self.calls: list[HandlerCall] = []
        self.ends: list[BaseException | None] = []

    @contextmanager
    def _noted(self, name: str, value: Any = None) -> Iterator[Any]:
        self.notes.append(name)
        try:
            yield value
        finally:
            self.notes.append(f"/{name}")

    def enter_worker(self) -> None:
        self.notes.append("worker")

    def emitting(self, events: Sequence[Event], *, stores: bool) -> AbstractContextManager[Sequence[Event]]:
        marked = [Event(event.type, event.payload, id=event.id, metadata={"mark": 1}) for event in events]
        return self._noted("emit" if stores else "create", marked)

    def committing(self, events: Sequence[Event]) -> AbstractContextManager[object]:
        return self._noted(f"commit {len(events)}")

    @contextmanager
    def handling(self, call: HandlerCall) -> Iterator[None]:
        self.calls.append(call)
        try:
            yield
        except BaseException as error:
            self.ends.append(error)
            raise
        else:
            self.ends.append(None)

    def storing(self, operation: str) -> AbstractContextManager[object]:
        return self._noted(operation)


class Broken:
    """Every bracket raises, at its beginning or at its end."""

    def __init__(self, *, at_the_end: bool) -> None:
        self._at_the_end = at_the_end

    @contextmanager
    def _broken(self, *args: Any, **options: Any) -> Iterator[Any]:
        if not self._at_the_end:
            raise ZeroDivisionError
        try:
            yield None
        finally:
            raise ZeroDivisionError

    emitting = committing = handling = storing = _broken

    def enter_worker(self) -> None:
        raise ZeroDivisionError


@pytest.fixture
def tracer(outbox: ScriptedOutbox) -> Tracer:
    outbox.observers.instrumentation = tracer = Tracer()
    return tracer


async def test_brackets_of_an_event(bus: OutboxEventBus, tracer: Tracer) -> None:
    recorder = Recorder()
    bus.on("order.placed", recorder, name="bill", max_retries=2)
    event = await bus.emit("order.placed")
    assert event is not None
    assert event.metadata == {"mark": 1}
    await bus.run_once()
    assert tracer.notes == [
        "emit", "publish", "/publish", "/emit",
        "worker", "recover", "/recover", "claim", "/claim", "settle", "/settle",
    ]  # fmt: skip
    assert tracer.calls == [HandlerCall(event=event, handler="bill", attempt=1, max_attempts=3)]
    assert recorder.events == [event]
    assert tracer.ends == [None]


async def test_brackets_of_a_transaction(bus: OutboxEventBus, tracer: Tracer) -> None:
    async with bus.transaction() as tx:
        created = tx.emit("a")
        await bus.emit("b", transaction=tx)
        assert tracer.notes == ["create", "/create"] * 2
    assert created.metadata == {"mark": 1}
    assert tracer.notes[4:] == ["commit 2", "transact", "/transact", "/commit 2"]


async def test_child_of_a_delivery_transaction_is_created_at_its_emit(bus: OutboxEventBus, tracer: Tracer) -> None:
    seen: list[Any] = []

    @bus.on("a")
    async def handle(event: Event, delivery: Delivery) -> None:
        async with delivery.transaction() as tx:
            seen.append(tx.emit("b").metadata)

    await bus.emit("a")
    await bus.run_once()
    assert seen == [{"mark": 1}]


async def test_handler_ends_with_what_the_worker_blames_it_for(bus: OutboxEventBus, tracer: Tracer) -> None:
    @bus.on("slow", timeout=0.1, max_retries=0)
    async def slow(event: Event) -> None:
        await anyio.sleep(5)

    await bus.emit("slow")
    await bus.run_once()
    (error,) = tracer.ends
    assert isinstance(error, HandlerTimeoutError)


async def test_handler_that_a_stop_ends_is_cancelled_whatever_it_raises(bus: OutboxEventBus, tracer: Tracer) -> None:
    started = anyio.Event()

    @bus.on("a")
    async def handle(event: Event) -> None:
        started.set()
        try:
            await anyio.sleep(20)
        finally:
            raise ValueError("from the clean-up")

    async with bus:
        await bus.emit("a")
        await started.wait()
        await bus.stop(timeout=0)
    (error,) = tracer.ends
    assert type(error).__name__ == "CancelledError"


@pytest.mark.parametrize("at_the_end", [False, True])
async def test_broken_brackets_are_logged_and_change_nothing(
    bus: OutboxEventBus, outbox: ScriptedOutbox, caplog: pytest.LogCaptureFixture, at_the_end: bool
) -> None:
    outbox.observers.instrumentation = Broken(at_the_end=at_the_end)
    recorder = Recorder()
    bus.on("a", recorder)
    await bus.emit("a")
    async with bus.transaction() as tx:
        tx.emit("a")
    assert await bus.run_once() == 2
    assert len(recorder.events) == 2
    assert "the instrumentation of the outbox raised an exception" in caplog.text
