"""Holds and resumes on the dashboard."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dynamodb_outbox import InMemoryOutbox
from tests.web.client import Client


async def test_whole_outbox_is_held_with_a_reason_and_resumed(outbox: InMemoryOutbox, client: Client) -> None:
    asked = await client.post("/hold", (await client.get("/")).page.form("hold"))
    assert "Hold the whole outbox?" in asked.text
    assert await outbox.holds() == []
    reply = await client.confirm(asked, "hold", reason="the database is restored", minutes="60")
    page = await client.follow(reply)
    (hold,) = await outbox.holds()
    assert (hold.type, hold.by, hold.reason) == (None, "ada", "the database is restored")
    assert hold.until is not None
    assert timedelta(minutes=59) < hold.until - datetime.now(UTC) <= timedelta(minutes=60)
    assert "Held by ada" in page.text
    overview = await client.get("/")
    assert "The whole outbox is held" in overview.text
    await client.post("/resume", overview.page.form("resume"))
    assert await outbox.holds() == []
    assert "Healthy" in (await client.get("/")).text


@pytest.mark.parametrize("type", ["user.created", "a type that nobody has seen <b>"])
async def test_one_type_is_held_and_resumed(outbox: InMemoryOutbox, client: Client, type: str) -> None:
    await client.get("/types")
    asked = await client.post("/hold", {"name": type})
    await client.confirm(asked, "hold", reason="a bad deploy", minutes="")
    (hold,) = await outbox.holds()
    assert (hold.type, hold.until) == (type, None)
    page = (await client.get("/types")).page
    assert type in page.text
    await client.post("/resume", page.form("resume"))
    assert await outbox.holds() == []


@pytest.mark.parametrize(
    "fields", [{"reason": ""}, {"minutes": "forever"}, {"minutes": "-5"}, {"type": "user.created"}, {"type": "=%ff"}]
)
async def test_hold_with_a_wrong_field_is_refused(
    outbox: InMemoryOutbox, client: Client, fields: dict[str, str]
) -> None:
    asked = await client.post("/hold", (await client.get("/")).page.form("hold"))
    reply = await client.confirm(asked, "hold", **({"reason": "why", "minutes": "15"} | fields))
    assert reply.status == 400
    assert await outbox.holds() == []
