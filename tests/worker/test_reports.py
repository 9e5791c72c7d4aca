"""Reports to a slow `on_error`: a hundred at once, in order, and a queue with a limit."""

from __future__ import annotations

import anyio
import pytest

from dynamodb_outbox import (
    Delivery,
    Event,
    HandlerError,
    InMemoryOutbox,
    OutboxError,
    OutboxEventBus,
    PollingError,
    RecoveryError,
    Reject,
    UnavailableError,
)
from dynamodb_outbox.claims import Recovered
from dynamodb_outbox.reporting import ErrorReporter
from dynamodb_outbox.worker.reports import CONCURRENT_REPORTS, Reports
from tests.fakes import Recorder, ScriptedOutbox


class Pager:
    """An async `on_error` that takes its time, as a call over the network does."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.told: list[str] = []
        self.at_once = 0
        self._running = 0
        self._seconds = seconds

    async def __call__(self, error: OutboxError) -> None:
        self.told.append(str(error))
        self._running += 1
        self.at_once = max(self.at_once, self._running)
        try:
            await anyio.sleep(self._seconds)
        finally:
            self._running -= 1


async def told_of(count: int, pager: Pager, *, limit: float = 3600.0, max_waiting: int = 1000) -> None:
    """Report so many errors at once, and stop when they are told, or at the limit."""
    reports = Reports(ErrorReporter(pager), max_waiting=max_waiting)
    async with anyio.create_task_group() as group:
        reports.open(group)
        for n in range(count):
            reports.report(OutboxError(f"{n}"))
        with anyio.move_on_after(limit):
            await reports.finish()
        group.cancel_scope.cancel()


async def test_hundreds_of_failures_are_reported_a_hundred_at_once() -> None:
    pager = Pager()
    outbox = InMemoryOutbox(batch_size=300, concurrency=300)
    bus = OutboxEventBus(outbox, on_error=pager)

    @bus.on("invoice.due")
    async def charge(event: Event) -> None:
        raise Reject("no use")

    await bus.emit_many([Event("invoice.due") for _ in range(300)])
    async with bus:
        await bus.drain(30)
        with anyio.fail_after(30):
            while len(pager.told) < 300:
                await anyio.sleep(1)
    assert pager.at_once == CONCURRENT_REPORTS == 100
    assert len(set(pager.told)) == 300


async def test_reports_that_wait_are_called_in_order(caplog: pytest.LogCaptureFixture) -> None:
    pager = Pager()
    await told_of(350, pager)
    assert pager.told == [f"{n}" for n in range(350)]
    assert not caplog.records


async def test_oldest_reports_are_dropped_when_too_many_wait(caplog: pytest.LogCaptureFixture) -> None:
    pager = Pager()
    await told_of(550, pager, max_waiting=300)
    assert pager.told == [f"{n}" for n in range(250, 550)]
    (record,) = caplog.records
    assert "dropped 250 errors" in record.getMessage()


async def test_reports_that_a_stop_leaves_are_counted_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    pager = Pager(seconds=60)
    await told_of(130, pager, limit=5)
    assert len(pager.told) == 100
    (record,) = caplog.records
    assert "dropped 30 errors" in record.getMessage()


UNAVAILABLE = UnavailableError(operation="query", attempts=1, reason="no answer", maybe_applied=False)


async def test_errors_of_a_recovery_are_reported_although_the_claim_of_run_once_fails() -> None:
    pager = Pager()
    outbox = ScriptedOutbox()
    outbox.answer("recover", Recovered(errors=(RecoveryError(event_id="e", cause=UNAVAILABLE),)))
    outbox.fail("claim", UNAVAILABLE)
    bus = OutboxEventBus(outbox, on_error=pager)
    with pytest.raises(UnavailableError) as raised:
        await bus.run_once()
    assert raised.value is UNAVAILABLE
    assert len(pager.told) == 1
    assert "'e'" in pager.told[0]


@pytest.mark.parametrize(
    ("errors", "rejected", "has_traceback"), [(1, False, True), (2, False, False), (0, False, True), (0, True, False)]
)
async def test_log_has_a_traceback_for_what_is_new_and_not_wanted(
    caplog: pytest.LogCaptureFixture, errors: int, rejected: bool, has_traceback: bool
) -> None:
    error = (
        PollingError(loop="polling", errors=errors, retry_in=1, cause=UNAVAILABLE)
        if errors
        else HandlerError(event=Event("x"), handler="h", attempt=1, cause=Reject("no guest"), rejected=rejected)
    )
    await ErrorReporter(None).report(error)
    (record,) = caplog.records
    assert (record.levelname, bool(record.exc_info)) == ("ERROR", has_traceback)


async def test_rejection_is_reported_as_one(caplog: pytest.LogCaptureFixture) -> None:
    bus = OutboxEventBus(InMemoryOutbox(poll_interval=0.01))

    @bus.on("room.booked", name="confirm")
    async def confirm(event: Event) -> None:
        raise Reject("no guest")

    async with bus:
        await bus.emit("room.booked", id="A-1")
        await bus.drain(5)
    (record,) = caplog.records
    assert record.getMessage() == "handler 'confirm' rejected 'room.booked' event 'A-1', attempt 1: no guest"
    assert record.exc_info is None


async def test_rejection_after_the_commit_is_a_failure_of_the_handler() -> None:
    errors: list[OutboxError] = []
    bus = OutboxEventBus(InMemoryOutbox(poll_interval=0.01), on_error=errors.append)

    @bus.on("room.booked", name="confirm")
    async def confirm(event: Event, delivery: Delivery) -> None:
        async with delivery.transaction() as tx:
            tx.emit("room.paid")
        raise Reject("no guest")

    bus.on("room.paid", Recorder())
    async with bus:
        await bus.emit("room.booked", id="A-1")
        await bus.drain(5)
    (error,) = errors
    assert isinstance(error, HandlerError)
    assert (error.rejected, "failed on" in str(error)) == (False, True)


OF_DEAD = "whose lease had run out, because a worker died or hung:"
NOW_FAILED = "now FAILED, because no retry was left:"


@pytest.mark.parametrize(
    ("recovered", "message"),
    [
        (Recovered(reset=("A-1",)), f"recovered 1 event {OF_DEAD} 'A-1'"),
        (
            Recovered(reset=("A-1", "A-2"), failed=("A-3", "A-4")),
            f"recovered 4 events {OF_DEAD} 'A-1', 'A-2', 'A-3' and 1 more; 2 are {NOW_FAILED} 'A-3', 'A-4'",
        ),
        (Recovered(failed=("A-1",)), f"recovered 1 event {OF_DEAD} 'A-1'; 1 is {NOW_FAILED} 'A-1'"),
        (Recovered(), None),
    ],
)
async def test_log_of_a_recovery_names_the_events(
    caplog: pytest.LogCaptureFixture, recovered: Recovered, message: str | None
) -> None:
    outbox = ScriptedOutbox()

    async def answer() -> Recovered:
        return recovered

    outbox.recover = lambda **_: answer()  # type: ignore[method-assign]
    await OutboxEventBus(outbox).run_once()
    logged = [record.getMessage() for record in caplog.records]
    assert logged == ([] if message is None else [message])
