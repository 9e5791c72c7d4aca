"""The parts below the pages: text, caches, counters and charts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodb_outbox.observers import EventCompleted, EventFailed, HandlerSucceeded, RetryScheduled
from dynamodb_outbox.web import charts, text
from dynamodb_outbox.web.activity import INTERVAL, MAX_TYPES, OTHER, POINTS, Activity, percentile
from dynamodb_outbox.web.cached import Cached
from dynamodb_outbox.web.http import BadRequestError

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0 s"),
        (0.0124, "12 ms"),
        (1, "1.0 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (90_061, "1 d 1 h"),
        (400 * 86_400, "400 d"),
    ],
)
def test_durations(seconds: float, written: str) -> None:
    assert text.duration(seconds) == written


@pytest.mark.parametrize(("seconds", "written"), [(0.5, "now"), (90, "1 min 30 s ago"), (-90, "in 1 min 30 s")])
def test_times_are_written_as_a_distance(seconds: float, written: str) -> None:
    assert text.away(NOW - timedelta(seconds=seconds), NOW) == written


@given(st.lists(st.none() | st.text(), min_size=1, max_size=4))
def test_packed_texts_come_back_and_survive_a_browser(texts: list[str | None]) -> None:
    field = text.packed(*texts)
    assert field.isascii()
    assert field.isprintable()
    assert text.unpacked(field, len(texts)) == texts


@given(st.text())
def test_revealed_text_has_no_invisible_character_and_revealing_it_again_changes_nothing(value: str) -> None:
    shown = text.revealed(value)
    assert "\n" not in shown
    assert text.revealed(shown) == shown


@given(st.datetimes(timezones=st.just(UTC)))
def test_packed_time_comes_back(time: datetime) -> None:
    assert text.unpacked_time(text.packed_time(time)) == time


@pytest.mark.parametrize("field", ["", "now", "2026-01-02", "2026-01-02T03:04:05"])
def test_time_without_a_time_zone_is_refused(field: str) -> None:
    with pytest.raises(BadRequestError):
        text.unpacked_time(field)


async def test_callers_at_the_same_time_share_one_load() -> None:
    loads = 0
    now = 0.0

    async def load() -> int:
        nonlocal loads
        loads += 1
        await anyio.sleep(0)
        return loads

    cached = Cached(load, seconds=15, clock=lambda: now)
    got: list[int] = []

    async def get() -> None:
        got.append(await cached.get())

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(get)
    assert got == [1] * 10
    now = 14.9
    assert await cached.get() == 1
    now = 15.0
    assert await cached.get() == 2
    cached.forget()
    assert await cached.get() == 3


async def test_load_that_fails_is_tried_again() -> None:
    answers = iter([ValueError("no"), 5])

    async def load() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    cached = Cached(load, seconds=15)
    with pytest.raises(ValueError, match="no"):
        await cached.get()
    assert await cached.get() == 5


def test_activity_counts_by_type_and_over_time() -> None:
    now = 100.0
    activity = Activity(clock=lambda: now)
    activity(EventCompleted(event_id="1", event_type="a", attempt=1, occurred_at=NOW))
    activity(HandlerSucceeded(event_id="1", event_type="a", handler="h", attempt=1, seconds=0.25))
    now += 2 * INTERVAL
    activity(RetryScheduled(event_id="2", event_type="a", attempt=1, delay=1, error="no"))
    assert [(p.completed, p.retried) for p in activity.points()] == [(1, 0), (0, 0), (0, 1)]
    assert activity.types["a"].success_rate == 0.5
    assert activity.types["a"].percentile(0.95) == 0.25
    now += 10 * POINTS * INTERVAL
    assert len(activity.points()) == POINTS
    assert sum(p.completed + p.retried for p in activity.points()) == 0


def test_activity_stays_small() -> None:
    activity = Activity()
    for number in range(10_000):
        activity(HandlerSucceeded(event_id="1", event_type=f"t{number}", handler="h", attempt=1, seconds=1))
    assert len(activity.types) == MAX_TYPES + 1
    assert len(activity.types[OTHER].durations) == 500


@pytest.mark.parametrize(("part", "value"), [(0.0, 1), (0.5, 3), (0.95, 5), (1.0, 5)])
def test_percentiles(part: float, value: float) -> None:
    assert percentile([5, 1, 3, 2, 4], part) == value
    assert percentile([], part) is None


@given(st.lists(st.floats(0, 1e9), max_size=200))
def test_charts_are_well_formed_and_stay_inside(values: list[float]) -> None:
    for markup in (
        charts.bars("<b>", [charts.Series("a & b", "completed", values), charts.Series("c", "failed", values)]),
        charts.line('"<b>', values),
    ):
        svg = ET.fromstring(f"<div>{markup}</div>")[0]  # noqa: S314 - made here
        for shape in svg:
            if shape.tag == "rect":
                assert -0.11 <= float(shape.attrib["y"]) <= charts.HEIGHT
                assert "style" not in shape.attrib


def test_event_failed_is_counted() -> None:
    activity = Activity()
    activity(EventFailed(event_id="1", event_type="a", attempt=1, error="no", reason="rejected"))
    assert activity.total().failed == 1
