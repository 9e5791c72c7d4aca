"""docs/how-to/payload-types.md says what handlers get, and what is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dynamodb_outbox import EventTooLargeError, InMemoryOutbox, OutboxEventBus, UnstorableValueError

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "payload-types.md").read_text(encoding="utf-8")
ROUND_TRIPS, REFUSED = (
    re.findall(r"^\| `(.*?)` \| (.*) \|$", part, re.MULTILINE) for part in PAGE.split("## What is refused")
)


class Color(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int


def nested(levels: int) -> Any:
    return [nested(levels - 1)] if levels else 1


NAMES = {each.__name__: each for each in (Color, Point, nested, date, datetime, Decimal, UUID)} | {"UTC": UTC}


@pytest.mark.parametrize(("emitted", "received"), ROUND_TRIPS)
async def test_handlers_get_what_the_page_says(emitted: str, received: str) -> None:
    expected = eval(received.strip("`"), {})  # noqa: S307 - the expression is the page's
    bus = OutboxEventBus(InMemoryOutbox())
    got: list[Any] = []

    @bus.on("order.placed")
    async def collect(event: Any) -> None:
        got.append(event.payload)

    await bus.emit("order.placed", eval(emitted, dict(NAMES)))  # noqa: S307
    assert await bus.run_once() == 1
    assert got == [expected]
    assert type(got[0]) is type(expected)


@pytest.mark.parametrize("refused", [value for value, _ in REFUSED])
async def test_values_are_refused_as_the_page_says(refused: str) -> None:
    outbox = InMemoryOutbox()
    with pytest.raises((UnstorableValueError, EventTooLargeError)):
        await OutboxEventBus(outbox).emit("order.placed", eval(refused, dict(NAMES)), id="refused")  # noqa: S307
    assert outbox.status_of("refused") is None


async def test_what_is_just_within_the_limits_is_stored() -> None:
    bus = OutboxEventBus(InMemoryOutbox())
    for value in (10**38 - 1, nested(30), "x" * 401_000):
        assert await bus.emit("order.placed", value)


def test_the_tables_are_found() -> None:
    assert len(ROUND_TRIPS) == 16
    assert len(REFUSED) == 11
