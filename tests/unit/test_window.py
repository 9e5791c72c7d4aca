"""The state of a window: it covers every event of which no answer says that it is stored elsewhere, or nowhere."""

from __future__ import annotations

import pytest

from dynamodb_outbox.dynamodb.windows.window import EntryState, Window
from dynamodb_outbox.event_ids import IdNumber
from dynamodb_outbox.shared_lease import SharedLease

SEED = b"seed"


def opened() -> Window:
    """A window of the numbers 5 to 9."""
    lease = SharedLease(expires_at=10.0, ends=10.0)
    return Window("dynamodb-outbox-window/r/w", token="t", seed=SEED, start=5, end=10, lease=lease)


@pytest.mark.parametrize("state", EntryState)
def test_window_covers_its_open_events_whatever_is_known_of_them(state: EntryState) -> None:
    window = opened()
    first = window.enter(IdNumber(SEED, 6), event_id="a", token="a")
    window.enter(IdNumber(SEED, 8), event_id="b", token="b")
    first.state = state
    assert window.lowest(default=9) == 6
    window.leave(first)
    assert window.lowest(default=9) == 8


def test_window_takes_numbers_within_its_range_once() -> None:
    window = opened()
    assert [number for number in range(12) if window.covers(IdNumber(SEED, number))] == [5, 6, 7, 8, 9]
    assert not window.covers(IdNumber(b"other", 6))
    assert not window.covers(None)
    window.enter(IdNumber(SEED, 6), event_id="a", token="a")
    assert not window.covers(IdNumber(SEED, 6))
    window.is_closed = True
    assert not window.covers(IdNumber(SEED, 7))


def test_former_entry_of_a_number_does_not_end_a_later_one() -> None:
    window = opened()
    former = window.enter(IdNumber(SEED, 6), event_id="a", token="a")
    window.leave(former)
    window.enter(IdNumber(SEED, 6), event_id="a", token="b")
    window.leave(former)
    assert window.open_count == 1
    assert window.of_token("a") is None
