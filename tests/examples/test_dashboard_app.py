"""The FastAPI example with a dashboard: served by uvicorn, and seen in a real browser."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from dynamodb_outbox import DynamoDBOutbox, EventStatus, OutboxEventBus
from examples import dashboard_app
from tests.examples.serving import eventually, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")
COMPLETED = "dynamodb_outbox_event_completed_total{"


@pytest_asyncio.fixture(loop_scope="session")
async def address(settings: None) -> AsyncIterator[str]:
    async with serving("dashboard", ENVIRONMENT="staging") as (_, url):
        yield url


@pytest_asyncio.fixture(loop_scope="session")
async def outbox(moto_endpoint: str, table_name: str) -> AsyncIterator[DynamoDBOutbox]:
    """The table of the example, from another process than its service."""
    async with DynamoDBOutbox.connect(table_name=table_name, endpoint_url=moto_endpoint) as outbox:
        yield outbox


async def test_each_person_may_do_what_the_proxy_says(address: str) -> None:
    for user, status, may_hold in ((None, 403, False), ("eve@example.org", 200, False), ("ada@example.org", 200, True)):
        headers = {} if user is None else {"x-forwarded-email": user}
        async with httpx.AsyncClient(base_url=address, headers=headers) as http:
            reply = await http.get("/outbox/")
        assert reply.status_code == status, user
        assert ("Hold all workers" in reply.text) is may_hold, user


async def press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name, exact=True).click()


@pytest.mark.thorough
async def test_dashboard_health_and_metrics_tell_of_the_same_events(
    address: str, outbox: DynamoDBOutbox, browser: Browser
) -> None:
    bus = OutboxEventBus(outbox)  # emits only
    async with httpx.AsyncClient(base_url=address) as http:

        async def completed() -> float:
            lines = (await http.get("/metrics")).text.splitlines()
            return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(COMPLETED))

        emitted: list[str] = []

        async def emit() -> EventStatus:
            """Emit an event, and return its status once a worker has taken it."""
            emitted.append((await bus.emit("user.created", {"name": "Ada"})).id)

            async def settled() -> EventStatus | None:
                stored = await bus.get_event(emitted[-1])
                assert stored is not None
                return stored.status if stored.status in {EventStatus.COMPLETED, EventStatus.HELD} else None

            return await eventually(settled)

        async def all_are_completed() -> bool:
            return await completed() == len(emitted)

        async def is_held() -> bool:
            return await emit() is EventStatus.HELD

        assert (await http.get("/readyz")).json()["status"] == "pass"
        assert await emit() is EventStatus.COMPLETED
        assert await eventually(completed) == 1

        context = await browser.new_context(extra_http_headers={"x-forwarded-email": "ada@example.org"})
        page, errors = await context.new_page(), list[str]()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        await page.goto(f"{address}/outbox/")
        await expect(page.get_by_text("staging")).to_be_visible()
        await expect(page.locator("dt:text-is('Completed') + dd")).to_have_text("1")
        await page.get_by_role("link", name="Types and holds").click()
        await page.get_by_role("row", name="user.created").get_by_role("button", name="Hold …").click()
        await page.get_by_label("Reason").fill("a restore")
        await press(page, "Hold")
        await expect(page.get_by_text("a restore").first).to_be_visible()

        await eventually(is_held)  # workers learn of a hold within seconds
        await press(page, "Resume")
        await eventually(all_are_completed)
        await context.close()
        assert errors == []


async def test_mounting_all_of_it_takes_few_lines() -> None:
    assert len(inspect.getsource(dashboard_app.show).splitlines()) < 15
