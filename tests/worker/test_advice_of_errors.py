"""What errors of wrong or repeated calls advise: it names the call and what to write, and following it works."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodb_outbox import (
    ConfigurationError,
    DuplicateEventError,
    Event,
    FailedEvent,
    InMemoryOutbox,
    MiddlewareError,
    NoHandlerError,
    OutboxError,
    OutboxEventBus,
    PartialPublishError,
    Reject,
    TableNotFoundError,
    UnavailableError,
    WaitTimeoutError,
    WindowLostError,
)


@pytest.fixture
def bus() -> OutboxEventBus:
    return OutboxEventBus(InMemoryOutbox(poll_interval=0.01))


async def test_emit_many_of_an_event_that_is_stored_says_so_and_is_repeated_as_it_advises(bus: OutboxEventBus) -> None:
    first, second = Event("invoice.due", id="m1"), Event("invoice.due", id="m2")
    await bus.emit(first)
    with pytest.raises(PartialPublishError) as caught:
        await bus.emit_many([first, second])
    assert str(caught.value) == (
        "1 of 2 events are stored now, 1 was stored before (see .failed and .causes); to repeat the others safely, "
        "call emit_many(error.failed, if_exists=\"ignore\"). First cause: an event with the id 'm1' is stored already; "
        "if this is a repeated emit, you can go on, else use another id"
    )
    repeated = await bus.emit_many(caught.value.failed, if_exists="ignore")
    assert [(event.id, event.already_stored) for event in repeated] == [("m1", True)]


def failure(*, before: int = 0, maybe: int = 0, refused: int = 0, published: int = 0) -> str:
    causes: list[OutboxError] = [
        *(DuplicateEventError(event_id="d") for _ in range(before)),
        *(UnavailableError(operation="put_item", attempts=1, reason="cut", maybe_applied=True) for _ in range(maybe)),
        *(
            UnavailableError(operation="put_item", attempts=2, reason="down", maybe_applied=False)
            for _ in range(refused)
        ),
    ]
    events = [Event("invoice.due", id=f"{n}") for n in range(len(causes))]
    by_id = {event.id: cause for event, cause in zip(events, causes, strict=True)}
    return str(PartialPublishError(published=[Event("invoice.due")] * published, failed=events, causes=by_id))


def test_failed_events_are_counted_by_what_is_known_of_them() -> None:
    mixed = failure(before=2, maybe=1, refused=3, published=4)
    assert mixed.startswith(
        "4 of 10 events are stored now, 2 were stored before, 1 may be stored, 3 could not be stored (see .failed and "
        '.causes); to repeat the others safely, call emit_many(error.failed, if_exists="ignore"). First cause: put'
    )
    assert failure(refused=2).startswith("0 of 2 events are stored now, 2 could not be stored (see ")
    assert "failed 2 times" in failure(refused=2)


async def test_wait_for_without_a_worker_says_so(bus: OutboxEventBus) -> None:
    with pytest.raises(WaitTimeoutError, match=r"within 0 s; no worker is started here.*await bus\.start\(\)"):
        await bus.wait_for("invoice.due", timeout=0)
    async with bus:
        with pytest.raises(WaitTimeoutError, match=r"within 0 s$"):
            await bus.wait_for("invoice.due", timeout=0)


async def test_ids_that_are_not_ids_are_refused_with_what_to_write(bus: OutboxEventBus) -> None:
    @bus.on("invoice.due")
    async def reject(event: Event) -> None:
        raise Reject("no")

    async with bus:
        await bus.emit("invoice.due", id="inv-1")
        await bus.drain(timeout=10)
    failed = await bus.get_failed_events()
    assert isinstance(failed[0], FailedEvent)
    wrong: list[tuple[Any, str]] = [
        (
            failed,
            r"ids must be the ids of events, not FailedEvent objects; pass \[event\.id for event in failed\]",
        ),
        ("inv-1", r"ids='inv-1': it must be a list of ids, such as \['inv-1'\]"),
        (failed[0], r"ids must be a list of ids, such as \[event\.id\], not a FailedEvent"),
    ]
    for ids, says in wrong:
        with pytest.raises(ConfigurationError, match=says):
            await bus.retry_events(ids)
    assert len((await bus.retry_events([event.id for event in failed])).done) == 1


async def test_call_next_without_the_event_is_named(bus: OutboxEventBus) -> None:
    async def forgets(event: Event, call_next: Any) -> None:
        await call_next()

    bus.add_emit_middleware(forgets)
    with pytest.raises(MiddlewareError, match=r"called call_next with 0 arguments; write `await call_next\(event\)`"):
        await bus.emit("invoice.due")


async def test_event_of_a_transaction_cannot_ignore_that_it_exists(bus: OutboxEventBus) -> None:
    async with bus.transaction() as tx:
        options: Any = {"if_exists": "ignore"}
        with pytest.raises(ConfigurationError, match="a transaction stores all or nothing"):
            tx.emit("invoice.due", **options)
        with pytest.raises(ConfigurationError, match="must be 'raise' or 'ignore'"):
            tx.emit("invoice.due", if_exists="replace")  # type: ignore[arg-type]  # what is refused
        tx.emit("invoice.due", if_exists="raise")


async def test_type_without_a_handler_says_when_its_event_becomes_failed() -> None:
    errors: list[Any] = []
    for unhandled_timeout in (60.0, None):
        bus = OutboxEventBus(InMemoryOutbox(unhandled_timeout=unhandled_timeout), on_error=errors.append)
        await bus.emit("invoice.due")
        await bus.run_once()
    limited, endless = errors
    assert isinstance(limited, NoHandlerError)
    assert "a newer release handles the type; after 60 s without a handler the event becomes FAILED" in str(limited)
    assert str(endless).endswith("unless another service or a newer release handles the type")
    assert (limited.fails_after, endless.fails_after) == (60.0, None)


def test_repr_of_an_event_shows_that_it_was_stored_before() -> None:
    event = Event("invoice.due", {"card": "4111"}, id="e")
    assert repr(event) == f"Event(type='invoice.due', id='e', occurred_at={event.occurred_at!r})"
    assert repr(event.as_already_stored()).endswith(", already_stored=True)")


def test_missing_table_of_the_user_is_not_said_to_be_made_by_the_outbox() -> None:
    own = str(TableNotFoundError(table_name="outbox"))
    assert "the table 'outbox' does not exist here" in own
    assert "create it with `await outbox.create_table()`" in own
    other = str(TableNotFoundError(table_name="orders", among=["orders"], outbox_table="outbox"))
    assert "the table 'orders' does not exist here" in other
    assert "create_table" not in other
    both = str(TableNotFoundError(table_name="outbox", among=["orders", "outbox"]))
    assert "one of the tables 'orders', 'outbox' does not exist here" in both
    assert "'outbox', the table of the outbox, with `await outbox.create_table()`" in both
    assert "create your other tables yourself" in both


@pytest.mark.parametrize(
    ("events", "effect"),
    [
        (0, "but none of its events was open. "),
        (3, "so the handlers of its events (3) were cancelled; other workers recover the events. "),
    ],
)
def test_lost_window_says_what_became_of_its_events(events: int, effect: str) -> None:
    error = WindowLostError(window="w", events=events, table_name="events-outbox")
    assert str(error).startswith(
        f"the window 'w' of table 'events-outbox' was not renewed before its lease ended, {effect}Look for "
    )
