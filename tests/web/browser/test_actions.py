"""What the script adds to the pages, hostile ids and payloads, and the order of the focus."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from dynamodb_outbox import Event, EventStatus, InMemoryOutbox, OutboxEventBus
from tests.web.browser.conftest import Visitor
from tests.web.conftest import fail_events, failing

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOSTILE_ID = "a\"'<script>alert(1)</script>/%00\n\u202e#?&"
both = pytest.mark.parametrize("script", [True, False], ids=["with JavaScript", "without JavaScript"])


async def press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name, exact=True).first.click()
    await page.wait_for_load_state()


@both
async def test_retry_of_an_event_with_a_hostile_id(
    bus: OutboxEventBus, outbox: InMemoryOutbox, visitor: Visitor, script: bool
) -> None:
    await fail_events(bus, failing(id=HOSTILE_ID))
    page = await visitor.page("/dead-letters", java_script_enabled=script)
    await page.locator("a.id").first.click()
    await press(page, "Retry …")
    await press(page, "Retry")
    await expect(page.get_by_role("status").first).to_contain_text("due again")
    assert outbox.status_of(HOSTILE_ID) is EventStatus.PENDING


@both
async def test_discard_of_selected_events(
    bus: OutboxEventBus, outbox: InMemoryOutbox, visitor: Visitor, script: bool
) -> None:
    await fail_events(bus, *(failing(id=f"f{n}") for n in range(4)))
    page = await visitor.page("/events?state=failed", java_script_enabled=script)
    if script:
        await page.get_by_label("Select all events of this page").check()
        await expect(page.get_by_role("status").first).to_have_text("4 selected")
        await page.get_by_label("Select f3", exact=True).uncheck()
        await expect(page.get_by_role("status").first).to_have_text("3 selected")
    else:
        await expect(page.get_by_label("Select all events of this page")).to_be_hidden()
        for n in range(3):
            await page.get_by_label(f"Select f{n}", exact=True).check()
    await press(page, "Discard selected …")
    await press(page, "Discard")
    assert await outbox.count("FAILED") == 4  # the browser asks for the reason, and sends nothing
    await page.get_by_label("Reason").fill("duplicates")
    await press(page, "Discard")
    await expect(page.get_by_role("heading", level=1)).to_have_text("3 discarded")
    assert [outbox.status_of(f"f{n}") for n in range(4)] == ["DISCARDED"] * 3 + ["FAILED"]


async def test_bulk_retry_can_be_stopped(bus: OutboxEventBus, outbox: InMemoryOutbox, visitor: Visitor) -> None:
    await fail_events(bus, *(failing(id=f"f{n}") for n in range(25)))
    page = await visitor.page("/dead-letters", clock=True)
    await press(page, "Retry …")
    await press(page, "Retry")
    await press(page, "Stop")
    await page.clock.run_for(60_000)
    await expect(page.get_by_role("heading", level=1)).to_have_text("10 retried, more to come")
    assert await outbox.count("FAILED") == 15


@both
async def test_replace(bus: OutboxEventBus, outbox: InMemoryOutbox, visitor: Visitor, script: bool) -> None:
    await fail_events(bus, Event("user.created", {"fail": "x", "raw": b"\x00\xff", "n": 10**30}, id="f1"))
    page = await visitor.page("/event?id=f1", java_script_enabled=script)
    await press(page, "Edit and replace …")
    box = page.get_by_label("Payload, as JSON")
    text = await box.input_value()
    await box.fill(text.replace('"x"', '"y"'))
    await page.get_by_label("Reason").fill("a typo")
    await press(page, "Show the changes")
    assert outbox.status_of("f1") is EventStatus.FAILED
    await press(page, "Store the new event")
    await expect(page.get_by_role("status").first).to_contain_text("replaces")
    old = await outbox.get("f1")
    assert old is not None
    assert old.replaced_by is not None
    new = await outbox.get(old.replaced_by)
    assert new is not None
    assert new.payload == {"fail": "y", "raw": b"\x00\xff", "n": 10**30}


async def tab_to(page: Page, text: str) -> None:
    """Press Tab until the element with a text has the focus, as a person without a mouse does."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.textContent.trim()") == text:
            # A focus that is not shown is of no use.
            assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
    raise AssertionError(f"Tab never reaches {text!r}")


async def test_discard_by_the_keyboard_alone(bus: OutboxEventBus, outbox: InMemoryOutbox, visitor: Visitor) -> None:
    await fail_events(bus, failing(id="f1"))
    page = await visitor.page("/")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")  # the link that skips the header is the first
    assert await page.evaluate("document.activeElement.id") == "main"
    await tab_to(page, "Dead letters")
    await page.keyboard.press("Enter")
    await page.wait_for_url(lambda url: url.endswith("/dead-letters"))
    await tab_to(page, "f1")
    await page.keyboard.press("Enter")
    await page.wait_for_url(lambda url: url.endswith("/event?id=f1"))
    await tab_to(page, "Discard …")
    await page.keyboard.press("Enter")
    await page.wait_for_url(lambda url: url.endswith("/discard"))
    await expect(page.get_by_label("Reason")).to_be_focused()
    await page.keyboard.type("a duplicate")
    await page.keyboard.press("Enter")
    await page.wait_for_url(lambda url: "note=discarded" in url)
    assert outbox.status_of("f1") is EventStatus.DISCARDED


async def test_page_is_refreshed_but_not_under_the_hands_of_a_reader(bus: OutboxEventBus, visitor: Visitor) -> None:
    page = await visitor.page("/", clock=True)
    completed = page.locator("dt:text-is('Completed') + dd")
    await expect(completed).to_have_text("0")
    await bus.emit("user.created", {})
    await bus.run_once()
    await page.clock.run_for(5_500)
    await expect(completed).to_have_text("1")
    await page.locator("h1").select_text()
    await bus.emit("user.created", {})
    await bus.run_once()
    await page.clock.run_for(20_500)
    await expect(completed).to_have_text("1")
    await page.evaluate("getSelection().removeAllRanges()")
    await page.get_by_label("refresh every 5 s").uncheck()
    await page.clock.run_for(20_500)
    await expect(completed).to_have_text("1")
    await page.get_by_label("refresh every 5 s").check()
    await page.clock.run_for(5_500)
    await expect(completed).to_have_text("2")


@both
async def test_skip_of_an_event_that_blocks_its_key(
    bus: OutboxEventBus, outbox: InMemoryOutbox, visitor: Visitor, script: bool
) -> None:
    await fail_events(bus, failing(id="f1", ordering_key=HOSTILE_ID))
    await bus.emit("user.created", id="next", ordering_key=HOSTILE_ID)
    page = await visitor.page("/event?id=next", java_script_enabled=script)
    await page.get_by_role("link", name="f1", exact=True).click()
    await press(page, "Skip …")
    await press(page, "Skip")
    await expect(page.get_by_role("status").first).to_contain_text("goes on without it")
    await expect(page.get_by_role("button", name="Skip …")).to_have_count(0)
    event = await outbox.get("next")
    assert event is not None
    assert event.status is EventStatus.PENDING
