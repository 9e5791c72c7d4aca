"""What nobody may see is on no page, in no list, and in no export."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dynamodb_outbox import InMemoryOutbox, OutboxEventBus, Page
from dynamodb_outbox.dynamodb.items.stored import decode_stored
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


@pytest.fixture
def of_another_program(outbox: InMemoryOutbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead letter that cannot be read as an event."""
    item = {"id": {"S": "f1"}, "type": {"S": "card.added"}, "status": {"S": "FAILED"}, "payload": {"S": SECRET}}
    event = decode_stored(item, numbers="native", now=0.0)
    assert event is not None

    async def get(event_id: str) -> StoredEvent:
        return event

    async def list_events(*args: Any, **options: Any) -> Page:
        return Page(events=(event,), after=None, examined=1)

    monkeypatch.setattr(outbox, "get", get)
    monkeypatch.setattr(outbox, "list_events", list_events)


@pytest.mark.usefixtures("of_another_program")
async def test_an_item_that_cannot_be_read_is_shown_and_exported(client_with: Make) -> None:
    client = client_with(*Role)
    for path in ("/event", "/dead-letters.jsonl", "/api/event.json", "/api/events.json"):
        body = (await client.get(path, **QUERIES[path])).body
        assert SECRET in body, path
        assert "1970" not in body, path
    assert "1970" not in (await client.get("/events", **QUERIES["/events"])).body


@pytest.mark.usefixtures("of_another_program")
@pytest.mark.parametrize("is_broken", [False, True])
async def test_an_item_that_cannot_be_read_is_not_shown_if_payloads_are_redacted(
    client_with: Make, *, is_broken: bool
) -> None:
    def redact(event: StoredEvent) -> StoredEvent:
        return replace(event, payload=event.payload["number"] if is_broken else "***")

    assert SECRET not in await all_pages(client_with(*Role, redact=redact))


@pytest.mark.usefixtures("of_another_program")
async def test_an_item_that_cannot_be_read_needs_the_role_of_payloads(client_with: Make) -> None:
    assert SECRET not in await all_pages(client_with(*(set(Role) - {Role.PAYLOAD})))


async def test_redact_cannot_change_which_event_a_button_is_for(bus: OutboxEventBus, client_with: Make) -> None:
    await one_with_a_secret(bus)
    client = client_with(*Role, redact=lambda event: replace(event, id="other", fence=""))
    page = (await client.get("/event", id="f1")).page
    assert page.form("retry")["pick"].startswith("=f1&=FAILED")
