"""The last error of an event names each handler that failed, with that handler's own error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodb_outbox import Event, InMemoryOutbox, OutboxEventBus
from dynamodb_outbox.worker.handling.last_error import join_errors, split_errors


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


NAMES = ["mail", "gmail", "mail:smtp", "mail: smtp", "send; mail", "ail"]


@given(
    st.dictionaries(
        st.sampled_from(NAMES), st.lists(st.sampled_from([*NAMES, ": ", "; ", "boom", " "])).map("".join), min_size=1
    )
)
def test_errors_that_were_joined_are_found_again(errors: dict[str, str]) -> None:
    text = join_errors(errors, names=NAMES)
    found = split_errors(text, names=NAMES)
    assert list(found) == list(errors)
    assert join_errors(found, names=NAMES) == text
    assert [error.replace(",", ";") for error in found.values()] == list(errors.values())


def test_longest_name_is_taken() -> None:
    assert split_errors("mail: smtp: x; mail: y", names=["mail", "mail: smtp"]) == {"mail: smtp": "x", "mail": "y"}


@pytest.mark.parametrize("text", ["", "the lease ran out before the handlers were done: the worker died or hung"])
def test_text_of_no_handler_has_no_errors(text: str) -> None:
    assert split_errors(text, names=NAMES) == {}
