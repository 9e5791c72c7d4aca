"""Ids, types, payloads and error texts are written by others: they are shown, and never obeyed."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from dynamodb_outbox import Event, EventStatus, InMemoryOutbox, OutboxEventBus
from tests.web.client import Client, Document, query_of
from tests.web.conftest import fail_events

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</pre></textarea></title><svg/onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt;&amp;",
    "../../admin",
    "/event?id=x#fragment",
    "a/b%2Fc%00d",
    "line one\nline two\r\nline three\rline four",
    " leading and trailing ",
    "\u202egnp.exe\u2066",
    "zero\u200bwidth",
    "tab\tnul\x00bell\x07",
    "é" * 1_000,
    "-",
    "=&;+%",
]


def hostile_bus(outbox: InMemoryOutbox, type: str) -> OutboxEventBus:
    bus = OutboxEventBus(outbox)

    async def fail(event: Event) -> None:
        raise ValueError(event.payload["text"])

    bus.on(type, fail, name=f"handler {type}"[:60])
    return bus


def outline(page: Document) -> list[tuple[str, frozenset[str]]]:
    """The elements of a page and the names of their attributes: what hostile text would add to."""
    return [(tag, frozenset(attributes)) for tag, attributes in page.elements]


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_text_adds_no_element_and_no_attribute(outbox: InMemoryOutbox, text: str) -> None:
    from dynamodb_outbox.web import Access, Role, outbox_dashboard

    outlines: list[list[list[tuple[str, frozenset[str]]]]] = []
    for word in ("harmless", text):
        fresh = InMemoryOutbox(max_retries=0, on_error=lambda error: None)
        bus = hostile_bus(fresh, word)
        client = Client(
            outbox_dashboard(bus, authorize=lambda request: Access(word, list(Role)), environment=word)  # noqa: B023
        )
        await fail_events(bus, Event(word, {"text": word, word: word}, id=word, metadata={word: word}))
        pages = ["/", "/events?state=failed", f"/event?id={quote(word, safe='')}", "/dead-letters", "/types"]
        replies = [await client.get(path) for path in pages]
        assert [reply.status for reply in replies] == [200] * len(pages)
        outlines.append([outline(reply.page) for reply in replies])
    assert outlines[0] == outlines[1]


@pytest.mark.parametrize("text", HOSTILE)
async def test_links_and_forms_keep_a_hostile_id(outbox: InMemoryOutbox, text: str) -> None:
    from dynamodb_outbox.web import Access, Role, outbox_dashboard

    bus = hostile_bus(outbox, text)
    client = Client(outbox_dashboard(bus, authorize=lambda request: Access("ada", list(Role))))
    await fail_events(bus, Event(text, {"text": text}, id=text))
    page = (await client.get("/events", state="failed")).page
    (link,) = {link for link in page.links() if "event?" in link}
    assert query_of(link) == {"id": text}
    (type_link,) = [link for link in page.links() if "type=" in link]
    assert query_of(type_link) == {"state": "failed", "type": text}
    (box,) = page.all("input", name="pick")
    # A browser changes line breaks and NUL in fields: there must be none of them.
    assert box["value"].isascii()
    assert box["value"].isprintable()
    reply = await client.post("/retry", [("pick", box["value"])])
    reply = await client.confirm(reply, "retry")
    assert query_of(reply.headers["location"]) == {"id": text, "note": "retried"}
    assert outbox.status_of(text) is EventStatus.PENDING


async def test_invisible_characters_are_shown(client: Client, bus: OutboxEventBus) -> None:
    await bus.emit("user.created", {"text": "a\u202eb\x00c\nd"}, id="one\u202etwo\x00three\nfour")
    reply = await client.get("/event", id="one\u202etwo\x00three\nfour")
    assert "one\\u{202e}two\\u{0}three\\nfour" in reply.text
    assert "a\\u{202e}b\\u0000c\\nd" in reply.text  # the payload is JSON, which has escapes for control characters
    assert "\u202e" not in reply.body
    assert "\x00" not in reply.body


async def test_json_is_not_sniffed_as_html(client: Client, bus: OutboxEventBus) -> None:
    await bus.emit("user.created", {"text": "<script>alert(1)</script>"}, id="e1")
    reply = await client.get("/api/event.json", id="e1")
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert json.loads(reply.body)["payload"] == {"text": "<script>alert(1)</script>"}


async def test_numbers_have_all_their_digits(client: Client, bus: OutboxEventBus) -> None:
    await bus.emit("user.created", {"n": 12345678901234567890123456789012345678, "x": 0.1}, id="e1")
    reply = await client.get("/event", id="e1")
    assert "12345678901234567890123456789012345678" in reply.text
    assert "0.1" in reply.text


@pytest.mark.parametrize("url", ["javascript:alert('{trace_id}')", "https://traces.test/", "//traces.test/{trace_id}"])
def test_trace_url_has_to_be_an_address_with_a_place_for_the_id(outbox: InMemoryOutbox, url: str) -> None:
    from dynamodb_outbox import ConfigurationError
    from dynamodb_outbox.web import anyone_may_view, outbox_dashboard

    with pytest.raises(ConfigurationError, match="trace_url"):
        outbox_dashboard(outbox, authorize=anyone_may_view, trace_url=url)


@pytest.mark.parametrize(
    ("carrier", "is_linked"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True),
        ("00-javascript:alert(1)-b7ad6b7169203331-01", False),
        (5, False),
        ({"a": 1}, False),
    ],
)
async def test_only_a_well_formed_trace_is_linked(bus: OutboxEventBus, carrier: object, is_linked: bool) -> None:
    from dynamodb_outbox.web import Access, Role, outbox_dashboard

    client = Client(
        outbox_dashboard(
            bus,
            authorize=lambda request: Access("ada", list(Role)),
            trace_url="https://traces.test/{trace_id}",
        )
    )
    await bus.emit("user.created", {}, id="e1", metadata={"traceparent": carrier})
    links = (await client.get("/event", id="e1")).page.links()
    assert ("https://traces.test/0af7651916cd43dd8448eb211c80319c" in links) is is_linked
    assert not any("javascript" in link for link in links)


@pytest.mark.parametrize("note", ["<b>", "retried ", "hacked"])
async def test_note_of_a_link_is_not_shown_unless_it_is_known(client: Client, bus: OutboxEventBus, note: str) -> None:
    await bus.emit("user.created", {}, id="e1")
    reply = await client.get("/event", id="e1", note=note)
    assert not reply.page.all("p", role="status")
