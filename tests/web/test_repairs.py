"""Retry, discard, replace, hold and recover, as a person does them without a script."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from dynamodb_outbox import Event, EventStatus, InMemoryOutbox, OutboxEventBus
from dynamodb_outbox.adapter import Recovered
from dynamodb_outbox.errors import RecoveryError
from dynamodb_outbox.stored_events import StoredEvent
from dynamodb_outbox.web import Role
from dynamodb_outbox.web.dead_letters import Selection
from dynamodb_outbox.web.text import packed
from tests.web.client import Client, Reply, query_of
from tests.web.conftest import Make, fail_events, failing


async def confirm_many(client: Client, action: str, selection: Selection, **fields: str) -> Reply:
    reply = await client.get(f"/{action}-many", selection=selection.packed)
    assert reply.status == 200, reply.text
    return await client.post(f"/{action}-many", reply.page.form(f"{action}-many") | {"size": "10"} | fields)


async def to_the_end(client: Client, action: str, reply: Reply) -> list[Reply]:
    """Press "Next step" until there is none."""
    replies = [reply]
    while forms := replies[-1].page.forms(f"{action}-many"):
        replies.append(await client.post(f"/{action}-many", forms[0]))
        assert len(replies) < 100
    return replies


async def test_retry_asks_then_makes_the_event_due(bus: OutboxEventBus, outbox: InMemoryOutbox, client: Client) -> None:
    await fail_events(bus, failing(id="f1"))
    asked = await client.confirm(await client.get("/event", id="f1"), "retry")
    assert "Retry 1 event?" in asked.text
    assert outbox.status_of("f1") is EventStatus.FAILED
    reply = await client.follow(await client.confirm(asked, "retry"))
    assert outbox.status_of("f1") is EventStatus.PENDING
    assert "due again" in reply.text


async def test_discard_needs_a_reason_and_keeps_who_and_why(
    bus: OutboxEventBus, outbox: InMemoryOutbox, client: Client
) -> None:
    await fail_events(bus, failing(id="f1"))
    asked = await client.confirm(await client.get("/event", id="f1"), "discard")
    without = await client.confirm(asked, "discard", reason="  ")
    assert without.status == 400
    assert outbox.status_of("f1") is EventStatus.FAILED
    reply = await client.follow(await client.confirm(asked, "discard", reason="sent by hand"))
    assert outbox.status_of("f1") is EventStatus.DISCARDED
    stored = await outbox.get("f1")
    assert stored is not None
    assert (stored.discarded_by, stored.discard_reason) == ("ada", "sent by hand")
    assert "ada" in reply.text
    assert "sent by hand" in reply.text


async def test_selected_events_are_repaired_together_and_each_result_is_shown(
    bus: OutboxEventBus, outbox: InMemoryOutbox, client: Client
) -> None:
    await fail_events(bus, failing(id="f1"), failing(id="f2"), failing(id="f3"))
    boxes = {
        box["aria-label"]: box["value"]
        for box in (await client.get("/events", state="failed")).page.all("input", name="pick")
    }
    asked = await client.post("/retry", [("pick", boxes["Select f1"]), ("pick", boxes["Select f2"])])
    assert "Retry 2 events?" in asked.text
    await outbox.redrive(["f2"])  # somebody else was quicker
    picks = [("pick", box["value"]) for box in asked.page.all("input", name="pick")]
    reply = await client.post("/retry", [*picks, ("confirmed", "1")])
    assert "1 retried, 1 left alone" in reply.text
    assert "f2 is PENDING now" in reply.text
    assert [outbox.status_of(event_id) for event_id in ("f1", "f2", "f3")] == ["PENDING", "PENDING", "FAILED"]


@pytest.mark.parametrize(("action", "done"), [("discard", "discarded"), ("retry", "retried")])
async def test_event_that_failed_again_is_not_the_event_that_was_seen(action: str, done: str) -> None:
    """The page shows an old failure; nothing must happen to the new one unseen."""
    now = 1_700_000_000.0
    outbox = InMemoryOutbox(max_retries=0, on_error=lambda error: None, clock=lambda: now)
    from dynamodb_outbox.web import Access, outbox_dashboard

    bus = OutboxEventBus(outbox)

    async def fail(event: Event) -> None:
        raise ValueError("no")

    bus.on("user.created", fail)
    client = Client(outbox_dashboard(bus, authorize=lambda request: Access("ada", list(Role))))
    await fail_events(bus, failing(id="f1"))
    asked = await client.confirm(await client.get("/event", id="f1"), action)
    now += 60
    await outbox.redrive(["f1"])
    await bus.run_once()
    reply = await client.confirm(asked, action, reason="old")
    assert reply.status == 409
    assert f"0 {done}, 1 left alone" in reply.text
    assert outbox.status_of("f1") is EventStatus.FAILED


@pytest.mark.parametrize("pick", ["", "f1", "=f1", "=f1&=x&=y", "=%ff&=x", "-&=x"])
async def test_field_that_no_page_has_written_is_refused(client: Client, pick: str) -> None:
    await client.get("/")
    assert (await client.post("/retry", [("pick", pick), ("confirmed", "1")])).status == 400


async def test_nothing_selected_is_said(client: Client) -> None:
    await client.get("/")
    reply = await client.post("/retry")
    assert reply.status == 400
    assert "no event was chosen" in reply.text


async def test_event_that_is_gone_is_said(client: Client) -> None:
    await client.get("/")
    reply = await client.post("/retry", [("pick", packed("gone", "FAILED@1")), ("confirmed", "1")])
    assert reply.status == 409
    assert "gone is not there any more" in reply.text


# Many


async def test_bulk_retry_of_a_group_leaves_the_others(
    bus: OutboxEventBus, outbox: InMemoryOutbox, client: Client
) -> None:
    await fail_events(bus, *(failing(id=f"u{n}") for n in range(25)), failing("order.placed", id="o1"))
    page = (await client.get("/dead-letters")).page
    assert "25 user.created: ValueError in welcome" in page.text
    selection = page.form("retry-many")["selection"]
    asked = await client.get("/retry-many", selection=selection)
    assert "Retry 25 dead letters?" in asked.text
    first = await client.post("/retry-many", asked.page.form("retry-many") | {"size": "10"})
    assert "10 retried, more to come" in first.text
    replies = await to_the_end(client, "retry", first)
    assert "25 retried: finished" in replies[-1].text
    assert {outbox.status_of(f"u{n}") for n in range(25)} == {"PENDING"}
    assert outbox.status_of("o1") is EventStatus.FAILED


async def test_bulk_retry_ends_though_every_event_fails_again(
    bus: OutboxEventBus, outbox: InMemoryOutbox, client: Client
) -> None:
    await fail_events(bus, *(failing(id=f"u{n}") for n in range(30)))
    reply = await confirm_many(client, "retry", Selection())
    steps = 1
    while forms := reply.page.forms("retry-many"):
        while await bus.run_once():
            pass  # all that was retried fails again, before the next step
        reply = await client.post("/retry-many", forms[0])
        steps += 1
        assert steps < 20
    assert "30 retried: finished" in reply.text


async def test_bulk_discard_can_stop_and_go_on_in_another_process(
    bus: OutboxEventBus, outbox: InMemoryOutbox, client: Client, client_with: Make
) -> None:
    await fail_events(bus, *(failing(id=f"u{n}") for n in range(25)))
    first = await confirm_many(client, "discard", Selection(type="user.created"), reason="a test")
    assert await outbox.count("FAILED") == 15
    other = client_with(*Role)
    other.cookie = client.cookie  # a load balancer sends the same browser elsewhere
    replies = await to_the_end(other, "discard", first)
    assert "25 discarded: finished" in replies[-1].text
    assert await outbox.count("FAILED") == 0


async def test_bulk_repair_leaves_later_failures(bus: OutboxEventBus, outbox: InMemoryOutbox, client: Client) -> None:
    await fail_events(bus, failing(id="old"))
    asked = await client.get("/discard-many", selection=Selection().packed)
    await fail_events(bus, failing(id="new"))
    await client.post("/discard-many", asked.page.form("discard-many") | {"reason": "old ones", "size": "10"})
    assert outbox.status_of("old") is EventStatus.DISCARDED
    assert outbox.status_of("new") is EventStatus.FAILED


@pytest.mark.parametrize(
    "fields",
    [
        {"selection": ""},
        {"selection": "all"},
        {"selection": packed("all", "user.created", None, None)},
        {"selection": packed("type", None, None, None)},
        {"before": "yesterday"},
        {"before": "2026-01-01T00:00:00"},
        {"done": "many"},
        {"after": "no packed cursor"},
    ],
)
async def test_bulk_fields_that_no_page_has_written_are_refused(
    bus: OutboxEventBus, outbox: InMemoryOutbox, client: Client, fields: dict[str, str]
) -> None:
    await fail_events(bus, failing(id="f1"))
    asked = await client.get("/retry-many", selection=Selection().packed)
    reply = await client.post("/retry-many", asked.page.form("retry-many") | fields)
    assert reply.status == 400
    assert outbox.status_of("f1") is EventStatus.FAILED


async def test_export_has_one_line_for_each_dead_letter(bus: OutboxEventBus, client: Client) -> None:
    await fail_events(bus, *(failing(id=f"u{n}") for n in range(120)), failing("order.placed", id="o1"))
    reply = await client.get("/dead-letters.jsonl", selection=Selection(type="user.created").packed)
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert "attachment" in reply.headers["content-disposition"]
    lines = reply.body.splitlines()
    assert len(lines) == 120
    assert all('"payload": {"fail": "the mail server is down"}' in line for line in lines)


# Replace


async def test_replace_shows_the_changes_then_stores_a_new_event(
    bus: OutboxEventBus, outbox: InMemoryOutbox, client: Client
) -> None:
    await fail_events(bus, failing(id="f1", metadata={"tenant": "t1"}))
    page = (await client.get("/event", id="f1")).page
    form = (await client.get(f"/replace?event={quote(page.form('replace')['event'])}")).page.form("replace")
    changed = await client.post("/replace", form | {"payload": '{\r\n"fail": "less"}', "reason": "a typo"})
    assert '- "fail": "the mail server is down"' in changed.text
    assert '+ "fail": "less"' in changed.text
    assert outbox.status_of("f1") is EventStatus.FAILED
    reply = await client.post("/replace", changed.page.form("replace"))
    new_id = query_of(reply.headers["location"])["id"]
    new, old = await outbox.get(new_id), await outbox.get("f1")
    assert new is not None
    assert old is not None
    assert new.payload == {"fail": "less"}
    assert dict(new.metadata) == {"tenant": "t1", "replaces": "f1"}
    assert new.occurred_at == old.occurred_at
    assert (old.status, old.replaced_by, old.discard_reason) == (EventStatus.DISCARDED, new_id, "a typo")
    assert "f1" in (await client.follow(reply)).text


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"payload": "{"}, 400, "cannot be stored"),
        ({"payload": '{"a": 1, "a": 2}'}, 400, "twice"),
        ({"payload": "[NaN]"}, 400, "NaN"),
        ({"payload": "1e999", "confirmed": "1"}, 400, "cannot"),
        ({"payload": '{"a": "' + "x" * 500_000 + '"}', "confirmed": "1"}, 400, "byte"),
        ({"reason": ""}, 400, "reason"),
        ({"reason": "x" * 501}, 400, "reason"),
        ({"fence": "=other", "confirmed": "1"}, 409, "changed"),
    ],
)
async def test_replace_refuses_and_keeps_what_was_typed(
    bus: OutboxEventBus,
    client: Client,
    fields: dict[str, str],
    status: int,
    message: str,
) -> None:
    await fail_events(bus, failing(id="f1"))
    form = (await client.get(f"/replace?event={quote(packed('f1'))}")).page.form("replace")
    sent = form | {"payload": '{"typed": true}', "reason": "a typo"} | fields
    reply = await client.post("/replace", sent)
    assert reply.status == status
    assert message in reply.text
    assert " ".join(sent["payload"].split()) in reply.text
    assert (await bus.outbox.get("f1")).status is EventStatus.FAILED  # type: ignore[union-attr]


async def test_only_a_dead_letter_is_replaced(bus: OutboxEventBus, client: Client) -> None:
    await bus.emit("user.created", {}, id="p1", delay=60)
    assert (await client.get(f"/replace?event={quote(packed('p1'))}")).status == 409
    assert not (await client.get("/event", id="p1")).page.forms("replace")


async def test_redacted_payload_is_not_edited_because_the_rest_would_be_lost(
    bus: OutboxEventBus, client_with: Make
) -> None:
    from dataclasses import replace

    await fail_events(bus, failing(id="f1"))
    client = client_with(*Role, redact=lambda event: replace(event, payload={"fail": "***"}))
    assert not (await client.get("/event", id="f1")).page.forms("replace")
    assert (await client.get(f"/replace?event={quote(packed('f1'))}")).status == 409


async def test_redact_that_changes_the_payload_in_place_loses_nothing(
    bus: OutboxEventBus, outbox: InMemoryOutbox, client_with: Make
) -> None:
    await fail_events(bus, failing(id="f1", text="secret"))

    def redact(event: StoredEvent) -> StoredEvent:
        event.payload["fail"] = "***"
        return event

    client = client_with(*Role, redact=redact)
    assert not (await client.get("/event", id="f1")).page.forms("replace")
    assert (await client.get(f"/replace?event={quote(packed('f1'))}")).status == 409
    assert "***" in (await client.get("/event", id="f1")).text


# Recover


async def test_recover_makes_events_of_a_dead_worker_due(client_with: Make, bus: OutboxEventBus) -> None:
    from dynamodb_outbox.web import Access, outbox_dashboard

    now = 1_700_000_000.0
    outbox = InMemoryOutbox(clock=lambda: now)
    await outbox.publish([Event("user.created", {}, id="e1")])
    outbox._table.events["e1"].retry_count = 20  # by a handler with max_retries=30
    await outbox.claim(1)
    now += 31
    client = Client(outbox_dashboard(outbox, authorize=lambda request: Access("ada", list(Role))))
    page = (await client.get("/events", state="expired")).page
    reply = await client.post("/recover", page.form("recover"))
    assert "e1 is due again" in reply.text
    assert outbox.status_of("e1") is EventStatus.PENDING


async def test_recover_shows_what_could_not_be_recovered() -> None:
    from dynamodb_outbox.web import Access, outbox_dashboard

    class Broken(InMemoryOutbox):
        async def recover(self, *, max_retries: int | None = None) -> Recovered:
            return Recovered(errors=(RecoveryError(event_id="e1", cause=ValueError("too large")),))

    client = Client(outbox_dashboard(Broken(), authorize=lambda request: Access("ada", list(Role))))
    page = (await client.get("/events", state="expired")).page
    reply = await client.post("/recover", page.form("recover"))
    assert "1 could not be recovered" in reply.text
    assert "too large" in reply.text
    assert "No lease had run out" not in reply.text


async def test_command_for_an_id_that_looks_like_an_option(client: Client, bus: OutboxEventBus) -> None:
    await fail_events(bus, failing(id="-x"))
    assert "events show -- -x" in (await client.get("/event", id="-x")).text
