"""Events with an ordering key on the dashboard: what blocks a key, what waits for it, and how a key goes on."""

from __future__ import annotations

import pytest

from dynamodb_outbox import Event, EventStatus, InMemoryOutbox, OutboxEventBus
from dynamodb_outbox.adapter import Released
from dynamodb_outbox.web import Access, Role, outbox_dashboard
from tests.web.client import Client
from tests.web.conftest import Make, fail_events, failing

KEY = "order-17"


@pytest.fixture
async def blocked(bus: OutboxEventBus) -> OutboxEventBus:
    """A bus with a key that `a` blocks, and in which `b` and `c` wait."""
    await fail_events(bus, failing(id="a", ordering_key=KEY))
    await bus.emit_many([Event("user.created", id=each, ordering_key=KEY) for each in ("b", "c")])
    return bus


async def test_page_of_an_event_shows_its_key_and_what_it_waits_for(blocked: OutboxEventBus, client: Client) -> None:
    front = await client.get("/event", id="a")
    assert "Ordering key order-17" in front.text
    assert "Waiting behind it 2" in front.text
    assert "The later events of its ordering key wait for it." in front.text
    behind = await client.get("/event", id="c")
    assert "waiting It waits behind an earlier event of its ordering key." in behind.text
    assert "Waits for a" in behind.text
    assert any("event?id=a" in link for link in behind.page.links())
    assert not behind.page.forms("skip")
    shown = (await client.get("/api/event.json", id="c")).body
    assert '"waits_for":"a"' in shown.replace(" ", "")


async def test_key_leads_to_what_its_events_wait_for(blocked: OutboxEventBus, client: Client) -> None:
    found = await client.get("/event", ordering_key=KEY)
    assert "Event a" in found.text
    assert "Waiting behind it 2" in found.text
    assert '"id":"a"' in (await client.get("/api/event.json", ordering_key=KEY)).body.replace(" ", "")
    nothing = await client.get("/event", ordering_key="order-18")
    assert (nothing.status, "no event is at the front of this ordering key" in nothing.text) == (404, True)
    assert (await client.get("/event", ordering_key="k" * 1025)).status == 400
    assert (await client.get("/event", ordering_key=KEY, id="a")).status == 400


async def test_event_without_a_handler_is_not_said_to_be_delayed(
    bus: OutboxEventBus, outbox: InMemoryOutbox, client: Client
) -> None:
    await bus.emit("user.created", ordering_key=KEY)
    (claim,) = await outbox.claim(1)
    await outbox.settle([(claim, Released(delay=30.0, unhandled_since=outbox.options.clock()))])
    text = (await client.get("/event", ordering_key=KEY)).text
    assert "No worker had a handler for its type so far: start the service that has one. The later events" in text
    assert "with a delay" not in text
    assert f"ordering_key='{KEY}'" in text  # the event as Python


async def test_skip_asks_then_lets_the_key_go_on(
    blocked: OutboxEventBus, outbox: InMemoryOutbox, client: Client
) -> None:
    asked = await client.confirm(await client.get("/event", id="a"), "skip")
    assert "Skip 1 event?" in asked.text
    stored = await outbox.get("a")
    assert stored is not None
    assert stored.blocks_key
    reply = await client.follow(await client.confirm(asked, "skip"))
    assert "its ordering key goes on without it" in reply.text
    assert not reply.page.forms("skip")
    aside, following = await outbox.get("a"), await outbox.get("b")
    assert aside is not None
    assert following is not None
    assert (aside.status, aside.blocks_key, following.status) == (EventStatus.FAILED, False, EventStatus.PENDING)


async def test_skip_leaves_an_event_alone_that_has_changed_since_it_was_seen(
    blocked: OutboxEventBus, outbox: InMemoryOutbox, client: Client
) -> None:
    asked = await client.confirm(await client.get("/event", id="a"), "skip")
    await outbox.redrive(["a"])
    reply = await client.confirm(asked, "skip")
    assert reply.status == 409
    assert "0 skipped, 1 left alone" in reply.text
    assert "a is PENDING now" in reply.text


async def test_skip_leaves_an_event_alone_that_has_failed_again() -> None:
    """The page shows an old failure; nothing must happen to the new one unseen."""
    now = 1_700_000_000.0
    outbox = InMemoryOutbox(max_retries=0, on_error=lambda error: None, clock=lambda: now)
    bus = OutboxEventBus(outbox)

    async def fail(event: Event) -> None:
        raise ValueError("no")

    bus.on("user.created", fail)
    client = Client(outbox_dashboard(bus, authorize=lambda request: Access("ada", list(Role))))
    await fail_events(bus, failing(id="a", ordering_key=KEY))
    asked = await client.confirm(await client.get("/event", id="a"), "skip")
    now += 60
    await outbox.redrive(["a"])
    await bus.run_once()
    reply = await client.confirm(asked, "skip")
    assert (reply.status, "0 skipped, 1 left alone" in reply.text) == (409, True)
    stored = await outbox.get("a")
    assert stored is not None
    assert stored.blocks_key


async def test_dead_letter_that_blocks_nothing_cannot_be_skipped(bus: OutboxEventBus, client: Client) -> None:
    await fail_events(bus, failing(id="f1"))
    page = (await client.get("/event", id="f1")).page
    assert not page.forms("skip")
    picked = page.form("retry") | {"confirmed": "1"}
    assert (await client.post("/skip", picked)).status == 409


async def test_skip_needs_the_role_of_a_retry(blocked: OutboxEventBus, client: Client, client_with: Make) -> None:
    picked = (await client.get("/event", id="a")).page.form("skip") | {"confirmed": "1"}
    viewer = client_with(Role.VIEW)
    assert not (await viewer.get("/event", id="a")).page.forms("skip")
    assert (await viewer.post("/skip", {"pick": picked["pick"], "confirmed": "1"})).status == 403


async def test_skip_without_the_token_of_the_form_is_refused(blocked: OutboxEventBus, client: Client) -> None:
    picked = (await client.get("/event", id="a")).page.form("skip") | {"confirmed": "1", "csrf": "other"}
    assert (await client.post("/skip", picked)).status == 403
    stored = await blocked.outbox.get("a")
    assert stored is not None
    assert stored.blocks_key


async def test_lists_mark_dead_letters_that_block_their_keys(blocked: OutboxEventBus, client: Client) -> None:
    await fail_events(blocked, failing(id="f1"))
    rows = (await client.get("/events", state="failed")).text
    assert rows.count("blocks its key") == 1
    groups = await client.get("/dead-letters")
    assert "1 of them blocks its ordering key" in groups.text
    assert '"blocked_keys":1' in (await client.get("/api/dead-letters.json")).body.replace(" ", "")


async def test_overview_names_blocked_keys(blocked: OutboxEventBus, client: Client) -> None:
    assert "1 ordering key is blocked" in (await client.get("/")).text


async def test_edit_and_replace_keeps_the_key_and_the_place(
    blocked: OutboxEventBus, outbox: InMemoryOutbox, client: Client
) -> None:
    form = (await client.get("/replace", event=(await client.get("/event", id="a")).page.form("replace")["event"])).page
    fields = form.form("replace") | {"payload": '{"n": 2}', "reason": "a typo"}
    asked = await client.post("/replace", fields)
    await client.post("/replace", asked.page.form("replace") | {"payload": '{"n": 2}', "reason": "a typo"})
    old = await outbox.get("a")
    assert old is not None
    assert old.replaced_by is not None
    new, behind = await outbox.get(old.replaced_by), await outbox.get("b")
    assert new is not None
    assert behind is not None
    assert (new.ordering_key, behind.waits_for) == (KEY, old.replaced_by)
