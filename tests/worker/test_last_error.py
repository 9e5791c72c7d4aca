"""The last error of an event names each handler that failed, with that handler's own error."""

from __future__ import annotations

import pytest

from dynamodb_outbox import Event, InMemoryOutbox, OutboxEventBus


def fail(bus: OutboxEventBus, name: str, text: str, *, max_retries: int) -> None:
    """Register a handler that fails in every attempt."""

    @bus.on("user.created", name=name, max_retries=max_retries)
    async def handler(event: Event) -> None:
        raise ValueError(text)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("gmail", "quota"), ("mail", "no relay")),
        (("mail", "no relay"), ("gmail", "quota")),
        (("mail:smtp", "quota"), ("mail", "no relay")),
        (("gmail", "refused; mail: gateway is down"), ("mail", "no relay")),
        (("mail", "no relay; gmail: not even there"), ("gmail", "quota")),
    ],
)
async def test_handler_without_a_retry_left_keeps_its_own_error(
    first: tuple[str, str], second: tuple[str, str]
) -> None:
    for impatient in (first, second):
        bus = OutboxEventBus(InMemoryOutbox(base_backoff=0), on_error=lambda error: None)
        for name, text in (first, second):
            fail(bus, name, text, max_retries=0 if (name, text) == impatient else 2)
        await bus.emit("user.created")
        assert [await bus.run_once() for _ in range(4)] == [1, 1, 1, 0]
        (failed,) = await bus.get_failed_events()
        errors = sorted(f"{name}: ValueError: {text}".replace("; ", ", ") for name, text in (first, second))
        assert sorted(failed.last_error.split("; ")) == errors
