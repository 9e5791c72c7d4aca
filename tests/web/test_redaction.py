"""What nobody may see is on no page, in no list, and in no export."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dynamodb_outbox import OutboxEventBus
from dynamodb_outbox.stored_events import StoredEvent
from dynamodb_outbox.web import Role
from dynamodb_outbox.web.dead_letters import Selection
from dynamodb_outbox.web.routes import ROUTES
from tests.web.client import Client
from tests.web.conftest import Make, fail_events, failing

SECRET = "4111-1111-1111-1111"
QUERIES = {
    "/events": {"state": "failed"},
    "/event": {"id": "f1"},
    "/dead-letters.jsonl": {"selection": Selection().packed},
    "/api/events.json": {"state": "failed"},
    "/api/event.json": {"id": "f1"},
    "/retry-many": {"selection": Selection().packed},
    "/discard-many": {"selection": Selection().packed},
    "/replace": {"event": "=f1"},
}
PAGES = [path for path, route in ROUTES.items() if route.get is not None]


async def one_with_a_secret(bus: OutboxEventBus) -> None:
    await fail_events(bus, failing(id="f1", text=f"card {SECRET} was refused", metadata={"card": SECRET}))


def without_secrets(event: StoredEvent) -> StoredEvent:
    return replace(event, payload={"fail": "***"}, metadata={}, last_error=event.last_error.replace(SECRET, "***"))


async def all_pages(client: Client) -> str:
    return "".join([(await client.get(path, **QUERIES.get(path, {}))).body for path in PAGES])


async def test_the_secret_is_on_pages_without_redact(bus: OutboxEventBus, client_with: Make) -> None:
    await one_with_a_secret(bus)
    client = client_with(*Role)
    for path in ("/event", "/dead-letters.jsonl", "/api/event.json", "/api/events.json", "/dead-letters"):
        assert SECRET in (await client.get(path, **QUERIES.get(path, {}))).body, path


async def test_redacted_text_is_nowhere(bus: OutboxEventBus, client_with: Make) -> None:
    await one_with_a_secret(bus)
    body = await all_pages(client_with(*Role, redact=without_secrets))
    assert SECRET not in body
    assert "card *** was refused" in body


async def test_payload_needs_its_role(bus: OutboxEventBus, client_with: Make) -> None:
    await one_with_a_secret(bus)
    client = client_with(Role.VIEW)
    reply = await client.get("/event", id="f1")
    assert "Hidden: a dict with 1 key; to see it, you need the role `payload`." in reply.text
    pages = ["/event", "/api/event.json", "/api/events.json"]
    for path in pages:
        body = (await client.get(path, **QUERIES[path])).body
        assert f'"fail": "card {SECRET}' not in body
        assert '"card"' not in body


@pytest.mark.parametrize("result", ["raise", None, {"payload": "***"}])
async def test_a_redact_that_fails_hides_everything(
    bus: OutboxEventBus, client_with: Make, result: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await one_with_a_secret(bus)
    caplog.clear()

    def broken(event: StoredEvent) -> Any:
        if result == "raise":
            raise KeyError(event.payload["fail"])
        return result

    client = client_with(*Role, redact=broken)
    assert SECRET not in await all_pages(client)
    assert "redact failed; see the log" in (await client.get("/event", id="f1")).text
    assert "redact raised an exception for event 'f1'" in caplog.text


async def test_redact_cannot_change_which_event_a_button_is_for(bus: OutboxEventBus, client_with: Make) -> None:
    await one_with_a_secret(bus)
    client = client_with(*Role, redact=lambda event: replace(event, id="other", fence=""))
    page = (await client.get("/event", id="f1")).page
    assert page.form("retry")["pick"].startswith("=f1&=FAILED")
