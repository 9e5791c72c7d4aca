"""Narrow and wide, light and dark, and for people who use assistive technology."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page

import axe
from dynamodb_outbox import OutboxEventBus
from dynamodb_outbox.web.dead_letters import Selection
from dynamodb_outbox.web.text import packed
from tests.backends import ENGINES
from tests.programs import missing
from tests.web.browser.conftest import Visitor
from tests.web.conftest import fail_events, failing

pytestmark = pytest.mark.asyncio(loop_scope="session")

LONG = "x" * 300
LOOKS = [("light", 1280), ("dark", 320), ("dark", 1280), ("light", 320)]
"""The colours and the width of the window in pixels. Every day, axe looks at the first."""
PATHS = (
    "/",
    "/events?state=failed",
    "/events?state=held",
    "/event?id=f1",
    f"/event?id={LONG}",
    "/dead-letters",
    f"/retry-many?selection={Selection().packed.replace('&', '%26')}",
    f"/discard-many?selection={Selection().packed.replace('&', '%26')}",
    f"/replace?event={packed('f1')}",
    "/types",
    "/worker",
    "/health",
    "/nothing",
)
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


async def fill(bus: OutboxEventBus) -> None:
    await fail_events(
        bus, failing(id="f1", text=f"line one {LONG}\nline two"), failing(f"type.{LONG}"), failing(id=LONG, text=LONG)
    )
    await bus.emit_many([failing(id=f"{n}{LONG}") for n in range(3)], delay=600)


async def visit(page: Page, visitor: Visitor, path: str) -> None:
    visitor.forgive(f"404 (Not Found) ({visitor.url('/nothing')})")
    await page.goto(visitor.url(path))


@pytest.mark.parametrize("width", [320, 768, 1920])
async def test_no_page_is_wider_than_the_window(bus: OutboxEventBus, visitor: Visitor, width: int) -> None:
    await fill(bus)
    page = await visitor.page(None, viewport={"width": width, "height": 800})
    for path in PATHS:
        await visit(page, visitor, path)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width, path


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_pages_follow_the_colours_of_the_system(visitor: Visitor, scheme: Any) -> None:
    page = await visitor.page("/", color_scheme=scheme)
    red, green, blue = await page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    )
    assert (red + green + blue > 3 * 128) is (scheme == "light")


@pytest.mark.parametrize("script", [True, False], ids=["with JavaScript", "without JavaScript"])
async def test_no_control_that_does_nothing(bus: OutboxEventBus, visitor: Visitor, script: bool) -> None:
    await fill(bus)
    page = await visitor.page("/events?state=failed", java_script_enabled=script)
    assert await page.locator("[data-select-all]").is_visible() is script
    await page.goto(visitor.url("/"))
    assert await page.locator("[data-live-switch]").is_visible() is script


@pytest.fixture(scope="session")
def axe_core(request: pytest.FixtureRequest) -> str:
    try:
        script = axe.fetch().read_text()
    except axe.UnavailableError as error:
        missing("axe-core", str(error), request.config)
    request.config.stash[ENGINES]["axe-core"] = f"ran ({axe.PACKAGE})"
    return script


@pytest.mark.thorough
@pytest.mark.parametrize(("scheme", "width"), LOOKS[:2])
async def test_axe_finds_no_fault(
    bus: OutboxEventBus, visitor: Visitor, axe_core: str, scheme: Any, width: int
) -> None:
    await fill(bus)
    # The policy of the pages refuses the script of the test, too.
    page = await visitor.page(None, color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
    for path in PATHS:
        await visit(page, visitor, path)
        await page.add_script_tag(content=axe_core)
        result = await page.evaluate("rules => axe.run({runOnly: rules})", list(RULES))
        assert result["passes"], path
        found = [(one["id"], [node["html"] for node in one["nodes"]]) for one in result["violations"]]
        assert found == [], path
