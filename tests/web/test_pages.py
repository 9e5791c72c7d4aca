"""What each page shows, and what it costs."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urljoin

import anyio
import pytest

from dynamodb_outbox import Event, InMemoryOutbox, OutboxEventBus, UnavailableError
from dynamodb_outbox.stored_events import EventState
from dynamodb_outbox.web import Access, Role, anyone_may_view, outbox_dashboard
from dynamodb_outbox.web.dashboard import MOST_WAITING, PAGES_AT_ONCE
from dynamodb_outbox.web.routes import ROUTES
from tests.web.client import Client
from tests.web.conftest import Make, fail_events, failing

READS = ("get", "list_events", "sample", "holds")


def count_reads(outbox: InMemoryOutbox) -> dict[str, int]:
    """Count the reads of an outbox from now on."""
    calls = dict.fromkeys(READS, 0)
    for name in READS:
        original = getattr(outbox, name)

        async def counted(*args: Any, _name: str = name, _original: Any = original, **options: Any) -> Any:
            calls[_name] += 1
            return await _original(*args, **options)

        setattr(outbox, name, counted)
    return calls


async def test_overview_counts_every_state_and_links_to_its_list(bus: OutboxEventBus, client: Client) -> None:
    await fail_events(bus, failing(id="f1"), failing(id="f2"))
    await bus.emit("user.created", {}, delay=100)
    page = (await client.get("/")).page
    assert "2 dead letters" in page.text
    assert "2 failed is a dead letter" in page.text
    assert "1 scheduled has a delay or a retry ahead" in page.text
    linked = {link for link in page.links() if "state=" in link}
    unlisted = {"completed", "discarded", "waiting"}
    assert linked == {f"./events?state={state}" for state in EventState if state not in unlisted}


async def test_overview_links_to_the_runbook(bus: OutboxEventBus, client_with: Make) -> None:
    await fail_events(bus, failing())
    client = client_with(*Role, runbook_url="https://wiki.test/outbox")
    assert "https://wiki.test/outbox#outboxdeadletters" in (await client.get("/")).page.links()


async def test_overview_says_what_this_process_did(bus: OutboxEventBus, client: Client) -> None:
    await fail_events(bus, failing(), Event("user.created", {}), Event("user.created", {}))
    page = (await client.get("/")).page
    assert "Completed 2 Retried 0 Failed 1" in page.text
    (chart,) = page.all("svg", role="img")  # none of due events, because there are none
    assert "2 completed; 0 retried; 1 failed" in chart["aria-label"]
    row = (await client.get("/types")).text
    assert "user.created welcome 2 0 1 66.7 %" in row


async def test_outbox_that_cannot_be_read_is_said_on_the_overview(outbox: InMemoryOutbox, client: Client) -> None:
    async def unavailable(**options: Any) -> Any:
        raise UnavailableError(operation="Query", attempts=3, reason="no answer", maybe_applied=False)

    outbox.sample = unavailable  # type: ignore[method-assign]
    reply = await client.get("/")
    assert reply.status == 200
    assert "The outbox cannot be read" in reply.text
    assert "no answer" in reply.text


async def test_storage_error_elsewhere_is_a_503_that_says_why(outbox: InMemoryOutbox, client: Client) -> None:
    async def unavailable(*args: Any, **options: Any) -> Any:
        raise UnavailableError(operation="Query", attempts=3, reason="no answer", maybe_applied=False)

    outbox.list_events = unavailable  # type: ignore[method-assign]
    assert (await client.get("/events")).status == 503
    reply = await client.get("/api/events.json")
    assert reply.status == 503
    assert "no answer" in json.loads(reply.body)["error"]


async def test_many_viewers_cost_no_more_reads_than_one(bus: OutboxEventBus, outbox: InMemoryOutbox) -> None:
    dashboard = outbox_dashboard(bus, authorize=lambda request: Access("ada", list(Role)))
    calls = count_reads(outbox)
    for _ in range(20):
        viewer = Client(dashboard)
        for path in ("/", "/api/overview.json", "/types", "/worker", "/health", "/dead-letters"):
            assert (await viewer.get(path)).status == 200
    assert calls == {"get": 0, "list_events": 1, "sample": 1, "holds": 1}


async def test_list_reads_one_page_and_an_event_one_item(bus: OutboxEventBus, outbox: InMemoryOutbox) -> None:
    await bus.emit("user.created", {}, id="e1")
    client = Client(outbox_dashboard(bus, authorize=anyone_may_view))
    calls = count_reads(outbox)
    await client.get("/events")
    await client.get("/event", id="e1")
    assert calls == {"get": 1, "list_events": 1, "sample": 0, "holds": 0}


async def test_overview_is_fresh_after_an_action(bus: OutboxEventBus, client: Client) -> None:
    await fail_events(bus, failing(id="f1"))
    assert "1 dead letter" in (await client.get("/")).text
    await client.confirm(await client.confirm(await client.get("/event", id="f1"), "retry"), "retry")
    assert "1 dead letter" not in (await client.get("/")).text


async def test_next_page_goes_on_and_keeps_the_filter(bus: OutboxEventBus, client: Client) -> None:
    await bus.emit_many([Event("user.created", {}, id=f"e{n:03}") for n in range(120)])
    await bus.emit("order.placed", {}, id="o1")
    seen: list[str] = []
    path = "/events?state=due&type=user.created"
    while True:
        page = (await client.get(path)).page
        seen += [link for link in page.links() if "event?id=" in link]
        following = [attributes["href"] for attributes in page.all("a", rel="next")]
        if not following:
            break
        path = urljoin("/events", following[0])
    assert len(seen) == len(set(seen)) == 120


@pytest.mark.parametrize("query", [{"state": "completed"}, {"state": "discarded"}, {"state": "?"}, {"after": "x" * 50}])
async def test_list_that_cannot_be_made_is_refused(client: Client, query: dict[str, str]) -> None:
    reply = await client.get("/events", **query)
    assert reply.status == 400
    assert "Traceback" not in reply.body


@pytest.mark.parametrize("event_id", ["", "nothing", "dynamodb-outbox-holds"])
async def test_event_that_is_not_there_is_a_404(client: Client, event_id: str) -> None:
    assert (await client.get("/event", id=event_id)).status == 404


async def test_event_page_shows_everything_that_is_stored(bus: OutboxEventBus, client: Client) -> None:
    await fail_events(bus, failing(id="f1", metadata={"tenant": "t1"}))
    text = (await client.get("/event", id="f1")).text
    for part in (
        "Attempt 1 failed, and there is no further one.",
        "ValueError of the handler welcome",
        "the mail server is down",
        "welcome has not succeeded",
        '"tenant": "t1"',
        "Event('user.created', {'fail': 'the mail server is down'}, id='f1', metadata={'tenant': 't1'})",
        "dynamodb-outbox --table InMemoryOutbox events show f1",
    ):
        assert part in text, part


async def test_json_has_what_the_pages_have(bus: OutboxEventBus, client: Client) -> None:
    await fail_events(bus, failing(id="f1"))
    overview = json.loads((await client.get("/api/overview.json")).body)
    assert overview["schema"] == 1
    assert overview["sample"]["failed"] == {"at_least": 1, "is_exact": True}
    assert overview["level"] == "degraded"
    groups = json.loads((await client.get("/api/dead-letters.json")).body)
    assert [(g["type"], g["error_type"], g["error_handler"], g["count"]) for g in groups["groups"]] == [
        ("user.created", "ValueError", "welcome", 1)
    ]
    event = json.loads((await client.get("/api/event.json", id="f1")).body)
    assert event["payload"] == {"fail": "the mail server is down"}
    assert "fence" not in event
    health = json.loads((await client.get("/api/health.json")).body)
    assert health["live"] in {True, False}


async def test_dashboard_of_an_outbox_without_a_bus(outbox: InMemoryOutbox) -> None:
    await outbox.publish([failing(id="e1")])
    client = Client(outbox_dashboard(outbox, authorize=lambda request: Access("ada", list(Role))))
    for path, route in ROUTES.items():
        if route.get is not None and path not in {"/event", "/api/event.json", "/replace", "/dead-letters.jsonl"}:
            expected = {"/retry-many": 400, "/discard-many": 400, "/api/health.json": 404}.get(path, 200)
            assert (await client.get(path)).status == expected, path
    assert "no bus" in (await client.get("/")).text


async def test_head_has_the_headers_of_get_and_no_body(client: Client) -> None:
    reply = await client.request("HEAD", "/")
    assert (reply.status, reply.body) == (200, "")
    assert reply.headers["content-type"].startswith("text/html")


async def test_links_are_relative_so_that_every_prefix_works(bus: OutboxEventBus, client_with: Make) -> None:
    await fail_events(bus, failing(id="f1"))
    client = client_with(*Role)
    for path in ("/", "/events?state=failed", "/event?id=f1", "/dead-letters", "/types", "/worker", "/no/such/page"):
        page = (await client.get(path)).page
        for tag, attributes in page.elements:
            for name in ("href", "src", "action", "formaction"):
                target = attributes.get(name, "./")
                assert not target.startswith(("/", "http")), (path, tag, target)
                if not target.startswith("#"):
                    below = urljoin(f"http://h/outbox{path}", target)
                    assert below.startswith("http://h/outbox/"), (path, target)


async def test_few_requests_are_answered_at_once_and_the_rest_wait(
    bus: OutboxEventBus, outbox: InMemoryOutbox, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing, release, at_once, most = outbox.list_events, anyio.Event(), 0, 0

    async def slow(*args: Any, **options: Any) -> Any:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await release.wait()
        at_once -= 1
        return await listing(*args, **options)

    monkeypatch.setattr(outbox, "list_events", slow)
    statuses: list[int] = []

    async def visit() -> None:
        statuses.append((await client.get("/events")).status)

    async with anyio.create_task_group() as group:
        for _ in range(PAGES_AT_ONCE + MOST_WAITING + 5):
            group.start_soon(visit)
        await anyio.wait_all_tasks_blocked()
        assert statuses == [429] * 5
        assert (await client.get("/static/app.css")).status == 200
        release.set()
    assert most == PAGES_AT_ONCE
    assert statuses.count(200) == PAGES_AT_ONCE + MOST_WAITING
