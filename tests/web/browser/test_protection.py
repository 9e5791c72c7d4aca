"""What another site can do to a person who is logged in: nothing."""

from __future__ import annotations

import asyncio
import re
from html import escape

import pytest
from playwright.async_api import Page, expect

from dynamodb_outbox import EventStatus, InMemoryOutbox, OutboxEventBus
from dynamodb_outbox.web.text import packed
from tests.browsing import NAMES
from tests.web.browser.conftest import Visitor, serving
from tests.web.client import Document
from tests.web.conftest import fail_events, failing

pytestmark = pytest.mark.asyncio(loop_scope="session")

POST = re.compile(r".*/retry$")


class EvilSite:
    """A site with a form that acts on the dashboard, and sends itself."""

    def __init__(self, target: str, pick: str, *, in_a_frame: bool = False) -> None:
        form = (
            f'<form method="post" action="{escape(target)}"><input name="pick" value="{escape(pick)}">'
            '<input name="confirmed" value="1"></form><script>document.forms[0].submit()</script>'
        )
        self.html = f'<iframe sandbox="allow-forms allow-scripts" srcdoc="{escape(form)}">' if in_a_frame else form

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": self.html.encode()})  # type: ignore[operator]


async def pick_of(page: Page) -> str:
    return Document(await page.content()).form("retry")["pick"]


@pytest.mark.parametrize("in_a_frame", [False, True], ids=["page", "sandboxed frame"])
@pytest.mark.parametrize(
    "hosts",
    [("127.0.0.1", "localhost"), ("127.0.0.1", "127.0.0.1"), NAMES, (NAMES[0], NAMES[0])],
    ids=["another site", "another port", "another site without https", "another port without https"],
)
async def test_forged_post_is_refused(
    bus: OutboxEventBus, outbox: InMemoryOutbox, visitor: Visitor, hosts: tuple[str, str], in_a_frame: bool
) -> None:
    dash, evil = hosts
    await fail_events(bus, failing(id="f1"))
    page = await visitor.page(None)
    await page.goto(visitor.url("/event?id=f1", host=dash))  # the browser has the cookie from now on
    site = EvilSite(visitor.url("/retry", host=dash), await pick_of(page), in_a_frame=in_a_frame)
    # Chromium notes the refusal, the frame that must not be shown, and that the site is gone when the test ends.
    visitor.forgive("a status of 403", "frame-ancestors", "ERR_BLOCKED_BY_RESPONSE", "ERR_CONNECTION_REFUSED")
    async with serving(site) as port:
        await page.goto(f"http://{evil}:{port}/", wait_until="commit")
        assert await visitor.answers.status_of("POST", "/retry") == 403
    assert outbox.status_of("f1") is EventStatus.FAILED


async def test_action_of_the_page_itself_works_without_https(
    bus: OutboxEventBus, outbox: InMemoryOutbox, visitor: Visitor
) -> None:
    """Chromium sends no Sec-Fetch-Site to such a host, so this is the check by Origin."""
    await fail_events(bus, failing(id="f1"))
    page = await visitor.page(None)
    await page.goto(visitor.url("/event?id=f1", host=NAMES[0]))
    await page.get_by_role("button", name="Retry …").click()
    async with page.expect_request(POST) as request:
        await page.get_by_role("button", name="Retry", exact=True).click()
    assert "sec-fetch-site" not in await (await request.value).all_headers()
    await expect(page.get_by_role("status").first).to_contain_text("due again")
    assert outbox.status_of("f1") is EventStatus.PENDING


async def test_dashboard_cannot_be_framed(visitor: Visitor) -> None:
    page = await visitor.page(None)

    class Framing:
        async def __call__(self, scope: object, receive: object, send: object) -> None:
            html = f'<iframe src="{visitor.url("/")}"></iframe>'
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})  # type: ignore[operator]
            await send({"type": "http.response.body", "body": html.encode()})  # type: ignore[operator]

    async with serving(Framing()) as port:
        await page.goto(f"http://localhost:{port}/")
        while "frame-ancestors" not in " ".join(visitor.errors):
            await asyncio.sleep(0.01)
        assert "Outbox" not in await page.frames[-1].content()
    visitor.forgive("frame-ancestors", "ERR_BLOCKED_BY_RESPONSE", "ERR_CONNECTION_REFUSED")


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</pre></textarea></title><svg/onload=alert(1)>",
        "' autofocus onfocus='alert(1)",
        "javascript:alert(1)//",
    ],
)
async def test_hostile_text_runs_nowhere(bus: OutboxEventBus, visitor: Visitor, text: str) -> None:
    """The fixture fails the test for a dialog, an error in the console, and a violation of the policy."""

    async def fail(event: object) -> None:
        raise ValueError(text)

    bus.on(text, fail, name=text[:60])
    await fail_events(bus, failing(text, id=text, text=text, metadata={text: text}))
    page = await visitor.page("/")
    for path in ("/", "/events?state=failed", "/dead-letters", "/types", "/health"):
        await page.goto(visitor.url(path))
        assert await page.locator("script:not([src])").count() == 0
        assert await page.locator("[onerror], [onload], [onfocus], svg[onload], main img").count() == 0
    await page.goto(visitor.url("/dead-letters"))
    await page.locator("a.id").first.click()
    await expect(page.locator("h1 .id")).to_have_text(text)
    await page.goto(visitor.url(f"/replace?event={packed(text)}"))
    assert text in await page.get_by_label("Payload, as JSON").input_value() or '"' in text
